"""Images without labels: what becomes a row to train on, and what is left out because a score would flatter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_parts import encoded, lot, put, texture
from PIL import Image

from toolkit.artifacts import SPLITS
from toolkit.errors import DataError
from toolkit.plan import DataPlan
from toolkit.tasks.image_classification.checks import inspect_files
from toolkit.tasks.image_classification.duplicates import near_duplicates
from toolkit.tasks.image_classification.fingerprints import fingerprint
from toolkit.tasks.image_classification.images import decode_image
from toolkit.tasks.image_classification.layout import scan_folder
from toolkit.tasks.image_classification.reader import load_rows, prepare_image_folder, source_digest
from toolkit.tasks.image_classification.task import open_dataset

TWO = {"good": 12, "scratch": 12}
GIVEN = {f"{split}/{name}": count for split, count in (("train", 12), ("test", 4)) for name in ("good", "scratch")}


def prepare(source: Path, folder: Path, *, purpose: str = "train", **settings: Any) -> dict[str, Any]:
    return prepare_image_folder(source, purpose=purpose, settings=DataPlan(**settings), seed=0, folder=folder)


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def without_label(folder: Path) -> set[str]:
    return {name for name, row in rows_of(folder).items() if row["split"] == "unlabelled"}


def findings_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads((folder / "findings.json").read_bytes())["findings"]:
        found.setdefault(finding["kind"], []).append(finding)
    return found


def surface(number: int) -> np.ndarray:
    """Larger than a picture, for crops that overlap; no number of `lot` makes it."""
    return texture(5_000_000 + number, 200)


def crop(number: int, top: int, left: int = 0, side: int = 100) -> np.ndarray:
    return surface(number)[top : top + side, left : left + side]


# --- what becomes a row


@pytest.mark.parametrize("classes", [TWO, GIVEN], ids=["class folders", "train and test"])
def test_images_without_labels_are_rows_of_their_own_split(tmp_path: Path, classes: dict[str, int]) -> None:
    source = lot(tmp_path / "lot", classes)
    before = prepare(source, tmp_path / "before")
    lot(source, {"Unlabelled": 3, "Unlabelled/line 2/Monday/good": 2, "unlabeled": 1}, seed=1)
    facts = prepare(source, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out", "", facts)
    rows = dataset.split("unlabelled")
    assert list(rows.ids) == sorted(
        [f"Unlabelled/{n:03}.jpg" for n in range(3)]
        + [f"Unlabelled/line 2/Monday/good/{n:03}.jpg" for n in range(2)]
        + ["unlabeled/000.jpg"]
    )
    assert set(rows.labels) == {row.label for row in rows} == {""}
    assert rows[0].inputs["image"].shape == (64, 64, 1)
    assert list(rows_of(tmp_path / "out")) == sorted(rows_of(tmp_path / "out"))
    assert facts["unlabelled"] == len(rows) == 6
    assert [finding["severity"] for finding in findings_of(tmp_path / "out")["unlabelled"]] == ["note", "note"]
    changed = {key for key in facts if facts[key] != before[key]}
    assert changed == {"unlabelled", "source_digest", "findings"}
    labelled = {name: row for name, row in rows_of(tmp_path / "out").items() if row["label"]}
    assert labelled == rows_of(tmp_path / "before")  # the same rows are tested, and calibrate, as without the folder


def test_without_such_a_folder_the_split_is_empty(tmp_path: Path) -> None:
    facts = prepare(lot(tmp_path / "lot", TWO), tmp_path / "out")
    assert facts["unlabelled"] == 0
    assert len(open_dataset(tmp_path / "out", "", facts).split("unlabelled")) == 0
    assert SPLITS[-1] == "unlabelled"
    assert set(facts["counts"]) == set(SPLITS[:-1])


def test_a_class_inside_train_may_be_called_unlabelled(tmp_path: Path) -> None:
    facts = prepare(lot(tmp_path / "lot", {"train/unlabelled": 12, "train/good": 12}), tmp_path / "out")
    assert facts["classes"] == ["good", "unlabelled"]
    assert facts["unlabelled"] == 0


def test_an_empty_folder_is_no_fault(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    (source / "unlabelled").mkdir()
    assert prepare(source, tmp_path / "out")["unlabelled"] == 0


def test_evaluate_does_not_read_them(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    before = prepare(source, tmp_path / "before", purpose="evaluate")
    put(source / "unlabelled" / "broken.jpg", b"\xff\xd8\xff")
    lot(source, {"unlabelled": 2}, seed=1)
    facts = prepare(source, tmp_path / "out", purpose="evaluate")
    assert facts["unlabelled"] == 0
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "before")
    assert facts["source_digest"] == before["source_digest"]
    assert "was not read" in findings_of(tmp_path / "out")["unlabelled"][0]["message"]


def test_digest_covers_them(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    seen = [source_digest(source)]
    for name in ("unlabelled/a.jpg", "unlabelled/deep/b.jpg", "unlabeled/c.jpg"):
        put(source / name, encoded(texture(len(seen) + 70)))
        seen.append(source_digest(source))
        assert prepare(source, tmp_path / "out")["source_digest"] == seen[-1]
    put(source / "unlabelled" / "a.jpg", encoded(texture(99)))
    seen.append(source_digest(source))
    assert len(set(seen)) == 5


# --- what is wrong with a file


def test_hostile_files_are_told_and_left_out_and_the_folder_stands(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO | {"unlabelled": 2})
    whole = encoded(texture(5))
    bad = {"empty-file": b"", "truncated": whole[:600], "not-an-image": b"x"}
    for kind, data in bad.items():
        put(source / "unlabelled" / f"{kind}.jpg", data)
    put(source / "unlabelled" / "LICENSE", b"by the plant")
    put(tmp_path / "outside.jpg", whole)
    (source / "unlabelled" / "stolen.jpg").symlink_to(tmp_path / "outside.jpg")
    (source / "unlabelled" / "loop").symlink_to(source)
    facts = prepare(source, tmp_path / "out")
    assert without_label(tmp_path / "out") == {"unlabelled/000.jpg", "unlabelled/001.jpg"}
    found = findings_of(tmp_path / "out")
    for kind in bad:
        assert [finding["rows"] for finding in found[kind]] == [[f"unlabelled/{kind}.jpg"]]
    assert "leaves the folder" in found["refused"][0]["message"]
    assert found["ignored-file"][0]["rows"] == ["unlabelled/LICENSE"]
    assert found["link"][0]["rows"] == ["unlabelled/loop"]
    assert source_digest(source) == facts["source_digest"]
    assert not facts["licence"]["stated"]


@pytest.mark.parametrize("classes", [TWO, GIVEN], ids=["class folders", "train and test"])
def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path, classes: dict[str, int]) -> None:
    source, outside = lot(tmp_path / "lot", classes), lot(tmp_path / "elsewhere", {"pool": 2}, seed=2)
    (source / "unlabelled").symlink_to(outside / "pool")
    assert prepare(source, tmp_path / "out")["unlabelled"] == 0
    assert findings_of(tmp_path / "out")["link"][0]["severity"] == "error"


def test_colour_is_decided_over_them_too_and_size_over_labelled_ones(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    lot(source, {"unlabelled": 40}, side=300, seed=1)
    colour = np.repeat(texture(60, 64)[:, :, None], 3, axis=2)
    colour[20:30, 20:30, 0] += 90
    put(source / "unlabelled" / "rust.png", encoded(colour, ".png"))
    facts = prepare(source, tmp_path / "out")
    assert (facts["colour"], facts["channels"]) == ("rgb", 3)
    assert load_rows(tmp_path / "out", "unlabelled", facts)[-1].inputs["image"].shape == (64, 64, 3)
    (odd,) = findings_of(tmp_path / "out")["odd-size"]
    assert odd["rows"] == [f"unlabelled/{n:03}.jpg" for n in range(40)]


def test_large_ones_change_nothing_in_how_labelled_images_are_compared(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", GIVEN, side=100)
    put(source / "train" / "good" / "left.jpg", encoded(crop(1, 0)))
    put(source / "test" / "good" / "right.jpg", encoded(crop(1, 40, 40)))
    lot(source, {"unlabelled": 40}, side=640, seed=1)
    put(source / "unlabelled" / "middle.jpg", encoded(crop(1, 20, 20)))
    facts = prepare(source, tmp_path / "out")
    assert [leak[:2] for leak in facts["leaks"]] == [["test/good/right.jpg", "train/good/left.jpg"]]
    assert "unlabelled/middle.jpg" not in without_label(tmp_path / "out")
    assert facts["unlabelled"] == 40


def test_frames_far_larger_than_labelled_images_are_shrunk_so_that_thousands_fit_in_memory(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    frame = np.tile(texture(1, 500), (2, 3))
    put(source / "good" / "large.jpg", encoded(frame[:400, :600]))
    put(source / "unlabelled" / "large.jpg", encoded(frame[:800, :1200]))
    put(source / "unlabelled" / "frame.jpg", encoded(frame))
    layout = scan_folder(source)
    files = inspect_files(source, layout.entries, fingerprints=True)
    assert [file.entry for file in files] == list(layout.entries)
    sides = {file.entry.path: file.fingerprint.band.shape for file in files if file.fingerprint and file.width > 64}
    assert sides == {
        "good/large.jpg": (400, 600),
        "unlabelled/large.jpg": (800, 1200),
        "unlabelled/frame.jpg": (125, 188),
    }


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({}, "has no class folders"),
        ({"good": 12}, "only one class, good"),
        ({"good": 12, "pit": 4}, r"too few usable training images in pit \(4\)"),
        ({"test/a": 2, "test/b": 2}, "nothing to train on"),
    ],
)
def test_they_do_not_make_up_for_labels(tmp_path: Path, classes: dict[str, int], says: str) -> None:
    source = lot(tmp_path / "lot", classes | {"unlabelled": 30, "unlabelled/pit": 12})
    with pytest.raises(DataError, match=says) as caught:
        prepare(source, tmp_path / "out")
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_where_all_labelled_files_are_broken_those_are_named(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {"unlabelled": 3})
    for name in ("good/1.jpg", "bad/1.jpg"):
        put(source / name, b"")
    with pytest.raises(DataError, match=r"none of the 2 files .* 2 empty-file"):
        prepare(source, tmp_path / "out")


# --- copies and leaks


def test_what_a_test_or_validation_row_shows_is_left_out(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", GIVEN | {"val/good": 3, "val/scratch": 3}, side=120)
    put(source / "test" / "good" / "wide.jpg", encoded(crop(1, 0)))
    pool = source / "unlabelled"
    lot(pool, {"other": 4}, side=120, seed=3)
    put(pool / "same bytes.jpg", (source / "test" / "good" / "000.jpg").read_bytes())
    Image.open(source / "val" / "good" / "001.jpg").save(pool / "same pixels.png")
    tested = np.asarray(Image.open(source / "test" / "scratch" / "001.jpg"), dtype=float)
    put(pool / "deep" / "mirrored.jpg", encoded(tested[:, ::-1]))
    put(pool / "dark.jpg", encoded(tested * 0.6, quality=60))
    put(pool / "shifted.jpg", encoded(crop(1, 40, 30)))
    (pool / "link.jpg").symlink_to(source / "test" / "good" / "002.jpg")
    facts = prepare(source, tmp_path / "out")
    assert without_label(tmp_path / "out") == {f"unlabelled/other/{n:03}.jpg" for n in range(4)}
    assert facts["unlabelled"] == 4
    (leak,) = findings_of(tmp_path / "out")["unlabelled-leak"]
    assert leak["severity"] == "warning"
    assert "6 images without labels" in leak["message"]
    assert "left out" in leak["message"]
    names = ("same bytes.jpg", "same pixels.png", "deep/mirrored.jpg", "dark.jpg", "shifted.jpg", "link.jpg")
    assert leak["rows"] == sorted(f"unlabelled/{name}" for name in names)
    assert facts["leaks"] == []
    assert rows_of(tmp_path / "out")["test/good/wide.jpg"]["group"] == "test/good/wide.jpg"


def test_one_that_is_left_out_has_no_say_in_the_colour(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", GIVEN | {"val/good": 3, "val/scratch": 3})
    tested = np.asarray(Image.open(source / "test" / "good" / "000.jpg").convert("RGB"), dtype=float)
    put(source / "unlabelled" / "warm light.jpg", encoded(tested * np.array([1, 0.9, 0.6])))
    facts = prepare(source, tmp_path / "out")
    assert (facts["unlabelled"], facts["colour"]) == (0, "grey")


def test_a_copy_of_a_training_row_is_left_out_and_a_near_duplicate_shares_its_group(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", GIVEN | {"val/good": 3, "val/scratch": 3})
    put(source / "train" / "good" / "wide.jpg", encoded(crop(1, 0)))
    put(source / "unlabelled" / "copy.jpg", (source / "train" / "good" / "000.jpg").read_bytes())
    put(source / "unlabelled" / "near.jpg", encoded(crop(1, 50)))
    for name in ("once.jpg", "twice.jpg"):
        put(source / "unlabelled" / name, encoded(crop(2, 0)))
    prepare(source, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert without_label(tmp_path / "out") == {f"unlabelled/{name}.jpg" for name in ("near", "once", "twice")}
    assert rows["unlabelled/near.jpg"]["group"] == rows["train/good/wide.jpg"]["group"] == "train/good/wide.jpg"
    assert rows["unlabelled/twice.jpg"]["group"] == rows["unlabelled/once.jpg"]["group"] == "unlabelled/once.jpg"
    found = findings_of(tmp_path / "out")
    assert (found["unlabelled-copy"][0]["severity"], found["unlabelled-copy"][0]["rows"]) == (
        "note",
        ["unlabelled/copy.jpg"],
    )
    assert found["copies"][0]["rows"] == ["unlabelled/once.jpg", "unlabelled/twice.jpg"]
    assert not {"unlabelled-leak", "two-labels", "near-duplicate-labels"} & found.keys()


def test_where_splits_are_made_only_neighbours_of_training_rows_stay(tmp_path: Path) -> None:
    source = tmp_path / "lot"
    for n in range(24):
        put(source / ("good" if n % 2 else "pit") / f"{n:03}.jpg", encoded(crop(n, 0)))
    before = prepare(source, tmp_path / "before")
    for n in range(24):
        put(source / "unlabelled" / f"{n:03}.jpg", encoded(crop(n, 45, 10)))
    facts = prepare(source, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    split_of = {name[-7:-4]: row["split"] for name, row in rows.items() if row["label"]}
    assert split_of == {name[-7:-4]: row["split"] for name, row in rows_of(tmp_path / "before").items()}
    assert facts["counts"] == before["counts"]
    assert set(split_of.values()) == {"train", "validation", "test"}
    kept = {f"unlabelled/{n}.jpg" for n, split in split_of.items() if split == "train"}
    assert without_label(tmp_path / "out") == kept
    group_of = {name[-7:-4]: row["group"] for name, row in rows.items() if row["label"]}
    assert all(rows[name]["group"] == group_of[name[-7:-4]] for name in kept)
    assert len(findings_of(tmp_path / "out")["unlabelled-leak"][0]["rows"]) == 24 - len(kept)


def test_no_unlabelled_row_shows_what_a_held_out_row_shows(tmp_path: Path) -> None:
    source = tmp_path / "lot"
    for n in range(16):  # strips of four crops, each over half of the next; some parts carry a label
        strip = texture(7_000_000 + n, 220)
        for part in range(4):
            labelled = (n + part) % 3 == 0 or n >= 12
            name = ("good" if n % 2 else "pit") if labelled else "unlabelled"
            put(source / name / f"{n:02}-{part}.jpg", encoded(strip[40 * part : 40 * part + 100, :100]))
    prepare(source, tmp_path / "out", minimum_per_class=3)
    rows = rows_of(tmp_path / "out")
    names = sorted(rows)
    prints = [fingerprint(decode_image((source / name).read_bytes())[:, :, 0]) for name in names]
    split_of = [rows[name]["split"] for name in names]
    held = ("validation", "test")
    across = {
        frozenset((split_of[match.first], split_of[match.second])) & {*held, "unlabelled"}
        for match in near_duplicates(prints)
    }
    assert {"unlabelled"} in across  # with train or with one another
    assert not any("unlabelled" in pair and len(pair) == 2 for pair in across)
    groups = [{row["group"] for row in rows.values() if (row["split"] in held) == is_held} for is_held in (True, False)]
    assert not groups[0] & groups[1]


def test_a_neighbour_of_a_neighbour_of_a_test_row_is_left_out(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", GIVEN | {"val/good": 3, "val/scratch": 3})
    strip = texture(8_000_000, 400)
    put(source / "test" / "good" / "start.jpg", encoded(strip[:100, :100]))
    for n in range(1, 5):  # the third and fourth have not a pixel in common with the test row
        put(source / "unlabelled" / f"{n}.jpg", encoded(strip[45 * n : 45 * n + 100, :100]))
    put(source / "unlabelled" / "apart.jpg", encoded(crop(1, 0)))
    prepare(source, tmp_path / "out")
    assert without_label(tmp_path / "out") == {"unlabelled/apart.jpg"}


def test_a_bridge_without_a_label_joins_no_labelled_rows(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", GIVEN | {"val/good": 3, "val/scratch": 3})
    strip = texture(8_000_001, 300)
    put(source / "train" / "good" / "left.jpg", encoded(strip[:100, :100]))
    put(source / "unlabelled" / "middle.jpg", encoded(strip[55:155, :100]))
    put(source / "test" / "good" / "right.jpg", encoded(strip[110:210, :100]))
    facts = prepare(source, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert facts["leaks"] == []
    assert facts["unlabelled"] == 0
    assert rows["train/good/left.jpg"]["group"] != rows["test/good/right.jpg"]["group"]
    put(source / "train" / "good" / "right.jpg", (source / "test" / "good" / "right.jpg").read_bytes())
    (source / "test" / "good" / "right.jpg").unlink()
    prepare(source, tmp_path / "both in train")
    rows = rows_of(tmp_path / "both in train")
    strip_rows = ("train/good/left.jpg", "train/good/right.jpg", "unlabelled/middle.jpg")
    assert {rows[name]["group"] for name in strip_rows} == {"train/good/left.jpg"}
    assert [len(findings_of(tmp_path / name).get("near-duplicates", [])) for name in ("out", "both in train")] == [0, 0]
