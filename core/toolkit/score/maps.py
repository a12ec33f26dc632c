"""Scores of an anomaly detector: how well it tells pictures apart, and places in them, whatever the limit is.

It refuses to know where maps and masks came from. A map's values are anomaly scores, higher is stranger, in any unit;
a picture is taken up as histograms over fixed bins, so that any number of pictures fits into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Metric
from toolkit.score.intervals import Floats, bootstrap_interval

BINS = 512
DRAWS = 2_000  # of the bootstrap: no two pictures are alike here, so that each draw costs n
PRO_FALSE_ALARMS = 0.3
"""AUPRO is integrated up to this share of false alarms (Bergmann et al. 2020, arXiv 1911.02357)."""


@dataclass(frozen=True)
class MapTally:
    """One picture's places, by bins of their score: `sound` [BINS] counts those outside the mask, `faulty` those in
    it; `regions` [BINS] adds up, over the mask's connected regions, the share of each that lies in a bin."""

    sound: Floats
    faulty: Floats
    regions: Floats
    region_count: int


def tally(scores: NDArray[np.float32], mask: NDArray[np.bool_]) -> MapTally:
    """Take up one picture.

    Args:
        scores: [h, w], not negative; 1 is about where a detector draws its limit.
        mask: [h, w], true where the picture is faulty.
    """
    values = np.maximum(scores.astype(np.float64), 0)
    bins = np.minimum((values / (1 + values) * BINS).astype(np.int64), BINS - 1)
    count = np.zeros(BINS)
    numbered = regions_of(mask)
    number = int(numbered.max())
    for region in range(1, number + 1):
        inside = np.bincount(bins[numbered == region], minlength=BINS)
        count += inside / inside.sum()
    sound = np.bincount(bins[~mask], minlength=BINS).astype(np.float64)
    faulty = np.bincount(bins[mask], minlength=BINS).astype(np.float64)
    return MapTally(sound, faulty, count, number)


def regions_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the 8-connected regions of a mask [h, w] from 1; 0 is outside of all."""
    numbered = np.zeros(mask.shape, dtype=np.int64)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return numbered
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = mask[box]
    labels = np.where(inside, np.arange(1, inside.size + 1).reshape(inside.shape), 0)
    while True:  # every place takes the highest label around it, until none changes
        padded = np.pad(labels, 1)
        around = np.max([padded[i : i + labels.shape[0], j : j + labels.shape[1]]
                         for i in range(3) for j in range(3)], axis=0)  # fmt: skip
        spread = np.where(inside, around, 0)
        if (spread == labels).all():
            break
        labels = spread
    names = np.unique(labels[inside])
    numbered[box] = np.where(inside, np.searchsorted(names, labels) + 1, 0)
    return numbered


def picture_auroc(
    scores: NDArray[np.float64], faulty: NDArray[np.bool_], groups: Sequence[str] | None = None, *, seed: int = 0
) -> Metric | None:
    """The chance that a faulty picture scores higher than a good one, ties counting half (the area under the ROC
    curve; Hanley and McNeil 1982). None where either kind is missing.

    Args:
        scores: [n], higher is stranger.        faulty: [n].        groups: [n], rows that belong together.
    """
    if faulty.all() or not faulty.any():
        return None
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, scores, side="right")
    features = np.zeros((len(scores), 2 * BINS))
    features[np.arange(len(scores)), bins + np.where(faulty, BINS, 0)] = 1
    low, high = bootstrap_interval(features, _auroc, groups=groups, draws=DRAWS, seed=seed)
    value = float(_exact_auroc(scores, faulty))
    return Metric(value, min(low, value), max(high, value), len(scores))


def place_metrics(
    tallies: Sequence[MapTally], groups: Sequence[str] | None = None, *, seed: int = 0
) -> dict[str, Metric]:
    """`pixel_auroc`, over all places of all pictures, and `aupro`: the mean share of a faulty region that is found,
    averaged over false-alarm rates from 0 to 0.3. Empty where no place, or every place, is faulty.

    Intervals resample whole pictures, or whole groups of them.
    """
    pixels = np.stack([np.concatenate([one.sound, one.faulty]) for one in tallies])
    if not pixels[:, BINS:].any() or not pixels[:, :BINS].any():
        return {}
    overlap = np.stack([np.append(np.concatenate([one.sound, one.regions]), one.region_count) for one in tallies])
    found = {}
    for name, features, statistic in (("pixel_auroc", pixels, _auroc), ("aupro", overlap, _aupro)):
        low, high = bootstrap_interval(features, statistic, groups=groups, draws=DRAWS, seed=seed)
        value = float(statistic(features.sum(axis=0, keepdims=True))[0])
        found[name] = Metric(value, low, high, len(tallies))
    return found


def _exact_auroc(scores: NDArray[np.float64], faulty: NDArray[np.bool_]) -> float:
    ordered = np.sort(scores[~faulty])
    below = np.searchsorted(ordered, scores[faulty], side="left")
    ties = np.searchsorted(ordered, scores[faulty], side="right") - below
    return float((below + ties / 2).mean() / len(ordered))


def _auroc(sums: Floats) -> Floats:
    """Of histograms of good and faulty [draws, 2 * BINS]; nan where a draw has but one kind."""
    good, faulty = sums[:, :BINS], sums[:, BINS : 2 * BINS]
    pairs = good.sum(axis=1) * faulty.sum(axis=1)
    below = np.cumsum(good, axis=1) - good / 2
    found: Floats = np.divide((faulty * below).sum(axis=1), pairs, out=np.full(len(sums), np.nan), where=pairs > 0)
    return found


def _aupro(sums: Floats) -> Floats:
    """Of histograms of good places and of regions, and the number of regions, [draws, 2 * BINS + 1]."""
    falling = sums[:, : 2 * BINS].reshape(len(sums), 2, BINS)[:, :, ::-1].cumsum(axis=2)
    counts = np.stack([falling[:, 0, -1], sums[:, -1]], axis=1)
    rates = np.divide(falling, counts[:, :, None], out=np.zeros_like(falling), where=counts[:, :, None] > 0)
    alarms, found = (np.pad(rates[:, side], ((0, 0), (1, 0))) for side in (0, 1))
    width = np.diff(np.minimum(alarms, PRO_FALSE_ALARMS), axis=1)
    whole = np.diff(alarms, axis=1)
    # Within a bin both rates rise together: where the limit cuts a bin, the overlap is taken at the cut.
    share = np.divide(width, whole, out=np.zeros_like(width), where=whole > 0)
    height = found[:, :-1] + np.diff(found, axis=1) * share / 2
    area = (width * height).sum(axis=1) / PRO_FALSE_ALARMS
    return np.where((counts > 0).all(axis=1), area, np.nan)
