"""A queue before a model: what arrives while the model is busy is run together, and a full queue says no.

A lone request is never made to wait for company. Knows arrays and asyncio, nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from toolkit.errors import UsageError
from toolkit.protocols import PredictorFacts, TensorPredictor, Tensors
from toolkit.serving.refusals import Overloaded
from toolkit.serving.steps import queued

Observer = Callable[[int, float], None]
"""`observer(rows, seconds)`: told after each batch."""

# Joining arrays copies them. Batching pays for many small inputs; large ones keep a core busy on their own.
_BATCH_BYTES = 32 * 2**20


@dataclass(eq=False)
class _Request:
    inputs: Mapping[str, np.ndarray]
    rows: int
    size: int
    kind: tuple[tuple[str, tuple[int, ...], str], ...]
    arrived: float
    answer: asyncio.Future[dict[str, np.ndarray]] = field(repr=False)
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class _Ran:
    answers: list[dict[str, np.ndarray]]
    began: float
    ended: float


class Batcher:
    """A `ServedPredictor`. Lives in one event loop; the model runs in a thread of its own, one batch at a time.

    Args:
        predictor: the model.
        max_batch: rows run together at most; a larger single request runs alone.
        max_delay_ms: how long after its arrival a request that found the model busy may be held back so that others
            join its batch.
        queue_limit: rows that may wait; beyond that `predict` raises Overloaded.
        queue_bytes: bytes that may wait, for the same reason.
        observer: told the rows and the seconds of each batch.
    """

    def __init__(
        self,
        predictor: TensorPredictor,
        *,
        max_batch: int = 16,
        max_delay_ms: float = 1.0,
        queue_limit: int = 256,
        queue_bytes: int = 512 * 2**20,
        observer: Observer | None = None,
    ) -> None:
        self._predictor: TensorPredictor | None = predictor
        self.facts: PredictorFacts = predictor.facts
        self._max_batch = max_batch
        self._max_delay = max_delay_ms / 1000
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._queue: deque[_Request] = deque()
        self._rows = 0
        self._bytes = 0
        self._running: asyncio.Future[_Ran] | None = None
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

    async def predict(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Named arrays [n, ...] in, named arrays [n, ...] out, as the model's own `predict`.

        Raises:
            Overloaded: the queue is full, or the server is stopping.
            UsageError: the arrays disagree about n.
        """
        request = self._admit(inputs)
        self._enqueue(request)
        try:
            answer = await request.answer
        finally:
            if request.answer.cancelled() and request in self._queue:  # whoever asked has gone
                self._queue.remove(request)
                self._forget(request)
        queued(request.arrived, request.began, request.ended)
        return answer

    async def stop(self) -> None:
        """Take nothing more, answer what waits, end the thread, and let go of the model: a web framework keeps hold of
        routes, and by them of this queue, when nothing is served any more."""
        self._closed = True
        self._advance(patient=False)
        while self._running is not None:
            await asyncio.wait([self._running])
        self._thread.shutdown()
        self._predictor = None

    def _admit(self, inputs: Tensors) -> _Request:
        counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        if len(counts) != 1 or 0 in counts:
            raise UsageError("inputs need the same number of rows, at least one", hint="Check the first axis.")
        rows, size = counts.pop(), sum(array.nbytes for array in inputs.values())
        if self._closed:
            raise Overloaded("the server is stopping", hint="Ask again once it is back.", retry_after=5)
        if self._queue and (self._rows + rows > self._queue_limit or self._bytes + size > self._queue_bytes):
            raise Overloaded(f"the queue is full: {self._rows} wait")
        kind = tuple(sorted((name, array.shape[1:], array.dtype.str) for name, array in inputs.items()))
        loop = asyncio.get_running_loop()
        return _Request(inputs, rows, size, kind, time.monotonic(), loop.create_future())

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
        if patient and remaining > 0 and self._rows < self._max_batch:
            self._timer = loop.call_later(remaining, lambda: self._advance(patient=False))
            return
        batch = self._next_batch()
        self._running = loop.run_in_executor(self._thread, self._run, batch)
        self._running.add_done_callback(lambda done: self._finished(batch, done))

    def _next_batch(self) -> list[_Request]:
        """The oldest request and those of its shape that fit beside it."""
        batch: list[_Request] = []
        left: deque[_Request] = deque()
        rows = size = 0
        for request in self._queue:
            joins = not batch or (
                request.kind == batch[0].kind
                and rows + request.rows <= self._max_batch
                and size + request.size <= _BATCH_BYTES
            )
            (batch if joins else left).append(request)
            if joins:
                rows, size = rows + request.rows, size + request.size
                self._forget(request)
        self._queue = left
        return batch

    def _run(self, batch: list[_Request]) -> _Ran:
        """In the model's thread: join, run, split."""
        assert self._predictor is not None, "the queue was stopped"
        predict = self._predictor.predict
        began = time.monotonic()
        if len(batch) == 1:
            answers = [dict(predict(batch[0].inputs))]
        else:
            joined = {name: np.concatenate([r.inputs[name] for r in batch]) for name in batch[0].inputs}
            outputs = predict(joined)
            ends = np.cumsum([request.rows for request in batch])
            spans = [slice(end - request.rows, end) for request, end in zip(batch, ends, strict=True)]
            answers = [{name: array[span] for name, array in outputs.items()} for span in spans]
        return _Ran(answers, began, time.monotonic())

    def _finished(self, batch: list[_Request], done: asyncio.Future[_Ran]) -> None:
        """Hand out answers, or the error to those of this batch alone; then go on with what has gathered."""
        self._running = None
        self._advance(patient=not self._closed)
        error = done.exception()
        if error is not None:
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        ran = done.result()
        for request, answer in zip(batch, ran.answers, strict=True):
            if not request.answer.done():
                request.began, request.ended = ran.began, ran.ended
                request.answer.set_result(answer)
        if self._observer is not None:
            self._observer(sum(request.rows for request in batch), ran.ended - ran.began)
