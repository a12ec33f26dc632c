"""What a training tells of itself while it runs: to TensorBoard's event files, and to whoever looks at it.

Figures go out and nothing comes back: a training that is watched ends as one that is not.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

FOLDER = "curves"
"""Where the event files lie in an artifact: a folder for each model that was trained."""

FLUSH_S = 10
"""Seconds after which what was told can be seen."""


@runtime_checkable
class Watch(Protocol):
    """Whoever is told the figures of a training, by name."""

    def step(self, number: int, figures: Mapping[str, float]) -> None:
        """Of the step `number`, counted from 0 over all epochs."""
        ...

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Of the epoch whose last step is `number`: the means of its steps, and what validation found."""
        ...


class Curves:
    """A training's figures as event files, and handed on to those who watch.

    Args:
        folder: for the event files; steps that lie there already, of a run that was killed, are written over.
        watchers: others that are told the same.
    """

    def __init__(self, folder: Path, watchers: Sequence[object] = ()) -> None:
        self._folder = folder
        self._watchers = [one for one in watchers if isinstance(one, Watch)]
        self._writer: Any = None
        self._last = 0.0

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def step(self, number: int, figures: Mapping[str, float]) -> None:
        now, before, self._last = time.monotonic(), self._last, time.monotonic()
        rate = {"steps_per_second": 1 / (now - before)} if before and now > before else {}
        if before and "tokens" in figures:
            rate["tokens_per_second"] = figures["tokens"] / max(now - before, 1e-9)
        told = {**figures, **rate}
        self._write("step", number, told)
        for watcher in self._watchers:
            watcher.step(number, told)

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        self._write("epoch", number, figures)
        self._last = 0.0  # validation is no step
        for watcher in self._watchers:
            watcher.epoch(number, figures)

    def _write(self, what: str, number: int, figures: Mapping[str, float]) -> None:
        if self._writer is None:
            library = importlib.import_module("tensorboardX")
            self._writer = library.SummaryWriter(
                str(self._folder), purge_step=number, flush_secs=FLUSH_S, filename_suffix=f".{number}"
            )  # by its suffix, no file of a run that was killed in the same second is written over
        for name, value in figures.items():
            self._writer.add_scalar(f"{what}/{name}", value, number)
