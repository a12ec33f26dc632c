"""Which rows are trained on, validated with, calibrated with and tested on.

Knows labels and groups, and nothing of images. The same rows and seed give the same splits on every machine and with
every version of every library: chance is the order of SHA-256 digests of seed and name, so that a new class, too,
leaves the others where they are.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A row to place: `given` is the split its folder says, or empty where that is to be decided."""

    id: str
    label: str
    group: str
    given: str = ""


@dataclass(frozen=True)
class Splits:
    """`of` maps each id to train, validation or test. `calibration` are ids out of train. `missing` are the
    (split, label) pairs that stayed empty because all images of the class are one group."""

    of: Mapping[str, str]
    calibration: frozenset[str]
    missing: tuple[tuple[str, str], ...]


def split_rows(
    members: Sequence[Member], *, seed: int, test_share: float, validation_share: float, calibration_rows: int
) -> Splits:
    """Place every member. Given splits stay as they are; where there is no test (validation) row, a share of train
    becomes it, class by class. What is moved is whole groups, and some of each class stays in train.

    `validation_share` is of train after the test rows have left it. The calibration set is a part of train, as mixed
    in classes as train is, from as many groups as there are.
    """
    rows = sorted(members, key=lambda member: member.id)
    of = {row.id: row.given or "train" for row in rows}
    missing: list[tuple[str, str]] = []
    for split, share in (("test", test_share), ("validation", validation_share)):
        if split in of.values():
            continue
        train = [row for row in rows if of[row.id] == "train"]
        moved = _draw(train, share, seed, split)
        of |= dict.fromkeys(moved, split)
        labels = {row.label for row in train}
        missing += [(split, label) for label in sorted(labels - {row.label for row in train if of[row.id] == split})]
    train = [row for row in rows if of[row.id] == "train"]
    return Splits(of, frozenset(_calibration(train, calibration_rows, seed)), tuple(missing))


def _lot(seed: int, split: str, name: str) -> bytes:
    """The lot that `name` draws: sorting by it shuffles."""
    return hashlib.sha256(f"{seed}\0{split}\0{name}".encode()).digest()


def _draw(rows: Sequence[Member], share: float, seed: int, split: str) -> list[str]:
    """Ids of whole groups that make up about `share` of each class."""
    by_group: dict[str, list[Member]] = defaultdict(list)
    for row in rows:
        by_group[row.group].append(row)
    by_label: dict[str, list[list[Member]]] = defaultdict(list)
    for _, group in sorted(by_group.items(), key=lambda item: _lot(seed, split, item[0])):
        counts = Counter(row.label for row in group)
        by_label[min(counts, key=lambda label: (-counts[label], label))].append(group)
    drawn: list[Member] = []
    for groups in by_label.values():
        drawn += _nearest(groups, share)
    return [row.id for row in drawn]


def _nearest(groups: Sequence[list[Member]], share: float) -> list[Member]:
    """The groups, in this order, each that brings the count nearer to the share; at least one, and never all."""
    total = sum(len(group) for group in groups)
    target = share * total
    taken: list[int] = []
    count = 0
    for index, group in enumerate(groups):
        nearer = abs(count + len(group) - target) < abs(count - target)
        if nearer and len(taken) + 1 < len(groups):
            taken.append(index)
            count += len(group)
    if not taken and len(groups) > 1:
        taken = [min(range(len(groups)), key=lambda index: len(groups[index]))]
    return [row for index in taken for row in groups[index]]


def _calibration(train: Sequence[Member], wanted: int, seed: int) -> list[str]:
    """About `wanted` ids, each class by its share (largest remainder) but at least one, one of each group first."""
    by_label: dict[str, list[Member]] = defaultdict(list)
    for row in train:
        by_label[row.label].append(row)
    wanted = min(wanted, len(train))
    exact = {label: wanted * len(rows) / len(train) for label, rows in by_label.items()}
    number = {label: max(1, int(value)) for label, value in exact.items()}
    for label in sorted(exact, key=lambda label: (int(exact[label]) - exact[label], label)):
        if sum(number.values()) < wanted and number[label] < len(by_label[label]):
            number[label] += 1
    chosen: list[str] = []
    for label, rows in by_label.items():
        turn: Counter[str] = Counter()
        ranked = []
        for row in sorted(rows, key=lambda row: _lot(seed, "calibration", row.id)):
            ranked.append((turn[row.group], row.id))
            turn[row.group] += 1
        ranked.sort(key=lambda item: item[0])
        chosen += [row_id for _, row_id in ranked[: number[label]]]
    return chosen
