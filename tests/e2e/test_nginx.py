"""`deployments/nginx/toolkit.conf` under Debian's nginx, before a real server: TLS, limits, streams."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from serving_parts import Running, inspection, picture, running
from starlette.responses import Response

from toolkit.protocols import ServedPredictor
from toolkit.services import Service
from toolkit.serving.answers import error_answer

CONFIG = Path(__file__).resolve().parents[2] / "deployments" / "nginx" / "toolkit.conf"
NAME = "inspection.example"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

heard = Event()


def with_stream(bundle: Mapping[str, Any], predictor: ServedPredictor) -> Service:
    """Inspection, and a route whose second piece is written once the first was heard."""
    routes = APIRouter()
    routes.include_router(inspection(bundle, predictor).routes)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: first\n\n"
        async with asyncio.timeout(10):
            while not heard.is_set():
                await asyncio.sleep(0.01)
        yield b"data: [DONE]\n\n"

    @routes.get("/v1/pieces")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces(), media_type="text/event-stream")

    return Service(routes=routes)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "site").mkdir()
    with running(tmp_path / "site", ask=with_stream) as up:
        yield up


@pytest.fixture
def proxied(tmp_path: Path, server: Running) -> Iterator[httpx.Client]:
    """A client of nginx: the shipped file, with this test's ports and certificate."""
    upstream, key = server.url.removeprefix("http://"), server.keys["infer"]
    with nginx(tmp_path / "nginx", upstream) as (port, trusted), client(port, trusted, key) as speaking:
        yield speaking


def client(port: int, trusted: ssl.SSLContext, key: str) -> httpx.Client:
    return httpx.Client(base_url=f"https://localhost:{port}", verify=trusted, headers={"X-API-Key": key}, timeout=20)


@contextlib.contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[tuple[int, ssl.SSLContext]]:
    folder.mkdir()
    certificate = make_certificate(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = CONFIG.read_text()
    for shipped, here in (
        (r"listen \[::\].*", ""),
        (r"listen 443 ", f"listen 127.0.0.1:{port} "),
        (r"/etc/nginx/tls/", f"{folder}/"),
        (r"server 127\.0\.0\.1:8080", f"server {upstream}"),
    ):
        text, found = re.subn(shipped, here, text)
        assert found, shipped
    (folder / "toolkit.conf").write_text(text)
    spools = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
        f"http {{ access_log {folder}/access.log; {spools} include {folder}/toolkit.conf; }}"
    )
    command = [str(NGINX), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t", "-q"], check=True)
    process = subprocess.Popen(command)
    try:
        wait_for(port)
        yield port, ssl.create_default_context(cafile=str(certificate))
    finally:
        process.terminate()
        assert process.wait(20) == 0


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError("nginx does not listen")


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost, named as the shipped file names it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "toolkit.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "toolkit.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return folder / "toolkit.pem"


def test_a_picture_is_answered_over_tls_and_not_spooled_to_disk(proxied: httpx.Client, tmp_path: Path) -> None:
    spool = tmp_path / "nginx" / "client_body"
    before = spool.stat().st_mtime_ns
    large = picture((250, 10, 10)) + bytes(3_000_000)  # trailing bytes that a decoder passes over
    answer = proxied.post("/v1/inspect", content=large, headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["verdict"]) == (200, "good")
    assert answer.headers["strict-transport-security"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert spool.stat().st_mtime_ns == before


def test_a_stream_comes_piece_by_piece(proxied: httpx.Client) -> None:
    heard.clear()
    with proxied.stream("GET", "/v1/pieces") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: first"
        heard.set()
        assert "data: [DONE]" in list(lines)


LARGEST = "a request may hold 25 MB", "Send a smaller picture, or fewer at a time."
GONE = "the server is not there", "Ask again in a moment."
PATHS = (
    "/v1/inspect", "/v2", "/v2/models/industry/infer", "/v2x", "/v1/completions", "/v1/chat/completions",
    "/v1/models/a", "/products/industry/v1/chat/completions", "/products/industry/v1/inspect", "/v1/modelsx",
)  # fmt: skip


def test_what_nginx_refuses_has_the_form_of_the_protocol_that_was_asked(proxied: httpx.Client, tmp_path: Path) -> None:
    def same(answer: httpx.Response, said: Response) -> None:
        assert (answer.status_code, answer.json()) == (said.status_code, json.loads(said.body)), answer.url
        assert answer.headers["content-type"] == said.headers["content-type"]

    for path in PATHS:
        answer = proxied.post(path, content=bytes(25_000_001), headers={"content-type": "image/png"})
        same(answer, error_answer(path, 413, "too_large", *LARGEST))
    assert proxied.get("/readyz", headers={"X-API-Key": "wrong"}).status_code == 401
    with nginx(tmp_path / "alone", upstream="127.0.0.1:1") as (port, trusted), client(port, trusted, "k") as speaking:
        for path in PATHS:
            answer = speaking.get(path)
            same(answer, error_answer(path, 503, "overloaded", *GONE))
            assert answer.headers["retry-after"] == "5"


def test_a_person_signs_in_at_any_port_and_the_cookie_is_for_tls_alone(proxied: httpx.Client, server: Running) -> None:
    """A browser that has no Fetch Metadata names the page's origin, with its port."""
    origin = str(proxied.base_url).rstrip("/")
    form = {"key": server.keys["operate"]}
    del proxied.headers["X-API-Key"]
    answer = proxied.post("/console/sign-in", data=form, headers={"origin": origin})
    assert answer.status_code == 303, answer.text
    assert answer.headers["set-cookie"].startswith("__Host-toolkit_session=")
    assert "; Secure" in answer.headers["set-cookie"]
    assert proxied.get("/console").status_code == 200
    assert proxied.post("/console/sign-in", data=form, headers={"origin": "https://localhost"}).status_code == 403
