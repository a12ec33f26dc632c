"""Which images of a folder show the same thing: copies, shifted crops, other exposures, turned or mirrored ones.

Candidates come cheaply from two sides: points that look alike (hashed, so that cost grows about linearly), and
thumbnails in their eight orientations (one matrix product). A candidate counts only where `overlay` bears it out.

Knows fingerprints only: no files, labels or splits. It does not see through a change of scale, or through a turn by
other than a quarter, nor through shift and turn at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from toolkit.tasks.image_classification.candidates import candidates, candidates_with_new
from toolkit.tasks.image_classification.fingerprints import Fingerprint
from toolkit.tasks.image_classification.overlay import Candidate, Match, ordinary_score, verified

__all__ = ["Match", "group_near_duplicates", "near_duplicates", "near_duplicates_of_new"]


def near_duplicates(prints: Sequence[Fingerprint], sides: Sequence[int] | None = None) -> list[Match]:
    """All pairs of images that show the same, sorted by (first, second).

    Args:
        prints: one fingerprint an image, all with the same reduction.
        sides: a number an image. Where given, a pair on one side that other pairs join already is not looked at, and
            so not reported: all pairs ACROSS sides are, and groups come out the same.
    """
    if len(prints) < 2:
        return []
    return _matches(prints, candidates(prints), ordinary_score(prints), range(len(prints)) if sides is None else sides)


def near_duplicates_of_new(
    known: Sequence[Fingerprint], new: Sequence[Fingerprint], held: Sequence[bool]
) -> list[Match]:
    """Pairs that show the same and have a new image in them, as many as it takes to group the new images, sorted.

    An index counts through `known` and on through `new`; pairs among `known` are not looked at. Each new image is
    compared with those of either kind that are most like it: so that thousands of new images that are alike hide no
    known one. What is usual, and so tells no images apart, is learnt from the known ones alone, for the same reason.

    Args:
        known, new: one fingerprint an image, all with the same reduction.
        held: which of the known images must not be missed: with more of these a new one is compared.
    """
    if not known or not new:
        return []
    prints = [*known, *new]
    pairs = candidates_with_new(prints, np.array(held, dtype=bool))
    return _matches(prints, pairs, ordinary_score(known), [0] * len(prints))


def group_near_duplicates(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
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


def _matches(
    prints: Sequence[Fingerprint], pairs: Iterable[Candidate], least: float, sides: Sequence[int]
) -> list[Match]:
    """The candidates that hold; one on one side, whose images are joined already, is passed over."""
    union = _Union(len(prints))
    found: dict[tuple[int, int], Match] = {}
    for candidate in pairs:
        pair = (candidate.first, candidate.second)
        same_side = sides[pair[0]] == sides[pair[1]]
        if pair in found or (same_side and union.find(pair[0]) == union.find(pair[1])):
            continue
        match = verified(prints, candidate, least)
        if match:
            found[pair] = match
            union.join(*pair)
    return [found[pair] for pair in sorted(found)]
