"""What a simulated comparison shows, with intervals: paired by learner, since all policies met the same learners.

Knows outcomes by learner; refuses to know how they came about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.errors import DataError
from toolkit_education.ability import Floats
from toolkit_education.simulated_learners import Flags, Ints

DRAWS = 10_000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def difference(ours: Floats, theirs: Floats, site: Ints, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The mean of ours - theirs, all [learners], by the paired percentile bootstrap (Efron 1979) over whole sites:
    learners of a site share its labels and what is learned of them.

    Raises:
        DataError: the three are not of the same learners.
    """
    return _bootstrap(ours, theirs, site, lambda ours, theirs, n: (ours - theirs) / n, draws, seed)


def ratio(ours: Floats, theirs: Floats, site: Ints, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean of ours / mean of theirs, likewise. Raises DataError as `difference` does."""
    return _bootstrap(ours, theirs, site, lambda ours, theirs, n: ours / theirs, draws, seed)


@dataclass(frozen=True)
class Calibration:
    """How far predicted P(right) can be believed.

    Attributes:
        bins: of each tenth of the predictions, from low to high: mean predicted, share right, answers.
        error: the mean distance of the two, weighted by answers (expected calibration error).
        brier: mean squared error of the predictions; `base` is that of the mean of the answers alone.
    """

    bins: tuple[tuple[float, float, int], ...]
    error: float
    brier: float
    base: float


def calibration(predicted: Floats, right: Flags) -> Calibration:
    """Of every answer, [answers] both. Raises DataError where there are none."""
    if not len(predicted) or len(predicted) != len(right):
        raise DataError("there are no answers to judge predictions by", hint="Run the policy `adaptive`.")
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    bins = tuple((float(predicted[part].mean()), float(right[part].mean()), len(part)) for part in parts)
    error = sum(abs(said - came) * n for said, came, n in bins) / len(predicted)
    brier = float(((predicted - right) ** 2).mean())
    return Calibration(bins, error, brier, float(right.mean() * (1.0 - right.mean())))


def _bootstrap(
    ours: Floats, theirs: Floats, site: Ints, figure: Callable[[Floats, Floats, Floats], Floats], draws: int, seed: int
) -> Interval:
    if not ours.shape == theirs.shape == site.shape or not len(ours):
        raise DataError("only outcomes of the same learners can be paired", hint="Run both policies by one protocol.")
    _, place = np.unique(site, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=values) for values in (ours, theirs, np.ones(len(ours)))])
    rows = np.random.default_rng(seed).integers(0, sums.shape[1], (draws, sums.shape[1]))
    low, high = np.quantile(figure(*sums[:, rows].sum(axis=2)), (0.025, 0.975))
    whole = figure(*sums.sum(axis=1, keepdims=True))
    return Interval(float(whole[0]), float(low), float(high))
