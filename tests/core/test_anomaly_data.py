"""Folders of good parts: what is read of them, what is refused, and marks that are drawn on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from anomaly_parts import write_parts
from PIL import Image

from toolkit.artifacts import Dataset
from toolkit.errors import DataError
from toolkit.plan import DataPlan, Plan
from toolkit.tasks.anomaly_maps import data
from toolkit.tasks.anomaly_maps.layout import ANOMALY, kind_of, learns_from_good_alone
from toolkit.tasks.anomaly_maps.marks import all_marked, mirrored

PLAN = Plan(domain="industry", task="anomaly_maps", data=DataPlan(minimum_per_class=4))


def prepared(source: Path, folder: Path, purpose: str = "train", classes: tuple[str, ...] = ()) -> Dataset:
    folder.mkdir(exist_ok=True)
    return data.open_dataset(folder, "", data.prepare(PLAN, source, purpose, folder, classes))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"), train=20, good=4, faulty=3)


def test_good_parts_are_learnt_and_every_defect_is_an_anomaly(parts: Path, tmp_path: Path) -> None:
    dataset = prepared(parts, tmp_path / "d")
    assert dataset.classes == (ANOMALY, "good")
    assert dataset.facts["good_class"] == "good"
    assert set(dataset.split("train").labels) | set(dataset.split("validation").labels) == {"good"}
    assert sorted(dataset.split("test").labels) == [ANOMALY] * 6 + ["good"] * 4
    assert {kind_of(row) for row in dataset.split("test").ids} == {"good", "dent", "scratch"}


def test_masks_say_where(parts: Path, tmp_path: Path) -> None:
    dataset = prepared(parts, tmp_path / "d")
    masks = data.Masks.of(dataset)
    for row in dataset.split("test"):
        mask = masks.mask(row)
        assert mask is not None
        assert mask.any() == (row.label == ANOMALY)
        assert mask.shape == row.inputs["image"].shape[:2]


def test_a_folder_without_masks_is_read_and_says_so(tmp_path: Path) -> None:
    dataset = prepared(write_parts(tmp_path / "p", train=20, good=4, faulty=3, masks=False), tmp_path / "d")
    assert "no-masks" in {finding["kind"] for finding in dataset.facts["findings"]}
    faulty = next(row for row in dataset.split("test") if row.label == ANOMALY)
    assert data.Masks.of(dataset).mask(faulty) is None


def test_a_missing_mask_is_named_and_an_empty_one_marks_nothing(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "p", train=20, good=4, faulty=3)
    (source / "ground_truth" / "dent" / "000_mask.png").unlink()
    empty = source / "ground_truth" / "dent" / "001_mask.png"
    Image.new("L", (96, 96)).save(empty)
    dataset = prepared(source, tmp_path / "d")
    finding = next(one for one in dataset.facts["findings"] if one["kind"] == "no-mask")
    assert finding["rows"] == ["test/dent/000.png"]
    masks = data.Masks.of(dataset)
    assert [masks.mask(row) for row in dataset.split("test") if "dent/00" in row.id and "002" not in row.id] == [
        None
    ] * 2


def test_a_mask_of_another_size_or_that_changed_is_refused(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "p", train=20, good=4, faulty=3)
    mask = source / "ground_truth" / "dent" / "000_mask.png"
    Image.new("L", (10, 12), 255).save(mask)
    dataset = prepared(source, tmp_path / "d")
    row = next(row for row in dataset.split("test") if row.id == "test/dent/000.png")
    with pytest.raises(DataError, match="10 x 12 pixels"):
        data.Masks.of(dataset).mask(row)
    mask.write_bytes(b"not a picture")
    with pytest.raises(DataError, match="has changed"):
        data.Masks.of(dataset).mask(row)


def test_a_mask_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "p", train=20, good=4, faulty=3)
    mask = source / "ground_truth" / "dent" / "000_mask.png"
    outside = tmp_path / "outside.png"
    shutil.move(mask, outside)
    mask.symlink_to(outside)
    dataset = prepared(source, tmp_path / "d")
    assert "test/dent/000.png" not in json.loads((tmp_path / "d" / data.MASKS).read_text())
    assert dataset.facts["masks"] == 5


def test_the_digest_covers_the_masks(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "p", train=20, good=4, faulty=3)
    before = data.source_digest(source)
    Image.new("L", (96, 96), 255).save(source / "ground_truth" / "dent" / "000_mask.png")
    assert data.source_digest(source) != before


def test_what_cannot_be_learnt_is_refused(parts: Path, tmp_path: Path) -> None:
    def changed(name: str) -> Path:
        return Path(shutil.copytree(parts, tmp_path / name))

    defects = changed("defects")
    shutil.copytree(defects / "test" / "dent", defects / "train" / "dent")
    with pytest.raises(DataError, match="train holds dent") as refused:
        prepared(defects, tmp_path / "d")
    assert "image_classification" in refused.value.hint
    alone = changed("alone")
    shutil.rmtree(alone / "test" / "dent")
    shutil.rmtree(alone / "test" / "scratch")
    with pytest.raises(DataError, match="faulty ones are needed"):
        prepared(alone, tmp_path / "d")
    named = changed("named")
    (named / "train" / "good").rename(named / "train" / "gut")
    (named / "test" / "good").rename(named / "test" / "gut")
    with pytest.raises(DataError, match="means good"):
        prepared(named, tmp_path / "d")
    flat = tmp_path / "flat"
    shutil.copytree(parts / "test", flat)
    with pytest.raises(DataError, match="no folders train and test"):
        prepared(flat, tmp_path / "d")


def test_a_site_scores_any_folder_of_good_and_faulty_parts(parts: Path, tmp_path: Path) -> None:
    flat = Path(shutil.copytree(parts / "test", tmp_path / "flat"))
    dataset = prepared(flat, tmp_path / "d", "evaluate", (ANOMALY, "good"))
    assert sorted(dataset.split("test").labels) == [ANOMALY] * 6 + ["good"] * 4
    assert kind_of("dent/000.png") == "dent"


def test_the_domain_sees_which_folders_have_good_parts_alone(parts: Path, tmp_path: Path) -> None:
    good = DataPlan().good_classes
    assert learns_from_good_alone(parts, good)
    assert not learns_from_good_alone(parts / "test", good)
    assert not learns_from_good_alone(tmp_path / "nowhere", good)


def test_views_are_mirrored_and_come_again() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (4, 1, 32, 24), dtype=np.uint8)
    assert (mirrored(pictures, 0) == pictures).all()
    assert (mirrored(pictures, 1) == pictures[:, :, :, ::-1]).all()
    assert (mirrored(pictures, 2) == pictures[:, :, ::-1]).all()
    assert (mirrored(pictures, 3) == pictures[:, :, ::-1, ::-1]).all()
    assert (mirrored(pictures, 4) == pictures).all()


def test_marks_are_the_same_for_the_same_seed_and_spare_no_picture() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (40, 1, 32, 32), dtype=np.uint8)
    first = all_marked(pictures, 1)
    assert (first == all_marked(pictures, 1)).all()
    assert (first != all_marked(pictures, 2)).any()
    assert not (first == pictures).all(axis=(1, 2, 3)).any()


def test_validation_is_good_rows_and_the_same_with_marks(parts: Path, tmp_path: Path) -> None:
    dataset = prepared(parts, tmp_path / "d")
    rows = data.with_marks(dataset, 0).split("validation")
    good = dataset.split("validation")
    assert len(rows) == 2 * len(good)
    assert list(rows.labels) == ["good"] * len(good) + [ANOMALY] * len(good)
    for first, second in zip(rows[: len(good)], rows[len(good) :], strict=True):
        assert first.inputs["image"].shape == second.inputs["image"].shape
        assert (first.inputs["image"] != second.inputs["image"]).any()
    assert [row.id for row in data.with_marks(dataset, 0).split("test")] == list(dataset.split("test").ids)
