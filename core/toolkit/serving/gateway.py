"""What stands before a domain's routes, as ASGI layers from the outside in: `Envelope` (request id, headers, metrics,
log), `Keys` (deny by default), `Licence` (does the grant hold), `Intake` (limits, time, the client's
going). Knows no route's meaning.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import sys
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.errors import ToolkitError
from toolkit.seal.validity import Standing
from toolkit.serving.access import Access, credential
from toolkit.serving.answers import SECURITY_HEADERS, error_answer, error_response
from toolkit.serving.limits import Limits as Limits
from toolkit.serving.limits import Occupancy as Occupancy
from toolkit.serving.metrics import Metrics
from toolkit.serving.refusals import NotLicensed, Overloaded, TooLarge, TooSlow, Unauthorised

LIVE = "/healthz"
READY = "/readyz"
KSERVE_LIVE = "/v2/health/live"
KSERVE_READY = "/v2/health/ready"
METRICS = "/metrics"
PAGE = "/docs"
SCHEMA = "/openapi.json"
LIVENESS = frozenset({LIVE, KSERVE_LIVE})
"""The one question that needs no key, by both its names."""
OPERATIONS = frozenset({*LIVENESS, READY, KSERVE_READY, METRICS, PAGE, SCHEMA})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499  # nginx's number for a client that left before its answer; seen in metrics and log only


class Envelope:
    """Outermost: every answer gets a request id and the security headers, is counted, and is logged if asked.

    The log is one JSON line on standard error: who asked what, and how it ended; never a byte of content.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, known: frozenset[str], log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._known = known
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

        async def dress(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS:
                    headers.setdefault(name.decode(), value.decode())
                headers["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, dress)
        except Exception:
            if not status:
                # uvicorn writes the traceback of what is raised here to its log, and then drops the connection.
                answer = error_answer(
                    scope["path"], 500, "internal", "The server failed on this request.",
                    f"Its log has {request_id}.", headers={"connection": "close"},
                )  # fmt: skip
                await answer(scope, receive, dress)
            raise
        finally:
            self._record(scope, status or _CLIENT_GONE, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        state, path = scope["state"], scope["path"]
        # A path that is no route must not become a label: anyone could make up as many as memory holds.
        route = getattr(scope.get("route"), "path", None) or (path if path in self._known else "other")
        verdicts = state.get("verdicts", ())
        self._metrics.answered(route, status, seconds, verdicts)
        if self._log:
            identity = state.get("identity")
            line = {
                "time": round(time.time(), 3), "request_id": state["request_id"], "key": identity and identity.name,
                "method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 2),
                "bytes": state.get("body_bytes", 0), "verdicts": list(verdicts),
            }  # fmt: skip
            sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")


class Keys:
    """No key, no answer: every path but those of liveness, whether it exists or not.

    A browser cannot send a key when it opens /docs, so that one refusal carries the page on which to type the key:
    static text that is in the public package anyway. What it then shows, /openapi.json, needs the key.
    """

    def __init__(self, app: ASGIApp, access: Access, sign_in: Callable[[], Response]) -> None:
        self._app = app
        self._access = access
        self._sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in LIVENESS:
            await self._app(scope, receive, send)
            return
        secret = credential(scope["headers"])
        try:
            identity = self._access.authenticate(secret)
        except ToolkitError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        if identity is not None:
            scope["state"]["identity"] = identity
            await self._app(scope, receive, send)
        elif scope["path"] == PAGE and scope["method"] == "GET":
            await self._sign_in()(scope, receive, send)
        else:
            what = "this key is not known here" if secret else "an API key is needed"
            hint = "Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `toolkit access add` makes one."
            await error_response(Unauthorised(what, hint=hint), scope["path"])(scope, receive, send)


class Licence:
    """A served bundle whose grant no longer holds answers nothing more, and says why; operations stay open."""

    def __init__(self, app: ASGIApp, standing: Callable[[], Standing]) -> None:
        self._app = app
        self._standing = standing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPERATIONS:
            standing = self._standing()
            if not standing.holds:
                await error_response(NotLicensed.because(standing), scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Intake:
    """Takes a request's body into RAM, within limits and in time, and stops the work when its client has gone.

    The body is read here, once: no parser further in can spool a customer's picture to disk.
    """

    def __init__(self, app: ASGIApp, limits: Limits, occupancy: Occupancy) -> None:
        self._app = app
        self._limits = limits
        self._now = occupancy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        try:
            with self._now.one_more(self._limits):
                await self._serve(scope, receive, send)
        except Overloaded as busy:
            await error_response(busy, scope["path"])(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._limits.arrival_seconds):
                body = await self._read(Headers(scope=scope), receive)
        except TimeoutError:
            late = TooSlow("the request did not arrive in time", hint="Send it faster, or in smaller parts.")
            await error_response(late, scope["path"])(scope, receive, send)
            return
        except ToolkitError as refusal:
            await error_response(refusal, scope["path"])(scope, receive, send)
            return
        if body is None:
            return
        scope["state"]["body_bytes"] = len(body)
        try:
            await _run_until_gone(self._app, scope, body, receive, send)
        finally:
            self._now.held_bytes -= len(body)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body, or None where the client left in the middle of it."""
        if int(headers.get("content-length", 0)) > self._limits.body_bytes:
            raise self._too_large()
        body, complete = bytearray(), False
        try:
            while not complete:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk = message.get("body", b"")
                body += chunk
                self._now.held_bytes += len(chunk)
                if len(body) > self._limits.body_bytes:
                    raise self._too_large()
                if self._now.held_bytes > self._limits.held_bytes:
                    raise Overloaded("the server holds as much as it may of other requests")
                complete = not message.get("more_body", False)
        finally:
            if not complete:
                self._now.held_bytes -= len(body)
        return bytes(body)

    def _too_large(self) -> TooLarge:
        megabytes = self._limits.body_bytes / 1_000_000
        return TooLarge(f"a request may hold {megabytes:g} MB", hint="Send a smaller picture, or fewer at a time.")


async def _run_until_gone(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Run `app` on a body that is already here; cancel it when the client disconnects."""
    delivered = False

    async def gone() -> Message:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    async def replay() -> Message:
        nonlocal delivered
        if not delivered:
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await asyncio.shield(leaving)

    leaving = asyncio.ensure_future(gone())
    working = asyncio.ensure_future(app(scope, replay, send))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
    if not working.cancelled():
        await working
