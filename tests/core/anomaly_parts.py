"""Small folders of good and faulty parts, rendered: brushed plates, some with a scratch or a dent, and their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 96
KINDS = ("dent", "scratch")


def write_parts(folder: Path, *, train: int = 40, good: int = 16, faulty: int = 12, masks: bool = True) -> Path:
    """Good plates to train on and to test with, and plates with each kind of defect."""
    random = np.random.default_rng(7)
    for index in range(train):
        _save(folder / "train" / "good" / f"{index:03}.png", plate(random))
    for index in range(good):
        _save(folder / "test" / "good" / f"{index:03}.png", plate(random))
    for kind in KINDS:
        for index in range(faulty):
            picture, mask = spoilt(plate(random), kind, random)
            _save(folder / "test" / kind / f"{index:03}.png", picture)
            if masks:
                _save(folder / "ground_truth" / kind / f"{index:03}_mask.png", mask.astype(np.uint8) * 255)
    return folder


def plate(random: np.random.Generator) -> np.ndarray:
    """A good part: fine horizontal strokes."""
    strokes = random.normal(0, 14, (SIDE, 1)) + random.normal(0, 5, (SIDE, SIDE))
    return np.clip(130 + random.normal(0, 8) + strokes, 0, 255).astype(np.uint8)


def spoilt(picture: np.ndarray, kind: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The part with a defect, and where that is."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    top, left = random.integers(24, SIDE - 24, 2)
    if kind == "dent":
        mask = (rows - top) ** 2 + (columns - left) ** 2 < random.integers(8, 12) ** 2
        return np.where(mask, 60, picture).astype(np.uint8), mask
    mask = (np.abs(rows - top - (columns - left)) < 3) & (np.abs(columns - left) < 20)
    return np.where(mask, 235, picture).astype(np.uint8), mask


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
