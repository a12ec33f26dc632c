"""Latency, throughput, memory and energy as measured on this machine, with intervals.

What this machine cannot measure is said to be so, with the reason; no figure here is estimated or looked up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from toolkit.artifacts import Metric
from toolkit.errors import UsageError
from toolkit.score.intervals import Floats, bootstrap_interval

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class NotMeasured:
    """A figure that this machine cannot give, and why."""

    reason: str

    def __str__(self) -> str:
        return f"not measured here: {self.reason}"


@dataclass(frozen=True)
class LatencySample:
    """Latency of one call in ms; each metric's n is the number of timed calls."""

    p50: Metric
    p95: Metric
    p99: Metric
    mean: Metric

    @classmethod
    def of(cls, milliseconds: Sequence[float] | Floats) -> LatencySample:
        """Raises UsageError where nothing was timed."""
        times = np.sort(np.asarray(milliseconds, dtype=np.float64))
        if not len(times):
            raise UsageError("nothing was timed", hint="Allow at least one repeat.")

        def quantile(share: float) -> Metric:
            return _milliseconds(float(np.quantile(times, share)), *quantile_interval(times, share), len(times))

        mean = _milliseconds(float(times.mean()), *_mean_interval(times), len(times))
        return cls(quantile(0.50), quantile(0.95), quantile(0.99), mean)

    def as_record(self) -> dict[str, Any]:
        return {name: getattr(self, name).as_record() for name in ("p50", "p95", "p99", "mean")}


def measure_latency(
    call: Callable[[], object], *, warmup: int = 20, repeats: int = 300, seconds: float = 5.0
) -> LatencySample:
    """Time single calls until `repeats` are done or `seconds` are over (the warm-up may take as long again).

    300 is the least at which the 95% interval of p99 has an upper end (quantile_interval).
    """
    return LatencySample.of(1e3 * _durations(call, warmup=warmup, repeats=repeats, seconds=seconds))


def measure_throughput(
    call: Callable[[], object], *, items_per_call: int = 1, warmup: int = 20, seconds: float = 5.0
) -> Metric:
    """Items per second when calls follow one another without a pause; interval from the calls' mean duration."""
    durations = _durations(call, warmup=warmup, repeats=None, seconds=seconds)
    low, high = _mean_interval(durations)
    value = items_per_call / float(durations.mean())
    return Metric(value, items_per_call / high, items_per_call / low, len(durations), "items/s")


def _durations(call: Callable[[], object], *, warmup: int, repeats: int | None, seconds: float) -> Floats:
    """Seconds of each timed call [n]; at least one."""
    deadline = time.perf_counter() + seconds
    for _ in range(warmup):
        call()
        if time.perf_counter() > deadline:
            break
    durations: list[float] = []
    deadline = time.perf_counter() + seconds
    while repeats is None or len(durations) < repeats:
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        durations.append(end - start)
        if end > deadline:
            break
    return np.array(durations)


def quantile_interval(ordered: NDArray[np.float64], quantile: float, confidence: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of a quantile from order statistics (Hahn and Meeker 1991, section 5.2).

    The chance that at most k of n samples lie below the quantile is binomial, so the interval runs between two ranks
    whose tails sum to at most 1 - confidence. Where n is too small for an end (p99 below 299 samples), that end is the
    smallest or largest sample seen, and covers less.
    """
    n = len(ordered)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    below = np.arange(n + 1)
    chances = np.exp(
        logs[n] - logs[below] - logs[n - below] + below * np.log(quantile) + (n - below) * np.log1p(-quantile)
    )
    cumulative = np.cumsum(chances)  # P(at most k samples below the quantile), k = 0..n
    alpha = 1 - confidence
    # The largest sample misses the quantile with chance quantile^n; what that leaves of alpha goes to the lower end.
    reserve = max(alpha / 2, float(chances[n])) if chances[n] <= alpha else alpha / 2
    lower = int(np.searchsorted(cumulative, alpha - reserve, side="right"))  # samples cut off at the lower end
    upper = int(np.searchsorted(cumulative, 1 - reserve, side="left"))
    return float(ordered[max(0, lower - 1)]), float(ordered[min(n - 1, upper)])


def _mean_interval(values: Floats) -> tuple[float, float]:
    features = np.column_stack([values, np.ones(len(values))])
    return bootstrap_interval(features, lambda sums: np.asarray(sums[:, 0] / sums[:, 1]))


def _milliseconds(value: float, low: float, high: float, n: int) -> Metric:
    return Metric(value, min(low, value), max(high, value), n, "ms", higher_is_better=False)


@dataclass(frozen=True)
class ProcessMemory:
    """Memory of this process in bytes. pss (its fair share of pages it shares) is None where the system has none."""

    rss: int
    pss: int | None

    def metrics(self) -> dict[str, Metric]:
        figures = {"process_rss": self.rss, "process_pss": self.pss}
        return {name: exact_bytes(value) for name, value in figures.items() if value is not None}


def process_memory() -> ProcessMemory:
    """What this process holds now."""
    full = psutil.Process().memory_full_info()
    return ProcessMemory(full.rss, getattr(full, "pss", None))


def exact_bytes(value: int) -> Metric:
    """A count of bytes: exact, so that its interval has no width."""
    return Metric(value, value, value, 1, "bytes", higher_is_better=False)


@dataclass(frozen=True)
class EnergyCounter:
    """RAPL energy counters of this machine's processors and memory: all that runs on it counts, not one process.

    `zones` are (file, range) pairs: microjoules so far, and the value at which the counter starts again from 0.
    """

    zones: tuple[tuple[Path, int], ...]

    def read(self) -> tuple[int, ...]:
        """Microjoules of each zone, each from its own arbitrary start."""
        return tuple(int(path.read_text()) for path, _ in self.zones)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Energy between two readings that lie less than one turn of a counter apart (about a minute at 1 kW)."""
        spent = 0
        for start, end, (_, turn) in zip(before, after, self.zones, strict=True):
            spent += end - start if end >= start else end + turn - start
        return spent / 1e6


def energy_counter(root: Path = POWERCAP) -> EnergyCounter | NotMeasured:
    """The machine's energy counters (Linux powercap, RAPL): each package, and memory where it is counted apart.

    A package's own parts (core, uncore) and the whole platform (psys) are left out: they would count twice.
    """
    zones = []
    for folder in sorted(root.glob("*:*")):
        name = folder / "name"
        kind = name.read_text().strip() if name.is_file() else ""
        if not kind.startswith(("package", "dram")):
            continue
        try:
            int((folder / "energy_uj").read_text())
            zones.append((folder / "energy_uj", int((folder / "max_energy_range_uj").read_text())))
        except PermissionError:
            return NotMeasured("only the system administrator may read this machine's energy counters")
        except OSError:
            continue  # a zone that has no counter
    if not zones:
        return NotMeasured("this machine shows no energy counters")
    return EnergyCounter(tuple(zones))


def measure_energy(
    call: Callable[[], object], counter: EnergyCounter, *, blocks: int = 10, seconds: float = 5.0
) -> Metric:
    """Joule per call, the machine's idle power included; interval over `blocks` blocks of calls."""
    joules, calls = [], []
    for _ in range(blocks):
        spent, count = energy_block(call, counter, seconds / blocks)
        joules.append(spent)
        calls.append(float(count))
    low, high = bootstrap_interval(np.column_stack([joules, calls]), lambda sums: np.asarray(sums[:, 0] / sums[:, 1]))
    return Metric(sum(joules) / sum(calls), low, high, blocks, "joule", higher_is_better=False)


def energy_block(call: Callable[[], object], counter: EnergyCounter, seconds: float) -> tuple[float, int]:
    """Joules spent, and calls made, in `seconds` of calls without a pause."""
    calls, before, deadline = 0, counter.read(), time.perf_counter() + seconds
    while not calls or time.perf_counter() < deadline:
        call()
        calls += 1
    return counter.joules(before, counter.read()), calls
