"""Drift: whether answers and inputs of the running week are still spread as those that the model was released with.

Each measure (a score, a picture's brightness, a text's length) is counted into bins whose edges are percentiles of the
bundle's reference, so that a week is a few hundred numbers, however many requests it had, and weeks of several
processes can be added up. Two figures compare it with the reference:

- PSI, the population stability index over ten bins, sum of (q - p) ln(q / p): below 0.1 nothing, above 0.25 a shift
  (Siddiqi, Credit Risk Scorecards, Wiley 2006). Of equal distributions it is, times n m / (n + m), distributed as chi
  square with one degree less than bins (Yurdakul, Statistical Properties of Population Stability Index, 2018): few
  samples reach 0.25 by chance, so its quantile must be passed too.
- KS, the largest distance between the two cumulative distributions, here at the percentiles; by chance it is above
  c sqrt((n + m) / (n m)) with c = sqrt(-ln(a / 2) / 2) in a share a of cases (Smirnov 1948). Many samples find any
  difference, so it must be 0.1 or 0.2 as well.

Samples are taken as independent of each other. Knows no model and no HTTP.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import numpy as np

State = Literal["ok", "watch", "alert", "too_few", "no_reference"]
RANK: tuple[State, ...] = ("no_reference", "too_few", "ok", "watch", "alert")

LEAST = 50
"""Fewest values on either side: five in each of ten bins (Cochran 1954)."""

BINS, EDGES = 10, 99
PSI_WATCH, PSI_ALERT = 0.1, 0.25
KS_WATCH, KS_ALERT = 0.1, 0.2
P_WATCH, P_ALERT = 0.01, 0.001
CHI_SQUARE = {
    P_WATCH: (6.635, 9.210, 11.345, 13.277, 15.086, 16.812, 18.475, 20.090, 21.666),
    P_ALERT: (10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124, 27.877),
}
"""Upper quantiles of chi square with 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class Figures:
    """How a measure stands; `psi` and `ks` are None where there is too little to compare."""

    state: State
    week: int
    reference: int
    psi: float | None = None
    ks: float | None = None

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measure:
    """One measure of a release: its percentiles, and how many of its values lie in each bin between them."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Measure | None:
        """None where no value is known."""
        known = np.asarray([value for value in values if math.isfinite(value)], np.float64)
        if not len(known):
            return None
        percentiles = np.quantile(known, np.arange(1, EDGES + 1) / (EDGES + 1))
        # Beyond all of the reference is a bin of its own, or a value that never changed there could grow unseen.
        edges = tuple(np.unique(np.append(percentiles, np.nextafter(known.max(), np.inf))).tolist())
        places = np.searchsorted(edges, known, side="right")
        counts = np.bincount(places, minlength=len(edges) + 1)
        return cls(edges, tuple(counts.tolist()), float(known.min()), float(known.max()))

    def place(self, value: float) -> int:
        """The bin of a value."""
        return bisect_right(self.edges, value)

    def strange(self, value: float) -> bool:
        """Whether a value is further out than any of the reference, by a tenth of its range."""
        room = 0.1 * (self.high - self.low)
        return not self.low - room <= value <= self.high + room

    def rare(self, value: float) -> bool:
        """Whether a value is beyond the first or the last percentile."""
        return not self.edges[0] <= value <= self.edges[max(0, len(self.edges) - 2)]

    @cached_property
    def _bins(self) -> tuple[int, ...]:
        """The tenth of the reference in which each bin's middle lies."""
        total = sum(self.counts)
        middles = (end - count / 2 for end, count in zip(accumulate(self.counts), self.counts, strict=True))
        return tuple(min(BINS - 1, int(BINS * middle / total)) for middle in middles)

    def compare(self, counts: Sequence[int]) -> Figures:
        """The week's counts in each bin against the reference's."""
        n, m = sum(counts), sum(self.counts)
        if min(n, m) < LEAST:
            return Figures("too_few", n, m)
        there = sorted(set(self._bins))
        week, reference = ([_in(place, self._bins, of) for place in there] for of in (counts, self.counts))
        psi = _psi(reference, week)
        ks = max(abs(a / n - b / m) for a, b in zip(accumulate(counts), accumulate(self.counts), strict=True))
        together = 1 / n + 1 / m
        state: State = "ok"
        for name, share, psi_from, ks_from in (
            ("watch", P_WATCH, PSI_WATCH, KS_WATCH), ("alert", P_ALERT, PSI_ALERT, KS_ALERT)
        ):  # fmt: skip
            chance = CHI_SQUARE[share][len(there) - 2] * together if len(there) > 1 else math.inf
            chance_ks = math.sqrt(-math.log(share / 2) / 2 * together)
            if psi > max(psi_from, chance) or ks > max(ks_from, chance_ks):
                state = "watch" if name == "watch" else "alert"
        return Figures(state, n, m, round(psi, 4), round(ks, 4))


def measures_of(reference: Mapping[str, Sequence[float]]) -> dict[str, Measure]:
    """The measures of a bundle's reference."""
    found = {name: Measure.of(values) for name, values in reference.items()}
    return {name: measure for name, measure in found.items() if measure is not None}


def worst(states: Sequence[State]) -> State:
    """What a product is in when its measures are in these."""
    return max(states, key=RANK.index, default="no_reference")


def _in(place: int, bins: Sequence[int], counts: Sequence[int]) -> int:
    return sum(count for bin_, count in zip(bins, counts, strict=True) if bin_ == place)


def _psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """Half a sample is added to each bin, so that an empty one is not infinitely far."""
    shares = []
    for counts in (expected, found):
        total = sum(counts) + 0.5 * len(counts)
        shares.append([(count + 0.5) / total for count in counts])
    return float(sum((q - p) * math.log(q / p) for p, q in zip(*shares, strict=True)))
