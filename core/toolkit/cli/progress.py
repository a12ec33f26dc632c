"""Progress of long work, on standard error: a bar with a rate and an estimate and, while something learns, its curves;
or one plain line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from toolkit.cli.curves import Curves

PLAIN_SECONDS = 60.0
REDRAWN = 4  # times a second: calm to read
WIDEST = 100


class ProgressReporter:
    """Call it with (what, done, total) as work goes on, and its `figures` with what a training found meanwhile."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._curves, self._whose = Curves(), ""
        if self._console.is_terminal:
            self._progress = _Display(self._console, self._curves)
        self._task: tuple[str, TaskID] | None = None
        self._what, self._begun, self._begun_at, self._spoke = "", 0.0, 0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._begun, self._begun_at = what, now, done
            self._spoke = now - PLAIN_SECONDS * 0.9
            if what != self._whose:
                self._curves.clear()
        rate = (done - self._begun_at) / (now - self._begun) if now > self._begun else 0.0
        if self._progress is not None:
            self._draw(self._progress, what, done, total, rate)
        elif done < total and now - self._spoke >= PLAIN_SECONDS:
            self._spoke = now
            left = f", about {(total - done) / rate:.0f} s left" if rate > 0 else ""
            found = self._curves.words()
            words = f"; {found}" if found else ""
            sys.stderr.write(f"{what}: {done:,} of {total:,} ({rate:,.1f}/s{left}){words}\n")
            sys.stderr.flush()

    def figures(self, what: str, figures: Mapping[str, float]) -> None:
        """What a training found in its last step or epoch, by name."""
        if what != self._whose:
            self._curves.clear()
            self._whose = what
        self._curves.tell(figures)

    def say(self, line: str) -> None:
        """One line that stays."""
        self._console.print(line, markup=False)

    def _draw(self, progress: Progress, what: str, done: int, total: int, rate: float) -> None:
        if self._task is None or self._task[0] != what:
            if self._task is not None:
                progress.remove_task(self._task[1])
            self._task = (what, progress.add_task(what, total=total, rate=""))
        progress.update(self._task[1], completed=done, total=total, rate=f"{rate:,.1f}/s" if rate else "")

    def clear(self) -> None:
        """Take the bar away, once a stage is done."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task[1])
            self._task = None
        self._curves.clear()

    def __enter__(self) -> ProgressReporter:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


class _Display(Progress):
    """A bar, and the curves beneath it, no wider than is easy to read."""

    def __init__(self, console: Console, curves: Curves) -> None:
        self._screen, self._curves = console, curves
        super().__init__(
            TextColumn("  {task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            refresh_per_second=REDRAWN,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        table = self.make_tasks_table(self.tasks)
        table.width = min(WIDEST, self._screen.width)
        yield table
        yield self._curves
