"""Ability in one skill, estimated online: a posterior on a grid of logits under the Rasch model.

Knows answers, difficulties and numbers; refuses to know what a skill, a learner or a curriculum is.

Rasch (1960) with a lapse at either end, P(right) = guess + (1 - guess - slip) / (1 + exp(difficulty - ability)), and
the expected a posteriori estimate of Bock and Mislevy (1982). A learner learns, so between two answers the posterior
moves by a random walk, as in Glickman's dynamic paired comparison (1999), so that old answers count less and less; its
mean is the gain of one practice, the slope of the Additive Factors Model (Cen, Koedinger and Junker 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

STEP = 0.2
GRID: Floats = np.arange(-35.0, 36.0, dtype=np.float64) * STEP
"""Ability in logits, [71] from -7 to 7. The mid-point rule of a posterior as wide as three steps is exact to 1e-6."""


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)) of each, without overflow."""
    found: Floats = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return found


def prior(mean: float, deviation: float) -> Floats:
    """A normal belief on GRID, [71], sums to 1. `deviation` in logits, above 0."""
    weights = np.exp(-0.5 * ((GRID - mean) / deviation) ** 2)
    return frozen(weights / weights.sum())


def chances(difficulty: float, guess: float, slip: float) -> Floats:
    """P(right) at each ability of GRID, [71]."""
    found: Floats = guess + (1.0 - guess - slip) * sigmoid(GRID - difficulty)
    return found


def expected(posterior: Floats, difficulty: float, guess: float, slip: float) -> float:
    """P(right) of the next answer."""
    return float(posterior @ chances(difficulty, guess, slip))


def successes(posterior: Floats, difficulties: Sequence[float]) -> list[float]:
    """P(knowing) at each of these difficulties: that of a right answer, lapses aside."""
    found: list[float] = (posterior @ sigmoid(GRID[:, None] - np.array(difficulties))).tolist()
    return found


def updated(posterior: Floats, chance: Floats, right: bool) -> Floats:
    """The posterior after an answer, by Bayes' rule. `chance` [71] is P(right) at each ability, as `chances` says."""
    weights = posterior * (chance if right else 1.0 - chance)
    return frozen(weights / weights.sum())


def moved(posterior: Floats, growth: float, deviation: float) -> Floats:
    """The posterior after a random walk: `growth` is its mean and `deviation` its standard deviation, in logits.

    At the ends of GRID it is reflected. A walk shorter than the grid can show moves by the two points next to it.
    """
    if growth == 0.0 and deviation <= 0.0:
        return posterior
    return frozen(posterior @ _walk(round(growth, 3), round(deviation, 3)))


def moments(posterior: Floats) -> tuple[float, float]:
    """The posterior mean (EAP) and its standard error, in logits."""
    mean = float(posterior @ GRID)
    return mean, math.sqrt(max(0.0, float(posterior @ (GRID - mean) ** 2)))


def above(posterior: Floats, threshold: float) -> float:
    """P(ability > threshold). Each weight is taken to lie evenly over its cell of the grid."""
    return float(posterior @ np.clip((GRID - threshold) / STEP + 0.5, 0.0, 1.0))


def ability_for(success: float) -> float:
    """How far above an item's difficulty an ability must be for that success, in logits; `success` above 0, below 1."""
    return math.log(success / (1.0 - success))


def frozen(values: Floats) -> Floats:
    """The same array, that nobody can write to."""
    values.flags.writeable = False
    return values


@lru_cache(maxsize=256)
def _walk(growth: float, deviation: float) -> Floats:
    """Rows: where the weight of each grid point goes, [71, 71]; each sums to 1."""
    mean, variance = growth / STEP, (deviation / STEP) ** 2
    if variance < 1.0:  # a normal on so few points would have another variance: the three points that have this one
        base = round(mean)
        rest = mean - base
        square = min(1.0, max(abs(rest), variance + rest * rest))
        offsets = np.array([base - 1, base, base + 1])
        kernel = np.array([(square - rest) / 2.0, 1.0 - square, (square + rest) / 2.0])
    else:
        far = math.ceil(abs(mean) + 4.0 * math.sqrt(variance))
        offsets = np.arange(-far, far + 1)
        kernel = np.exp(-0.5 * (offsets - mean) ** 2 / variance)
        kernel /= kernel.sum()
    size = len(GRID)
    walk = np.zeros((size, size))
    for start in range(size):
        for offset, weight in zip(offsets, kernel, strict=True):
            place = (start + offset) % (2 * size)  # reflected: 0 1 2 ... n-1 n-1 ... 1 0
            walk[start, min(place, 2 * size - 1 - place)] += weight
    return frozen(walk)
