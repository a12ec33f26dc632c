"""A queue before a model: what arrives while the model is busy is run together, and a full queue says no.

A lone request is never made to wait for company. Knows arrays and asyncio, nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from toolkit.protocols import Make, PredictorFacts, TensorPredictor, Tensors
from toolkit.serving.batches import BATCH_BYTES, Outcome, Request, Work, rows_of, size_of
from toolkit.serving.memory import ROOM, WORTH_RETURNING, Room, give_back
from toolkit.serving.refusals import Overloaded, TooLarge
from toolkit.serving.steps import step
from toolkit.serving.together import Together

Observer = Callable[[int, float], None]
"""`observer(rows, seconds)`: told each time that the model has run."""

PREPARERS = 4
"""Threads that make inputs, where there are cores for them. Pillow lets go of the interpreter while it decodes."""

MOST_ROWS = 1024
"""Rows of one request. They run in pieces, but what comes out is held until all have run."""

IN_LOOP_SECONDS = 0.004
"""What a batch may take in the loop itself, where nobody else is heard meanwhile. To hand one to a thread and back
takes a tenth of a millisecond of both, and twice that where the two wait for the interpreter."""

_IN_LOOP_BYTES = 2**20


class Batcher:
    """A `ServedPredictor`. Lives in one event loop; the model runs in a thread of its own, one batch at a time. What
    has been seen to take less time than a thread is worth runs in the loop.

    Args:
        predictor: the model.
        max_batch: rows run together at most; a larger single request runs in pieces. Fewer requests run together where
            the model takes its time for each row anyway, and those who wait would gain nothing by waiting together.
        max_delay_ms: how long after its arrival a request that found the model busy may be held back so that others
            join its batch.
        queue_limit: rows that may wait; beyond that `predict` raises Overloaded.
        queue_bytes: bytes that may wait, for the same reason.
        preparers: threads that make inputs beside the model. With 0 its own thread does: where every core has a
            model's thread already, more of them only stand in each other's way.
        in_loop: seconds that a batch may take in the loop itself. With 0 none does, as where the processor only waits
            for an accelerator.
        observer: told the rows and the seconds each time that the model has run.
        room: what large inputs take while they are made and run.
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
        room: Room = ROOM,
    ) -> None:
        self._work: Work | None = Work(predictor, max_batch, observer, room)
        self.facts: PredictorFacts = predictor.facts
        self._together = Together(max_batch)
        self._in_loop = in_loop
        self._max_delay = max_delay_ms / 1000
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._room = room
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._preparing = ThreadPoolExecutor(preparers, thread_name_prefix="prepare") if preparers else None
        self._queue: deque[Request] = deque()
        self._rows = 0
        self._bytes = 0
        self._running: asyncio.Future[list[Outcome]] | None = None
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
            TooLarge: n is above MOST_ROWS.
        """
        self._check_open()
        if callable(inputs) and self._preparing is not None:
            with step("decode"):
                inputs = await asyncio.get_running_loop().run_in_executor(self._preparing, self._prepared, inputs)
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
        self._work = None

    def _check_open(self) -> None:
        if self._closed:
            raise Overloaded("the server is stopping", hint="Ask again once it is back.", retry_after=5)

    def _prepared(self, make: Make) -> Tensors:
        with self._room.of(make.needs):
            inputs = make()
        if make.needs >= WORTH_RETURNING:
            give_back()
        return inputs

    def _admit(self, inputs: Tensors | Make) -> Request:
        if callable(inputs):
            rows, size, brief = 1, 0, bool(self._in_loop) and inputs.brief
        else:
            rows, size = rows_of(inputs), size_of(inputs)
            brief = size <= _IN_LOOP_BYTES
        if rows > MOST_ROWS:
            raise TooLarge(f"a request may have {MOST_ROWS:,} rows, and {rows:,} came", hint="Send them in several.")
        self._check_open()
        if self._queue and (self._rows + rows > self._queue_limit or self._bytes + size > self._queue_bytes):
            raise Overloaded(f"the queue is full: {self._rows} wait")
        return Request(inputs, rows, size, brief, time.monotonic(), asyncio.get_running_loop().create_future())

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        self._rows += request.rows
        self._bytes += request.size
        self._advance(patient=self._timer is not None)

    def _forget(self, request: Request) -> None:
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

    def _run_in_loop(self, running: asyncio.Future[list[Outcome]]) -> None:
        batch = self._next_batch(in_loop=True)
        try:
            running.set_result(self._run(batch))
        except Exception as error:  # noqa: BLE001 - as a thread's would
            running.set_exception(error)
        self._finished(batch, running, patient=False)  # who came meanwhile was not even heard, and waits for nobody

    def _next_batch(self, *, in_loop: bool = False) -> list[Request]:
        """The oldest requests, as many as may run together; what waits is counted, and what runs is not."""
        most = self._together.within(self._in_loop) if in_loop else self._together.rows
        batch: list[Request] = []
        rows = size = 0
        while self._queue and (
            not batch or (rows + self._queue[0].rows <= most and size + self._queue[0].size <= BATCH_BYTES)
        ):
            if in_loop and not self._queue[0].brief:
                break
            batch.append(request := self._queue.popleft())
            self._forget(request)
            rows += request.rows
            size += request.size
        return batch

    def _run(self, batch: Sequence[Request]) -> list[Outcome]:
        assert self._work is not None, "the queue was stopped"
        began = time.monotonic()
        outcomes = self._work.run(batch)
        self._together.took(
            sum(request.rows for request in batch), time.monotonic() - began, brief=all(one.brief for one in batch)
        )
        return outcomes

    def _finished(self, batch: Sequence[Request], done: asyncio.Future[list[Outcome]], *, patient: bool) -> None:
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
