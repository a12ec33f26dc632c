"""The label store: filled view by view, taken up after a crash, checked when read, exact to half precision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from toolkit.distil import labels
from toolkit.errors import IntegrityError

VIEWS, ROWS, CLASSES = 5, 7, 3


def quiet(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def answers(view: int) -> np.ndarray:
    return np.random.default_rng(view).normal(0, 8, (ROWS, CLASSES)).astype(np.float32)


class Teacher:
    """Answers views, remembers which, and gives up before a chosen one."""

    def __init__(self, until: int = VIEWS) -> None:
        self.asked: list[int] = []
        self.until = until

    def __call__(self, view: int) -> np.ndarray:
        if view >= self.until:
            raise InterruptedError
        self.asked.append(view)
        return answers(view)


def filled(folder: Path, teacher: Teacher) -> np.ndarray:
    labels.fill(folder, views=VIEWS, rows=ROWS, label_view=teacher, report=quiet)
    return labels.load(folder)


def test_what_was_stored_comes_back_in_order(tmp_path: Path) -> None:
    stored = filled(tmp_path, Teacher())
    assert stored.shape == (VIEWS, ROWS, CLASSES)
    for view in range(VIEWS):
        np.testing.assert_array_equal(stored[view], answers(view).astype(np.float16))


def test_a_logit_is_kept_to_half_precision(tmp_path: Path) -> None:
    """binary16 rounds to nearest with 11 significant bits: a relative error of at most 2^-11 (IEEE 754-2019)."""
    stored = filled(tmp_path, Teacher()).astype(np.float64)
    exact = np.stack([answers(view) for view in range(VIEWS)]).astype(np.float64)
    assert (np.abs(stored - exact) <= np.abs(exact) * 2**-11 + 2**-25).all()
    odds, kept = np.exp(exact), np.exp(stored)
    shift = np.abs(odds / odds.sum(-1, keepdims=True) - kept / kept.sum(-1, keepdims=True))
    assert shift.max() < 0.005


@pytest.mark.parametrize("until", [0, 1, 3])
def test_an_interrupted_fill_is_taken_up_without_asking_again(tmp_path: Path, until: int) -> None:
    with pytest.raises(InterruptedError):
        filled(tmp_path, Teacher(until))
    again = Teacher()
    stored = filled(tmp_path, again)
    assert again.asked == list(range(until, VIEWS))
    np.testing.assert_array_equal(stored, filled(tmp_path / "at-once", Teacher()))


def test_a_fill_that_dies_without_a_word_is_taken_up(tmp_path: Path) -> None:
    script = f"""
import os, sys
import numpy as np
from pathlib import Path
from toolkit.distil import labels
def answer(view):
    if view == 3:
        os._exit(9)
    return np.random.default_rng(view).normal(0, 8, ({ROWS}, {CLASSES})).astype(np.float32)
labels.fill(Path(sys.argv[1]), views={VIEWS}, rows={ROWS}, label_view=answer, report=lambda *_: None)
"""
    folder = tmp_path / "killed"
    assert subprocess.run([sys.executable, "-c", script, str(folder)], env=os.environ).returncode == 9
    assert not (folder / labels.INDEX).exists()
    again = Teacher()
    stored = filled(folder, again)
    assert again.asked == [3, 4]
    np.testing.assert_array_equal(stored, filled(tmp_path / "at-once", Teacher()))


def test_a_full_store_asks_nobody(tmp_path: Path) -> None:
    filled(tmp_path, Teacher())
    again = Teacher()
    filled(tmp_path, again)
    assert again.asked == []


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "swapped"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    filled(tmp_path, Teacher())
    shards = sorted(tmp_path.glob("*.npy"))
    shard = shards[2]
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        shard.write_bytes(data)
    elif damage == "cut":
        shard.write_bytes(data[:-2])
    elif damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(shards[3].read_bytes())
    with pytest.raises(IntegrityError, match=shard.name) as caught:
        labels.load(tmp_path)
    assert caught.value.part == shard.name
    assert caught.value.exit_code == 4
    assert caught.value.hint


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", None])
def test_a_damaged_index_is_named(tmp_path: Path, damage: bytes | None) -> None:
    filled(tmp_path, Teacher())
    if damage is None:
        (tmp_path / labels.INDEX).unlink()
    else:
        (tmp_path / labels.INDEX).write_bytes(damage)
    with pytest.raises(IntegrityError, match=labels.INDEX):
        labels.load(tmp_path)


def test_the_index_says_what_the_store_holds(tmp_path: Path) -> None:
    filled(tmp_path, Teacher())
    index = json.loads((tmp_path / labels.INDEX).read_bytes())
    assert (index["views"], index["rows"], len(index["shards"])) == (VIEWS, ROWS, VIEWS)


def test_progress_counts_rows_up_to_all_of_them(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    labels.fill(
        tmp_path, views=VIEWS, rows=ROWS, label_view=Teacher(),
        report=lambda what, done, total: told.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0] == (0, VIEWS * ROWS)
    assert told[-1] == (VIEWS * ROWS, VIEWS * ROWS)


def test_a_teacher_that_answers_what_no_student_can_learn_is_refused(tmp_path: Path) -> None:
    """A logit beyond half precision would be stored as infinite and make every later loss NaN."""
    with pytest.raises(IntegrityError, match="finite"):
        labels.fill(
            tmp_path, views=1, rows=2, label_view=lambda _: np.array([[1e6, 0.0], [0.0, 1.0]], np.float32), report=quiet
        )
    assert not (tmp_path / labels.INDEX).exists()
