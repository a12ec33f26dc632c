"""A queue before a model that writes: who comes while it writes is answered beside the others, each hears its own
text as it comes, and a full queue says no.

Knows texts and asyncio, nothing of HTTP nor of what a token is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Lock
from typing import Protocol

from toolkit.errors import ToolkitError
from toolkit.protocols import PredictorFacts
from toolkit.serving.batching import Observer
from toolkit.serving.refusals import ModelFault, Overloaded
from toolkit.serving.steps import queued
from toolkit.text import GenerationRequest, TextDelta

TOLD_SECONDS = 0.02
"""A text is told so often at most, what came between in one piece: fifty times a second is more than anyone reads, and
each time costs the model some of the processor."""


class Company(Protocol):
    """Who is there while a model writes; asked in the model's thread, between two tokens."""

    @property
    def together(self) -> int:
        """Texts that may be written side by side."""
        ...

    def gone(self, identity: str) -> bool:
        """Whether nobody waits any longer for the answer to a request. What is gone is not asked for again."""
        ...

    def more(self, free: int) -> Sequence[GenerationRequest]:
        """Requests that have come meanwhile, `free` at most."""
        ...

    def failed(self, identity: str, error: ToolkitError) -> None:
        """The answer to one request came to this end; those to the others go on."""
        ...


class Author(Protocol):
    """A model that writes, takes in what comes meanwhile, and stops writing what nobody waits for."""

    @property
    def facts(self) -> PredictorFacts: ...

    def check(self, request: GenerationRequest) -> None:
        """Raise what is wrong with the request, before it stands in a queue."""
        ...

    def generate(self, requests: Sequence[GenerationRequest], company: Company) -> Iterator[TextDelta]:
        """The answers to these requests and to those of the company, until there is none that waits."""
        ...


@dataclass(eq=False)
class _Waiting:
    request: GenerationRequest
    pieces: asyncio.Queue[TextDelta | BaseException] = field(default_factory=asyncio.Queue)
    gone: bool = False
    arrived: float = field(default_factory=time.monotonic)
    began: float | None = None
    """When the model took it up."""
    held: TextDelta | None = None
    told: float = 0.0
    """What was not told yet, and when it was told last; for the model's thread alone."""


class _Turn:
    """The requests that the model answers without a pause, by the names that it knows them by: a `Company`."""

    def __init__(
        self, together: int, take: Callable[[int], Sequence[_Waiting]], hand: Callable[..., object],
        observer: Observer | None,
    ) -> None:  # fmt: skip
        self.together = together
        self._take, self._hand, self._observer = take, hand, observer
        self._names, self._begun = count(), dict[str, _Waiting]()

    def gone(self, identity: str) -> bool:
        if gone := self._begun[identity].gone:
            del self._begun[identity]
        return gone

    def more(self, free: int) -> Sequence[GenerationRequest]:
        taken = {str(next(self._names)): one for one in self._take(free)}
        for one in taken.values():
            one.began = time.monotonic()
        self._begun |= taken
        return [replace(one.request, id=name) for name, one in taken.items()]

    def failed(self, identity: str, error: ToolkitError) -> None:
        self._fail(self._begun.pop(identity), error)

    def said(self, piece: TextDelta) -> None:
        """Tell who waits for it: the first piece and the last at once, those between not too often."""
        one, now = self._begun[piece.id], time.monotonic()
        if one.held is not None:
            piece, one.held = replace(piece, text=one.held.text + piece.text), None
        if piece.finish is None and not one.request.every_token and now < one.told + TOLD_SECONDS:
            one.held = piece
            return
        one.told = now
        self._hand(one.pieces.put_nowait, piece)
        if piece.finish is not None:
            if self._observer is not None and one.began is not None:
                self._hand(self._observer, len(self._begun), time.monotonic() - one.began)
            del self._begun[piece.id]

    def ended(self, error: BaseException | None) -> None:
        """The model says no more: whoever has not heard the end of its text hears why."""
        for one in self._begun.values():
            self._fail(one, error or ModelFault("the model ended without saying so", hint="Ask again."))

    def _fail(self, one: _Waiting, error: BaseException) -> None:
        """The end of a text, after what was written of it."""
        if one.held is not None:
            self._hand(one.pieces.put_nowait, one.held)
        self._hand(one.pieces.put_nowait, error)


class Writer:
    """A `ServedText`. Lives in one event loop; the model runs in a thread of its own, and takes in what comes.

    Args:
        author: the model.
        together: requests that are answered side by side.
        queue_limit: requests that may wait; beyond that `generate` raises Overloaded.
        observer: told, of each text that is whole, how many were written beside and with it when it ended, and the
            seconds that it took.
    """

    def __init__(
        self, author: Author, *, together: int = 16, queue_limit: int = 256, observer: Observer | None = None
    ) -> None:
        self._author: Author | None = author
        self.facts: PredictorFacts = author.facts
        self._together, self._limit, self._observer = together, queue_limit, observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._queue, self._lock = list[_Waiting](), Lock()
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
            stopping. ModelFault: the model failed while it wrote it.
        """
        self.check(request)
        if self._closed:
            raise Overloaded("the server is stopping")
        if len(self._queue) >= self._limit:
            raise Overloaded(f"the server is busy: {len(self._queue)} texts are waiting")
        waiting = _Waiting(request)
        with self._lock:
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
            with self._lock:
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
            self._turn = asyncio.get_running_loop().create_task(self._take_turn())

    def _take(self, free: int) -> Sequence[_Waiting]:
        with self._lock:
            taken, self._queue = self._queue[:free], self._queue[free:]
        return taken

    async def _take_turn(self) -> None:
        loop, author = asyncio.get_running_loop(), self._author
        assert author is not None, "the queue was stopped"
        turn = _Turn(self._together, self._take, loop.call_soon_threadsafe, self._observer)

        def write() -> None:
            for piece in author.generate((), turn):
                turn.said(piece)

        written = loop.run_in_executor(self._thread, write)
        await asyncio.wait({written})
        turn.ended(written.exception())
        self._turn = None
        self._advance()
