"""Splits: seeded, stratified, and no group spread over two of them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.tasks.splits import Member, Splits, split_rows


def split(members: list[Member], *, seed: int = 0, calibration_rows: int = 50) -> Splits:
    return split_rows(members, seed=seed, test_share=0.2, validation_share=0.15, calibration_rows=calibration_rows)


def singles(label: str, count: int, given: str = "") -> list[Member]:
    return [Member(f"{given}{label}/{n:03}", label, f"{given}{label}/{n:03}", given) for n in range(count)]


def counts(splits: Splits, members: list[Member]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for member in members:
        found.setdefault(splits.of[member.id], Counter())[member.label] += 1
    return found


def test_shares_are_kept_in_each_class() -> None:
    members = singles("scratch", 200) + singles("good", 1000)
    found = counts(split(members), members)
    assert found["test"] == {"scratch": 40, "good": 200}
    assert found["validation"] == {"scratch": 24, "good": 120}  # 0.15 of what test left
    assert found["train"] == {"scratch": 136, "good": 680}


def test_given_splits_stay_as_they_are() -> None:
    members = singles("a", 40, "train") + singles("b", 40, "train") + singles("a", 9, "test")
    splits = split(members)
    assert {i for i, s in splits.of.items() if s == "test"} == {m.id for m in members if m.given == "test"}
    assert counts(splits, members)["validation"] == {"a": 6, "b": 6}
    given_too = [*members, *singles("a", 3, "validation")]
    assert Counter(split(given_too).of.values()) == {"train": 80, "test": 9, "validation": 3}


def test_same_seed_same_splits_whatever_the_order() -> None:
    members = singles("a", 50) + singles("b", 30)
    shuffled = [members[index] for index in np.random.default_rng(3).permutation(len(members))]
    assert split(members) == split(shuffled)
    assert split(members, seed=1).of != split(members).of


def test_splits_are_the_same_on_every_machine() -> None:
    members = singles("a", 12) + singles("b", 12)
    splits = split(members, seed=7, calibration_rows=4)
    # by hand: printf '7\\0test\\0a/000' | sha256sum, and so on; the two smallest of each class
    assert sorted(i for i, s in splits.of.items() if s == "test") == ["a/003", "a/009", "b/006", "b/009"]


def test_a_new_class_leaves_the_others_where_they_are() -> None:
    before = split(singles("a", 50)).of
    after = split(singles("a", 50) + singles("b", 50)).of
    assert {i: s for i, s in after.items() if i in before} == before


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=120),
    st.integers(0, 2**32),
)
def test_a_group_never_crosses(rows: list[tuple[str, int]], seed: int) -> None:
    members = [Member(f"{n:03}", label, f"g{group}") for n, (label, group) in enumerate(rows)]
    splits = split(members, seed=seed)
    assert splits.of.keys() == {member.id for member in members}
    home: dict[str, str] = {}
    for member in members:
        assert home.setdefault(member.group, splits.of[member.id]) == splits.of[member.id]
    assert all(splits.of[row] == "train" for row in splits.calibration)
    assert splits.calibration
    kept = {member.label for member in members if splits.of[member.id] == "train"}
    for split_name, label in itertools.product(("test", "validation"), kept):
        here = any(splits.of[m.id] == split_name and m.label == label for m in members)
        assert here != ((split_name, label) in splits.missing)


def test_a_class_that_is_one_group_is_trained_on_and_reported() -> None:
    members = singles("a", 40) + [Member(f"b/{n}", "b", "b/0") for n in range(20)]
    splits = split(members)
    assert all(splits.of[f"b/{n}"] == "train" for n in range(20))
    assert splits.missing == (("test", "b"), ("validation", "b"))


def test_large_groups_do_not_overfill_a_split() -> None:
    members = [Member(f"a/{n:03}", "a", f"g{n // 30}") for n in range(120)] + singles("b", 100)
    found = counts(split(members), members)
    assert found["test"]["a"] == 30  # nearest to 24 that whole groups allow
    assert found["train"]["a"] >= 30


@pytest.mark.parametrize(("wanted", "expected"), [(50, {"a": 38, "b": 12}), (1000, {"a": 120, "b": 40})])
def test_calibration_is_mixed_as_train_is(wanted: int, expected: dict[str, int]) -> None:
    members = singles("a", 120, "train") + singles("b", 40, "train") + singles("a", 5, "test")
    members += singles("a", 1, "validation")
    splits = split(members, calibration_rows=wanted)
    label = {member.id: member.label for member in members}
    found = Counter(label[row] for row in splits.calibration)
    assert sum(found.values()) == min(wanted, 160)
    assert all(abs(found[name] - number) <= 1 for name, number in expected.items())


def test_calibration_prefers_different_groups() -> None:
    members = [Member(f"a/{n:03}", "a", f"g{n // 10}", "train") for n in range(100)]
    members += singles("b", 3, "test") + singles("b", 3, "validation")
    chosen = split(members, calibration_rows=10).calibration
    assert len({int(row[2:]) // 10 for row in chosen}) == 10
