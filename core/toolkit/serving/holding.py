"""What was answered a moment ago, in RAM: so that a person's judgement finds the input that it is about.

Bounded in bytes and in time. Lives in one event loop and one more thread.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from toolkit.services import Seen

_AROUND = 2048
"""Bytes that an input takes beside its content: of small ones there are many."""


@dataclass(frozen=True)
class Held:
    """The inputs of one request, and the facts of what answered it."""

    facts: dict[str, str]
    seen: tuple[Seen, ...]
    size: int
    until: float


class Holding:
    """Inputs by request id; the newest one where an id comes twice."""

    def __init__(self, *, most_bytes: int, seconds: float) -> None:
        self._most, self._seconds = most_bytes, seconds
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def add(self, request_id: str, facts: dict[str, str], seen: tuple[Seen, ...]) -> None:
        """Hold these, and let go of the oldest that they take the place of."""
        size, now = sum(_AROUND + len(one.content) for one in seen), time.monotonic()
        with self._guard:
            self._drop(request_id)
            if size <= self._most:
                self._held[request_id] = Held(facts, seen, size, now + self._seconds)
                self._bytes += size
            while self._held and (self._bytes > self._most or next(iter(self._held.values())).until < now):
                self._drop(next(iter(self._held)))

    def find(self, request_id: str) -> Held | None:
        with self._guard:
            held = self._held.get(request_id)
            return held if held is not None and held.until >= time.monotonic() else None

    def _drop(self, request_id: str) -> None:
        if (old := self._held.pop(request_id, None)) is not None:
            self._bytes -= old.size
