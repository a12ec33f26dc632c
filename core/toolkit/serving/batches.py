"""A batch of requests, run by a model: inputs are made, what is alike is joined, run in pieces, and split again.

Knows arrays and threads; who waits for what, `batching` knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from toolkit.errors import UsageError
from toolkit.protocols import Make, TensorPredictor, Tensors
from toolkit.serving.memory import LARGE, WORTH_RETURNING, Room, give_back
from toolkit.serving.steps import STEPS, Step

# Joining arrays copies them. Batching pays for many small inputs; large ones keep a core busy on their own.
BATCH_BYTES = 32 * 2**20

_Kind = tuple[tuple[str, tuple[int, ...], str], ...]


@dataclass(eq=False)
class Request:
    """Inputs, or what makes them, and where the answer goes."""

    inputs: Tensors | Make
    rows: int
    size: int
    brief: bool
    arrived: float
    answer: asyncio.Future[Mapping[str, np.ndarray]] = field(repr=False)
    steps: list[Step] | None = field(default_factory=STEPS.get, repr=False)

    @property
    def needs(self) -> int:
        """Bytes that it takes to make its inputs, where those may be many."""
        return self.inputs.needs if callable(self.inputs) and not self.brief else 0

    def made(self) -> Tensors:
        """Its inputs."""
        if not callable(self.inputs):
            return self.inputs
        began = time.monotonic()
        inputs = self.inputs()
        self.took("decode", began, time.monotonic())
        return inputs

    def took(self, name: str, began: float, ended: float) -> None:
        """Note a step that a thread took for it."""
        if self.steps is not None:
            self.steps.append(Step(name, began, ended))


Outcome = Mapping[str, np.ndarray] | Exception


class Work:
    """What runs batches, one at a time.

    Args:
        most: rows that the model is given at once.
        observer: told the rows and the seconds each time that the model has run.
        room: what large inputs take while they are made and run.
    """

    def __init__(
        self, predictor: TensorPredictor, most: int, observer: Callable[[int, float], None] | None, room: Room
    ) -> None:
        self._predictor = predictor
        self._most = most
        self._observer = observer
        self._room = room

    def run(self, batch: Sequence[Request]) -> list[Outcome]:
        """What each request ends in. What has the same shapes runs together."""
        began, outcomes = time.monotonic(), dict[Request, Outcome]()
        alike: dict[_Kind, list[tuple[Request, Tensors]]] = {}
        held = most = 0
        with ExitStack() as taken:
            for request in batch:
                request.took("queue", request.arrived, began)
                try:
                    if (needs := request.needs) >= LARGE:
                        self._run_alike(alike, outcomes)
                        taken.close()  # nobody waits for room who has some
                        taken.enter_context(self._room.of(needs))
                    inputs = request.made()
                except Exception as error:  # noqa: BLE001 - it is raised where the request was made
                    outcomes[request] = error
                    continue
                held, most = held + size_of(inputs), max(most, needs)
                alike.setdefault(_kind_of(inputs), []).append((request, inputs))
                del inputs  # not held while the next ones are made
                if held > BATCH_BYTES:
                    self._run_alike(alike, outcomes)
                    held = 0
            self._run_alike(alike, outcomes)
        if most >= WORTH_RETURNING:
            give_back()
        return [outcomes[request] for request in batch]

    def _run_alike(self, alike: dict[_Kind, list[tuple[Request, Tensors]]], outcomes: dict[Request, Outcome]) -> None:
        for group in alike.values():
            requests, began = [request for request, _ in group], time.monotonic()
            try:
                outcomes.update(zip(requests, self._answers([inputs for _, inputs in group]), strict=True))
            except Exception as error:  # noqa: BLE001 - as above, for each of them
                outcomes.update(dict.fromkeys(requests, error))
            ended = time.monotonic()
            for request in requests:
                request.took("inference", began, ended)
        alike.clear()

    def _answers(self, inputs: Sequence[Tensors]) -> list[Mapping[str, np.ndarray]]:
        """Join, run, split."""
        counts = list(map(rows_of, inputs))
        joined = (
            {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]} if counts[1:] else inputs[0]
        )
        outputs = self._in_pieces(joined, sum(counts))
        ends = accumulate(counts)
        spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        return [{name: array[span] for name, array in outputs.items()} for span in spans]

    def _in_pieces(self, inputs: Tensors, rows: int) -> Mapping[str, np.ndarray]:
        """The model's outputs, of no more rows at once than may run together."""
        piece = self._most
        if rows <= piece:
            return self._predict(inputs, rows)
        given = [
            self._predict(
                {name: array[first : first + piece] for name, array in inputs.items()}, min(piece, rows - first)
            )
            for first in range(0, rows, piece)
        ]
        return {name: np.concatenate([one[name] for one in given]) for name in given[0]}

    def _predict(self, inputs: Tensors, rows: int) -> Mapping[str, np.ndarray]:
        began = time.perf_counter()
        outputs = self._predictor.predict(inputs)
        if self._observer is not None:
            self._observer(rows, time.perf_counter() - began)
        return outputs


def rows_of(inputs: Tensors) -> int:
    """How many there are. Raises UsageError where the arrays disagree, or have none."""
    counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise UsageError("inputs need the same number of rows, at least one", hint="Check the first axis.")
    return counts.pop()


def size_of(inputs: Tensors) -> int:
    """Their bytes."""
    return sum(array.nbytes for array in inputs.values())


def _kind_of(inputs: Tensors) -> _Kind:
    return tuple(sorted((name, array.shape[1:], array.dtype.str) for name, array in inputs.items()))
