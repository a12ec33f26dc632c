"""Traces by OpenTelemetry: a span for each request and for its steps, sent to a collector by OTLP over HTTP.

What a span says is when, which route, which version and how it ended: never content, a key, a name, or what a client
made up. A client's own trace goes on where it sends a W3C `traceparent`; its `tracestate` and baggage are left alone.
Loaded only where traces are wanted; needs the extra `otel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.serving.collector import endpoint_of, own_session
from toolkit.serving.dispatch import SERVED
from toolkit.serving.gateway import CLIENT_GONE, route_of
from toolkit.serving.models import ServedModel
from toolkit.serving.steps import STEPS, Step
from toolkit.serving.tally import TRACE_ID

PARENT = "traceparent"
SEND_SECONDS = 2.0
"""How long a batch may take on its way; a collector that is gone must not hold up the end of a server."""

_W3C = TraceContextTextMapPropagator()


class Tracing:
    """The traces of one process.

    Args:
        url: the collector's, as `collector.endpoint_of` takes it.

    Raises:
        UsageError: it is no collector's, or is not on the site's own network.
    """

    def __init__(self, url: str) -> None:
        self._endpoint = endpoint_of(url)
        self._tracer: Tracer | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send what is traced while the block runs, from a thread, and the rest at the end. Not before a fork."""
        exporter = OTLPSpanExporter(self._endpoint, timeout=SEND_SECONDS, session=own_session())
        resource = Resource({"service.name": "distil-toolkit", "service.version": version("distil-toolkit")})
        provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = provider.get_tracer("toolkit.serving")
        try:
            yield
        finally:
            await asyncio.to_thread(provider.shutdown)

    def begin(self, parent: str) -> Trace:
        """A request has come, within a client's trace where it sent one; what is noted of it from now is its own."""
        if self._tracer is None:
            raise RuntimeError("traces are begun while they are sent")
        context = _W3C.extract({PARENT: parent} if parent else {})
        return Trace(self._tracer, self._tracer.start_span("request", context, SpanKind.SERVER))

    def layer(self, app: ASGIApp, known: Callable[[str], bool]) -> ASGIApp:
        """The app with a trace around each request; `known` as in `gateway.route_of`."""
        return Traced(app, self, known)


class Trace:
    """A request as it goes on. `id` is 32 hexadecimal digits."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self.id = format_trace_id(span.get_span_context().trace_id)
        self._steps: list[Step] = []
        self._before = STEPS.set(self._steps)

    def ended(self, name: str, status: int, model: ServedModel | None, more: Mapping[str, str | int]) -> None:
        """The request is done.

        Args:
            name: what is asked, of few: a route, not a path.
            status: HTTP's number, of other protocols too.
            more: attributes of its protocol.
        """
        STEPS.reset(self._before)
        span = self._span
        if span.is_recording():
            facts = model and model.facts
            served = {"product": facts.product, "version": facts.version, "bundle": facts.id} if facts else {}
            span.update_name(name)
            span.set_attributes({f"toolkit.{key}": value for key, value in served.items()} | dict(more))
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            within, apart = set_span_in_context(span), time.time() - time.monotonic()
            for one in self._steps:
                child = self._tracer.start_span(one.name, within, start_time=_nanoseconds(one.began + apart))
                child.end(_nanoseconds(one.ended + apart))
        span.end()


class Traced:
    """The outermost layer of an app, where there are traces."""

    def __init__(self, app: ASGIApp, tracing: Tracing, known: Callable[[str], bool]) -> None:
        self._app, self._tracing, self._known = app, tracing, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_GONE

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        trace = self._tracing.begin(Headers(scope=scope).get(PARENT, ""))
        state = scope.setdefault("state", {})
        state[TRACE_ID] = trace.id
        try:
            await self._app(scope, receive, watch)
        finally:
            method, route = scope["method"], route_of(scope, self._known)
            told = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            trace.ended(f"{method} {route}", status, state.get(SERVED), told)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
