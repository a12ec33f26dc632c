"""What large inputs may take of a worker's memory at once, and how the system gets it back."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

LARGE = 32 * 2**20
"""Bytes from which on a single input counts, and runs by itself."""

WORTH_RETURNING = 64 * 2**20
"""Bytes of one input after which memory is given back: that takes milliseconds, and decoding as much takes longer."""


class Room:
    """Bytes that all threads of a process may take at once. Who needs more than there is, is let in alone; all are let
    in by turns. Whoever waits must hold none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._turn = threading.Lock()
        self._left = threading.Condition()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Room for so many bytes, once there is. What is not LARGE needs none."""
        if size < LARGE:
            yield
            return
        with self._turn, self._left:
            self._left.wait_for(lambda: not self._taken or self._taken + size <= self._most)
            self._taken += size
        try:
            yield
        finally:
            with self._left:
                self._taken -= size
                self._left.notify_all()


ROOM = Room(256 * 2**20)
"""The process's own, whatever it serves."""


def give_back() -> None:
    """Let the system have what was freed: glibc keeps blocks of up to 32 MiB, once it has seen such, for ever."""
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    """glibc's malloc_trim; None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
