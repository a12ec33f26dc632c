"""The recent past of a server for charts: what is counted, and `GET /site/figures`, which tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.serving.figures import SECONDS, Figures

ROUTE = "/site/figures"
_GONE = 499


class Pulse:
    """An ASGI layer that counts answers to those who use the models: neither the console's nor operations."""

    def __init__(self, app: ASGIApp, figures: Figures, waiting: Callable[[], int], aside: Sequence[str]) -> None:
        self._app, self._figures, self._waiting, self._aside = app, figures, waiting, tuple(aside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._aside):
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), _GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = 500
            raise
        finally:
            self._figures.answered(status, time.perf_counter() - started, self._waiting())


def figures_route(figures: Figures, dependencies: Sequence[Any]) -> APIRouter:
    """The route; `dependencies` decide who may ask."""
    router = APIRouter(tags=["operations"], dependencies=[Depends(one) for one in dependencies])

    @router.get(
        ROUTE,
        summary="The last minutes in points of five seconds, for charts. Needs the role operate.",
        description="Columns of equal length, oldest first. `requests`, `errors` (500 and above, but 503) and "
        "`refused` (429, 503) are a second; `queue` is the longest. All worker processes are counted.",
    )
    async def figures_of(minutes: Annotated[int, Query(ge=1, le=SECONDS // 60)] = 10) -> dict[str, Any]:
        return {"since": figures.since, **figures.series(minutes)}

    return router
