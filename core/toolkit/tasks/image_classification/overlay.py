"""Whether two images show the same where one is laid over the other: the detail of both must correlate block by block.
One common line or a common gradient is not enough.

Knows fingerprints and pairs of them; which pairs are worth a look, `duplicates` finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.tasks.image_classification.fingerprints import Fingerprint

LEAST_OVERLAP = 0.08  # of the smaller image
BLOCK = 20  # pixels
MANY = 50  # images from which "most of them" means something
_BLOCKS = 60  # as many are enough; beyond, whole rows of blocks are skipped
_ROUNDING = 0.35  # how much of the score a shift that is wrong by one pixel may hide


@dataclass(frozen=True)
class Match:
    """Images `first` < `second` (indices) show the same. `score` is the median block correlation, 0..1; `overlap` the
    share of the smaller image that both show; `turned` says the second is turned or mirrored against the first."""

    first: int
    second: int
    score: float
    overlap: float
    turned: bool


@dataclass(frozen=True)
class Candidate:
    """A pair of images `first` < `second` that may show the same, and how to lay them over one another."""

    first: int
    second: int
    shift: tuple[int, int]  # second[y, x] lies at first[y + shift[0], x + shift[1]]
    orientation: int  # 0..7: quarter turns, from 4 on mirrored first


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image in one of eight orientations, 0..7: quarter turns, from 4 on mirrored first."""
    return np.rot90(image[:, ::-1] if orientation >= 4 else image, orientation % 4)


def ordinary_score(prints: Sequence[Fingerprint]) -> float:
    """The score that a match must reach at least, because it stands half way between what two images of this folder
    reach without being the same (three quarters of random pairs, laid over one another as well as possible, stay
    below) and 1. Pictures of a part in a fixture all look alike; that alone makes none a duplicate."""
    if len(prints) < MANY:
        return 0.0
    pairs = np.random.default_rng(0).integers(0, len(prints), (100, 2)).tolist()
    scores = [_best_score(prints[i].band, prints[j].band) for i, j in pairs if i != j]
    return 0.5 + 0.5 * float(np.quantile(scores, 0.75))


def _best_score(first: np.ndarray, second: np.ndarray) -> float:
    """The score at the shift that phase correlation finds (Kuglin and Hines 1975), or around none."""
    height, width = (min(a, b) // 2 for a, b in zip(first.shape, second.shape, strict=True))
    one, two = (np.fft.rfft2(band[: 2 * height : 2, : 2 * width : 2].astype(np.float32)) for band in (first, second))
    cross = one * two.conj()
    peak = int(np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=(height, width)).argmax())
    down, right = divmod(peak, width)
    shift = 2 * (down - height * (2 * down > height)), 2 * (right - width * (2 * right > width))
    return max(_score(first, second, place)[0] for start in ((0, 0), shift) for place in (start, *_near(start)))


def _near(shift: tuple[int, int]) -> list[tuple[int, int]]:
    return [(shift[0] + down, shift[1] + right) for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]


def verified(prints: Sequence[Fingerprint], candidate: Candidate, least: float) -> Match | None:
    """The match that a candidate turns out to be, if its score is `least` or more and enough for what both show."""
    first, second = prints[candidate.first].band, turn(prints[candidate.second].band, candidate.orientation)
    smaller, shift = min(first.size, second.size), candidate.shift
    score, shared = _score(first, second, shift)
    needed = max(least, _needed(shared))
    if shared < LEAST_OVERLAP * smaller or score < needed - _ROUNDING:
        return None
    if score < needed:  # the shift is rounded: by shrinking, or because the camera moved by a part of a pixel
        score, shared = max(_score(first, second, place) for place in _near(shift))
    if score < needed:
        return None
    turned = candidate.orientation != 0
    return Match(candidate.first, candidate.second, round(score, 3), round(shared / smaller, 3), turned)


def _needed(shared: int) -> float:
    """The least score for an overlap of so many pixels: the fewer blocks, the likelier chance is."""
    blocks = shared / BLOCK**2
    return 0.65 if blocks >= 30 else 0.8 if blocks >= 8 else 0.95


def _score(first: np.ndarray, second: np.ndarray, shift: tuple[int, int]) -> tuple[float, int]:
    """The median over blocks of the normalised correlation of two bands where they overlap, and the overlap in pixels.
    Only every second row and column is looked at: a band holds no finer detail."""
    down, right = shift
    top, bottom = max(0, down), min(first.shape[0], second.shape[0] + down)
    left, end = max(0, right), min(first.shape[1], second.shape[1] + right)
    height, width = bottom - top, end - left
    if min(height, width) < BLOCK // 2:
        return 0.0, 0
    one = first[top:bottom:2, left:end:2]
    two = second[top - down : bottom - down : 2, left - right : end - right : 2]
    return _median(_block_correlations(one, two, BLOCK // 2)), height * width


def _block_correlations(one: np.ndarray, two: np.ndarray, size: int) -> np.ndarray:
    """The correlation of two images of one shape in each of their blocks of about `size` pixels a side.

    The mean of each row and column of a block is taken off first, so that an edge or a scratch along it, which two
    images may well have in common, counts nothing: what remains is texture."""
    rows, columns = max(1, one.shape[0] // size), max(1, one.shape[1] // size)
    height, width = one.shape[0] // rows, one.shape[1] // columns
    every = 1 + rows * columns // _BLOCKS
    both = np.stack([image[: rows * height, : columns * width] for image in (one, two)])
    blocks = both.reshape(2, rows, height, columns, width)[:, ::every].transpose(0, 1, 3, 2, 4)
    blocks = blocks.reshape(2, -1, height, width).astype(np.float32)
    blocks -= np.add.reduce(blocks, axis=3, keepdims=True) / width  # the mean, without what np.mean adds around it:
    blocks -= np.add.reduce(blocks, axis=2, keepdims=True) / height  # this runs a hundred thousand times
    squares = np.einsum("inhw,inhw->in", blocks, blocks)
    product = np.einsum("nhw,nhw->n", blocks[0], blocks[1])
    return np.asarray(product / np.maximum(np.sqrt(squares[0] * squares[1]), 1e-3))


def _median(values: np.ndarray) -> float:
    """np.median of a few finite values, in a quarter of its time."""
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    middle = np.partition(values, (half - 1, half))[half - 1 : half + 1]
    return float((middle[0] + middle[1]) / 2)
