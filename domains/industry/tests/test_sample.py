"""The sample lot: it repeats itself exactly, shows what it says it shows, and never the same thing twice."""

from __future__ import annotations

import dataclasses
import io
import math
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit_industry.sample import CLASSES, GOOD, SPLITS, Serial, photograph, render_lot
from toolkit_industry.sample_camera import develop, draw_camera, focus, shade
from toolkit_industry.sample_flaws import FLAWS
from toolkit_industry.sample_surface import PROCESSES, WIDTH, Surface, draw_part, grid, lay_angle, machine

PARTS = range(10)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_picture_follows_from_its_serial_number_alone() -> None:
    serials = [Serial(7, split, label, 3) for split in SPLITS for label in CLASSES]
    forwards = [photograph(serial, size=96) for serial in serials]
    backwards = [photograph(serial, size=96) for serial in reversed(serials)]
    for one, again in zip(forwards, reversed(backwards), strict=True):
        assert np.array_equal(one.pixels, again.pixels)
        assert np.array_equal(one.mask, again.mask)
        assert one.camera == again.camera


def test_a_picture_does_not_touch_numpys_global_state() -> None:
    before = np.random.get_state()[1].copy()
    photograph(Serial(0, "train", "pit", 0), size=64)
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(
    "other",
    [
        Serial(1, "train", "crack", 0),
        Serial(0, "test", "crack", 0),
        Serial(0, "train", "scratch", 0),
        Serial(0, "train", "crack", 1),
    ],
)
def test_each_field_of_the_serial_number_makes_another_part(other: Serial) -> None:
    one, two = (photograph(serial, size=96, flawed=False) for serial in (Serial(0, "train", "crack", 0), other))
    assert one.camera != two.camera
    assert abs(np.corrcoef(one.pixels.ravel(), two.pixels.ravel())[0, 1]) < 0.8


def test_the_lot_has_its_folders_counts_and_grey_pictures(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    render_lot(tmp_path, per_class=2, test_per_class=1, size=64, progress=lambda *step: told.append(step))
    assert told == [(done, 18) for done in range(1, 19)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LICENSE", "README.md", "test", "train"]
    for split, count in (("train", 2), ("test", 1)):
        assert {path.name for path in (tmp_path / split).iterdir()} == set(CLASSES)
        for label in CLASSES:
            pictures = sorted((tmp_path / split / label).iterdir())
            assert [path.name for path in pictures] == [f"{label}_{index:04d}.jpg" for index in range(count)]
            for path in pictures:
                with Image.open(path) as image:
                    assert (image.format, image.mode, image.size) == ("JPEG", "L", (64, 64))


def test_the_lot_says_that_it_is_a_sample_and_whose_it_is(tmp_path: Path) -> None:
    render_lot(tmp_path, seed=5, per_class=1, test_per_class=1, size=64)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("# sample:")
    assert "rendered" in readme
    assert "no real parts" in readme
    assert "Licence: CC0-1.0" in readme
    assert "seed 5" in readme
    assert (tmp_path / "LICENSE").read_text(encoding="utf-8").startswith("CC0-1.0")


def test_a_smaller_lot_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    render_lot(tmp_path / "small", per_class=1, test_per_class=1, size=64)
    render_lot(tmp_path / "large", per_class=2, test_per_class=2, size=64)
    small, large = _files(tmp_path / "small"), _files(tmp_path / "large")
    pictures = [name for name in small if name.endswith(".jpg")]
    assert len(pictures) == 12
    assert all(small[name] == large[name] for name in pictures)


def test_no_two_pictures_are_nearly_the_same() -> None:
    serials = [Serial(0, split, label, index) for split in SPLITS for label in CLASSES for index in PARTS]
    thumbnails = []
    for serial in serials:
        image = Image.fromarray(photograph(serial, size=96).pixels)
        values = np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=np.float64).ravel()
        thumbnails.append((values - values.mean()) / np.linalg.norm(values - values.mean()))
    alike = np.stack(thumbnails) @ np.stack(thumbnails).T - np.eye(len(serials))
    assert alike.max() < 0.92


@pytest.mark.parametrize("label", sorted(FLAWS))
def test_a_flaw_shows_above_the_noise_and_above_the_lay(label: str) -> None:
    for index in PARTS:
        serial = Serial(0, "test", label, index)
        spoilt, sound = photograph(serial), photograph(serial, flawed=False)
        change = np.abs(spoilt.pixels.astype(float) - sound.pixels.astype(float))
        camera, mask = spoilt.camera, spoilt.mask
        noise = 255.0 * math.sqrt(camera.exposure / camera.full_well + camera.read_noise**2)
        assert 60 < mask.sum() < 0.4 * mask.size
        assert change[mask].mean() > 3.0 * noise
        assert change[mask].mean() > 1.2 * sound.pixels.std()
        assert change[~mask].mean() < 0.25 * change[mask].mean()


@pytest.mark.parametrize("label", sorted(FLAWS))
def test_a_flaw_survives_compression(label: str) -> None:
    picture, sound = (photograph(Serial(3, "train", label, 0), flawed=flawed) for flawed in (True, False))
    decoded = np.asarray(Image.open(io.BytesIO(develop(picture.camera, picture.pixels))), dtype=float)
    change = np.abs(decoded - sound.pixels)
    assert change[picture.mask].mean() > 2.0 * change[~picture.mask].mean()


def test_a_good_part_has_no_flaw() -> None:
    serial = Serial(0, "train", GOOD, 0)
    picture = photograph(serial, size=96)
    assert not picture.mask.any()
    assert np.array_equal(picture.pixels, photograph(serial, size=96, flawed=False).pixels)


def test_pictures_are_well_exposed() -> None:
    for label in CLASSES:
        pixels = photograph(Serial(2, "train", label, 1)).pixels
        assert 60 < pixels.mean() < 200
        assert np.mean((pixels == 0) | (pixels == 255)) < 0.02


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_cuts_a_whole_surface_at_its_tightest_arc(process: str) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    part = dataclasses.replace(draw_part(rng), process=process, radius=WIDTH, pitch=4.0, wear=1.0)
    surface = machine(part, rng, 96)
    assert np.isfinite(surface.relief).all()
    assert (surface.tint > 0.3).all()


def test_the_lays_direction_is_along_the_grooves() -> None:
    x, y = grid(64)
    level = np.zeros_like(x)
    assert math.tan(lay_angle(Surface(level, level, across=y, along=x), 10, 20)) == pytest.approx(0.0, abs=1e-9)
    slanted = Surface(level, level, across=(y - x) / math.sqrt(2), along=(x + y) / math.sqrt(2))
    assert math.tan(lay_angle(slanted, 30, 5)) == pytest.approx(1.0)


def test_light_falls_by_lamberts_law() -> None:
    camera = dataclasses.replace(draw_camera(np.random.default_rng(0)), azimuth=0.0, zenith=math.pi / 4, gloss=0.0)
    x, _ = grid(32)
    white = np.ones_like(x)
    assert shade(camera, np.zeros_like(x), white) == pytest.approx(1.0)
    # normal (-0.75, 0, 1) / 1.25 and light (1, 0, 1) / sqrt(2): cosine 0.2 / sqrt(2), and a level face's is 1 / sqrt(2)
    assert shade(camera, 0.75 * x, white) == pytest.approx(0.2)
    assert shade(camera, -0.75 * x, 0.5 * white) == pytest.approx(0.7)


def test_the_lens_loses_no_light() -> None:
    camera = dataclasses.replace(draw_camera(np.random.default_rng(0)), blur=(0.9, 0.4))
    spot = np.zeros((33, 33))
    spot[16, 16] = 1.0
    blurred = focus(camera, spot)
    assert blurred.sum() == pytest.approx(1.0)
    assert focus(camera, np.full((33, 33), 2.5)) == pytest.approx(2.5)


def test_a_picture_takes_milliseconds() -> None:
    started = time.process_time()
    for index in PARTS:
        photograph(Serial(0, "train", CLASSES[index % len(CLASSES)], index))
    assert (time.process_time() - started) / len(PARTS) < 0.2
