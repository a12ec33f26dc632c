"""Curves as TensorBoard reads them: event files, one summary a step, on disk as soon as the step is done.

A training has two runs in its folder, `training` and `validation`, so that one chart holds the loss of both. One that
is taken up goes on in a file of its own, whose first record says from which step on it takes the place of those before
it; so no step is shown twice, and none is lost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from toolkit.distil.objectives import WEIGHT

OF_AN_EPOCH = ("validation_", "task/", "weight/")
"""How the names of figures begin that only an epoch has; the others are means of what its steps told."""


class EventFiles:
    """The event files of one training; a `distil.watching.Watch`. Close it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, EventsWriter] = {}

    def begin(self, epochs: int, step: int, steps: int) -> None:
        self.close()
        self._open("training", epochs * steps + step + 1)
        self._open("validation", epochs * steps + 1)

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        objectives = [name.removeprefix(WEIGHT) for name in figures if name.startswith(WEIGHT)]
        tags = {name: f"objective/{name}" for name in objectives}
        self._add("training", done, {tags.get(name, name): value for name, value in figures.items()})

    def epoch(self, epochs: int, done: int, figures: Mapping[str, float]) -> None:
        own = {name: value for name, value in figures.items() if name.startswith(OF_AN_EPOCH)}
        self._add("validation", done, {name.removeprefix("validation_"): value for name, value in own.items()})

    def close(self) -> None:
        for writer in self._runs.values():
            writer.close()
        self._runs = {}

    def _open(self, run: str, first: int) -> None:
        """A file that holds the steps from `first` on."""
        folder = self._folder / run
        folder.mkdir(parents=True, exist_ok=True)
        # The step in its name keeps it apart from one that was begun in the same second. One of the same step as well
        # is written over: all that it holds would be taken back.
        writer = self._runs[run] = EventsWriter(str(folder / "events"), f".{first:09}")
        started = SessionLog(status=SessionLog.START)
        writer.write_event(Event(wall_time=time.time(), step=first, session_log=started))
        writer.flush()

    def _add(self, run: str, step: int, values: Mapping[str, float]) -> None:
        summary = Summary(value=[Summary.Value(tag=_tag(name), simple_value=value) for name, value in values.items()])
        writer = self._runs[run]
        writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()


def _tag(name: str) -> str:
    """Without half characters, which a class can have from its folder's name and UTF-8 cannot hold."""
    return name.encode("utf-8", "replace").decode()
