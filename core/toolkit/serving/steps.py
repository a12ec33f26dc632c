"""The steps of a request, timed where they are taken and told in the end, where somebody wants them.

Who takes a step knows neither who listens nor what a trace is; where nobody does, noting it is one look at a variable.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What was done from `began` to `ended`, seconds of `time.monotonic`."""

    name: str
    began: float
    ended: float


STEPS: ContextVar[list[Step] | None] = ContextVar("toolkit_steps", default=None)
"""Where the steps of the request at hand are noted; None where nobody wants them."""


class step:
    """What is done in the block is a step of the request at hand."""

    __slots__ = ("_began", "_name", "_steps")

    def __init__(self, name: str) -> None:
        self._name, self._steps = name, STEPS.get()

    def __enter__(self) -> None:
        if self._steps is not None:
            self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._steps is not None:
            self._steps.append(Step(self._name, self._began, time.monotonic()))


def queued(arrived: float, began: float, ended: float) -> None:
    """The request at hand stood before a model from `arrived`, and in it from `began` to `ended`."""
    if (steps := STEPS.get()) is not None:
        steps += (Step("queue", arrived, began), Step("inference", began, ended))
