"""A queue before a model: what arrives while the model is busy is run together, and a full queue says no.

A lone request is never made to wait for company. Knows arrays and asyncio, nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from toolkit.errors import UsageError
from toolkit.protocols import Make, PredictorFacts, TensorPredictor, Tensors
from toolkit.serving.refusals import Overloaded
from toolkit.serving.steps import STEPS, Step, step

Observer = Callable[[int, float], None]
"""`observer(rows, seconds)`: told each time that the model has run."""

# Joining arrays copies them. Batching pays for many small inputs; large ones keep a core busy on their own.
_BATCH_BYTES = 32 * 2**20

PREPARERS = 4
"""Threads that make inputs, where there are cores for them. Pillow lets go of the interpreter while it decodes."""

BRIEF_SECONDS = 0.01
"""A batch may take so long, or as long as two requests one after the other."""

IN_LOOP_SECONDS = 0.004
"""What a batch may take in the loop itself, where nobody else is heard meanwhile. To hand one to a thread and back
takes a tenth of a millisecond of both, and twice that where the two wait for the interpreter."""

_IN_LOOP_BYTES = 2**20

_Kind = tuple[tuple[str, tuple[int, ...], str], ...]


@dataclass(eq=False)
class _Request:
    inputs: Tensors | Make
    rows: int
    size: int
    brief: bool
    arrived: float
    answer: asyncio.Future[Mapping[str, np.ndarray]] = field(repr=False)
    steps: list[Step] | None = field(default_factory=STEPS.get, repr=False)

    def took(self, name: str, began: float, ended: float) -> None:
        """Note a step that a thread took for it."""
        if self.steps is not None:
            self.steps.append(Step(name, began, ended))


_Outcome = Mapping[str, np.ndarray] | Exception


class Batcher:
    """A `ServedPredictor`. Lives in one event loop; the model runs in a thread of its own, one batch at a time. What
    has been seen to take less time than a thread is worth runs in the loop.

    Args:
        predictor: the model.
        max_batch: rows run together at most; a larger single request runs alone. Fewer run together where the model
            takes its time for each row anyway, and those who wait would gain nothing by waiting together.
        max_delay_ms: how long after its arrival a request that found the model busy may be held back so that others
            join its batch.
        queue_limit: rows that may wait; beyond that `predict` raises Overloaded.
        queue_bytes: bytes that may wait, for the same reason.
        preparers: threads that make inputs beside the model. With 0 its own thread does: where every core has a
            model's thread already, more of them only stand in each other's way.
        in_loop: seconds that a batch may take in the loop itself. With 0 none does, as where the processor only waits
            for an accelerator.
        observer: told the rows and the seconds each time that the model has run.
    """

    def __init__(
        self,
        predictor: TensorPredictor,
        *,
        max_batch: int = 16,
        max_delay_ms: float = 1.0,
        queue_limit: int = 256,
        queue_bytes: int = 512 * 2**20,
        preparers: int = 0,
        in_loop: float = 0.0,
        observer: Observer | None = None,
    ) -> None:
        self._predictor: TensorPredictor | None = predictor
        self.facts: PredictorFacts = predictor.facts
        self._together = _Together(max_batch)
        self._in_loop = in_loop
        self._max_delay = max_delay_ms / 1000
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._preparing = ThreadPoolExecutor(preparers, thread_name_prefix="prepare") if preparers else None
        self._queue: deque[_Request] = deque()
        self._rows = 0
        self._bytes = 0
        self._running: asyncio.Future[list[_Outcome]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._rows

    @property
    def closed(self) -> bool:
        """Whether `stop` was called."""
        return self._closed

    async def predict(self, inputs: Tensors | Make) -> Mapping[str, np.ndarray]:
        """Named arrays [n, ...] in, or what makes those of one row; named arrays [n, ...] out, as the model's own
        `predict`.

        Raises:
            Overloaded: the queue is full, or the server is stopping.
            UsageError: the arrays disagree about n.
        """
        self._check_open()
        if callable(inputs) and self._preparing is not None:
            with step("decode"):
                inputs = await asyncio.get_running_loop().run_in_executor(self._preparing, inputs)
        request = self._admit(inputs)
        self._enqueue(request)
        try:
            return await request.answer
        finally:
            if request.answer.cancelled() and request in self._queue:  # whoever asked has gone
                self._queue.remove(request)
                self._forget(request)

    async def stop(self) -> None:
        """Take nothing more, answer what waits, end the thread, and let go of the model: a web framework keeps hold of
        routes, and by them of this queue, when nothing is served any more."""
        self._closed = True
        self._advance(patient=False)
        while self._running is not None:
            await asyncio.wait([self._running])
        for threads in filter(None, (self._thread, self._preparing)):
            threads.shutdown()
        self._predictor = None

    def _check_open(self) -> None:
        if self._closed:
            raise Overloaded("the server is stopping", hint="Ask again once it is back.", retry_after=5)

    def _admit(self, inputs: Tensors | Make) -> _Request:
        if callable(inputs):
            rows, size, brief = 1, 0, bool(self._in_loop) and inputs.brief
        else:
            rows, size = _rows_of(inputs), _size_of(inputs)
            brief = size <= _IN_LOOP_BYTES
        self._check_open()
        if self._queue and (self._rows + rows > self._queue_limit or self._bytes + size > self._queue_bytes):
            raise Overloaded(f"the queue is full: {self._rows} wait")
        return _Request(inputs, rows, size, brief, time.monotonic(), asyncio.get_running_loop().create_future())

    def _enqueue(self, request: _Request) -> None:
        self._queue.append(request)
        self._rows += request.rows
        self._bytes += request.size
        self._advance(patient=self._timer is not None)

    def _forget(self, request: _Request) -> None:
        self._rows -= request.rows
        self._bytes -= request.size

    def _advance(self, *, patient: bool) -> None:
        """Start the next batch if the model is free. `patient`: hold back a while for a fuller one."""
        if self._running is not None or not self._queue:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        remaining = self._queue[0].arrived + self._max_delay - time.monotonic()
        if patient and remaining > 0 and self._rows < self._together.rows:
            self._timer = loop.call_later(remaining, lambda: self._advance(patient=False))
            return
        if self._queue[0].brief and self._queue[0].rows <= self._together.within(self._in_loop):
            self._running = loop.create_future()
            loop.call_soon(self._run_in_loop, self._running)  # with what else arrives in this turn
            return
        batch = self._next_batch()
        self._running = loop.run_in_executor(self._thread, self._run, batch)
        self._running.add_done_callback(lambda done: self._finished(batch, done, patient=not self._closed))

    def _run_in_loop(self, running: asyncio.Future[list[_Outcome]]) -> None:
        batch = self._next_batch(in_loop=True)
        try:
            running.set_result(self._run(batch))
        except Exception as error:  # noqa: BLE001 - as a thread's would
            running.set_exception(error)
        self._finished(batch, running, patient=False)  # who came meanwhile was not even heard, and waits for nobody

    def _next_batch(self, *, in_loop: bool = False) -> list[_Request]:
        """The oldest requests, as many as may run together."""
        most = self._together.within(self._in_loop) if in_loop else self._together.rows
        batch: list[_Request] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= most):
            if in_loop and not self._queue[0].brief:
                break
            batch.append(request := self._queue.popleft())
            self._forget(request)
            rows += request.rows
        return batch

    def _run(self, batch: Sequence[_Request]) -> list[_Outcome]:
        """What each request ends in. What has the same shapes runs together."""
        began, outcomes = time.monotonic(), dict[_Request, _Outcome]()
        alike: dict[_Kind, list[tuple[_Request, Tensors]]] = {}
        held = 0
        for request in batch:
            request.took("queue", request.arrived, began)
            try:
                inputs = _made(request)
            except Exception as error:  # noqa: BLE001 - it is raised where the request was made
                outcomes[request] = error
                continue
            held += _size_of(inputs)
            alike.setdefault(_kind_of(inputs), []).append((request, inputs))
            if held > _BATCH_BYTES:
                self._run_alike(alike, outcomes)
                held = 0
        self._run_alike(alike, outcomes)
        self._together.took(
            sum(request.rows for request in batch), time.monotonic() - began, brief=all(one.brief for one in batch)
        )
        return [outcomes[request] for request in batch]

    def _run_alike(
        self, alike: dict[_Kind, list[tuple[_Request, Tensors]]], outcomes: dict[_Request, _Outcome]
    ) -> None:
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
        assert self._predictor is not None, "the queue was stopped"
        counts = list(map(_rows_of, inputs))
        joined = (
            {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]} if counts[1:] else inputs[0]
        )
        began = time.perf_counter()
        outputs = self._predictor.predict(joined)
        if self._observer is not None:
            self._observer(sum(counts), time.perf_counter() - began)
        ends = accumulate(counts)
        spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        return [{name: array[span] for name, array in outputs.items()} for span in spans]

    def _finished(self, batch: Sequence[_Request], done: asyncio.Future[list[_Outcome]], *, patient: bool) -> None:
        """Go on with what has gathered, and hand out what each request ended in."""
        self._running = None
        self._advance(patient=patient)
        for request, outcome in zip(batch, done.result(), strict=True):
            if request.answer.done():
                continue
            if isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)


class _Together:
    """How many rows may run together: halved when a batch takes longer than it may, doubled when it is well within."""

    def __init__(self, most: int) -> None:
        self.rows = self._most = most
        self._alone = 0.0
        self._row = 0.0

    def within(self, seconds: float) -> int:
        """How many rows of brief requests take no longer than that, by the longest that one took lately; 0 where that
        is not known yet."""
        return min(self.rows, int(seconds / self._row)) if self._row else 0

    def took(self, rows: int, seconds: float, *, brief: bool) -> None:
        """Told of each batch, and whether all its requests were brief."""
        if brief and rows:
            self._row = max(seconds / rows, 0.9 * self._row)
        if rows == 1:
            self._alone = seconds
        most = max(BRIEF_SECONDS, 2 * self._alone)
        if rows > 1 and seconds > most:
            self.rows = max(1, self.rows // 2)
        elif rows >= self.rows and seconds < 0.75 * most:
            self.rows = min(self._most, 2 * self.rows)


def _made(request: _Request) -> Tensors:
    if not callable(request.inputs):
        return request.inputs
    began = time.monotonic()
    inputs = request.inputs()
    request.took("decode", began, time.monotonic())
    return inputs


def _rows_of(inputs: Tensors) -> int:
    counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise UsageError("inputs need the same number of rows, at least one", hint="Check the first axis.")
    return counts.pop()


def _size_of(inputs: Tensors) -> int:
    return sum(array.nbytes for array in inputs.values())


def _kind_of(inputs: Tensors) -> _Kind:
    return tuple(sorted((name, array.shape[1:], array.dtype.str) for name, array in inputs.items()))
