"""What the tests of carriage share: Debian's registry on this machine, and images and tars forged by hand.

Tars are written here from the POSIX format, not with the code under test.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

REGISTRY = shutil.which("docker-registry") or shutil.which("registry")
needs_registry = pytest.mark.skipif(REGISTRY is None, reason="docker-registry is not installed here")
# bcrypt of `wonder`, cost 5; the registry takes no other hash.
HTPASSWD = "alice:$2b$05$abcdefghijklmnopqrstuuLZNkQ1VL/QsuI/EN8Qq4Ia5232KBp7m\n"
BLOCK = 512


@contextlib.contextmanager
def registry(folder: Path, **auth: Any) -> Iterator[str]:
    """HOST:PORT of a fresh registry that keeps what it gets below `folder`."""
    assert REGISTRY is not None
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    settings = {
        "version": "0.1", "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": "for this test alone"}, **({"auth": auth} if auth else {}),
    }  # fmt: skip
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    log = folder / "log"
    with log.open("wb") as out, subprocess.Popen(
        [REGISTRY, "serve", str(folder / "config.yml")], stdout=out, stderr=out,
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
    ) as process:  # fmt: skip
        try:
            for _ in range(200):
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"http://{host}/v2/", trust_env=False).status_code in (200, 401):
                        break
                time.sleep(0.05)
            yield host
        finally:
            process.terminate()
            process.wait(timeout=15)


@dataclass
class Seen:
    """A request as a server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


Answer = Callable[[Seen], tuple[int, Mapping[str, str], bytes]]


@dataclass
class Hostile:
    """A server that answers as the test says, on a port of its own, and keeps what it was asked."""

    host: str
    asked: list[Seen] = field(default_factory=list)


@contextlib.contextmanager
def hostile(answer: Answer) -> Iterator[Hostile]:
    """An HTTP server on this machine whose answers `answer` makes up; a body longer than its header says is cut off
    by closing."""
    found: list[Hostile] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen = Seen(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
            found[0].asked.append(seen)
            status, headers, body = answer(seen)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(body)
            self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_one

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.append(Hostile(f"127.0.0.1:{server.server_address[1]}"))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield found[0]
        finally:
            server.shutdown()
            thread.join()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def members_of(file: Path) -> dict[str, bytes]:
    """The members of a tar by name, as the standard library reads it."""
    with tarfile.open(file) as found:
        return {one.name: found.extractfile(one).read() for one in found}  # type: ignore[union-attr]


def header(name: str | bytes, length: int, kind: bytes = b"0", link: str = "", **raw: bytes) -> bytes:
    """One header of a ustar (POSIX.1-1988); `raw` replaces fields, the checksum is right all the same."""
    fields = {
        "name": (name.encode() if isinstance(name, str) else name).ljust(100, b"\0"), "mode": b"0000644\0",
        "uid": b"0000000\0", "gid": b"0000000\0", "size": b"%011o\0" % length, "mtime": b"00000000000\0",
        "checksum": b" " * 8, "kind": kind, "link": link.encode().ljust(100, b"\0"), "magic": b"ustar\00000",
        "rest": bytes(247),
    } | raw  # fmt: skip
    block = b"".join(fields.values()).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def member(name: str, data: bytes, **facts: Any) -> bytes:
    return header(name, len(data), **facts) + data + bytes(-len(data) % BLOCK)


def tar(members: Mapping[str, bytes] | Sequence[tuple[str, bytes]], *more: bytes) -> bytes:
    """A tar of regular files, with `more` blocks before its end."""
    pairs = members.items() if isinstance(members, Mapping) else members
    return b"".join([*(member(name, data) for name, data in pairs), *more, bytes(2 * BLOCK)])


def with_image(members: Mapping[str, bytes], change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    """The members of a layout whose image says what it says after `change`; the index follows."""
    index = json.loads(members["index.json"])
    old = "blobs/sha256/" + index["manifests"][0]["digest"][7:]
    image = json.loads(members[old])
    change(image)
    data = json.dumps(image).encode()
    index["manifests"][0] |= {"digest": f"sha256:{sha256(data)}", "size": len(data)}
    rest = {name: body for name, body in members.items() if name != old}
    return rest | {"index.json": json.dumps(index).encode(), f"blobs/sha256/{sha256(data)}": data}
