"""Running an app in this process: a listening socket, connections that may not dawdle, and an end that drains."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from toolkit.errors import EnvironmentUnfit
from toolkit.serving.accepting import Door
from toolkit.serving.gateway import Limits
from toolkit.serving.head_with_body import HeadWithBody
from toolkit.serving.spreading import Spread
from toolkit.serving.unread import Unread

_GRACE = 5.0  # seconds by which a dropped connection trails the 408 that tells its client why
_MOST_AROUND = 64 * 1024  # bytes of a head
_AROUND_A_BYTE = 9  # a body in chunks of one byte takes six bytes a byte
_WAITING = 1024
"""Connections that the system holds for a server that has not taken them yet."""
_LAST_SECONDS = 1.0
"""How long a kept-alive connection may bring one more request to a server that is ending: its client may have sent it
already, and would see it lost."""

_QUIET_SECONDS = 0.1
_UNEVEN, _PARTING_SECONDS = 2, 0.1
"""By how many connections a worker may be ahead of another before it has clients ask anew, and how often: a client is
gone by then."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        EnvironmentUnfit: the port is taken, or the address is not this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        raise EnvironmentUnfit(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="Stop what listens there, or choose another --port or --host.",
        ) from error
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Where a client on this machine finds the server."""
    scheme = "https" if tls else "http"
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def run(
    app: FastAPI, listener: socket.socket, limits: Limits, tls: ssl.SSLContext | None = None,
    spread: Spread | None = None,
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT; then take nothing new, answer what is in hand, and return.

    Args:
        spread: the connections of all workers that share the listener, this one's among them.

    Raises:
        ToolkitError: what the app needs as long as it serves did not begin.
    """
    _Server(app, limits, tls, spread or Spread()).run(sockets=[listener])
    if (failed := getattr(app.state, "failed", None)) is not None:
        raise failed


@contextlib.contextmanager
def in_background(
    app: FastAPI, listener: socket.socket, limits: Limits, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve from a thread of this process while the block runs; yields the URL, and drains at the end."""
    server = _Server(app, limits, tls, Spread())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        yield url_of(listener, tls=tls is not None)  # the socket listens already: a request made now waits for the loop
    finally:
        server.should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn's, that takes its connections by a `Door`, and has as many of them as other workers."""

    def __init__(self, app: ASGIApp, limits: Limits, tls: ssl.SSLContext | None, spread: Spread) -> None:
        super().__init__(_config(_Closing(app, self._closes), _connection_class(limits, self._ahead), limits))
        self._limits, self._tls, self._spread = limits, tls, spread
        self._doors: list[Door] = []
        self._parted = 0.0

    def _ahead(self) -> int:
        """How many more connections this worker has than another one; others learn how many it has."""
        self._spread.has(len(self.server_state.connections) + sum(door.attaching for door in self._doors))
        return self._spread.ahead

    def _closes(self) -> bool:
        """Whether a client is to ask anew, on a connection that another worker may take: when this one is ending, and
        where it has more than its share, one at a time."""
        if self.should_exit:
            return True
        now = time.monotonic()
        if now < self._parted + _PARTING_SECONDS or self._ahead() < _UNEVEN:
            return False
        self._parted = now
        return True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but a server that drained has ended well: it does not then die of the signal after all."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._doors = [Door(one, self._connection, self._limits, self._tls, self._ahead) for one in sockets or []]

    def _connection(self) -> asyncio.Protocol:
        config = self.config
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, once what was on its way, in the backlog and on open connections, has been answered, with
        `Connection: close`."""
        loop = asyncio.get_running_loop()
        last = loop.time() + _LAST_SECONDS
        turns = 0  # of the loop in which nobody was waiting: it takes a connection in one and attaches it in the next
        while turns < 2 and loop.time() < last:
            turns = 0 if any(map(_waited_on, sockets or [])) else turns + 1
            await asyncio.sleep(0)
        for door in self._doors:
            door.close()
        for listener in sockets or []:
            listener.close()
        quiet = loop.time()  # since when nobody is connected; whom the loop has just taken is not counted yet
        while loop.time() < min(last, quiet + _QUIET_SECONDS):
            await asyncio.sleep(0.01)
            coming = self.server_state.connections or any(door.attaching for door in self._doors)
            quiet = loop.time() if coming else quiet
        for door in self._doors:
            door.drop()
        await super().shutdown(sockets)


def _waited_on(listener: socket.socket) -> bool:
    """Whether somebody has connected whom nobody has taken yet."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


class _Closing:
    """Tells clients to ask anew, on another connection."""

    def __init__(self, app: ASGIApp, closes: Callable[[], bool]) -> None:
        self._app, self._closes = app, closes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dress(message: Message) -> None:
            if message["type"] == "http.response.start" and self._closes():
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, dress)


def _config(app: ASGIApp, connection: type[HttpToolsProtocol], limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=connection, ws="none", loop="auto", lifespan="on",
        log_config=None, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=int(limits.idle_seconds), timeout_graceful_shutdown=int(limits.drain_seconds),
    )  # fmt: skip


def _connection_class(limits: Limits, counted: Callable[[], object]) -> type[HttpToolsProtocol]:
    """`counted` is told when a connection ends; of one that begins the door knows."""

    class Connection(HttpToolsProtocol):
        """uvicorn's, with four limits that it lacks: how many connections there may be, how long one may take to bring
        a request (headers or body drip by drip: "slow loris") or leave an answer unread, and how much of a request may
        be anything but its body (the parser would gather heads, trailers and the extensions of chunks without end)."""

        _deadline: asyncio.TimerHandle | None = None
        _arriving, _received, _allowed = True, 0, _MOST_AROUND

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._unread = Unread(transport, self.loop, limits.arrival_seconds)
            out = HeadWithBody(transport, self.loop, self._unread.watch)
            super().connection_made(out)  # type: ignore[arg-type]
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self._watch()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread.watch()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete:
                self._arriving = True  # empty lines too, with which a connection could be held for ever
            self._received += len(data)
            super().data_received(data)
            if self._arriving and self._received > self._allowed and not self.transport.is_closing():
                self.send_400_response("A request with too much around its body.")
            self._watch()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._arriving, self._allowed = True, _MOST_AROUND

        def on_body(self, body: bytes) -> None:
            super().on_body(body)
            self._allowed += _AROUND_A_BYTE * len(body)

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._arriving, self._received = False, 0

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unread.end()
            counted()
            self._arriving = False
            self._watch()

        def _unsupported_upgrade_warning(self) -> None:
            """A request for another protocol is answered in this one, and is nothing to log."""

        def _watch(self) -> None:
            if self._arriving and self._deadline is None:
                self._deadline = self.loop.call_later(limits.arrival_seconds + _GRACE, self._expire)
            elif not self._arriving and self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _expire(self) -> None:
            self.transport.abort()

    return Connection
