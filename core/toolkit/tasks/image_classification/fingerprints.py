"""What of an image is kept to recognise it again: shifted, darker, brighter, encoded anew, turned or mirrored.

Knows one image at a time. `duplicates` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 200
"""The longest side at which images are compared, in pixels, about."""

THUMBNAIL = 16
POINTS = 40
_FINE, _COARSE = 3, 15  # pixels: smaller detail is noise, larger is lighting
_APART = 4  # pixels between two points, about; a power of two
_GRID = np.arange(-10, 12, 3)  # 8 x 8 samples of a point's neighbourhood of 24 x 24 pixels
_SLOPE = np.tile(np.linspace(-1, 1, THUMBNAIL, dtype=np.float32), (THUMBNAIL, 1))
_SLOPE /= np.float32(np.linalg.norm(_SLOPE))
_FLAT = 0.3  # grey levels: less detail than that is noise of the encoder


@dataclass(frozen=True)
class Fingerprint:
    """What is left of one image.

    `band`: int8 `[height, width]`, detail between 3 and 15 pixels, scaled so that brightness and contrast are gone.
    `thumbnail`: float32 `[16, 16]`, without its mean and slope, of length 1 (0 where the image is flat).
    `points`: int32 `[n, 2]`, rows and columns of its most striking points; `descriptors`: float32 `[n, 64]`, what lies
    around each, without its mean, of length 1.
    """

    band: np.ndarray
    thumbnail: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray


def reduction_for(sides: list[int]) -> int:
    """The one factor by which all images of a folder shrink before they are compared, from their longest sides."""
    return max(1, round(float(np.median(sides)) / SIDE)) if sides else 1


def fingerprint(grey: np.ndarray, *, reduction: int = 1) -> Fingerprint:
    """The fingerprint of a grey image, uint8 `[height, width]`, shrunk by `reduction` first.

    The points are local maxima of a band-pass, so that a shifted crop has the same ones where it overlaps.
    """
    extra = max(1, max(grey.shape) // (8 * SIDE * reduction))  # one giant among normal images stays affordable
    if reduction * extra > 1:
        grey = np.asarray(Image.fromarray(grey).reduce(reduction * extra))
    sums = _integral(grey, _COARSE // 2)
    band = _box(sums, grey.shape, _FINE) - _box(sums, grey.shape, _COARSE)
    strength = np.abs(band)
    mean = float(strength.mean())
    if mean < _FLAT or min(grey.shape) <= 2 * _GRID[-1]:
        return Fingerprint(
            np.zeros(grey.shape, np.int8), np.zeros((THUMBNAIL, THUMBNAIL), np.float32),
            np.zeros((0, 2), np.int32), np.zeros((0, _GRID.size**2), np.float32),
        )  # fmt: skip
    rows, columns = _striking(strength)
    around = band[rows[:, None, None] + _GRID[:, None], columns[:, None, None] + _GRID].reshape(
        len(rows), _GRID.size**2
    )
    around = around - around.mean(axis=1, keepdims=True)
    length = np.linalg.norm(around, axis=1, keepdims=True)
    clear = length[:, 0] > _FLAT * _GRID.size
    scaled = np.clip(np.rint(band * (16 / mean)), -127, 127).astype(np.int8)
    points = np.stack([rows, columns], axis=1)[clear].astype(np.int32)
    return Fingerprint(scaled, _thumbnail(grey), points, (around[clear] / length[clear]).astype(np.float32))


def _integral(grey: np.ndarray, margin: int) -> np.ndarray:
    """Sums over all rows above and columns left of each pixel, of the image widened by its edge pixels."""
    wide = np.pad(grey, ((margin + 1, margin), (margin + 1, margin)), mode="edge")
    sums = np.cumsum(wide, axis=0, dtype=np.uint32)
    np.cumsum(sums, axis=1, dtype=np.uint32, out=sums)
    return sums


def _box(sums: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Means over `size` x `size` pixels. The differences of unsigned sums are right even where the sums wrapped."""
    height, width = shape
    first = _COARSE // 2 - size // 2
    top, bottom = slice(first, first + height), slice(first + size, first + size + height)
    left, right = slice(first, first + width), slice(first + size, first + size + width)
    total = sums[bottom, right] - sums[top, right]
    total -= sums[bottom, left]
    total += sums[top, left]
    return np.asarray(total * np.float32(1 / size**2), dtype=np.float32)


def _striking(strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the strongest local maxima, strongest first, away from the border."""
    border = int(_GRID[-1])
    inner = strength[border:-border, border:-border]
    around = _largest(strength[border - _APART : 1 - border + _APART, border - _APART : 1 - border + _APART])
    places = np.flatnonzero(inner == around[: inner.shape[0], : inner.shape[1]])
    order = np.argsort(-inner.ravel()[places], kind="stable")[:POINTS]
    rows, columns = np.divmod(places[order], inner.shape[1])
    return rows + border, columns + border


def _largest(values: np.ndarray) -> np.ndarray:
    """The maximum of each `2 _APART` rows and columns that fit; windows double until they are that wide."""
    reach = 1
    while reach < 2 * _APART:
        values = np.maximum(values[reach:], values[:-reach])
        values = np.maximum(values[:, reach:], values[:, :-reach])
        reach *= 2
    return values


def _thumbnail(grey: np.ndarray) -> np.ndarray:
    small = np.asarray(Image.fromarray(grey).convert("F").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    small = small - small.mean()
    small = small - _SLOPE * (small * _SLOPE).sum() - _SLOPE.T * (small * _SLOPE.T).sum()
    length = float(np.linalg.norm(small))
    return small / np.float32(length) if length > _FLAT else np.zeros_like(small)
