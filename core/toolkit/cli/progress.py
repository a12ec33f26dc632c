"""Progress of long work, on standard error: a bar with a rate and an estimate, or one plain line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 60.0

TOLD = {
    "loss": "loss {:.3g}", "agreement": "agrees {:.0%}", "reward": "reward {:.2f}", "gradient_norm": "gradient {:.2g}",
    "tokens_per_second": "{:,.0f} tokens/s",
}  # fmt: skip
"""Which figures of a step are shown, and how."""

BLOCKS = "▁▂▃▄▅▆▇█"
EPOCHS = 24
"""Epochs whose validation is drawn."""


class ProgressReporter:
    """Call it with (what, done, total) as work goes on. It watches trainings (`distil.curves.Watch`), too."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: _Bars | None = None
        if self._console.is_terminal:
            self._progress = _Bars(
                TextColumn("  {task.description:<32}"),
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
        self._task: tuple[str, TaskID] | None = None
        self._what, self._begun, self._begun_at, self._spoke = "", 0.0, 0, 0.0
        self._figures, self._validated = "", list[float]()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._begun, self._begun_at = what, now, done
            self._figures, self._validated = "", []
            self._spoke = now - PLAIN_SECONDS * 0.9
        rate = (done - self._begun_at) / (now - self._begun) if now > self._begun else 0.0
        if self._progress is not None:
            self._draw(self._progress, what, done, total, rate)
        elif done < total and now - self._spoke >= PLAIN_SECONDS:
            self._spoke = now
            left = f", about {(total - done) / rate:.0f} s left" if rate > 0 else ""
            told = f"; {self._figures}" if self._figures else ""
            sys.stderr.write(f"{what}: {done:,} of {total:,} ({rate:,.1f}/s{left}){told}\n")
            sys.stderr.flush()

    def step(self, number: int, figures: Mapping[str, float]) -> None:
        """The last figures of the training under way, in one line."""
        del number
        shown = [form.format(figures[name]) for name, form in TOLD.items() if name in figures]
        if self._validated:
            shown.append(f"validation {sparkline(self._validated[-EPOCHS:])} {self._validated[-1]:.1%}")
        self._figures = ", ".join(shown)
        if self._progress is not None:
            self._progress.below = self._figures

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        del number
        self._validated.append(figures["validation_accuracy"])

    def say(self, line: str) -> None:
        """One line that stays."""
        self._console.print(line, markup=False)

    def _draw(self, progress: _Bars, what: str, done: int, total: int, rate: float) -> None:
        if self._task is None or self._task[0] != what:
            if self._task is not None:
                progress.remove_task(self._task[1])
            progress.below = ""
            self._task = (what, progress.add_task(what, total=total, rate=""))
        progress.update(self._task[1], completed=done, total=total, rate=f"{rate:,.1f}/s" if rate else "")

    def clear(self) -> None:
        """Take the bar away, once a stage is done."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task[1])
            self._progress.below = ""
            self._task = None

    def __enter__(self) -> ProgressReporter:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


class _Bars(Progress):
    """Bars, and a line of figures below them."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below:
            yield Text(f"  {self.below}", style="dim", overflow="ellipsis", no_wrap=True)


def sparkline(values: Sequence[float]) -> str:
    """Values as blocks, from the least to the most of them."""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)
