"""An image folder: its layouts, its faults, and what comes out prepared."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_parts import INDUSTRY, encoded, lot, put, texture
from PIL import Image

from toolkit.errors import DataError
from toolkit.plan import DataPlan
from toolkit.tasks.image_classification.layout import scan_folder
from toolkit.tasks.image_classification.reader import load_rows, prepare_image_folder, source_digest

TWO = {"good": 12, "scratch": 12}


def prepare(source: Path, folder: Path, *, purpose: str = "train", seed: int = 0, **settings: Any) -> dict[str, Any]:
    classes = settings.pop("classes", ())
    return prepare_image_folder(
        source, purpose=purpose, settings=DataPlan(**settings), seed=seed, folder=folder, classes=classes
    )


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def findings_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads((folder / "findings.json").read_bytes())["findings"]:
        found.setdefault(finding["kind"], []).append(finding)
    return found


def refused(source: Path, folder: Path, says: str, **options: Any) -> DataError:
    with pytest.raises(DataError, match=says) as caught:
        prepare(source, folder, **options)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


# --- layouts


def test_class_folders_alone_are_split(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {"scratch": 20, "good": 40, "stain": 20})
    facts = prepare(source, tmp_path / "out")
    assert facts["classes"] == ["good", "scratch", "stain"]
    assert facts["counts"]["test"] == {"good": 8, "scratch": 4, "stain": 4}
    assert facts["good_class"] == "good"
    assert (facts["colour"], facts["channels"]) == ("grey", 1)
    assert facts["sizes"] == {"min": [64, 64], "median": [64, 64], "max": [64, 64]}
    assert facts["leaks"] == []
    assert facts["source"] == str(source)
    assert json.loads(json.dumps(facts)) == facts
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 80
    assert list(rows) == sorted(rows)
    assert {row["split"] for row in rows.values()} == {"train", "validation", "test"}
    assert all(row["split"] == "train" for row in rows.values() if row["calibration"])


def test_a_folder_with_splits_of_its_own_is_respected(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {f"Train/{c}": 12 for c in "ab"} | {f"val/{c}": 2 for c in "ab"} | {"test/a": 3})
    put(source / "ground_truth" / "a" / "mask.png", encoded(texture(1), ".png"))
    put(source / "README.md", b"about")
    facts = prepare(source, tmp_path / "out")
    assert facts["counts"]["train"] == {"a": 12, "b": 12}
    assert facts["counts"]["validation"] == {"a": 2, "b": 2}
    assert facts["counts"]["test"] == {"a": 3, "b": 0}
    found = findings_of(tmp_path / "out")
    assert "ground_truth" in found["ignored-folder"][0]["message"]
    assert "test has no image of b" in found["missing-class"][0]["message"]


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    facts = prepare(lot(tmp_path / "lot", {"test": 12, "good": 12}), tmp_path / "out")
    assert facts["classes"] == ["good", "test"]


def test_hidden_and_system_files_are_no_rows(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO | {".hidden": 3, "good/.thumbs": 1, "good/deep er": 1}, seed=1)
    for name in ("good/Thumbs.db", "good/.DS_Store", "good/._001.jpg", ".gitignore"):
        put(source / name, b"x")
    put(source / "good" / "notes.txt", b"seen on Monday")
    put(source / "loose.jpg", encoded(texture(5)))
    facts = prepare(source, tmp_path / "out")
    assert facts["classes"] == ["good", "scratch"]
    assert len(rows_of(tmp_path / "out")) == 25
    assert "good/deep er/000.jpg" in rows_of(tmp_path / "out")
    found = findings_of(tmp_path / "out")
    assert found["ignored-file"][0]["rows"] == ["good/notes.txt"]
    assert found["loose-file"][0]["rows"] == ["loose.jpg"]


def test_names_with_spaces_and_in_any_script(tmp_path: Path) -> None:
    source = lot(tmp_path / "图片 lot", {"良品": 12, "e\u0301raflure": 12, "100% bad #1": 12})
    put(source / "良品" / "零件 一.jpg", encoded(texture(99)))
    facts = prepare(source, tmp_path / "out")
    assert facts["classes"] == ["100% bad #1", "\u00e9raflure", "良品"]  # accents in one, as others write them
    rows = load_rows(tmp_path / "out", "train", facts)
    assert {row.label for row in rows} == set(facts["classes"])


def test_a_name_that_is_no_text_is_reported(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    try:
        put(Path(os.fsdecode(os.fsencode(source) + b"/good/\xff\xfe.jpg")), encoded(texture(5)))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    prepare(source, tmp_path / "out")
    assert findings_of(tmp_path / "out")["file-name"][0]["severity"] == "error"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({}, "is empty"),
        ({"a.jpg": b"x"}, "no class folders"),
        ({"good/.keep": b""}, "no files in them"),
        ({"good/1.jpg": b"x"}, "only one class, good"),
        ({"train/a/1.jpg": b"x", "train/b/1.jpg": b"x", "test/c/1.jpg": b"x"}, "test has classes that train lacks: c"),
        ({"train/a/1.jpg": b"x", "train/b/1.jpg": b"x", "val/d/1.jpg": b"x"}, "validation has classes .*: d"),
        ({"test/a/1.jpg": b"x", "test/b/1.jpg": b"x"}, "nothing to train on"),
        ({"a/1.jpg": b"", "b/1.jpg": b"text"}, "none of the 2 files .* 1 empty-file, 1 not-an-image"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, made: dict[str, bytes], says: str) -> None:
    source = tmp_path / "lot"
    source.mkdir()
    for name, data in made.items():
        put(source / name, data)
    refused(source, tmp_path / "out", says)
    assert not (tmp_path / "out").exists()


def test_a_wrong_path_or_a_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", tmp_path / "out", "there is no folder")
    refused(put(tmp_path / "file.jpg", b"x"), tmp_path / "out", "is a file, not a folder")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", tmp_path / "out", "there is no folder")


def test_too_few_images_names_the_classes_and_how_many(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {"good": 12, "pit": 4, "crack": 0, "stain": 12})
    (source / "crack").mkdir()
    for name in ("000", "001", "002"):
        put(source / "stain" / f"{name}.jpg", b"")
    error = refused(source, tmp_path / "out", r"crack \(0\), pit \(4\), stain \(9\); each class needs 10")
    assert "minimum_per_class" in error.hint


# --- single files


def test_hostile_files_are_listed_and_left_out(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    whole = encoded(texture(5))
    bad = {
        "empty.jpg": (b"", "empty-file"),
        "text.jpg": (b"not an image at all", "not-an-image"),
        "short.jpg": (whole[: len(whole) // 2], "truncated"),
        "speck.png": (encoded(np.zeros((1, 1)), ".png"), "too-small"),
    }
    for name, (data, _) in bad.items():
        put(source / "good" / name, data)
    Image.new("1", (9000, 9000)).save(source / "good" / "bomb.png")
    os.mkfifo(source / "good" / "pipe.jpg")
    facts = prepare(source, tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 24
    found = findings_of(tmp_path / "out")
    for name, kind in [*((n, k) for n, (_, k) in bad.items()), ("bomb.png", "too-large"), ("pipe.jpg", "refused")]:
        (finding,) = found[kind]
        assert finding["rows"] == [f"good/{name}"]
        assert finding["severity"] == "error"
    assert facts["findings"]["error"] == 6
    assert facts["unreadable"] == 0


def test_links_are_read_inside_and_refused_outside(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    outside = lot(tmp_path / "elsewhere", {"secret": 2}, seed=2)
    put(source / "pool" / "x.jpg", encoded(texture(70)))
    (source / "good" / "inside.jpg").symlink_to(Path("..") / "pool" / "x.jpg")
    (source / "good" / "outside.jpg").symlink_to(outside / "secret" / "000.jpg")
    (source / "good" / "nowhere.jpg").symlink_to(source / "good" / "gone.jpg")
    (source / "good" / "self.jpg").symlink_to(source / "good" / "self.jpg")
    (source / "good" / "loop").symlink_to(source)
    (source / "stolen").symlink_to(outside / "secret")
    (source / "LICENSE").symlink_to(put(tmp_path / "passwords", b"root"))
    facts = prepare(source, tmp_path / "out", purpose="evaluate")
    rows = rows_of(tmp_path / "out")
    assert rows["good/inside.jpg"]["readable"]
    found = findings_of(tmp_path / "out")
    refusals = {finding["rows"][0]: finding["message"] for finding in found["refused"]}
    assert refusals.keys() == {"good/outside.jpg", "good/nowhere.jpg", "good/self.jpg"}
    assert "leaves the folder" in refusals["good/outside.jpg"]
    assert {f["rows"][0]: f["severity"] for f in found["link"]} == {"good/loop": "note", "stolen": "error"}
    assert facts["classes"] == ["good", "pool", "scratch"]
    assert not facts["licence"]["stated"]


def test_pixel_modes_and_sizes_are_told(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    surface = Image.fromarray(texture(50, 64).astype(np.uint8))
    surface.convert("CMYK").save(source / "good" / "print.jpg")
    surface.convert("P").save(source / "good" / "palette.png", transparency=3)
    Image.fromarray(texture(51, 64).astype(np.uint16) * 200).save(source / "good" / "deep.png")
    put(source / "good" / "wide.png", encoded(texture(52, 300), ".png"))
    prepare(source, tmp_path / "out")
    found = findings_of(tmp_path / "out")
    messages = " ".join(finding["message"] for finding in found["pixel-mode"])
    assert "CMYK" in messages
    assert "16 bits" in messages
    assert "palette" in messages
    assert found["odd-size"][0]["rows"] == ["good/wide.png"]


def test_one_coloured_image_makes_the_lot_rgb(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    colour = np.repeat(texture(60, 64)[:, :, None], 3, axis=2)
    colour[20:30, 20:30, 0] += 90
    put(source / "good" / "rust.jpg", encoded(colour))
    facts = prepare(source, tmp_path / "out")
    assert (facts["colour"], facts["channels"]) == ("rgb", 3)
    assert load_rows(tmp_path / "out", "train", facts)[0].inputs["image"].shape == (64, 64, 3)
    grey_in_rgb = lot(tmp_path / "grey", TWO)
    almost = np.repeat(texture(60, 64)[:, :, None], 3, axis=2)
    put(grey_in_rgb / "good" / "grey.jpg", encoded(almost + np.array([0, 2, 4])))
    assert prepare(grey_in_rgb, tmp_path / "out2")["colour"] == "grey"


def test_imbalance_is_told(tmp_path: Path) -> None:
    prepare(lot(tmp_path / "lot", {"good": 45, "pit": 4}, side=32), tmp_path / "out", minimum_per_class=3)
    assert "good has 45 images, pit only 4" in findings_of(tmp_path / "out")["imbalance"][0]["message"]


# --- copies, leaks, splits


def test_the_same_image_under_two_labels(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    put(source / "scratch" / "bytes.jpg", (source / "good" / "000.jpg").read_bytes())
    Image.open(source / "good" / "001.jpg").save(source / "scratch" / "pixels.png")
    put(source / "good" / "copy.jpg", (source / "good" / "002.jpg").read_bytes())
    prepare(source, tmp_path / "out")
    found = findings_of(tmp_path / "out")
    assert [finding["rows"] for finding in found["two-labels"]] == [
        ["good/000.jpg", "scratch/bytes.jpg"],
        ["good/001.jpg", "scratch/pixels.png"],
    ]
    assert found["copies"][0]["rows"] == ["good/002.jpg", "good/copy.jpg"]
    rows = rows_of(tmp_path / "out")
    assert rows["scratch/bytes.jpg"]["group"] == rows["good/000.jpg"]["group"] == "good/000.jpg"


def planted(root: Path) -> dict[str, tuple[str, str]]:
    """A lot with splits in which four test images are train images in disguise."""
    lot(root, {"train/good": 20, "train/pit": 20, "test/good": 8, "test/pit": 8}, side=120)
    wide = texture(4711, 180)
    put(root / "train" / "good" / "wide.jpg", encoded(wide[:120, :120]))
    put(root / "test" / "good" / "shifted.jpg", encoded(wide[45:165, 20:140]))
    first = np.asarray(Image.open(root / "train" / "pit" / "000.jpg"), dtype=float)
    put(root / "test" / "pit" / "dark.jpg", encoded(first * 0.6, quality=50))
    second = np.asarray(Image.open(root / "train" / "pit" / "001.jpg"), dtype=float)
    put(root / "test" / "pit" / "mirrored.png", encoded(second[:, ::-1], ".png"))
    shutil.copy(root / "train" / "good" / "003.jpg", root / "test" / "good" / "copy.jpg")
    return {
        "test/good/shifted.jpg": ("train/good/wide.jpg", "near"),
        "test/pit/dark.jpg": ("train/pit/000.jpg", "near"),
        "test/pit/mirrored.png": ("train/pit/001.jpg", "near"),
        "test/good/copy.jpg": ("train/good/003.jpg", "exact"),
    }


def test_leaks_in_given_splits_are_found_and_nothing_is_moved(tmp_path: Path) -> None:
    plants = planted(tmp_path / "lot")
    facts = prepare(tmp_path / "lot", tmp_path / "out")
    assert {first: second for first, second, _ in facts["leaks"]} == {k: v for k, (v, _) in plants.items()}
    assert {first for first, _, score in facts["leaks"] if score == 1.0} >= {"test/good/copy.jpg"}
    (leak,) = findings_of(tmp_path / "out")["leak"]
    assert leak["severity"] == "error"
    assert "touch 4 test images" in leak["message"]
    rows = rows_of(tmp_path / "out")
    assert all(row["split"] == "test" for name, row in rows.items() if name.startswith("test/"))
    for name, (original, _) in plants.items():
        assert rows[name]["group"] == rows[original]["group"]


def test_near_duplicates_stay_together_where_splits_are_made(tmp_path: Path) -> None:
    source = tmp_path / "lot"
    for name, strip in itertools.product(("good", "pit"), range(8)):
        surface = texture(hash_free(name, strip), 240)
        for part in range(4):  # a strip of crops, each half over the next
            put(source / name / f"{strip}-{part}.jpg", encoded(surface[40 * part : 40 * part + 100, :100]))
    facts = prepare(source, tmp_path / "out")
    assert facts["leaks"] == []
    home: dict[str, set[str]] = {}
    for row in rows_of(tmp_path / "out").values():
        home.setdefault(row["group"], set()).add(row["split"])
    assert len(home) == 16
    assert all(len(splits) == 1 for splits in home.values())
    assert "64 images fall into 16 groups" in findings_of(tmp_path / "out")["near-duplicates"][0]["message"]


def hash_free(name: str, number: int) -> int:
    return {"good": 10_000, "pit": 20_000}[name] + number


def test_prepared_twice_is_the_same_bytes(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    first, second = prepare(source, tmp_path / "one"), prepare(source, tmp_path / "two")
    assert first == second
    for name in ("rows.jsonl", "findings.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = prepare(source, tmp_path / "three", seed=1)
    assert other["source_digest"] == first["source_digest"]
    assert (tmp_path / "three" / "rows.jsonl").read_bytes() != (tmp_path / "one" / "rows.jsonl").read_bytes()


# --- licence and digest


def test_licence_is_stated_found_or_missing(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    assert prepare(source, tmp_path / "out")["licence"] == {"text": "", "stated": False, "sha256": ""}
    assert findings_of(tmp_path / "out")["licence"][0]["severity"] == "warning"
    put(source / "LICENSE.txt", b"\n  Creative Commons BY 4.0\nmore\n")
    found = prepare(source, tmp_path / "out")["licence"]
    assert (found["text"], found["stated"], len(found["sha256"])) == ("Creative Commons BY 4.0", True, 64)
    assert "licence" not in findings_of(tmp_path / "out")
    assert prepare(source, tmp_path / "out", licence="own")["licence"] == {"text": "own", "stated": True, "sha256": ""}


def test_digest_follows_names_bytes_and_licence_only(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    seen = [source_digest(source)]
    assert seen[0] == prepare(source, tmp_path / "out")["source_digest"]
    moved = source.rename(tmp_path / "moved")
    assert source_digest(moved) == seen[0]
    (moved / "good" / "000.jpg").touch()
    put(moved / "README", b"words")
    assert source_digest(moved) == seen[0]
    (moved / "good" / "000.jpg").rename(moved / "good" / "zero.jpg")
    seen.append(source_digest(moved))
    put(moved / "good" / "001.jpg", encoded(texture(777)))
    seen.append(source_digest(moved))
    put(moved / "LICENSE", b"MIT")
    seen.append(source_digest(moved))
    assert len(set(seen)) == 4


# --- evaluate


def test_every_row_of_every_split_is_tested_in_evaluate(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {"train/good": 3, "test/good": 2, "val/pit": 1})
    put(source / "test" / "good" / "broken.jpg", encoded(texture(1))[:500])
    classes = ("scratch", "pit", "good")
    facts = prepare(source, tmp_path / "out", purpose="evaluate", classes=classes)
    assert facts["classes"] == list(classes)
    assert facts["counts"] == {"test": {"scratch": 0, "pit": 1, "good": 6}}
    assert facts["unreadable"] == 1
    rows = load_rows(tmp_path / "out", "test", facts)
    assert len(rows) == 7
    broken = next(row for row in rows if row.id == "test/good/broken.jpg")
    assert broken.inputs == {}
    assert broken.label == "good"
    assert [row.id for row in load_rows(tmp_path / "out", "train", facts)] == []
    assert findings_of(tmp_path / "out")["truncated"][0]["rows"] == ["test/good/broken.jpg"]


def test_an_unknown_label_is_named_beside_the_known_ones(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {"good": 2, "rust": 2})
    refused(source, tmp_path / "out", "rust; it knows good, pit", purpose="evaluate", classes=("good", "pit"))


def test_one_class_and_test_alone_will_do_for_evaluate(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", {"test/good": 2})
    assert prepare(source, tmp_path / "out", purpose="evaluate", classes=("good", "pit"))["counts"]["test"]["good"] == 2


# --- rows


def test_rows_are_lazy_ordered_and_checked(tmp_path: Path) -> None:
    source = lot(tmp_path / "lot", TWO)
    facts = prepare(source, tmp_path / "out")
    rows = load_rows(tmp_path / "out", "train", facts)
    assert list(rows.ids) == sorted(rows.ids)
    assert [row.id for row in rows] == list(rows.ids)
    assert [row.label for row in rows[1:3]] == list(rows.labels[1:3])
    assert rows[-1].id == rows.ids[-1]
    assert rows[0].inputs["image"].shape == (64, 64, 1)
    assert rows[0].inputs["image"].dtype == np.uint8
    put(source / rows.ids[0], encoded(texture(4242, 64)))
    with pytest.raises(DataError, match="has changed since it was prepared"):
        rows[0]
    (source / rows.ids[1]).unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        rows[1]
    with pytest.raises(IndexError):
        rows[1000]
    with pytest.raises(KeyError):
        load_rows(tmp_path / "out", "all", facts)
    with pytest.raises(DataError, match="no prepared data set"):
        load_rows(tmp_path / "elsewhere", "train", facts)


# --- real data


def test_the_steel_set_and_its_leaks(tmp_path: Path) -> None:
    source = INDUSTRY / "neu-det"
    if not source.is_dir():
        pytest.skip("shared/data/industry/neu-det is not here")
    started = time.process_time()
    facts = prepare(source, tmp_path / "out")
    assert time.process_time() - started < 30  # 7 s on an idle core
    assert facts["counts"]["test"] == dict.fromkeys(facts["classes"], 60)
    assert (facts["colour"], facts["good_class"]) == ("grey", "")
    found = findings_of(tmp_path / "out")
    assert found["copies"][0]["rows"] == ["train/patches/patches_101.jpg", "train/patches/patches_105.jpg"]
    leaks = {(first.split("/")[-1][:-4], second.split("/")[-1][:-4]) for first, second, _ in facts["leaks"]}
    # overlapping crops of one strip, seen by eye to be the same
    assert {("patches_54", "patches_58"), ("pitted_surface_37", "pitted_surface_36")} <= leaks
    assert 45 <= len(leaks) <= 75
    label_of = {name: row["label"] for name, row in rows_of(tmp_path / "out").items()}
    assert all(label_of[first] == label_of[second] for first, second, _ in facts["leaks"])


def test_tiles_without_defects_in_train_cannot_be_trained_on(tmp_path: Path) -> None:
    source = INDUSTRY / "magnetic-tile"
    if not source.is_dir():
        pytest.skip("shared/data/industry/magnetic-tile is not here")
    refused(source, tmp_path / "out", "test has classes that train lacks: blowhole, break, crack, fray, uneven")
    assert scan_folder(source, purpose="evaluate").has_splits
