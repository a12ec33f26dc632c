"""A closed loop of HTTP clients in a process of their own: each sends its next request when its answer is there.

    python serving_load.py PORT CLIENTS SECONDS < a whole HTTP/1.1 request

Prints one JSON object. As cheap as Python allows, so that what is measured is the server: the request's bytes are made
once, an answer is read no further than its status and its length. `serve` in place of PORT is the other end: a server
that looks at nothing and answers every request alike, which tells what the clients themselves can do.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_END = b"\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n" + b'{"status":"ok"}'
WARM_UP = 0.25
"""Share of the seconds that is asked before anything is counted."""


class Client(asyncio.Protocol):
    """One client that asks again and again, on another connection where the answer says so; `taken` are the seconds of
    each answer, `wrong` those not 200."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port, self.request, self.taken, self.wrong = port, request, [], 0
        self.lost = False
        self._again: asyncio.Task[object] | None = None
        self._seen = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask()

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = self._again is None

    def forget(self) -> None:
        self.taken, self.wrong = [], 0

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head = self._seen.find(_END)
        if head < 0:
            return
        length = _LENGTH.search(self._seen, 0, head)
        if length is None:
            sys.exit(f"an answer without a length: {bytes(self._seen[:head])!r}")
        if len(self._seen) < head + len(_END) + int(length[1]):
            return
        self.taken.append(time.perf_counter() - self._asked)
        if not self._seen.startswith(b"HTTP/1.1 200"):
            self.wrong += 1
        closes = _CLOSES.search(self._seen, 0, head)
        self._seen.clear()
        if closes:
            self.transport.close()
            self._again = asyncio.get_running_loop().create_task(self.connect())
        else:
            self._again = None
            self._ask()


class Echo(asyncio.Protocol):
    """The trivial server: a request of a stated length, an answer that never changes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._missing, self._head = 0, b""

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            data = self._head + data
            head = data.find(_END)
            if head < 0:
                self._head = data
                return
            length = _LENGTH.search(data, 0, head)
            self._head, self._missing = b"", head + len(_END) + (int(length[1]) if length else 0)
        self._missing -= len(data)
        if not self._missing:
            self.transport.write(_OK)


async def load(port: int, clients: int, seconds: float, request: bytes) -> dict[str, float]:
    asking = [Client(port, request) for _ in range(clients)]
    for client in asking:
        await client.connect()
    await asyncio.sleep(seconds * WARM_UP)
    for client in asking:
        client.forget()
    began, worked = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    took, work = time.perf_counter() - began, time.process_time() - worked
    taken = sorted(one for client in asking for one in client.taken)
    if not taken:
        return {"requests": 0, "errors": clients}

    def at(share: float) -> float:
        return round(1000 * taken[min(len(taken) - 1, int(share * len(taken)))], 3)

    return {
        "requests": len(taken), "per_second": round(len(taken) / took, 2), "p50_ms": at(0.5), "p95_ms": at(0.95),
        "p99_ms": at(0.99), "errors": sum(client.wrong + client.lost for client in asking),
        "client_cpu": round(work / took, 3),
    }  # fmt: skip


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
        print(json.dumps(asyncio.run(load(port, clients, seconds, sys.stdin.buffer.read()))))
