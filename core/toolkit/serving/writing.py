"""A queue before a model that writes: who waits is answered side by side, each hears its own text as it comes, and a
full queue says no.

Knows texts and asyncio, nothing of HTTP nor of what a token is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from toolkit.protocols import PredictorFacts
from toolkit.serving.batching import Observer
from toolkit.serving.refusals import ModelFault, Overloaded
from toolkit.serving.steps import queued
from toolkit.text import GenerationRequest, TextDelta


class Author(Protocol):
    """A model that writes, and stops writing what nobody waits for."""

    @property
    def facts(self) -> PredictorFacts: ...

    def check(self, request: GenerationRequest) -> None:
        """Raise what is wrong with the request, before it stands in a queue."""
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], gone: Callable[[str], bool] = ...
    ) -> Iterator[TextDelta]: ...


@dataclass(eq=False)
class _Waiting:
    request: GenerationRequest
    pieces: asyncio.Queue[TextDelta | BaseException] = field(default_factory=asyncio.Queue)
    gone: bool = False
    arrived: float = field(default_factory=time.monotonic)
    began: float | None = None
    """When the model took it up."""


class Writer:
    """A `ServedText`. Lives in one event loop; the model runs in a thread of its own, some requests at a time.

    Args:
        author: the model.
        together: requests that are answered side by side. Those that are drawn at a temperature, or computed in, are
            answered one by one.
        queue_limit: requests that may wait; beyond that `generate` raises Overloaded.
        observer: told the requests and the seconds of each turn of the model.
    """

    def __init__(
        self, author: Author, *, together: int = 16, queue_limit: int = 256, observer: Observer | None = None
    ) -> None:
        self._author: Author | None = author
        self.facts: PredictorFacts = author.facts
        self._together, self._limit, self._observer = together, queue_limit, observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._queue: list[_Waiting] = []
        self._turn: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether `stop` was called."""
        return self._closed

    def check(self, request: GenerationRequest) -> None:
        """Raise what is wrong with the request: `UsageError` and its kind."""
        if self._author is None:
            raise Overloaded("the server is stopping")
        self._author.check(request)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        """The answer as it is written. Close the iterator, and no more of it is.

        Raises:
            UsageError: the request is one that the model cannot answer. Overloaded: the queue is full, or the server is
            stopping. ModelFault: the model failed on it, or on one that it was answered beside.
        """
        self.check(request)
        if self._closed:
            raise Overloaded("the server is stopping")
        if len(self._queue) >= self._limit:
            raise Overloaded(f"the server is busy: {len(self._queue)} texts are waiting")
        waiting = _Waiting(request)
        self._queue.append(waiting)
        self._advance()
        try:
            while True:
                piece = await waiting.pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield replace(piece, id=request.id)
                if piece.finish is not None:
                    return
        finally:
            waiting.gone = True
            if waiting in self._queue:
                self._queue.remove(waiting)
            if waiting.began is not None:
                queued(waiting.arrived, waiting.began, time.monotonic())

    async def stop(self) -> None:
        """Take nothing new; write what was taken to its end, and let go of the model (as `Batcher.stop`)."""
        self._closed = True
        while self._turn is not None:
            await asyncio.wait({self._turn})
        self._thread.shutdown()
        self._author = None

    def _advance(self) -> None:
        """Begin a turn, where none is under way and somebody waits."""
        if self._turn is None and self._queue:
            self._turn = asyncio.get_running_loop().create_task(self._take_turn(self._next()))

    def _next(self) -> list[_Waiting]:
        """The first in the queue, and those behind it that are answered beside it."""
        first = self._queue[0]
        alike = [one for one in self._queue if not one.request.alone][: self._together]
        chosen = [first] if first.request.alone else alike
        self._queue = [one for one in self._queue if one not in chosen]
        return chosen

    async def _take_turn(self, batch: list[_Waiting]) -> None:
        loop, started, author = asyncio.get_running_loop(), time.perf_counter(), self._author
        assert author is not None, "the queue was stopped"
        requests = [replace(one.request, id=str(place)) for place, one in enumerate(batch)]

        def tell(piece: TextDelta) -> None:
            batch[int(piece.id)].pieces.put_nowait(piece)

        def write() -> None:
            now = time.monotonic()
            for one in batch:
                one.began = now
            for piece in author.generate(requests, lambda place: batch[int(place)].gone):
                loop.call_soon_threadsafe(tell, piece)

        written = loop.run_in_executor(self._thread, write)
        await asyncio.wait({written})
        error = written.exception()
        for one in batch:  # whoever has heard the end of its text listens no more
            one.pieces.put_nowait(error or ModelFault("the model ended without saying so", hint="Ask again."))
        self._turn = None
        self._advance()
        if self._observer is not None and not error:
            self._observer(len(batch), time.perf_counter() - started)
