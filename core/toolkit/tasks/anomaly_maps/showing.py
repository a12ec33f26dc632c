"""What a map says to people and programs: regions above the limit, a small picture, a picture with its heat on it.

Maps are float32 [h, w] in units of the limit. numpy and Pillow alone: a server loads this.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.score.maps import regions_of

FULL = 2.0
"""What is shown brightest: twice the limit, and above."""

MOST_REGIONS = 16


def resized(scores: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A map in the size of a picture, bilinearly."""
    picture = Image.fromarray(scores.astype(np.float32), mode="F")
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def regions(scores: NDArray[np.float32], height: int, width: int) -> list[dict[str, Any]]:
    """Where a picture is strange: connected places above the limit, strangest first, each as `box` (left, top, right,
    bottom, in pixels of the picture) and `score`."""
    numbered = regions_of(scores > 1)
    down, across = height / scores.shape[0], width / scores.shape[1]
    found: list[dict[str, Any]] = []
    for region in range(1, int(numbered.max()) + 1):
        rows, columns = np.nonzero(numbered == region)
        box = [columns.min() * across, rows.min() * down, (columns.max() + 1) * across, (rows.max() + 1) * down]
        found.append({"box": [round(float(edge)) for edge in box], "score": _rounded(scores[rows, columns].max())})
    return sorted(found, key=lambda one: -float(one["score"]))[:MOST_REGIONS]


def detail(outputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> dict[str, Any]:
    """What an answer says beside its verdict, of a picture of `size` (height, width)."""
    scores = outputs["map"]
    return {"score": _rounded(scores.max()), "regions": regions(scores, *size), "map": png(scores)}


def png(scores: NDArray[np.float32]) -> str:
    """A map as the data URI of a grey PNG, one pixel a place: 128 is the limit, 255 twice the limit and above."""
    buffer = io.BytesIO()
    Image.fromarray(coded(scores)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def coded(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map in 256 steps from 0 to twice the limit."""
    shares = np.clip(np.nan_to_num(scores, nan=FULL) / FULL, 0, 1)
    return np.asarray(np.round(shares * 255), dtype=np.uint8)


def heated(pixels: NDArray[np.uint8], code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture [height, width, 1 or 3] in grey, with its coded map laid on: yellow from half the limit on, red above
    it. RGB [height, width, 3]."""
    height, width = pixels.shape[:2]
    grey = pixels.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
    heat = resized(code.astype(np.float32) * (FULL / 255), height, width)[:, :, None]
    strength = np.clip((heat - 0.5) / 1.0, 0, 1) * 0.65
    colour = np.concatenate([np.full_like(heat, 235), 200 * np.clip(2 - 2 * heat, 0, 1), np.zeros_like(heat)], axis=2)
    return np.asarray(np.round(grey * (1 - strength) + colour * strength), dtype=np.uint8)


def _rounded(score: Any) -> float:
    return round(float(score), 4)
