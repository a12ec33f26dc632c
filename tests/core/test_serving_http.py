"""A real server and real clients: what it answers, what it refuses, and how it behaves when too much is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from seal_parts import make_home
from serving_parts import Running, expected, inspection, picture, running

from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import ServedPredictor
from toolkit.services import Service
from toolkit.serving.assembly import Tuning
from toolkit.serving.gateway import LIVENESS, Limits
from toolkit.serving.ledger import open_ledger
from toolkit.serving.refusals import ModelFault
from toolkit.serving.runner import listen

RED, GREEN = (230, 20, 20), (20, 230, 20)  # good, scratch


def odds(colour: tuple[int, int, int]) -> np.ndarray:
    return expected(np.full((1, 1, 1, 3), colour, np.uint8))[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("site")) as it:
        yield it


def error_of(answer: httpx.Response) -> dict[str, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert "\n" not in body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
        ("PNG", "application/octet-stream"),
        ("JPEG", "application/x-www-form-urlencoded"),
    ],
)
def test_one_picture_gets_a_verdict(server: Running, kind: str, content_type: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/inspect", content=picture(GREEN, kind), headers={"Content-Type": content_type})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"verdict", "pass", "probabilities", "latency_ms", "bundle", "request_id"}
    assert (body["verdict"], body["pass"], body["bundle"]) == ("scratch", False, "b-123")
    assert body["probabilities"]["scratch"] == pytest.approx(odds(GREEN)[1], abs=0.03)  # JPEG and WebP lose a little
    assert 0 < body["latency_ms"] < 5000
    assert body["request_id"] == answer.headers["x-request-id"]


def test_a_good_part_passes(server: Running) -> None:
    with server.client() as client:
        body = client.post("/v1/inspect", files={"image": ("part.png", picture(RED), "image/png")}).json()
    assert (body["verdict"], body["pass"]) == ("good", True)
    assert body["probabilities"]["good"] == pytest.approx(odds(RED)[0], abs=1e-5)


def test_a_batch_answers_in_order_and_a_bad_picture_fails_only_itself(server: Running) -> None:
    contents = [picture(RED), b"not a picture", picture(GREEN), picture(RED)[:60], picture(GREEN, size=40)]
    files = [("images", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    with server.client() as client:
        answer = client.post("/v1/inspect", files=files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result.get("verdict") for result in results] == ["good", None, "scratch", None, "scratch"]
    assert results[1]["error"]["code"]
    assert results[3]["error"]["message"]


def test_one_file_in_the_field_images_is_a_batch_of_one(server: Running) -> None:
    with server.client() as client:
        body = client.post("/v1/inspect", files={"images": ("a.png", picture(RED))}).json()
    assert [result["verdict"] for result in body["results"]] == ["good"]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"just some text", "text/plain"),
        (b"just some text", "image/jpeg"),
        (b'{"image": 1}', "application/json"),
        (b"", "image/png"),
        (picture(RED)[:50], "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"anything", "multipart/form-data"),
        (
            b"--x\r\nContent-Disposition: form-data; name=image\r\n\r\ntext\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_what_is_no_picture_gets_422_and_one_clear_line(server: Running, content: bytes, content_type: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/inspect", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 422
    assert error_of(answer)["hint"]


def test_a_text_file_gets_422(server: Running) -> None:
    with server.client() as client:
        answer = client.post("/v1/inspect", files={"image": ("notes.txt", b"just some text", "text/plain")})
    assert answer.status_code == 422
    error_of(answer)


@pytest.mark.parametrize("path", ["/v1/inspect", "/readyz", "/metrics", "/docs", "/openapi.json", "/", "/nowhere"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "tk_wrong"}, {"Authorization": "Bearer tk_wrong"}])
def test_without_a_key_every_path_but_healthz_is_denied(server: Running, path: str, headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = httpx.request(method, server.url + path, headers=headers, content=b"x" * 10)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_healthz_needs_no_key(server: Running) -> None:
    answer = httpx.get(server.url + "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_bearer_token_opens_as_well(server: Running) -> None:
    answer = httpx.get(server.url + "/readyz", headers={"Authorization": f"Bearer {server.keys['infer']}"})
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready", "product": "tiny", "version": "1.7", "bundle": "b-123", "form": "installed",
        "provider": "CPUExecutionProvider", "keys": "development keys", "sample": False,
        "grant": {"state": "unlimited", "message": "", "seconds_left": None},
    }  # fmt: skip


def test_a_role_that_may_not_gets_403(server: Running) -> None:
    with server.client("infer") as client:
        answer = client.get("/metrics")
    assert answer.status_code == 403
    assert error_of(answer)["code"] == "forbidden"
    for role in ("operate", "admin"):
        with server.client(role) as client:
            assert client.get("/metrics").status_code == 200


def test_unknown_paths_and_methods_are_told_in_the_same_shape(server: Running) -> None:
    with server.client() as client:
        missing, wrong = client.get("/nowhere"), client.get("/v1/inspect")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")


VARYING = {"date", "x-request-id", "content-length"}


def test_head_is_answered_as_get_is_without_the_body(tmp_path: Path) -> None:
    site = make_home(tmp_path).site()
    with running(site.path, ledger=open_ledger(site)) as server, server.client("admin") as client:
        paths = {path for path, one in client.get("/openapi.json").json()["paths"].items() if "get" in one}
        assert {"/healthz", "/readyz", "/metrics", "/v2", "/v1/models", "/site/audit"} <= paths
        script = re.search(r"/console/static/[^\"]+", client.get("/console/sign-in").text)
        assert script
        console = ("/console", "/console/sign-in", "/console/audit", "/console/language/en", script[0])
        paths |= {"/docs", "/openapi.json", "/nowhere", "/v1/inspect", "/v2/models/tiny", *console}
        for path in sorted(paths):
            got, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert {k: v for k, v in head.headers.items() if k not in VARYING} == {
                k: v for k, v in got.headers.items() if k not in VARYING
            }, path
            assert ("content-length" in head.headers) == ("content-length" in got.headers), path
        for path in ("/readyz", "/docs", "/console"):
            got, head = httpx.get(server.url + path), httpx.head(server.url + path)
            assert head.status_code == got.status_code
            assert head.status_code in (303, 401)
            assert head.headers["content-type" if path != "/console" else "location"]
        counted = client.get("/metrics").text
        assert not re.search(r'route="other",status="200"', counted)
        assert re.search(r'route="/v2/models/{model}",status="200",version=""} 2.0', counted)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reads_the_head_of_an_answer(server: Running) -> None:
    urls = [server.url + path for path in ("/healthz", "/console/sign-in", "/healthz")]
    found = subprocess.run(["curl", "-sSI", *urls], check=True, capture_output=True, text=True, timeout=20)
    assert (found.stderr, found.stdout.count("HTTP/1.1 200 OK")) == ("", 3)
    assert len(found.stdout.split("\n\n")) == 4


def test_every_answer_bears_the_security_headers_and_no_banner(server: Running) -> None:
    for path in ("/healthz", "/docs", "/nowhere"):
        headers = httpx.get(server.url + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_a_clients_own_request_id_is_kept_if_it_is_harmless(server: Running) -> None:
    with server.client() as client:
        assert client.get("/readyz", headers={"X-Request-Id": "line-7.42"}).headers["x-request-id"] == "line-7.42"
        assert client.get("/readyz", headers={"X-Request-Id": "a b;c"}).headers["x-request-id"] != "a b;c"


def test_200_concurrent_inspections_are_all_right(server: Running) -> None:
    colours = [tuple(int(v) for v in c) for c in np.random.default_rng(3).integers(0, 256, (200, 3))]

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        headers = {"X-API-Key": server.keys["infer"], "Content-Type": "image/png"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, limits=limits, timeout=30) as client:
            sizes = (16, 24, 32)
            return await asyncio.gather(
                *(client.post("/v1/inspect", content=picture(c, size=sizes[i % 3])) for i, c in enumerate(colours))
            )

    answers = asyncio.run(ask_all())
    assert [answer.status_code for answer in answers] == [200] * 200
    for answer, colour in zip(answers, colours, strict=True):
        assert answer.json()["probabilities"]["good"] == pytest.approx(odds(colour)[0], abs=1e-4)
    assert len({answer.json()["request_id"] for answer in answers}) == 200


def test_metrics_parse_and_count(server: Running) -> None:
    with server.client("operate") as client:
        before = samples(client.get("/metrics").text)
        for _ in range(3):
            client.post("/v1/inspect", content=picture(GREEN), headers={"Content-Type": "image/png"})
        client.post("/v1/inspect", content=b"text", headers={"Content-Type": "image/png"})
        client.get("/made/up/by/a/stranger")
        after = samples(client.get("/metrics").text)

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset({"bundle": "b-123", "version": "1.7", "product": "tiny", **labels}.items()))
        return after[key] - before.get(key, 0)

    assert grown("toolkit_requests_total", route="/v1/inspect", status="200") == 3
    assert grown("toolkit_requests_total", route="/v1/inspect", status="422") == 1
    assert grown("toolkit_requests_total", route="other", status="404") == 1
    assert grown("toolkit_verdicts_total", verdict="scratch") == 3
    assert grown("toolkit_batch_rows_count") == 3
    assert grown("toolkit_inference_seconds_count") == 3
    assert grown("toolkit_request_seconds_count", route="/v1/inspect") == 4
    assert (
        after["toolkit_queue_depth", frozenset({"bundle": "b-123", "version": "1.7", "product": "tiny"}.items())] == 0
    )
    assert (
        "toolkit_model",
        frozenset(
            {
                "bundle": "b-123",
                "version": "1.7",
                "product": "tiny",
                "form": "installed",
                "provider": "CPUExecutionProvider",
            }.items()
        ),
    ) in after
    assert not any("stranger" in str(key) for key in after)


def test_a_refused_request_is_counted_by_the_name_of_its_route(server: Running) -> None:
    with server.client("operate") as client:
        paths = {path for path in client.get("/openapi.json").json()["paths"] if "{" not in path} - LIVENESS
        for path in paths:
            httpx.post(server.url + path)  # without a key it reaches no route
        counted = client.get("/metrics").text
    assert "/v1/inspect" in paths
    assert [path for path in sorted(paths) if f'route="{path}",status="401"' not in counted] == []


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_api_page_needs_no_network_and_tells_nothing_without_a_key(server: Running) -> None:
    shell = httpx.get(server.url + "/docs")
    assert shell.status_code == 401
    assert shell.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?:|//[a-z]", shell.text.replace("// Text from", ""))
    for secret in ("b-123", "tiny", "scratch", "/v1/inspect", "CPUExecution"):
        assert secret not in shell.text
    with server.client() as client:
        page, schema = client.get("/docs"), client.get("/openapi.json").json()
    assert (page.status_code, page.text) == (200, shell.text)
    own = {"/healthz", "/readyz", "/metrics", "/v1/inspect", "/site/figures", "/v2/models/{model}/infer"}
    assert own <= set(schema["paths"])
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "header"}
    assert "image/jpeg" in schema["paths"]["/v1/inspect"]["post"]["requestBody"]["content"]
    assert "http" not in json.dumps(schema).replace('"type": "http"', "").replace("HTTPValidationError", "")


def test_30_mb_get_413_whether_announced_or_streamed(server: Running) -> None:
    block = b"\0" * 1_000_000
    with server.client() as client:
        announced = client.post("/v1/inspect", content=block * 30, headers={"Content-Type": "image/png"})
        assert announced.status_code == 413
        assert "25 MB" in error_of(announced)["message"]
        streamed = client.post("/v1/inspect", content=(block for _ in range(30)))
        assert streamed.status_code == 413
        form = client.post("/v1/inspect", files={"image": ("a.png", block * 30)})
        assert form.status_code == 413
        assert client.get("/readyz").status_code == 200


def test_overload_gets_503_with_retry_after_and_the_rest_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, tuning=Tuning(limits=Limits(requests=8)), slow=0.1) as server:
        answers = asyncio.run(_flood(server, 60))
        counts = {status: [a.status_code for a in answers].count(status) for status in (200, 503)}
        assert counts[200] + counts[503] == 60
        assert counts[200] >= 8
        assert counts[503] >= 1
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert error_of(refused)["code"] == "overloaded"
        time.sleep(0.2)
        with server.client() as client:
            assert client.post("/v1/inspect", content=picture(RED)).status_code == 200


async def _flood(server: Running, count: int) -> list[httpx.Response]:
    headers, limits = {"X-API-Key": server.keys["infer"]}, httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=server.url, headers=headers, limits=limits, timeout=30) as client:
        return await asyncio.gather(*(client.post("/v1/inspect", content=picture(RED)) for _ in range(count)))


def test_the_work_of_a_client_that_left_is_dropped(tmp_path: Path) -> None:
    with running(tmp_path, slow=0.6) as server:
        with server.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/inspect", content=picture(RED), timeout=0.2)
        time.sleep(0.8)
        with server.client("operate") as client:
            after = samples(client.get("/metrics").text)
    bundle = {"bundle": "b-123", "version": "1.7", "product": "tiny"}
    assert after["toolkit_batch_rows_count", frozenset(bundle.items())] == 0
    left = {**bundle, "route": "/v1/inspect", "status": "499"}
    assert after["toolkit_requests_total", frozenset(left.items())] == 1


@pytest.fixture
def written() -> Iterator[list[object]]:
    """Every file that this process opens to write meanwhile, unnamed temporary ones included."""
    seen: list[object] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.append(arguments[0])

    sys.addaudithook(hook)  # it stays for good, so it is switched off
    yield seen
    watching = False


def test_nothing_touches_the_disk_while_serving(tmp_path: Path, written: list[object]) -> None:
    big = picture(RED, "BMP", size=1200)  # 4.3 MB: Starlette's own parser would spool it
    with running(tmp_path) as server, server.client() as client:
        before = sorted(tmp_path.rglob("*"))
        written.clear()
        assert client.post("/v1/inspect", files={"image": ("a.bmp", big)}).status_code == 200
        assert client.post("/v1/inspect", files=[("images", ("a.bmp", big))] * 3).status_code == 200
        assert client.post("/v1/inspect", content=big).status_code == 200
        assert written == []
        assert sorted(tmp_path.rglob("*")) == before
    with tempfile.TemporaryFile():
        assert written  # the watch does see unnamed files


def test_a_request_that_drips_in_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.serving.runner._GRACE", 0.3)
    with running(tmp_path, tuning=Tuning(limits=Limits(arrival_seconds=0.3))) as server:
        host, port = server.url.removeprefix("http://").split(":")
        key = server.keys["infer"].encode()
        head = b"POST /v1/inspect HTTP/1.1\r\nHost: x\r\nX-API-Key: " + key + b"\r\nContent-Length: 100\r\n\r\n"
        answered = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for opening in (b"", b"\r\n", b"GET /healthz HTTP/1.1\r\n", head + b"abc", answered):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(opening)
                if opening is answered:
                    connection.recv(65536)
                    connection.sendall(b"\r\n")
                received = b""
                while chunk := connection.recv(65536):
                    received += chunk
                assert received.startswith(b"HTTP/1.1 408" if opening.startswith(b"POST") else b"")


HEAD = b"POST /v1/inspect HTTP/1.1\r\nHost: x\r\nX-API-Key: "
CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"\r\nA: " + b"x" * 1_000_000,
        CHUNKED + b"2;" + b"x" * 1_000_000,
        CHUNKED + b"0\r\nA: " + b"x" * 1_000_000,
        b"\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"\r\nContent-Length : 2\r\n\r\nab",
        b"\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nab",
        b"\nContent-Length: 2\n\nab",
        b"\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"\r\nA: a\0b\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=[
        "endless-head", "endless-chunk-extension", "endless-trailer", "length-and-chunks", "two-lengths",
        "space-before-colon", "folded", "bare-line-feeds", "last-coding-not-chunked", "nul",
    ],
)  # fmt: skip
def test_what_a_proxy_may_read_otherwise_is_refused_and_nothing_is_gathered_without_end(
    server: Running, rest: bytes
) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):  # it may be shut while the rest is still on its way
            connection.sendall(HEAD + server.keys["infer"].encode() + rest)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answer += chunk
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_a_body_in_chunks_of_one_byte_is_a_body(server: Running) -> None:
    data = picture((250, 10, 10), "JPEG")

    def dripping() -> Iterator[bytes]:
        yield from (data[at : at + 1] for at in range(len(data)))
        yield from (
            b"\0" for _ in range(40_000)
        )  # a JPEG ends where it says, and this is well over what a head may have

    with server.client() as client:
        answer = client.post("/v1/inspect", content=dripping(), headers={"content-type": "image/jpeg"})
    assert answer.status_code == 200, answer.text


def test_who_has_no_key_takes_no_place_from_who_has(tmp_path: Path) -> None:
    opening = b"POST /console/sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    with running(tmp_path, tuning=Tuning(limits=Limits(requests=20))) as server, contextlib.ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        crowd = [stack.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(40)]
        for connection in crowd:
            connection.sendall(opening)
        with server.client() as client:
            for _ in range(10):
                answer = client.post("/v1/inspect", content=picture(RED), headers={"Content-Type": "image/png"})
                assert answer.status_code == 200
            refused = client.post("/console/sign-in", data={"key": "x" * 10_000}, headers={"X-API-Key": ""})
            assert refused.status_code in (413, 503)
        assert {connection.recv(12) for connection in crowd} == {b"HTTP/1.1 503", b"HTTP/1.1 408"}


@pytest.mark.parametrize("path", ["/console/static/x", "/console/language/en", "/healthz", "/v2/health/live"])
def test_what_is_public_may_be_looked_at_alone(server: Running, path: str, capfd: pytest.CaptureFixture[str]) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert httpx.request(method, server.url + path, content=b"x").status_code == 401
        with server.client() as client:
            assert client.request(method, path).status_code in (404, 405)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("length", ["0" * 5000 + "5", "9" * 5000])
def test_a_length_of_thousands_of_digits_is_refused(server: Running, length: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for path in ("/v1/inspect", "/console/sign-in"):
        with socket.create_connection((host, int(port)), timeout=10) as line:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {server.keys['infer']}\r\nContent-Length: {length}"
            line.sendall(head.encode() + b"\r\n\r\nabcde")
            assert line.recv(12) in (b"HTTP/1.1 413", b"HTTP/1.1 400")
    with server.client() as client:
        body = {"content": b"{}", "headers": {"Inference-Header-Content-Length": length}}
        assert client.post("/v2/models/b/infer", **body).status_code == 400


@pytest.mark.parametrize("ending", [b"", b"Connection: close\r\n"])
def test_a_client_that_reads_nothing_is_let_go(tmp_path: Path, ending: bytes) -> None:
    with running(tmp_path, tuning=Tuning(limits=Limits(arrival_seconds=0.5, requests=1))) as server:
        host, port = server.url.removeprefix("http://").split(":")
        page = b"GET /docs HTTP/1.1\r\nHost: x\r\nX-API-Key: " + server.keys["infer"].encode() + b"\r\n"
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(10)
            line.connect((host, int(port)))
            with contextlib.suppress(ConnectionError, TimeoutError):
                line.sendall((page + b"\r\n") * 400 + page + ending + b"\r\n")
            deadline = time.monotonic() + 10
            while psutil_connections(server, line.getsockname()[1]):
                assert time.monotonic() < deadline
                time.sleep(0.1)


def psutil_connections(server: Running, port: int) -> int:
    """How many of the server's connections lead to a port of a client's."""
    own = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == "ESTABLISHED" for one in own)


def test_connections_are_bounded(tmp_path: Path) -> None:
    limits = Limits(requests=1)
    with running(tmp_path, tuning=Tuning(limits=limits)) as server, contextlib.ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        crowd = [stack.enter_context(socket.create_connection((host, int(port)), timeout=5)) for _ in range(120)]
        time.sleep(0.3)
        shut = 0
        for connection in crowd:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                shut += connection.recv(1) == b""
        assert shut == 120 - limits.connections


def test_one_json_line_a_request_if_asked_and_no_content(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, tuning=Tuning(log_requests=True)) as server, server.client() as client:
        client.post("/v1/inspect", files={"image": ("secret-name.png", picture(GREEN))})
        httpx.get(server.url + "/v1/inspect", headers={"X-API-Key": "tk_wrong"})
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["status"], line["key"], line["verdicts"]) for line in lines] == [
        (200, "infer", ["scratch"]), (401, None, []),
    ]  # fmt: skip
    assert "secret-name" not in json.dumps(lines)
    assert lines[0]["ms"] > 0


def test_without_the_log_a_server_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.post("/v1/inspect", content=picture(GREEN))
        client.get("/nowhere")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_busy_port_is_told() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(EnvironmentUnfit, match=str(port)):
            listen("127.0.0.1", port)
    with pytest.raises(EnvironmentUnfit):
        listen("203.0.113.7", 0)
    with pytest.raises(EnvironmentUnfit):
        listen("no such host", 0)


def test_a_bug_in_a_domain_is_a_500_in_the_same_shape_and_the_server_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(bundle: Mapping[str, Any], predictor: ServedPredictor) -> Service:
        service = inspection(bundle, predictor)

        @service.routes.get("/broken")
        async def fail() -> None:
            raise LookupError("private detail")

        @service.routes.get("/fault")
        async def fault() -> None:
            raise ModelFault("the model failed")

        return service

    with running(tmp_path, ask=broken) as server, server.client() as client:
        answer, fault = client.get("/v1/broken"), client.get("/v1/fault")
        assert (answer.status_code, error_of(answer)["code"]) == (500, "internal")
        assert "private detail" not in answer.text
        assert answer.headers["x-request-id"] in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (fault.status_code, error_of(fault)["code"]) == (500, "model")
        assert client.post("/v1/inspect", content=picture(RED)).status_code == 200


def test_answers_do_not_wait_for_delayed_acknowledgements(server: Running) -> None:
    """Nagle's algorithm would add 40 ms to each answer on a connection that is kept."""
    times = []
    with server.client() as client:
        for _ in range(20):
            started = time.perf_counter()
            client.get("/readyz")
            times.append(time.perf_counter() - started)
    assert min(times) < 0.03


def test_requests_sent_without_waiting_are_answered_in_their_order(server: Running) -> None:
    body = picture(GREEN)
    key = f"X-API-Key: {server.keys['infer']}\r\n"
    asked = [
        b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n",
        f"HEAD /readyz HTTP/1.1\r\nHost: here\r\n{key}\r\n".encode(),
        f"POST /v1/inspect HTTP/1.1\r\nHost: here\r\n{key}Content-Type: image/png\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body,
        f"GET /nowhere HTTP/1.1\r\nHost: here\r\n{key}\r\n".encode(),
        b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    ]
    at = httpx.URL(server.url)
    with socket.create_connection((at.host, at.port or 80), timeout=10) as line, line.makefile("rb") as answers:
        line.sendall(b"".join(asked))
        found = []
        for request in asked:
            status = answers.readline().split()[1]
            fields = {}
            while field := answers.readline().strip():
                name, _, value = field.partition(b": ")
                fields[name.lower()] = value
            content = b"" if request.startswith(b"HEAD") else answers.read(int(fields[b"content-length"]))
            found.append((int(status), json.loads(content) if content else None))
        assert answers.read() == b""
    assert [status for status, _ in found] == [200, 200, 200, 404, 200]
    assert found[0][1] == found[4][1] == {"status": "ok"}
    assert found[2][1]["verdict"] == "scratch"
