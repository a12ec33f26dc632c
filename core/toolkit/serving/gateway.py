"""What stands before a domain's routes, as ASGI layers from the outside in: `Envelope` (request id, headers,
tally), `Keys` (deny by default), `recording.Recorded` (no answer that is not written down), `Intake` (limits, time, the
client's going). Knows no route's meaning.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.errors import ToolkitError
from toolkit.serving.access import Access, credential
from toolkit.serving.answers import SECURITY_HEADERS, error_answer, error_response
from toolkit.serving.console.door import CONSOLE, SAFE, SIGN_IN, Door
from toolkit.serving.dispatch import SERVED, told_by
from toolkit.serving.fleet import InHand
from toolkit.serving.limits import Limits as Limits
from toolkit.serving.refusals import Overloaded, TooLarge, TooSlow, Unauthorised
from toolkit.serving.tally import TRACE_ID, Tally

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
KSERVE_SERVER = "/inference.GRPCInferenceService/Server"
"""How the methods of gRPC begin that ask of the server itself."""
SITE = "/site/"
"""Where the routes of the site itself are: what they do is no inference."""

STRANGERS, STRANGERS_BYTES, STRANGERS_SECONDS = 16, 8192, 5.0
"""Requests at once of those who have no key, and what one may bring, and by when: it is a form with a key in it."""

_LENGTH_DIGITS = 20
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_GONE = 499  # nginx's number for a client that left before its answer; seen in metrics and log only


class Envelope:
    """Outermost: every answer gets a request id, the security headers and the name of the version that gave it, and
    goes into the `tally`."""

    def __init__(self, app: ASGIApp, tally: Tally, known: Callable[[str], bool]) -> None:
        self._app = app
        self._tally = tally
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = given if _REQUEST_ID.fullmatch(given) else _new_id()

        async def dress(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                set_already = {name for name, _ in headers}
                headers += [header for header in SECURITY_HEADERS if header[0] not in set_already]
                headers.append((b"x-request-id", request_id.encode()))
                if (model := state.get(SERVED)) is not None:
                    headers += [(name.encode(), told.encode("latin-1", "replace")) for name, told in told_by(model)]
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
            self._record(scope, status or CLIENT_GONE, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        self._tally.done(
            request_id=state["request_id"], identity=state.get("identity"), method=scope["method"], path=scope["path"],
            route=route_of(scope, self._known), status=status, seconds=seconds, size=state.get("body_bytes", 0),
            model=state.get(SERVED), verdicts=state.get("verdicts", ()), trace_id=state.get(TRACE_ID, ""),
        )  # fmt: skip


def _new_id() -> str:
    """No secret, so no call to the system: after that the interpreter is the model's thread's, and is waited for."""
    return f"{random.getrandbits(64):016x}"


def is_observing(scope: Scope) -> bool:
    """Whether a request only looks at the server: it is answered however busy the server is."""
    looking = scope["method"] in SAFE and scope["path"].startswith((CONSOLE, SITE))
    return scope["path"] in OPERATIONS or looking


def _is_alive(scope: Scope) -> bool:
    """Whether it is only asked whether the server lives."""
    return scope["path"] in LIVENESS and scope["method"] in (*SAFE, "OPTIONS")


def _is_entering(scope: Scope, secret: str | None) -> bool:
    """Whether a browser opens the console without a session: it is led to the page to sign in on."""
    return scope["path"].startswith(CONSOLE) and scope["method"] in SAFE and not secret


class Keys:
    """No key, no answer: every path but those of liveness and the way into the console, whether it exists or not.

    The console's session cookie stands for the key with which it began.

    A browser cannot send a key when it opens /docs, so that one refusal carries the page on which to type the key:
    static text that is in the public package anyway. What it then shows, /openapi.json, needs the key.
    """

    def __init__(self, app: ASGIApp, access: Access, door: Door, sign_in: Callable[[], Response]) -> None:
        self._app = app
        self._access = access
        self._door = door
        self._sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_alive(scope) or self._door.is_public(scope):
            await self._app(scope, receive, send)
            return
        secret = credential(scope["headers"])
        try:
            identity = self._access.authenticate(secret) if secret else self._door.identify(scope)
            if identity is not None and scope["path"] not in OPERATIONS:
                scope["state"]["identity"] = identity
                self._access.admit(identity)
            elif identity is None and not _is_entering(scope, secret):
                self._access.refused((scope.get("client") or ("",))[0])
        except ToolkitError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        if identity is not None:
            scope["state"]["identity"] = identity
            await self._app(scope, receive, send)
        elif scope["path"] == PAGE and scope["method"] == "GET":
            await self._sign_in()(scope, receive, send)
        elif _is_entering(scope, secret):
            going = f"{SIGN_IN}?next={quote(scope['path'])}"
            await RedirectResponse(going, 303)(scope, receive, send)
        else:
            what = "this key is not known here" if secret else "an API key is needed"
            hint = "Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `toolkit access add` makes one."
            await error_response(Unauthorised(what, hint=hint), scope["path"])(scope, receive, send)


class Intake:
    """Takes a request's body into RAM, within limits and in time, and stops the work when its client has gone.

    The body is read here, once: no parser further in can spool a customer's picture to disk.
    """

    def __init__(self, app: ASGIApp, limits: Limits, in_hand: InHand) -> None:
        self._app = app
        self._limits = limits
        self._now, self._strangers = in_hand, InHand()
        self._limits_of_strangers = replace(
            limits, requests=STRANGERS, body_bytes=min(limits.body_bytes, STRANGERS_BYTES),
            arrival_seconds=min(limits.arrival_seconds, STRANGERS_SECONDS),
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_observing(scope):
            await self._app(scope, receive, send)
            return
        now, limits = self._now, self._limits
        if "identity" not in scope["state"]:
            now, limits = self._strangers, self._limits_of_strangers
        try:
            with now.one_more(limits.requests):
                await self._serve(scope, receive, send, limits)
        except Overloaded as busy:
            await error_response(busy, scope["path"])(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        try:
            async with asyncio.timeout(limits.arrival_seconds):
                body = await self._read(Headers(scope=scope), receive, limits.body_bytes)
        except TimeoutError:
            late = TooSlow("the request did not arrive in time", hint="Send it faster, or in smaller parts.")
            await error_response(late, scope["path"])(scope, receive, send)
            return
        except ToolkitError as refusal:
            await error_response(refusal, scope["path"])(scope, receive, send)
            return
        if body is None:
            return
        scope["state"] |= {"body_bytes": len(body), "body": body}
        try:
            await _run_until_gone(self._app, scope, body, receive, send)
        finally:
            self._now.held_bytes -= len(body)

    async def _read(self, headers: Headers, receive: Receive, most: int) -> bytes | None:
        """The whole body, or None where the client left in the middle of it."""
        if _stated_length(headers.get("content-length", "")) > most:
            raise _too_large(most)
        body, complete = bytearray(), False
        try:
            while not complete:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk = message.get("body", b"")
                body += chunk
                self._now.held_bytes += len(chunk)
                if len(body) > most:
                    raise _too_large(most)
                if self._now.held_bytes > self._limits.held_bytes:
                    raise Overloaded("the server holds as much as it may of other requests")
                complete = not message.get("more_body", False)
        finally:
            if not complete:
                self._now.held_bytes -= len(body)
        return bytes(body)


def _stated_length(text: str) -> float:
    """What a header says of a length, which is digits, but maybe thousands of them: Python would not read those."""
    return int(text or 0) if len(text) <= _LENGTH_DIGITS else math.inf


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"a request may hold {most / 1_000_000:g} MB", hint="Send a smaller picture, or fewer at a time.")


def route_of(scope: Scope, known: Callable[[str], bool] = lambda path: False) -> str:
    """A path that is no route must not become a label: anyone could make up as many as memory holds."""
    path: str = scope["path"]
    return getattr(scope.get("route"), "path", None) or (path if known(path) else "other")


async def _run_until_gone(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Run `app` on a body that is already here; cancel it when the client disconnects."""
    working, delivered, stopped = asyncio.current_task(), False, False
    assert working is not None

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

    def stop(left: asyncio.Future[Message]) -> None:
        nonlocal stopped
        if not left.cancelled():
            stopped = True
            working.cancel()

    leaving = asyncio.ensure_future(gone())
    leaving.add_done_callback(stop)
    try:
        await app(scope, replay, send)
    except asyncio.CancelledError:
        if not stopped or working.uncancel():
            raise
    finally:
        leaving.remove_done_callback(stop)
        leaving.cancel()
