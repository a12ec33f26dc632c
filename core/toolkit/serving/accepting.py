"""Taking connections from a listening socket that several workers share: one a turn of the loop, after those who have
fewer, and with TLS only for so long and so many at once as handshakes may take. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from toolkit.serving.limits import Limits

_PAUSE = 0.5
"""Seconds before the next try, where the process may open no more files."""
_AFTER_YOU = 0.01
"""Seconds for which a connection is left to a worker that has fewer, and may be busy."""


class Door:
    """Takes one connection a turn of the loop, so that those who come at once are spread over the workers that have
    time for them.

    A handshake ends in time or is ended. Of too many at once the oldest goes: an honest one takes milliseconds.

    Args:
        make: what speaks on a connection, once it stands.
        ahead: how many more connections this worker has than another one.
    """

    def __init__(
        self, listener: socket.socket, make: Callable[[], asyncio.Protocol], limits: Limits,
        tls: ssl.SSLContext | None, ahead: Callable[[], int],
    ) -> None:  # fmt: skip
        self._listener, self._make, self._limits, self._tls, self._ahead = listener, make, limits, tls, ahead
        self._loop = asyncio.get_running_loop()
        self._attaching: dict[asyncio.Task[None], None] = {}
        self._again: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener, self._come)

    @property
    def attaching(self) -> int:
        """Connections that were taken and do not stand yet."""
        return len(self._attaching)

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._listener)
        if self._again is not None:
            self._again.cancel()

    def drop(self) -> None:
        """End what does not stand yet."""
        for task in self._attaching:
            task.cancel()

    def _come(self) -> None:
        if self._ahead() > 0:
            self._rest(_AFTER_YOU)
        else:
            self._take()

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._again = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._come)
        self._take()

    def _take(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the client has gone
        except OSError:
            self._rest(_PAUSE)
            return
        if len(self._attaching) >= self._limits.handshakes:
            next(iter(self._attaching)).cancel()
        task = self._loop.create_task(self._attach(connection))
        self._attaching[task] = None
        task.add_done_callback(self._attaching.pop)

    async def _attach(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        # Without it every answer waits 40 ms for the client's delayed acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds = None if self._tls is None else self._limits.handshake_seconds
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._loop.connect_accepted_socket(
                self._make, connection, ssl=self._tls, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds
            )
            return
        connection.close()
