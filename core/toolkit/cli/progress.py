"""Progress of long work, on standard error: a bar with a rate and an estimate, or one plain line a minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 60.0


class ProgressReporter:
    """Call it with (what, done, total) as work goes on."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("  {task.description:<38}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
        self._task: tuple[str, TaskID] | None = None
        self._what, self._begun, self._begun_at, self._spoke = "", 0.0, 0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._begun, self._begun_at = what, now, done
            self._spoke = now - PLAIN_SECONDS * 0.9
        rate = (done - self._begun_at) / (now - self._begun) if now > self._begun else 0.0
        if self._progress is not None:
            self._draw(self._progress, what, done, total, rate)
        elif done < total and now - self._spoke >= PLAIN_SECONDS:
            self._spoke = now
            left = f", about {(total - done) / rate:.0f} s left" if rate > 0 else ""
            sys.stderr.write(f"{what}: {done:,} of {total:,} ({rate:,.1f}/s{left})\n")
            sys.stderr.flush()

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

    def __enter__(self) -> ProgressReporter:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
