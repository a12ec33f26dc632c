"""A connection's way out that puts the head of an answer and what follows into one packet.

uvicorn writes the two one after the other, and uvloop sends each write at once: two calls of the system, and a client
that is woken twice. Knows how an answer of HTTP begins, nothing else of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_BEGINS, _GOES_ON = b"HTTP/1.1 ", b"HTTP/1.1 1"
"""An answer, and one that only says that the request may go on."""


class HeadWithBody:
    """`transport`, but a head waits for the next write of the same turn of the loop. All else is the transport's.

    Args:
        closing: told when it is closed, with what is still unread.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closing: Callable[[], None] = lambda: None
    ) -> None:
        self._transport, self._loop, self._closing = transport, loop, closing
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._transport.is_closing():  # uvloop would raise where asyncio lets it go
            return
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif bytes(data[:9]) == _BEGINS and bytes(data[:10]) != _GOES_ON:
            self._head = bytes(data)
            self._loop.call_soon(self._send_head)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()
        self._closing()

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():  # the client may have gone within the turn
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
