"""The curves of a training as a terminal shows them: a few lines beneath its bar, or a few words in a plain line.

It knows the names of the figures (`toolkit.distil.watching`) and nothing of who makes them.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

LEVELS = "▁▂▃▄▅▆▇"  # no whole block: curves above one another would run together
WIDTH = 24  # letters of a curve
NARROW = 64  # columns of a terminal that has no room for curves
GAP = 2
RECENT = 20  # steps whose mean is the figure shown, so that it can be read while it changes
CELLS = 8 * WIDTH
WEIGHT, PULL, QUEUE = "objective_weight/", "pull/", "queue/"


class Trail:
    """A curve of any length in bounded room: means of as many values each as it takes."""

    def __init__(self) -> None:
        self._cells: list[float] = []
        self._open: list[float] = []
        self._each = 1
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, value: float) -> None:
        self._recent.append(value)
        self._open.append(value)
        if len(self._open) < self._each:
            return
        self._cells.append(fmean(self._open))
        self._open = []
        if len(self._cells) == CELLS:
            self._cells = [fmean(pair) for pair in zip(self._cells[::2], self._cells[1::2], strict=True)]
            self._each *= 2

    @property
    def now(self) -> float:
        """The mean of the last values."""
        return fmean(self._recent)

    def shape(self, width: int = WIDTH) -> list[float]:
        """The whole curve in at most so many means."""
        cells = self._cells or self._open
        few = min(width, len(cells))
        edges = [round(k * len(cells) / few) for k in range(few + 1)] if few else [0]
        return [fmean(cells[a:b]) for a, b in itertools.pairwise(edges)]


def sparkline(values: Sequence[float]) -> str:
    """One letter a value, from the lowest to the highest of them; a level line where all are the same."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high <= low:
        return LEVELS[0] * len(values)
    return "".join(LEVELS[round((value - low) / (high - low) * (len(LEVELS) - 1))] for value in values)


class Curves:
    """What is known of the training that goes on; told and drawn in different threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trails: dict[str, Trail] = {}
        self._last: dict[str, float] = {}

    def tell(self, figures: Mapping[str, float]) -> None:
        """The figures of one step, or of one epoch."""
        with self._lock:
            self._last |= figures
            for name, value in figures.items():
                if not name.startswith((WEIGHT, QUEUE)):
                    self._trails.setdefault(name, Trail()).add(value)

    def clear(self) -> None:
        """Another training begins, or none."""
        with self._lock:
            self._trails, self._last = {}, {}

    def words(self) -> str:
        """The few figures that tell most, for a line of text; empty where nothing is known."""
        with self._lock:
            found = [f"loss {_number(self._now('loss'))}"] if "loss" in self._trails else []
            found += [f"validation {self._share('validation_accuracy')}"] if "validation_accuracy" in self._last else []
            found += [f"agreement {self._now('agreement'):.1%}"] if "agreement" in self._trails else []
            found += [f"{self._now(name):,.0f} {unit}" for name, unit in self._rates()]
            if known := self._queue():
                found.append(f"{known['done']:,.0f} of {known['total']:,.0f} labelled, {known['depth']:,.0f} waiting")
            return ", ".join(found)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            rows = list(self._rows())
        if not rows:
            return
        drawn = WIDTH if options.max_width >= NARROW and not options.ascii_only else 0
        widths = [GAP + max(len(row[0]) for row in rows), max(len(row[1]) for row in rows), drawn]
        left = options.max_width - sum(widths) - 3 * GAP
        table = Table.grid(padding=(0, GAP))
        table.add_column(no_wrap=True, min_width=widths[0])
        table.add_column(no_wrap=True, min_width=widths[1], justify="right")
        table.add_column(no_wrap=True, min_width=drawn, style="cyan")
        table.add_column(no_wrap=True, max_width=max(1, left), overflow="ellipsis", style="bright_black")
        for label, value, curve, note in rows:
            table.add_row(Text(f"{'':{GAP}}{label}"), value, curve[:drawn], Text(note))
        yield table

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        """(what, its figure, its curve, what else), the most telling first."""
        if "loss" in self._trails:
            norm = f"gradient {_number(self._now('gradient_norm'))}" if "gradient_norm" in self._trails else ""
            rates = [f"{self._now(name):,.0f} {unit}" for name, unit in self._rates()]
            yield "loss", _number(self._now("loss")), self._curve("loss"), ", ".join(filter(None, [norm, *rates]))
        if "validation_accuracy" in self._last:
            note = f"epoch {self._last['epoch']:.0f}" if "epoch" in self._last else ""
            loss = f"loss {_number(self._last['validation_loss'])}" if "validation_loss" in self._last else ""
            yield (
                "validation", self._share("validation_accuracy"), self._curve("validation_accuracy"),
                ", ".join(filter(None, [note, loss])),
            )  # fmt: skip
        if "agreement" in self._trails:
            yield "agreement", f"{self._now('agreement'):.1%}", self._curve("agreement"), "with the teacher"
        names = [name.removeprefix(WEIGHT) for name in self._last if name.startswith(WEIGHT)]
        for name in names if len(names) > 1 else ():
            pull = f", pull {self._now(PULL + name):.0%}" if PULL + name in self._trails else ""
            yield name, _number(self._now(name)), self._curve(name), f"weight {self._last[WEIGHT + name]:.2g}{pull}"
        if known := self._queue():
            share = known["done"] / known["total"] if known["total"] else 1.0
            came = f"{known['done']:,.0f} of {known['total']:,.0f}, {known['depth']:,.0f} waiting"
            yield "labels", f"{share:.0%}", "━" * round(share * WIDTH), came
            held = f"training {known['training_waited_s']:.0f} s, labelling {known['labelling_waited_s']:.0f} s"
            yield "held up", "", "", held

    def _queue(self) -> dict[str, float]:
        """How labelling beside the training is, and who waits for whom."""
        return {name.removeprefix(QUEUE): value for name, value in self._last.items() if name.startswith(QUEUE)}

    def _rates(self) -> list[tuple[str, str]]:
        """(name, unit) of what is counted: tokens where there are any."""
        known = [name for name in ("tokens_per_second", "rows_per_second") if name in self._trails]
        return [(name, name.removesuffix("_per_second") + "/s") for name in known[:1]]

    def _curve(self, name: str) -> str:
        return sparkline(self._trails[name].shape()) if name in self._trails else ""

    def _now(self, name: str) -> float:
        return self._trails[name].now

    def _share(self, name: str) -> str:
        return f"{self._last[name]:.1%}"


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}"
