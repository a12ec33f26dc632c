"""The layer that has every request to a model written into the site's records."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.errors import ToolkitError
from toolkit.services import Seen
from toolkit.serving.answers import error_response
from toolkit.serving.console.door import CONSOLE
from toolkit.serving.dispatch import SERVED
from toolkit.serving.exchange import Exchange
from toolkit.serving.gateway import CLIENT_GONE, SITE, route_of
from toolkit.serving.ledger import Ledger
from toolkit.serving.models import ServedModel
from toolkit.serving.tally import TRACE_ID
from toolkit.serving.written import SEEN
from toolkit.site.contents import Body

ASIDE = (SITE, CONSOLE)
"""What is no question to a model."""


class Recorded:
    """Every request to a model is written into the site's trail, however it ends; where that cannot be, none is
    answered. Reading (GET) is no inference, and neither is what the site's own routes and the console do."""

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS") or scope["path"].startswith(ASIDE):
            await self._app(scope, receive, send)
            return
        try:
            self._ledger.check()
        except ToolkitError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        answer = bytearray() if self._ledger.wants_content else None
        answer_type = ""

        async def watch(message: Message) -> None:
            nonlocal status, answer_type
            if message["type"] == "http.response.start":
                status = message["status"]
                answer_type = Headers(raw=message["headers"]).get("content-type", "")
            elif answer is not None:
                answer.extend(message.get("body", b""))
            await send(message)

        written: list[Seen] = []
        noting = SEEN.set(written)
        try:
            await self._app(scope, receive, watch)
        finally:
            SEEN.reset(noting)
            state = scope["state"]
            model: ServedModel | None = state.get(SERVED)
            self._ledger.answered(
                Exchange(
                    request_id=state["request_id"], identity=state["identity"], method=scope["method"],
                    route=route_of(scope), status=status or CLIENT_GONE, seconds=time.perf_counter() - started,
                    size=state.get("body_bytes", 0), served=None if model is None else model.facts,
                    verdicts=tuple(state.get("verdicts", ())), seen=tuple(state.get("seen") or written),
                    asked=Body(Headers(scope=scope).get("content-type", ""), state.get("body", b"")),
                    answered=None if answer is None else Body(answer_type, bytes(answer)),
                    trace_id=state.get(TRACE_ID, ""),
                )
            )  # fmt: skip
