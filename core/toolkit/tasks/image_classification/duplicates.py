"""Which images of a folder show the same thing: copies, shifted crops, other exposures, turned or mirrored ones.

Candidates come cheaply from two sides: points that look alike (hashed, so that cost grows about linearly), and
thumbnails in their eight orientations (one matrix product). A candidate counts only where the detail of both images,
laid over one another, correlates block by block: one common line or a common gradient is not enough.

Knows fingerprints only: no files, labels or splits. It does not see through a change of scale, or through a turn by
other than a quarter, nor through shift and turn at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.tasks.image_classification.fingerprints import Fingerprint

ALIKE = 0.9  # cosine of two whitened descriptors
ALIKE_THUMBNAILS = 0.85
LEAST_OVERLAP = 0.08  # of the smaller image
BLOCK = 20  # pixels
_BLOCKS = 60  # as many are enough; beyond, whole rows of blocks are skipped
_DIMENSIONS, _TABLES, _BUCKET = 32, 4, 256
_CANDIDATES_PER_IMAGE = 12
_ROUNDING = 0.35  # how much of the score a shift that is wrong by one pixel may hide
_MANY = 50  # images from which "most of them" means something


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
class _Candidate:
    first: int
    second: int
    shift: tuple[int, int]  # second[y, x] lies at first[y + shift[0], x + shift[1]]
    orientation: int  # 0..7: quarter turns, from 4 on mirrored first


def near_duplicates(prints: Sequence[Fingerprint], sides: Sequence[int] | None = None) -> list[Match]:
    """All pairs of images that show the same, sorted by (first, second).

    Args:
        prints: one fingerprint an image, all with the same reduction.
        sides: a number an image. Where given, a pair on one side that other pairs join already is not looked at, and
            so not reported: all pairs ACROSS sides are, and groups come out the same.
    """
    if len(prints) < 2:
        return []
    least = _ordinary_score(prints)
    union = _Union(len(prints))
    found: dict[tuple[int, int], Match] = {}
    for candidate in _candidates(prints):
        pair = (candidate.first, candidate.second)
        same_side = sides is not None and sides[pair[0]] == sides[pair[1]]
        if pair in found or (same_side and union.find(pair[0]) == union.find(pair[1])):
            continue
        match = _verified(prints, candidate, least)
        if match:
            found[pair] = match
            union.join(*pair)
    return [found[pair] for pair in sorted(found)]


def group_near_duplicates(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """A group number for each of `count` images, so that every pair shares one: the smallest index of the group."""
    union = _Union(count)
    for first, second in pairs:
        union.join(first, second)
    return [union.find(index) for index in range(count)]


class _Union:
    """Union-find whose representative is the smallest index."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low


def _candidates(prints: Sequence[Fingerprint]) -> Iterator[_Candidate]:
    yield from _by_thumbnails(np.stack([p.thumbnail for p in prints]))
    yield from _by_points(prints)


def _by_thumbnails(thumbnails: np.ndarray) -> Iterator[_Candidate]:
    """Pairs whose thumbnails are alike in one of eight orientations, most alike first, no more than is affordable."""
    count = len(thumbnails)
    if count >= _MANY:  # what all images share (a fixture, the outline of the part) tells none apart
        thumbnails = thumbnails - thumbnails.mean(axis=0)
        thumbnails /= np.maximum(np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True), 1e-6)
    flat = thumbnails.reshape(count, -1)
    hits: list[np.ndarray] = []
    for orientation in range(8):
        turned = np.stack([_turn(thumbnail, orientation) for thumbnail in thumbnails]).reshape(count, -1)
        for start in range(0, count, 1024):
            alike = flat[start : start + 1024] @ turned[start:].T
            first, second = np.nonzero(alike > ALIKE_THUMBNAILS)
            value = alike[first, second]
            keep = second > first
            row = np.stack([-value, first + start, second + start, np.full(len(first), orientation)], axis=1)[keep]
            hits.append(row.astype(np.float64))
    every = np.concatenate(hits)
    order = np.lexsort((every[:, 3], every[:, 2], every[:, 1], every[:, 0]))[: _CANDIDATES_PER_IMAGE * count]
    for _, first, second, orientation in every[order].tolist():
        yield _Candidate(int(first), int(second), (0, 0), int(orientation))


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    return np.rot90(image[:, ::-1] if orientation >= 4 else image, orientation % 4)


def _by_points(prints: Sequence[Fingerprint]) -> Iterator[_Candidate]:
    """Pairs that share striking points, each with the shift that most of these agree on, and the next; those with
    most points in common first, no more than is affordable."""
    owner = np.repeat(np.arange(len(prints)), [len(p.points) for p in prints])
    if len(owner) < 2:
        return
    points = np.concatenate([p.points for p in prints])
    first, second = _alike(_whitened(np.concatenate([p.descriptors for p in prints])), owner)
    shift = points[first] - points[second]
    vote = np.stack([owner[first], owner[second], shift[:, 0], shift[:, 1]], axis=1)
    votes, count = np.unique(vote, axis=0, return_counts=True)
    order = np.lexsort((votes[:, 3], votes[:, 2], votes[:, 1], votes[:, 0], -count))
    tried: Counter[tuple[int, int]] = Counter()
    for place in order[: _CANDIDATES_PER_IMAGE * len(prints)].tolist():
        i, j, down, right = votes[place].tolist()
        if tried[i, j] == 0 or (tried[i, j] == 1 and count[place] > 1):
            tried[i, j] += 1
            yield _Candidate(i, j, (down, right), 0)


def _whitened(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors in the axes of their own variation, each scaled to equal weight, length 1: so that what all surfaces
    of this folder have in common counts little."""
    variance, axes = np.linalg.eigh((descriptors.T @ descriptors).astype(np.float64) / len(descriptors))
    variance, axes = variance[::-1][:_DIMENSIONS], axes[:, ::-1][:, :_DIMENSIONS]
    scale = 1 / np.sqrt(np.maximum(variance, variance[0] * 1e-3))
    white = descriptors @ (axes * scale).astype(np.float32)
    return np.asarray(white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-6))


def _alike(white: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of alike descriptors of different images: locality-sensitive hashing by the signs of random
    projections (Charikar 2002), several tables, compared exactly inside a bucket. A descriptor that very many
    images have says nothing and is dropped."""
    bits = max(1, round(np.log2(max(2, len(white) / _BUCKET))))
    most = max(_MANY, (int(owner[-1]) + 1) // 8)
    projections = np.random.default_rng(0).standard_normal((_TABLES, white.shape[1], bits)).astype(np.float32)
    found = [np.zeros(0, np.int64)]
    for projection in projections:
        code = ((white @ projection) > 0) @ (1 << np.arange(bits))
        order = np.argsort(code, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
            for start in range(0, len(bucket), 1024):
                part = bucket[start : start + 1024]
                mask = white[part] @ white[bucket].T > ALIKE
                mask[mask.sum(axis=1) > most] = False
                first, second = np.nonzero(mask)
                first, second = part[first], bucket[second]
                keep = owner[first] < owner[second]
                found.append(first[keep] * len(white) + second[keep])
    first, second = np.divmod(np.unique(np.concatenate(found)), len(white))
    return first, second


def _ordinary_score(prints: Sequence[Fingerprint]) -> float:
    """The score that a match must reach at least, because it stands half way between what two images of this folder
    reach without being the same (three quarters of random pairs, laid over one another as well as possible, stay
    below) and 1. Pictures of a part in a fixture all look alike; that alone makes none a duplicate."""
    if len(prints) < _MANY:
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


def _verified(prints: Sequence[Fingerprint], candidate: _Candidate, least: float) -> Match | None:
    first, second = prints[candidate.first].band, _turn(prints[candidate.second].band, candidate.orientation)
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
    return float(np.median(_block_correlations(one, two, BLOCK // 2))), height * width


def _block_correlations(one: np.ndarray, two: np.ndarray, size: int) -> np.ndarray:
    """The correlation of two images of one shape in each of their blocks of about `size` pixels a side.

    The mean of each row and column of a block is taken off first, so that an edge or a scratch along it, which two
    images may well have in common, counts nothing: what remains is texture."""
    rows, columns = max(1, one.shape[0] // size), max(1, one.shape[1] // size)
    height, width = one.shape[0] // rows, one.shape[1] // columns
    every = 1 + rows * columns // _BLOCKS
    a, b = (
        _centred(
            image[: rows * height, : columns * width]
            .reshape(rows, height, columns, width)[::every]
            .transpose(0, 2, 1, 3)
            .reshape(-1, height, width)
            .astype(np.float32)
        )
        for image in (one, two)
    )
    norm = np.sqrt(np.einsum("nhw,nhw->n", a, a) * np.einsum("nhw,nhw->n", b, b))
    return np.asarray(np.einsum("nhw,nhw->n", a, b) / np.maximum(norm, 1e-3))


def _centred(blocks: np.ndarray) -> np.ndarray:
    blocks -= blocks.mean(axis=2, keepdims=True)
    blocks -= blocks.mean(axis=1, keepdims=True)
    return blocks
