"""Traces: a real collector's end of OTLP on loopback, asked by real servers; and where traces must not go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving_parts import picture, running
from test_serving_cli import finished, install_domain, make_site, serving

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from toolkit.errors import UsageError
from toolkit.serving.access import add_key
from toolkit.serving.collector import endpoint_of, is_own, own_session
from toolkit.serving.tracing import Tracing

RED = picture((230, 20, 20))
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Takes traces as a collector does, and remembers them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Any]:
        requests = map(ExportTraceServiceRequest.FromString, self.bodies)
        return [
            span for one in requests for resource in one.resource_spans for scope in resource.scope_spans
            for span in scope.spans
        ]  # fmt: skip

    def of_trace(self, trace_id: str) -> dict[str, Any]:
        """The spans of a trace by name."""
        return {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        taken = (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        if taken:
            self.server.bodies.append(body)
        self.send_response(200 if taken else 404)
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, str | int]:
    values = {one.key: one.value for one in span.attributes}
    return {name: getattr(value, value.WhichOneof("value")) for name, value in values.items()}


def test_a_request_is_a_trace_with_its_steps_over_http_and_grpc(tmp_path: Path, collector: Collector) -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    from toolkit.serving.kserve_messages import SERVICE, message

    site, packages = make_site(tmp_path), install_domain(tmp_path / "packages", seconds=0)
    key = add_key(site, "secret-name", "operate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ("--otlp", collector.url, "--log-requests", "--workers", "1", "--grpc-port", str(port))
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    with serving(site, packages, *more) as (process, told):
        with httpx.Client(base_url=told["url"], headers={"X-API-Key": key}) as client:
            given = {
                "traceparent": f"00-{TRACE}-{SPAN}-01",
                "tracestate": "who=secret-name",
                "Content-Type": "image/png",
            }
            assert client.post("/v1/inspect?who=secret-name", content=RED, headers=given).status_code == 200
            assert client.get("/secret-name").status_code == 404
            unsampled = {"traceparent": f"00-{'7' * 32}-{SPAN}-00", "Content-Type": "image/png"}
            assert client.post("/v1/inspect", content=RED, headers=unsampled).status_code == 200
        asked = message("ModelInferRequest")(
            model_name="tiny", inputs=[{"name": "image", "datatype": "UINT8", "shape": pixels.shape}],
            raw_input_contents=[pixels.tobytes()],
        )  # fmt: skip
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            metadata = (("x-api-key", key), ("traceparent", f"00-{'5' * 32}-{SPAN}-01"))
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(asked.SerializeToString(), metadata=metadata, timeout=10)
        process.terminate()
        _, err = process.communicate(timeout=30)
    spans = collector.of_trace(TRACE)
    assert set(spans) == {"POST /v1/inspect", "decode", "queue", "inference"}
    root = spans.pop("POST /v1/inspect")
    assert (root.parent_span_id.hex(), root.kind, root.trace_state) == (SPAN, 2, "")
    assert attributes(root) == {
        "http.request.method": "POST", "http.route": "/v1/inspect", "http.response.status_code": 200,
        "toolkit.product": "tiny", "toolkit.version": told["version"], "toolkit.bundle": told["bundle"],
    }  # fmt: skip
    at = [root.start_time_unix_nano]
    for name in ("decode", "queue", "inference"):
        assert spans[name].parent_span_id == root.span_id
        at += [spans[name].start_time_unix_nano, spans[name].end_time_unix_nano]
    assert at == sorted(at)
    assert at[-1] <= root.end_time_unix_nano
    assert abs(root.start_time_unix_nano / 1e9 - time.time()) < 60
    called = collector.of_trace("5" * 32)
    assert set(called) == {f"{SERVICE}/ModelInfer", "decode", "queue", "inference"}
    assert attributes(called[f"{SERVICE}/ModelInfer"])["toolkit.product"] == "tiny"
    assert not collector.of_trace("7" * 32)  # its client does not want it
    assert "GET other" in {span.name for span in collector.spans}
    sent = b"".join(collector.bodies)
    assert not [one for one in (b"secret-name", key.encode(), RED[:40], b"good") if one in sent]
    logged = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [line["trace_id"] for line in logged if line["route"].startswith("/v1/")] == [TRACE, "7" * 32]
    assert [line["trace_id"] for line in logged if line["method"] == "gRPC"] == ["5" * 32]
    code, out, _ = finished("audit", "inferences", "--site", str(site), "--json", packages=packages)
    assert code == 0
    assert all(one in out for one in (TRACE, "5" * 32))


def test_the_end_of_a_server_does_not_wait_for_a_collector_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def traced() -> str:
        tracing = Tracing("http://127.0.0.1:9")
        async with tracing.running():
            trace = tracing.begin("no traceparent")
            trace.ended("POST /v1/inspect", 503, None, {})
            return trace.id

    began = time.monotonic()
    assert len(asyncio.run(traced())) == 32
    assert time.monotonic() - began < 5
    assert "Failed to export" in caplog.text


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://8.8.8.8:4318", "not on a private network"),
        ("http://[2001:4860:4860::8888]/v1/traces", "not on a private network"),
        ("http://[::ffff:8.8.8.8]:4318", "not on a private network"),
        ("http://169.254.169.254/", "not on a private network"),
        ("ftp://127.0.0.1", "no collector's URL"),
        ("127.0.0.1:4318", "no collector's URL"),
        ("http://127.0.0.1:99999", "no collector's URL"),
        ("http://[", "no collector's URL"),
        ("http://me:password@127.0.0.1:4318", "no collector's URL"),
    ],
)
def test_traces_go_to_no_other_place_than_a_private_network(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as error:
        endpoint_of(url)
    assert "password" not in str(error.value)


def test_collectors_of_the_own_network_are_taken_by_their_usual_urls() -> None:
    for url in ("http://127.0.0.1:4318", "http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"):
        assert endpoint_of(url) == "http://127.0.0.1:4318/v1/traces"
    assert endpoint_of("https://[fd00::1]:4318/otel") == "https://[fd00::1]:4318/otel/v1/traces"
    assert endpoint_of("http://collector.invalid:4318").endswith("/v1/traces")  # it may be found later
    assert is_own("::ffff:10.1.2.3")


def test_neither_a_proxy_nor_an_address_that_changed_takes_a_byte(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with own_session() as session, contextlib.closing(session.post(f"{collector.url}/other", b"x")) as answer:
        assert answer.status_code == 404  # straight to it
        monkeypatch.setattr("toolkit.serving.collector.OWN", ())  # as if the name now led elsewhere
        with own_session() as strict, pytest.raises(OSError, match="not on a private network"):
            strict.post(f"{collector.url}/v1/traces", b"x")
    assert collector.bodies == []


def test_a_server_that_is_not_traced_sends_nothing_whatever_the_environment_says(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with running(tmp_path) as server, server.client() as client:
        assert client.post("/v1/inspect", content=RED, headers={"Content-Type": "image/png"}).status_code == 200
        assert client.post("/v1/inspect", content=b"no picture").status_code == 422
        time.sleep(0.2)
    assert collector.bodies == []


def test_what_sends_traces_is_loaded_only_where_it_is_wanted() -> None:
    code = (
        "import sys, toolkit.serving.app, toolkit.serving.kserve_grpc, toolkit.cli.worker; "
        "print([n for n in sys.modules if n.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'requests'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
