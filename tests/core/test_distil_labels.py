"""The label store: filled view by view, taken up after a crash, checked when read, mended alone, exact to half
precision; and the teacher's answers as a training looks them up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.distil import labels
from toolkit.distil.lookup import Answers
from toolkit.errors import IntegrityError

VIEWS, ROWS, CLASSES, WIDTH = 5, 7, 3, 4
BOTH = (labels.LOGITS, labels.FEATURES)


def quiet(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def answers(view: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(view)
    return {
        labels.LOGITS: draw.normal(0, 8, (ROWS, CLASSES)).astype(np.float32),
        labels.FEATURES: draw.normal(0, 1, (ROWS, WIDTH)).astype(np.float32),
    }


def logits(view: int) -> np.ndarray:
    return answers(view)[labels.LOGITS]


class Teacher:
    """Answers views, remembers which, and gives up before a chosen one."""

    def __init__(self, until: int = VIEWS) -> None:
        self.asked: list[int] = []
        self.until = until

    def __call__(self, view: int) -> dict[str, np.ndarray]:
        if view >= self.until:
            raise InterruptedError
        self.asked.append(view)
        return answers(view)


def fill(folder: Path, teacher: Teacher, carriers: Sequence[str] = BOTH) -> Sequence[str]:
    return labels.fill(
        folder, views=VIEWS, rows=ROWS, carriers=carriers, label_views=lambda views: map(teacher, views), report=quiet
    )


def filled(folder: Path, teacher: Teacher, carriers: Sequence[str] = BOTH) -> Sequence[labels.Arrays]:
    fill(folder, teacher, carriers)
    return labels.load(folder)


def assert_same(found: Sequence[labels.Arrays], wanted: Sequence[labels.Arrays]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def damage_file(path: Path, how: str, other: Path) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-2])
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(other.read_bytes())


def test_what_was_stored_comes_back_in_order(tmp_path: Path) -> None:
    stored = filled(tmp_path, Teacher())
    assert len(stored) == VIEWS
    for view in range(VIEWS):
        assert list(stored[view]) == list(BOTH)
        for name in BOTH:
            np.testing.assert_array_equal(stored[view][name], answers(view)[name].astype(np.float16))


def test_only_the_carriers_that_are_asked_for_are_kept(tmp_path: Path) -> None:
    stored = filled(tmp_path, Teacher(), [labels.LOGITS])
    assert [list(view) for view in stored] == [[labels.LOGITS]] * VIEWS
    assert not list(tmp_path.glob("features*"))


def test_a_carrier_that_is_asked_for_later_is_labelled_then(tmp_path: Path) -> None:
    filled(tmp_path, Teacher(), [labels.LOGITS])
    again = Teacher()
    assert_same(filled(tmp_path, again), filled(tmp_path / "at-once", Teacher()))
    assert again.asked == list(range(VIEWS))


def test_shards_are_read_by_memory_map(tmp_path: Path) -> None:
    for view in filled(tmp_path, Teacher()):
        for array in view.values():
            assert isinstance(array, np.memmap)
            assert not array.flags.writeable


def test_a_logit_is_kept_to_half_precision(tmp_path: Path) -> None:
    """binary16 rounds to nearest with 11 significant bits: a relative error of at most 2^-11 (IEEE 754-2019)."""
    stored = np.stack([view[labels.LOGITS] for view in filled(tmp_path, Teacher())]).astype(np.float64)
    exact = np.stack([logits(view) for view in range(VIEWS)]).astype(np.float64)
    assert (np.abs(stored - exact) <= np.abs(exact) * 2**-11 + 2**-25).all()
    odds, kept = np.exp(exact), np.exp(stored)
    shift = np.abs(odds / odds.sum(-1, keepdims=True) - kept / kept.sum(-1, keepdims=True))
    assert shift.max() < 0.005


@pytest.mark.parametrize("until", [0, 1, 3])
def test_an_interrupted_fill_is_taken_up_without_asking_again(tmp_path: Path, until: int) -> None:
    with pytest.raises(InterruptedError):
        filled(tmp_path, Teacher(until))
    assert labels.damaged(tmp_path) == ()
    again = Teacher()
    stored = filled(tmp_path, again)
    assert again.asked == list(range(until, VIEWS))
    assert_same(stored, filled(tmp_path / "at-once", Teacher()))


def test_a_fill_that_dies_without_a_word_is_taken_up(tmp_path: Path) -> None:
    """Between the two shards of a view, too: that view is asked again."""
    script = f"""
import os, sys
import numpy as np
from pathlib import Path
from toolkit.distil import labels
class Dies(dict):
    def __getitem__(self, name):
        if name == labels.FEATURES:
            os._exit(9)
        return super().__getitem__(name)
def answer(view):
    draw = np.random.default_rng(view)
    said = {{"logits": draw.normal(0, 8, ({ROWS}, {CLASSES})), "features": draw.normal(0, 1, ({ROWS}, {WIDTH}))}}
    return Dies(said) if view == 3 else said
labels.fill(
    Path(sys.argv[1]), views={VIEWS}, rows={ROWS}, carriers=["logits", "features"],
    label_views=lambda views: map(answer, views), report=lambda *_: None,
)
"""
    folder = tmp_path / "killed"
    assert subprocess.run([sys.executable, "-c", script, str(folder)], env=os.environ).returncode == 9
    assert not (folder / labels.INDEX).exists()
    assert len(list(folder.glob("*.npy"))) == 7
    again = Teacher()
    stored = filled(folder, again)
    assert again.asked == [3, 4]
    assert_same(stored, filled(tmp_path / "at-once", Teacher()))


def test_a_full_store_asks_nobody(tmp_path: Path) -> None:
    filled(tmp_path, Teacher())
    again = Teacher()
    assert list(fill(tmp_path, again)) == []
    assert again.asked == []


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "swapped"])
@pytest.mark.parametrize("carrier", BOTH)
def test_a_damaged_shard_is_named_and_it_alone_labelled_again(tmp_path: Path, damage: str, carrier: str) -> None:
    wanted = filled(tmp_path / "whole", Teacher())
    folder = tmp_path / "damaged"
    filled(folder, Teacher())
    shards = sorted(folder.glob(f"{carrier}*.npy"))
    shard = shards[2]
    damage_file(shard, damage, shards[3])
    with pytest.raises(IntegrityError, match=shard.name) as caught:
        labels.load(folder)
    assert caught.value.part == shard.name
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert list(labels.damaged(folder)) == [shard.name]
    again = Teacher()
    assert list(fill(folder, again)) == [shard.name]
    assert again.asked == [2]
    assert list(labels.damaged(folder)) == []
    assert_same(labels.load(folder), wanted)


def test_several_damaged_shards_ask_each_view_once(tmp_path: Path) -> None:
    filled(tmp_path, Teacher())
    for name in ("logits-00001.npy", "features-00001.npy", "features-00004.npy"):
        (tmp_path / name).write_bytes(b"")
    again = Teacher()
    assert sorted(fill(tmp_path, again)) == ["features-00001.npy", "features-00004.npy", "logits-00001.npy"]
    assert again.asked == [1, 4]


def test_mending_that_is_interrupted_is_taken_up(tmp_path: Path) -> None:
    """The damaged shards are gone and the index still names them."""
    wanted = filled(tmp_path / "whole", Teacher())
    filled(tmp_path / "damaged", Teacher())
    for view in (1, 3):
        (tmp_path / "damaged" / f"logits-{view:05d}.npy").write_bytes(b"")
    with pytest.raises(InterruptedError):
        fill(tmp_path / "damaged", Teacher(until=2))
    again = Teacher()
    fill(tmp_path / "damaged", again)
    assert again.asked == [3]
    assert_same(labels.load(tmp_path / "damaged"), wanted)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"views": 5, "shards": {}}', None])
def test_a_damaged_index_is_named(tmp_path: Path, damage: bytes | None) -> None:
    filled(tmp_path, Teacher())
    if damage is None:
        (tmp_path / labels.INDEX).unlink()
    else:
        (tmp_path / labels.INDEX).write_bytes(damage)
        assert set(labels.damaged(tmp_path)) == {labels.INDEX, *(path.name for path in tmp_path.glob("*.npy"))}
    with pytest.raises(IntegrityError, match=labels.INDEX):
        labels.load(tmp_path)


@pytest.mark.parametrize("removed", [0, 1, 4])
def test_a_damaged_index_vouches_for_no_shard(tmp_path: Path, removed: int) -> None:
    """What it said of the shards is lost, and what damaged it may have damaged them: also where mending was killed when
    the first few of them were gone."""
    wanted = filled(tmp_path / "whole", Teacher())
    folder = tmp_path / "damaged"
    filled(folder, Teacher())
    (folder / labels.INDEX).write_bytes(b"{")
    shards = sorted(folder.glob("logits*.npy"))
    damage_file(shards[-1], "flip", shards[3])
    for name in labels.damaged(folder)[:removed]:
        (folder / name).unlink()
    again = Teacher()
    assert labels.INDEX in fill(folder, again)
    assert again.asked == list(range(VIEWS))
    assert_same(labels.load(folder), wanted)


def test_the_index_says_what_the_store_holds(tmp_path: Path) -> None:
    filled(tmp_path, Teacher())
    index = json.loads((tmp_path / labels.INDEX).read_bytes())
    assert (index["views"], index["rows"], index["carriers"]) == (VIEWS, ROWS, list(BOTH))
    assert set(index["shards"]) == {path.name for path in tmp_path.glob("*.npy")}
    assert len(index["shards"]) == 2 * VIEWS


def test_progress_counts_rows_up_to_all_of_them(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    labels.fill(
        tmp_path, views=VIEWS, rows=ROWS, carriers=BOTH, label_views=lambda views: map(Teacher(), views),
        report=lambda what, done, total: told.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0] == (0, VIEWS * ROWS)
    assert told[-1] == (VIEWS * ROWS, VIEWS * ROWS)


@pytest.mark.parametrize("carrier", BOTH)
@pytest.mark.parametrize("value", [1e6, np.inf, np.nan])
def test_a_teacher_that_answers_what_no_student_can_learn_is_refused(
    tmp_path: Path, carrier: str, value: float
) -> None:
    """A number beyond half precision would be stored as infinite and make every later loss NaN."""
    said = answers(0)
    said[carrier][2, 1] = value
    with pytest.raises(IntegrityError, match=f"{carrier} are not finite") as caught:
        labels.fill(tmp_path, views=1, rows=ROWS, carriers=BOTH, label_views=lambda _: [said], report=quiet)
    assert caught.value.hint
    assert not (tmp_path / labels.INDEX).exists()


# --- the answers as a training looks them up ---------------------------------------------------------------------


def test_an_answer_is_that_of_its_row_under_its_view(tmp_path: Path) -> None:
    known, rows = Answers(filled(tmp_path, Teacher())), torch.tensor([6, 0, 3])
    for view in range(VIEWS):
        said = known.at(rows, view)
        assert said.logits.dtype == torch.float32
        np.testing.assert_array_equal(said.logits, logits(view).astype(np.float16)[[6, 0, 3]])
        np.testing.assert_array_equal(said.features, answers(view)[labels.FEATURES].astype(np.float16)[[6, 0, 3]])
        assert said.projected is None


def test_a_training_looks_only_at_views_that_the_teacher_saw(tmp_path: Path) -> None:
    known = Answers(filled(tmp_path, Teacher()))
    assert [known.view(number) for number in range(12)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_averaged_answers_are_the_means_over_the_views_and_hold_for_any(tmp_path: Path) -> None:
    known, rows = Answers(filled(tmp_path, Teacher())).averaged(), torch.arange(ROWS)
    for name in BOTH:
        halves = [answers(view)[name].astype(np.float16).astype(np.float64) for view in range(VIEWS)]
        for view in (0, 3, 1000):
            said = known.at(rows, view)
            found = said.logits if name == labels.LOGITS else said.features
            assert found is not None
            np.testing.assert_allclose(found, np.mean(halves, axis=0), rtol=1e-5, atol=1e-6)
    assert [known.view(number) for number in (0, 7, 1000)] == [0, 7, 1000]


def test_averaging_is_not_done_in_half_precision() -> None:
    """Eight times 60000 is beyond it, and 2049 is no half-precision number."""
    views = [{labels.LOGITS: np.array([[60000.0, 2048.0 + 2 * (view % 2)]], np.float16)} for view in range(8)]
    np.testing.assert_array_equal(Answers(views).averaged().at(torch.tensor([0]), 0).logits, [[60000, 2049]])


def test_averaging_leaves_the_stored_answers_alone(tmp_path: Path) -> None:
    stored = filled(tmp_path, Teacher())
    Answers(stored).averaged()
    assert list(labels.damaged(tmp_path)) == []
    np.testing.assert_array_equal(stored[0][labels.LOGITS], logits(0).astype(np.float16))


def test_a_teacher_without_features_has_none_of_no_width(tmp_path: Path) -> None:
    without = Answers(filled(tmp_path / "without", Teacher(), [labels.LOGITS]))
    assert (without.feature_width, without.averaged().feature_width) == (0, 0)
    assert without.at(torch.tensor([1]), 0).features is None
    known = Answers(filled(tmp_path / "with", Teacher()))
    assert (known.feature_width, known.averaged().feature_width) == (WIDTH, WIDTH)
