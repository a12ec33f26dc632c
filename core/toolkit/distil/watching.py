"""Who looks on while a model learns: told the figures of each step and each epoch, and never able to change them.

What a clock says (how fast the steps are, how many labels wait) is added here, for those who look on. It is kept apart
from the history of a training, which is the same however often the training was broken off.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from toolkit.distil.events import EventFiles
from toolkit.protocols import Gauges, Report
from toolkit.workspace import CURVES, canonical_json, write_file

COUNTED = ("rows", "tokens")
"""Figures of a step that count what it learnt from: each has a rate."""

Figures = Mapping[str, float]


class Watch(Protocol):
    """Told of one training, in order."""

    def begin(self, epochs: int, step: int, steps: int) -> None:
        """The training begins, or is taken up, where `epochs` epochs of `steps` steps are done and `step` steps
        of the next."""
        ...

    def step(self, done: int, figures: Figures) -> None:
        """So many steps are done, and these are the figures of the last one."""
        ...

    def epoch(self, epochs: int, done: int, figures: Figures) -> None:
        """So many epochs are done, and steps; the figures are those the history holds of the last one."""
        ...


class Unwatched:
    """Nobody looks on."""

    def begin(self, epochs: int, step: int, steps: int) -> None:
        pass

    def step(self, done: int, figures: Figures) -> None:
        pass

    def epoch(self, epochs: int, done: int, figures: Figures) -> None:
        pass


UNWATCHED: Watch = Unwatched()


class Told(Unwatched):
    """Shows the figures through a report that can."""

    def __init__(self, gauges: Gauges, what: str) -> None:
        self._gauges, self._what = gauges, what

    def step(self, done: int, figures: Figures) -> None:
        self._gauges.figures(self._what, figures)

    def epoch(self, epochs: int, done: int, figures: Figures) -> None:
        found = {name: value for name, value in figures.items() if name.startswith("validation_")}
        self._gauges.figures(self._what, found | {"epoch": epochs})


class Paced:
    """Adds what the clock says to the figures of each step, hands them on, and writes down the pace of each epoch: the
    rate of what was learnt from, as `rows_per_second` or `tokens_per_second`, without validation; and of labels that
    are made beside it `queue/...`, the depth as its mean.

    Args:
        path: where the paces of the epochs are kept, so that a training that is taken up goes on with them.
        queue: how far labelling beside the training is, as `queue/NAME`.
    """

    def __init__(self, path: Path, watches: Sequence[Watch], queue: Callable[[], Figures] | None = None) -> None:
        self._path, self._watches, self._queue = path, watches, queue
        self._epochs: list[dict[str, float]] = []
        self._tally = _Tally()

    def begin(self, epochs: int, step: int, steps: int) -> None:
        known = read_pace(self._path)[:epochs]
        self._epochs = [*known, *({} for _ in range(epochs - len(known)))]
        for watch in self._watches:
            watch.begin(epochs, step, steps)
        self._tally = _Tally()

    def step(self, done: int, figures: Figures) -> None:
        counted = {name: figures[name] for name in COUNTED if name in figures}
        waiting = {} if self._queue is None else self._queue()
        rates = self._tally.add(counted, waiting)
        for watch in self._watches:
            watch.step(done, {**figures, **rates, **waiting})

    def epoch(self, epochs: int, done: int, figures: Figures) -> None:
        self._epochs.append(self._tally.pace())
        write_file(self._path, canonical_json(self._epochs))
        for watch in self._watches:
            watch.epoch(epochs, done, figures)
        self._tally = _Tally()


@dataclass
class _Tally:
    """What has come together in an epoch."""

    steps: int = 0
    seconds: float = 0.0
    depths: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)
    waiting: Figures = field(default_factory=dict)
    last: float = field(default_factory=lambda: time.monotonic())

    def add(self, counted: Figures, waiting: Figures) -> dict[str, float]:
        """One step more; its rates."""
        now = time.monotonic()
        passed, self.last = now - self.last, now
        self.steps, self.seconds = self.steps + 1, self.seconds + passed
        for name, value in counted.items():
            self.counts[name] = self.counts.get(name, 0.0) + value
        self.waiting, self.depths = waiting, self.depths + waiting.get("queue/depth", 0.0)
        return _rates(counted, passed)

    def pace(self) -> dict[str, float]:
        """The rates of the whole, and the queue as it is, its depth as the mean."""
        found = _rates(self.counts, self.seconds) | dict(self.waiting)
        return found | {"queue/depth": self.depths / self.steps} if self.waiting else found


def read_pace(path: Path) -> list[dict[str, float]]:
    """The pace of each epoch, as `Paced` left it; one of which nothing is known is empty."""
    found: list[dict[str, float]] = json.loads(path.read_bytes()) if path.exists() else []
    return found


def pace_file(folder: Path, name: str) -> Path:
    """Where the pace of the training `name` lies in its stage's folder."""
    return folder / CURVES / name / "pace.json"


@contextlib.contextmanager
def watched(
    folder: Path, name: str, what: str, report: Report | Gauges, queue: Callable[[], Figures] | None = None
) -> Iterator[Watch]:
    """Write the curves of the training `name` into its stage's folder, and show them where `report` can.

    Args:
        what: what `report` calls the training.
        queue: how far labelling beside the training is, as `queue/NAME`.
    """
    with contextlib.closing(EventFiles(folder / CURVES / name)) as events:
        watches: list[Watch] = [events]
        if isinstance(report, Gauges):
            watches.append(Told(report, what))
        yield Paced(pace_file(folder, name), watches, queue)


def _rates(counts: Figures, seconds: float) -> dict[str, float]:
    return {f"{name}_per_second": value / seconds for name, value in counts.items()} if seconds > 0 else {}
