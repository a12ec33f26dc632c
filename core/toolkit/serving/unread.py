"""An end to connections whose clients read nothing of what waits for them. Knows transports, nothing of HTTP."""

from __future__ import annotations

import asyncio


class Unread:
    """Watches what waits to be read: where none of it is taken within `seconds`, the connection is aborted."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport, self._loop, self._seconds = transport, loop, seconds
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def watch(self) -> None:
        """Begin, where something waits; it ends by itself."""
        self._left = self._transport.get_write_buffer_size()
        if self._left and self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        before, self._timer = self._left, None
        if self._transport.get_write_buffer_size() >= before:
            self._transport.abort()
        else:
            self.watch()
