"""The recent past of a server, second by second, for charts: requests, errors, latencies, the queue.

The counts lie in memory that forked worker processes share; each writes rows of its own, and whoever is asked adds them
up. A collector that keeps figures for months reads /metrics instead. Knows nothing of HTTP.
"""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SECONDS = 900
WORKERS = 32
STEP = 5
"""Seconds of a point."""

_SECOND, _REQUESTS, _ERRORS, _REFUSED, _QUEUE, _FIRST = range(6)
_LEAST_MS, _RATIO, _BUCKETS = 0.1, 1.15, 88
_WIDTH = _FIRST + _BUCKETS
_LOG_RATIO = math.log(_RATIO)


class Figures:
    """Counts of the last quarter of an hour. Make it before the worker processes fork, and let each `claim` a row.

    Latencies are counted in buckets that grow by 15%: a quantile is known to within 7%.

    Args:
        clock: the time in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        size = WORKERS * SECONDS * _WIDTH
        self._all: NDArray[np.int64] = np.frombuffer(mmap.mmap(-1, size * 8), np.int64).reshape(
            WORKERS, SECONDS, _WIDTH
        )
        self._mine = self._all[0]
        self._clock = clock
        self.since = int(clock())

    def claim(self, worker: int) -> None:
        """Write the rows of this worker from now on; a worker that takes another's place goes on with its rows."""
        self._mine = self._all[worker % WORKERS]

    def answered(self, status: int, seconds: float, waiting: int) -> None:
        """One request is done; `waiting` is how much stands before the models at this moment."""
        row = self._row(int(self._clock()))
        row[_REQUESTS] += 1
        row[_ERRORS] += status >= 500 and status != 503
        row[_REFUSED] += status in (429, 503)
        row[_QUEUE] = max(row[_QUEUE], waiting)
        place = int(math.log(max(seconds * 1000 / _LEAST_MS, 1.0)) / _LOG_RATIO)
        row[_FIRST + min(place, _BUCKETS - 1)] += 1

    def series(self, minutes: int) -> dict[str, Any]:
        """Columns of equal length, oldest first: `at` (the point's first second), `requests`, `errors` and `refused`
        a second, `p50_ms` and `p95_ms` (None where nothing was answered), `queue` (the longest). The point that is
        under way is left out."""
        end = int(self._clock()) // STEP * STEP
        start = end - min(minutes * 60, SECONDS - 2 * STEP)
        rows = self._all.reshape(-1, _WIDTH)
        rows = rows[(rows[:, _SECOND] >= start) & (rows[:, _SECOND] < end)]
        points = (rows[:, _SECOND] - start) // STEP
        counts = np.zeros(((end - start) // STEP, _WIDTH), np.int64)
        np.add.at(counts, points, rows)
        queue = np.zeros(len(counts), np.int64)
        np.maximum.at(queue, points, rows[:, _QUEUE])
        latencies = counts[:, _FIRST:]
        return {
            "step": STEP,
            "at": list(range(start, end, STEP)),
            "requests": _rates(counts[:, _REQUESTS]),
            "errors": _rates(counts[:, _ERRORS]),
            "refused": _rates(counts[:, _REFUSED]),
            "p50_ms": _quantiles(latencies, 0.5),
            "p95_ms": _quantiles(latencies, 0.95),
            "queue": queue.tolist(),
            "total": int(counts[:, _REQUESTS].sum()),
        }

    def _row(self, now: int) -> NDArray[np.int64]:
        row: NDArray[np.int64] = self._mine[now % SECONDS]
        if row[_SECOND] != now:
            row[:] = 0
            row[_SECOND] = now
        return row


def _rates(counts: NDArray[np.int64]) -> list[float]:
    return [round(int(count) / STEP, 2) for count in counts]


def _quantiles(counts: NDArray[np.int64], share: float) -> list[float | None]:
    """The geometric middle of the bucket in which the quantile lies."""
    reached = counts.cumsum(axis=1)
    places = (reached >= np.ceil(share * reached[:, -1:])).argmax(axis=1)
    middles = _LEAST_MS * _RATIO ** (places + 0.5)
    return [round(float(m), 3) if n else None for m, n in zip(middles, reached[:, -1], strict=True)]
