"""Texts that a language model writes side by side: one that comes late begins while others go on, and each ends when it
ends.

In turn every step reads a piece of one prompt, and gives every text its next token: those that may share a step in one
run of the graph, those that must come out the same again each in one of its own, since in int4 a row by itself is
rounded otherwise than beside others. Knows tokens, nothing of texts or servers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.serving.attention_cache import Cache, Graph
from toolkit.serving.drawing import Choice, Drawn
from toolkit.text import Finish

CHUNK = 128
"""Tokens of a prompt that are read at once: others wait no longer for their next token."""

ROOMS = 64
"""Rooms are multiples of so many tokens, so that a cache is seldom made anew."""

MEMORY = 2**30
"""Bytes that keys and values of all texts under way may take; while one is moved, or another grows the room, up to
twice. A text that needs more by itself is written alone."""

Told = tuple[int, int | None, Finish | ToolkitError | None]
"""The place of a text with a token of it, or with why no other comes."""


@dataclass(eq=False)
class Text:
    """A prompt and what follows it. `read` are the tokens that the model has read; the last one said is not among
    them."""

    place: int
    prompt: Sequence[int]
    how: Drawn
    read: int = 0
    said: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choice = Choice(self.how)
        self.room = -(-(len(self.prompt) + self.how.most) // ROOMS) * ROOMS


class SideBySide:
    """The texts under way.

    Args:
        together: texts that are under way at most.
        gone: whether nobody waits any longer for the text of a place.
        memory: as MEMORY.
    """

    def __init__(
        self, graph: Graph, stops: Collection[int], together: int, gone: Callable[[int], bool], memory: int = MEMORY
    ) -> None:
        self._graph, self._stops, self._together, self._gone = graph, stops, together, gone
        self._tokens = memory // graph.bytes_a_token
        self._waiting: deque[Text] = deque()
        self._reading: deque[tuple[Text, Cache]] = deque()
        self._apart: list[tuple[Text, Cache]] = []
        self._joined: list[Text] = []
        self._cache: Cache | None = None

    @property
    def free(self) -> int:
        """Texts that may still be added."""
        return self._together - len(self._waiting) - len(self._under_way())

    @property
    def idle(self) -> bool:
        """Whether nothing is left to write."""
        return not self._waiting and not self._under_way()

    def add(self, text: Text) -> None:
        """Let it wait for its turn, which is at once where there is room."""
        self._waiting.append(text)

    def step(self) -> Iterator[Told]:
        """A piece of the first prompt that is not read, and a token of every text whose prompt is.

        Raises:
            ModelFault: the model failed.
        """
        self._leave()
        self._begin()
        yield from self._read()
        if self._joined:
            yield from self._write_joined()
        for pair in list(self._apart):
            text, cache = pair
            if (yield from self._said(text, cache.run([text.said[-1:]], [text.read])[0], read=1)):
                self._apart.remove(pair)

    def _under_way(self) -> list[Text]:
        return [*self._joined, *(text for text, _ in (*self._apart, *self._reading))]

    def _leave(self) -> None:
        """Let go of what nobody waits for."""
        gone = self._gone
        self._waiting = deque(text for text in self._waiting if not gone(text.place))
        self._reading = deque(pair for pair in self._reading if not gone(pair[0].place))
        self._apart = [pair for pair in self._apart if not gone(pair[0].place)]
        for row in reversed(range(len(self._joined))):
            if gone(self._joined[row].place):
                self._part(row)

    def _begin(self) -> None:
        """In their order, as many of those that wait as there is room for; one always."""
        while self._waiting:
            begun = self._under_way()
            room = max(text.room for text in (*begun, self._waiting[0]))
            if begun and (len(begun) == self._together or (len(begun) + 1) * room > self._tokens):
                return
            text = self._waiting.popleft()
            self._reading.append((text, Cache(self._graph, 1, text.room)))

    def _read(self) -> Iterator[Told]:
        if not self._reading:
            return
        text, cache = self._reading[0]
        piece = text.prompt[text.read : text.read + CHUNK]
        logits = cache.run([piece], [text.read])[0]
        if text.read + len(piece) < len(text.prompt):
            text.read += len(piece)
            return
        self._reading.popleft()
        if (yield from self._said(text, logits, read=len(piece))):
            return
        if text.how.repeatable:
            self._apart.append((text, cache))
        else:
            self._join(text, cache)

    def _join(self, text: Text, cache: Cache) -> None:
        row, room = len(self._joined), max(one.room for one in (*self._joined, text))
        if self._cache is None or self._cache.room < room or self._cache.rows == row:
            before, rows = self._cache, max(row + 1, min(self._together, self._tokens // room))
            self._cache = Cache(self._graph, rows, room)
            for place, other in enumerate(self._joined):
                assert before is not None
                self._cache.take(place, before, place, other.read)
        self._cache.take(row, cache, 0, text.read)
        self._joined.append(text)

    def _part(self, row: int) -> None:
        """Take a text out of those that share a step; the last one takes its row."""
        assert self._cache is not None
        last = self._joined.pop()
        if row < len(self._joined):
            self._cache.take(row, self._cache, len(self._joined), last.read)
            self._joined[row] = last
        if not self._joined:
            self._cache = None

    def _write_joined(self) -> Iterator[Told]:
        assert self._cache is not None
        given, lengths = [text.said[-1:] for text in self._joined], [text.read for text in self._joined]
        logits, ended = self._cache.run(given, lengths), []
        for row, text in enumerate(self._joined):
            if (yield from self._said(text, logits[row], read=1)):
                ended.append(row)
        for row in reversed(ended):
            self._part(row)

    def _said(self, text: Text, logits: np.ndarray, *, read: int) -> Generator[Told, None, bool]:
        """Choose the next token of a text that has `read` so many more; returns whether it was the end."""
        text.read += read
        try:
            token = text.choice.next(logits, text.said)
        except ToolkitError as error:
            yield text.place, None, error
            return True
        if token in self._stops:
            yield text.place, None, "stop"
            return True
        text.said.append(token)
        yield text.place, token, None
        if len(text.said) < text.how.most:
            return False
        yield text.place, None, "length"
        return True
