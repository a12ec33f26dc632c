"""A chat server on 127.0.0.1 that answers as OpenAI-compatible ones do, or fails in whichever way it is told.

Run as a program it can be killed and started again on the same port: `python chat_parts.py PORT JOURNAL DELAY`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Reply = Mapping[str, Any]


def reply_to(question: str, **more: Any) -> dict[str, Any]:
    """A well-formed body; the answer repeats the question."""
    message = {"role": "assistant", "content": f"answer to {question}", **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more.pop("choice", {})}
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage, **more}


@dataclass
class Chat:
    """What the server does and what it has seen. `faults` are taken one a request as they arrive, before any good
    answer; `silent` are questions that never get one, in whichever order they arrive."""

    faults: list[str] = field(default_factory=list)
    silent: Collection[str] = ()
    delay: float = 0.0
    journal: Path | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    paid: list[str] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def begin(self, asked: dict[str, Any], headers: dict[str, str]) -> str:
        """Note a request; the fault it is to meet, or nothing."""
        with self.lock:
            self.at.append(time.monotonic())
            self.asked.append(asked)
            self.headers.append(headers)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            if asked["messages"][-1]["content"] in self.silent:
                return "hang"
            return self.faults.pop(0) if self.faults else ""

    def end(self) -> None:
        with self.lock:
            self.busy -= 1

    def bill(self, question: str) -> None:
        """An answer that somebody pays for."""
        with self.lock:
            self.paid.append(question)
            if self.journal is not None:
                with self.journal.open("a") as stream:
                    stream.write(question + "\n")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body leave apart: the second would wait for the first to be confirmed
    chat: Chat

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.chat.begin(asked, {name.lower(): value for name, value in self.headers.items()})
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.answer(asked["messages"][-1]["content"], fault)
        finally:
            self.chat.end()

    def answer(self, question: str, fault: str) -> None:
        if self.path != "/v1/chat/completions":
            self.send(404, b'{"error": {"message": "no such path"}}')
        elif fault:
            kind, _, detail = fault.partition(":")
            getattr(self, f"fault_{kind}")(question, detail)
        else:
            self.chat.bill(question)
            time.sleep(self.chat.delay)
            self.good(reply_to(question, **json.loads(json.dumps(self.chat.extra))))

    def good(self, reply: Reply) -> None:
        self.send(200, json.dumps(reply, ensure_ascii=False).encode())

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    # --- ways to fail --------------------------------------------------------------------------------------------

    def fault_status(self, question: str, detail: str) -> None:
        """`status:429` or `status:429:{"error": ...}`."""
        status, _, said = detail.partition(":")
        self.send(int(status), said.encode())

    def fault_later(self, question: str, detail: str) -> None:
        """`later:2`: too many requests, with that Retry-After."""
        self.send(429, b'{"error": {"message": "slow down"}}', Retry_After=detail)

    def fault_moved(self, question: str, detail: str) -> None:
        self.send(307, b"", Location=detail)

    def fault_reset(self, question: str, detail: str) -> None:
        """The connection is cut without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def fault_hang(self, question: str, detail: str) -> None:
        self.chat.released.wait(30)
        self.close_connection = True

    def fault_drip(self, question: str, detail: str) -> None:
        """White space for ever, a little at a time."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.chat.released.wait(0.05):
            self.wfile.write(b"1\r\n \r\n")
        self.close_connection = True

    def fault_chunks(self, question: str, detail: str) -> None:
        """A chunked body that stops in its midst, and the connection with it."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b'20\r\n{"choices": [{"message": {"conte\r\n')
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def fault_short(self, question: str, detail: str) -> None:
        """Fewer bytes than were announced."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.close_connection = True

    def fault_raw(self, question: str, detail: str) -> None:
        """`raw:TEXT`: status 200 with that body."""
        self.send(200, detail.encode("utf-8", "surrogateescape"))

    def fault_reply(self, question: str, detail: str) -> None:
        """`reply:{...}`: a good answer with these changes."""
        self.chat.bill(question)
        self.good(reply_to(question, **json.loads(detail)))

    def fault_big(self, question: str, detail: str) -> None:
        """As many megabytes as are said, chunked."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(int(detail)):
            self.wfile.write(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no news."""


@contextlib.contextmanager
def chat_server(chat: Chat, *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The base URL of a server that runs meanwhile in this process."""
    handler = type("ChatHandler", (Handler,), {"chat": chat})
    with Server(("127.0.0.1", port), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            chat.released.set()
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class OtherProcess:
    """The server in a process of its own, to be killed and started again on its port."""

    port: int
    journal: Path
    delay: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def paid(self) -> Sequence[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def start(self) -> None:
        command = [sys.executable, __file__, str(self.port), str(self.journal), str(self.delay)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def wait_until(reached: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def main() -> None:
    port, journal, delay = sys.argv[1:]
    with chat_server(Chat(delay=float(delay), journal=Path(journal)), port=int(port)):
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
