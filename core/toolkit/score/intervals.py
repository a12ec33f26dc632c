"""Intervals: Wilson for rates, the percentile bootstrap for everything that is a ratio of sums over rows.

This module knows numbers and groups; it refuses to know what a class, a teacher or a gate is.

A bootstrap of rows that are all alike is degenerate: five right out of five would give an interval of no width. So an
interval here may be *guarded*: the percentile interval is widened by the quantiles of a Dirichlet-weighted resample of
the rows plus one worst (or best) imaginable row. For a rate that is exactly the Clopper-Pearson bound, for any bounded
mean it is the bound of Learned-Miller and Thomas (arXiv 1905.06208); of the two, the wider end is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Metric
from toolkit.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Sums [draws, columns] -> values [draws]. It must not change when all sums are scaled by one factor."""

DRAWS = 10_000
BATCH_CELLS = 2_000_000  # doubles held at once while resampling: 16 MB
FEW_KINDS = 64  # below this, drawing counts of each kind of row is cheaper than drawing rows


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate (Wilson 1927; Brown, Cai and DasGupta 2001).

    Raises:
        DataError: n is not positive, or successes lie outside 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise DataError(f"no rate can be made of {successes} out of {n}", hint="Score at least one row.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    # At 0 and n the ends are 0 and 1 exactly; rounding must not push them past the estimate itself.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def share(successes: int, n: int, *, higher_is_better: bool = True) -> Metric:
    """A rate of independent rows with its Wilson interval. Raises DataError as `wilson` does."""
    low, high = wilson(successes, n)
    return Metric(successes / n, low, high, n, "share", higher_is_better)


def clustered_share(
    flags: NDArray[np.bool_], groups: Sequence[str] | None = None, *,
    higher_is_better: bool = True, draws: int = DRAWS, seed: int = 0,
) -> Metric:  # fmt: skip
    """The share of true flags [n]. Wilson's interval, and where rows come in groups never narrower than the guarded
    bootstrap over whole groups: ten pictures of one part are not ten parts."""
    metric = share(int(flags.sum()), len(flags), higher_is_better=higher_is_better)
    if groups is None or len(set(groups)) == len(flags):
        return metric
    features = np.column_stack([flags, np.ones(len(flags))])
    low, high = bootstrap_interval(
        features, lambda sums: sums[:, 0] / sums[:, 1], worst=(0, 1), best=(1, 1), groups=groups, draws=draws, seed=seed
    )
    return Metric(metric.value, min(low, metric.low), max(high, metric.high), metric.n, "share", higher_is_better)


def bootstrap_interval(
    features: Floats, statistic: Statistic, *,
    worst: Sequence[float] | None = None, best: Sequence[float] | None = None,
    groups: Sequence[str] | None = None, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Percentile bootstrap interval (Efron 1979) of a statistic of column sums.

    Args:
        features: [n, columns], one row an example; the statistic sees the sums of a resample, [draws, columns].
        worst, best: the features of the row that would lower (raise) the statistic most; guards that end, see above.
        groups: [n], whole groups are drawn together.
        confidence: of the two-sided interval; 0.90 makes `low` a one-sided 95% bound.

    Draws on which the statistic is nan (a denominator of 0) are left out. The ends always include the value itself.
    """
    kinds = _Kinds.of(features, groups)
    tail = (1 - confidence) / 2
    value = float(statistic(features.sum(axis=0, keepdims=True, dtype=np.float64))[0])
    plain = statistic(kinds.resample(draws, np.random.default_rng([seed, 0])))
    low, high = (float(end) for end in np.nanquantile(plain, (tail, 1 - tail)))
    if worst is not None:
        low = min(low, _guard(kinds, statistic, worst, tail, draws, np.random.default_rng([seed, 1])))
    if best is not None:
        high = max(high, _guard(kinds, statistic, best, 1 - tail, draws, np.random.default_rng([seed, 2])))
    return min(low, value), max(high, value)


def _guard(
    kinds: _Kinds, statistic: Statistic, extreme: Sequence[float], quantile: float, draws: int,
    random: np.random.Generator,
) -> float:  # fmt: skip
    sums = kinds.weigh(np.asarray(extreme, dtype=np.float64), draws, random)
    return float(np.nanquantile(statistic(sums), quantile))


@dataclass(frozen=True)
class _Kinds:
    """The units that are drawn (rows, or groups summed up), identical ones kept once with their count: a resample of
    right and wrong rows is then a draw of a few counts, however many rows there are."""

    sums: Floats  # [kinds, columns]
    counts: NDArray[np.int64]  # [kinds]
    rows_per_unit: float

    @classmethod
    def of(cls, features: Floats, groups: Sequence[str] | None) -> _Kinds:
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or not len(rows):
            raise DataError("nothing to resample: no rows were scored", hint="Score at least one row.")
        units = rows
        if groups is not None:
            if len(groups) != len(rows):
                raise DataError(f"{len(rows)} rows came with {len(groups)} groups", hint="Give each row its group.")
            _, member = np.unique(np.asarray(groups), return_inverse=True)
            units = np.zeros((int(member.max()) + 1, rows.shape[1]))
            np.add.at(units, member, rows)
        kinds, counts = np.unique(units, axis=0, return_counts=True)
        return cls(kinds, counts.astype(np.int64), len(rows) / len(units))

    def resample(self, draws: int, random: np.random.Generator) -> Floats:
        """Column sums [draws, columns] of `draws` samples with replacement."""
        units = int(self.counts.sum())
        few = len(self.counts) <= FEW_KINDS
        odds = self.counts / units
        owner = None if few else np.repeat(np.arange(len(self.counts)), self.counts)
        parts = []
        for size in _batches(draws, units if owner is not None else len(self.counts)):
            if owner is None:
                drawn = random.multinomial(units, odds, size=size)
            else:
                picked = owner[random.integers(0, units, size=(size, units))]
                picked += np.arange(size)[:, None] * len(self.counts)
                drawn = np.bincount(picked.ravel(), minlength=size * len(self.counts)).reshape(size, -1)
            parts.append(drawn.astype(np.float64) @ self.sums)
        return np.concatenate(parts)

    def weigh(self, extreme: Floats, draws: int, random: np.random.Generator) -> Floats:
        """Column sums [draws, columns] under Dirichlet weights, with one more unit made of `extreme` rows."""
        sums = np.vstack([self.sums, extreme * self.rows_per_unit])
        shapes = np.append(self.counts, 1).astype(np.float64)
        return np.concatenate([
            random.standard_gamma(shapes, size=(size, len(shapes))) @ sums for size in _batches(draws, len(shapes))
        ])  # fmt: skip


def _batches(draws: int, width: int) -> Iterator[int]:
    size = max(1, min(draws, BATCH_CELLS // width))
    for start in range(0, draws, size):
        yield min(size, draws - start)
