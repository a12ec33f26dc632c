"""Which pairs of images are worth a look, because they may show the same: by thumbnails, and by striking points.

Knows fingerprints only, and keeps to a number of pairs that grows with that of images: `overlay` then looks at each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from toolkit.tasks.image_classification.fingerprints import Fingerprint
from toolkit.tasks.image_classification.overlay import MANY, Candidate, turn

ALIKE = 0.9  # cosine of two whitened descriptors
ALIKE_THUMBNAILS = 0.85
_DIMENSIONS, _TABLES, _BUCKET = 32, 4, 256
_CANDIDATES_PER_IMAGE = 12
_MOST = (3, _CANDIDATES_PER_IMAGE, 3)  # to a new image, by kind: known ones, held ones among these, new ones
_AT_ONCE = 1024  # rows of a matrix product


def candidates(prints: Sequence[Fingerprint]) -> Iterator[Candidate]:
    """Pairs among all images: first by thumbnails, then by points, the likeliest first."""
    yield from _by_thumbnails(_thumbnails(prints, prints))
    yield from _by_points(prints)


def candidates_with_new(prints: Sequence[Fingerprint], held: np.ndarray) -> Iterator[Candidate]:
    """Pairs whose second image is a new one, and not in `held`: bool `[known]` says of the images that come first which
    must not be missed. To each new image, so many of these are found, and fewer of the others and of the new ones
    before it. What is usual is learnt from the known images alone.
    """
    known = len(held)
    kind = np.concatenate([held, np.full(len(prints) - known, 2)])
    yield from _new_by_thumbnails(_thumbnails(prints, prints[:known]), kind, known)
    yield from _new_by_points(prints, kind, known)


def _thumbnails(prints: Sequence[Fingerprint], usual: Sequence[Fingerprint]) -> np.ndarray:
    """float32 `[n, 16, 16]`, without what the usual ones share (a fixture, the outline of the part): that tells none
    apart."""
    thumbnails = np.stack([p.thumbnail for p in prints])
    if len(usual) < MANY:
        return thumbnails
    thumbnails = thumbnails - np.stack([p.thumbnail for p in usual]).mean(axis=0)
    return np.asarray(thumbnails / np.maximum(np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True), 1e-6))


def _by_thumbnails(thumbnails: np.ndarray) -> Iterator[Candidate]:
    """Pairs whose thumbnails are alike in one of eight orientations, most alike first, no more than is affordable."""
    count = len(thumbnails)
    flat = thumbnails.reshape(count, -1)
    hits: list[np.ndarray] = []
    for orientation in range(8):
        turned = _turned(thumbnails, orientation)
        for start in range(0, count, _AT_ONCE):
            alike = flat[start : start + _AT_ONCE] @ turned[start:].T
            first, second = np.nonzero(alike > ALIKE_THUMBNAILS)
            value = alike[first, second]
            keep = second > first
            row = np.stack([-value, first + start, second + start, np.full(len(first), orientation)], axis=1)[keep]
            hits.append(row.astype(np.float64))
    yield from _most_alike_first(np.concatenate(hits), _CANDIDATES_PER_IMAGE * count)


def _new_by_thumbnails(thumbnails: np.ndarray, kind: np.ndarray, known: int) -> Iterator[Candidate]:
    """The same for the images from `known` on: to each, those before it that are most alike, so many of each kind."""
    count = len(thumbnails)
    flat = thumbnails.reshape(count, -1)
    hits: list[np.ndarray] = []
    for orientation in range(8):
        for start in range(known, count, _AT_ONCE):
            turned = _turned(thumbnails[start : start + _AT_ONCE], orientation)
            alike = turned @ flat[: start + len(turned)].T
            alike[:, start:][np.triu_indices(len(turned))] = 0  # each pair once, and none with itself
            for one, most in enumerate(_MOST):
                columns = np.flatnonzero(kind[: alike.shape[1]] == one)
                second, first, value = _highest(alike[:, columns], ALIKE_THUMBNAILS, most)
                told = [-value, columns[first], second + start, np.full(len(first), orientation)]
                hits.append(np.stack(told, axis=1).astype(np.float64))
    every = np.concatenate(hits)
    yield from _most_alike_first(every, len(every))


def _turned(thumbnails: np.ndarray, orientation: int) -> np.ndarray:
    return np.stack([turn(thumbnail, orientation) for thumbnail in thumbnails]).reshape(len(thumbnails), -1)


def _highest(values: np.ndarray, least: float, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, values) of the highest values in each row that are over `least`."""
    rows = np.flatnonzero((values > least).any(axis=1))
    values = values[rows]
    most = min(most, values.shape[1])
    columns = np.argpartition(-values, most - 1, axis=1)[:, :most] if most else np.zeros((0, 0), np.int64)
    best = np.take_along_axis(values, columns, axis=1)
    place, column = np.nonzero(best > least)
    return rows[place], columns[place, column], best[place, column]


def _most_alike_first(hits: np.ndarray, most: int) -> Iterator[Candidate]:
    """`hits` are rows of (likeness below 0, first, second, orientation)."""
    order = np.lexsort((hits[:, 3], hits[:, 2], hits[:, 1], hits[:, 0]))[:most]
    for _, first, second, orientation in hits[order].tolist():
        yield Candidate(int(first), int(second), (0, 0), int(orientation))


def _by_points(prints: Sequence[Fingerprint]) -> Iterator[Candidate]:
    """Pairs that share striking points, each with the shift that most of these agree on, and the next; those with
    most points in common first, no more than is affordable."""
    owner = _owner(prints)
    if len(owner) < 2:
        return
    first, second = _alike(_whitened(prints, prints), owner)
    votes, count = _votes(prints, owner, first, second)
    order = np.lexsort((votes[:, 3], votes[:, 2], votes[:, 1], votes[:, 0], -count))
    yield from _shifted(votes, count, order[: _CANDIDATES_PER_IMAGE * len(prints)])


def _new_by_points(prints: Sequence[Fingerprint], kind: np.ndarray, known: int) -> Iterator[Candidate]:
    """The same for the images from `known` on: for each, those that share most points with it, so many of each kind;
    and the likeliest pairs with known images besides."""
    owner = _owner(prints)
    if len(owner) < 2:
        return
    first, second = _alike_to_new(_whitened(prints, prints[:known]), owner, known)
    votes, count = _votes(prints, owner, first, second)
    order = np.lexsort((votes[:, 3], votes[:, 2], votes[:, 1], votes[:, 0], -count))
    chosen = np.zeros(len(votes), bool)
    chosen[order[votes[order, 0] < known][: _CANDIDATES_PER_IMAGE * known]] = True
    kinds = kind[votes[:, 0]]
    runs = votes[:, 1] * len(_MOST) + kinds
    by_run = order[np.argsort(runs[order], kind="stable")]
    chosen[by_run[_place(runs[by_run]) < np.array(_MOST)[kinds[by_run]]]] = True
    yield from _shifted(votes, count, order[chosen[order]])


def _place(runs: np.ndarray) -> np.ndarray:
    """The place of each in its run, from 0; a run is of equal numbers, one after another."""
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    return np.asarray(np.arange(len(runs)) - np.repeat(starts, np.diff(starts, append=len(runs))))


def _owner(prints: Sequence[Fingerprint]) -> np.ndarray:
    """The image that each point belongs to."""
    return np.repeat(np.arange(len(prints)), [len(p.points) for p in prints])


def _votes(
    prints: Sequence[Fingerprint], owner: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of (first image, second image, shift down, shift right), and how many of the pairs of points say so."""
    points = np.concatenate([p.points for p in prints])
    shift = points[first] - points[second]
    return np.unique(
        np.stack([owner[first], owner[second], shift[:, 0], shift[:, 1]], axis=1), axis=0, return_counts=True
    )


def _shifted(votes: np.ndarray, count: np.ndarray, order: np.ndarray) -> Iterator[Candidate]:
    tried: Counter[tuple[int, int]] = Counter()
    for place in order.tolist():
        i, j, down, right = votes[place].tolist()
        if tried[i, j] == 0 or (tried[i, j] == 1 and count[place] > 1):
            tried[i, j] += 1
            yield Candidate(i, j, (down, right), 0)


def _whitened(prints: Sequence[Fingerprint], usual: Sequence[Fingerprint]) -> np.ndarray:
    """All descriptors in the axes of the usual ones' variation, each scaled to equal weight, length 1: so that what
    all surfaces of this folder have in common counts little."""
    every = np.concatenate([p.descriptors for p in prints])
    some = np.concatenate([p.descriptors for p in usual])
    if not len(some):
        some = every
    variance, axes = np.linalg.eigh((some.T @ some).astype(np.float64) / len(some))
    variance, axes = variance[::-1][:_DIMENSIONS], axes[:, ::-1][:, :_DIMENSIONS]
    scale = 1 / np.sqrt(np.maximum(variance, variance[0] * 1e-3))
    white = every @ (axes * scale).astype(np.float32)
    return np.asarray(white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-6))


def _alike(white: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of alike descriptors of different images, compared exactly inside a bucket. A descriptor that very
    many images have says nothing and is dropped."""
    most = max(MANY, (int(owner[-1]) + 1) // 8)
    found = [np.zeros(0, np.int64)]
    for bucket in _buckets(white):
        for start in range(0, len(bucket), _AT_ONCE):
            first, second = _similar(white, bucket[start : start + _AT_ONCE], bucket, most)
            keep = owner[first] < owner[second]
            found.append(first[keep] * len(white) + second[keep])
    first, second = np.divmod(np.unique(np.concatenate(found)), len(white))
    return first, second


def _alike_to_new(white: np.ndarray, owner: np.ndarray, known: int) -> tuple[np.ndarray, np.ndarray]:
    """The same where the second image is one from `known` on. How many known images share a descriptor, and how many
    new ones do, is counted apart."""
    border, most = int(np.searchsorted(owner, known)), max(MANY, known // 8)
    found = [np.zeros(0, np.int64)]
    for bucket in _buckets(white):
        old, new = np.split(bucket, [int(np.searchsorted(bucket, border))])
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            for others, limit in ((old, most), (new, MANY)):
                second, first = _similar(white, part, others, limit)
                keep = owner[first] < owner[second]
                found.append(first[keep] * len(white) + second[keep])
    first, second = np.divmod(np.unique(np.concatenate(found)), len(white))
    return first, second


def _buckets(white: np.ndarray) -> Iterator[np.ndarray]:
    """Ascending indices of descriptors that may be alike: locality-sensitive hashing by the signs of random projections
    (Charikar 2002), several tables."""
    bits = max(1, round(np.log2(max(2, len(white) / _BUCKET))))
    projections = np.random.default_rng(0).standard_normal((_TABLES, white.shape[1], bits)).astype(np.float32)
    for projection in projections:
        code = ((white @ projection) > 0) @ (1 << np.arange(bits))
        order = np.argsort(code, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


def _similar(white: np.ndarray, part: np.ndarray, others: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs, one of `part` and one of `others`, whose descriptors are alike, without those of `part` that more
    than `most` others resemble."""
    mask = white[part] @ white[others].T > ALIKE
    mask[mask.sum(axis=1) > most] = False
    one, other = np.nonzero(mask)
    return part[one], others[other]
