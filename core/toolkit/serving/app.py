"""The app around the domains' routes: health, metrics, the API page, and errors in one shape.

Core adds keys, limits and figures here; what an inspection is, only a domain's routes know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from toolkit.errors import ToolkitError
from toolkit.serving.access import Access
from toolkit.serving.answers import error_answer, error_response
from toolkit.serving.backing import Backing
from toolkit.serving.console.door import CONSOLE, Door
from toolkit.serving.console.pages import Console, console_routes
from toolkit.serving.crew import Crew
from toolkit.serving.dispatch import Dispatch
from toolkit.serving.fleet import InHand
from toolkit.serving.gateway import (
    KSERVE_SERVER,
    LIVE,
    LIVENESS,
    METRICS,
    OPERATIONS,
    PAGE,
    READY,
    SCHEMA,
    SITE,
    Envelope,
    Intake,
    Keys,
)
from toolkit.serving.heads import Heads
from toolkit.serving.kserve import kserve_routes
from toolkit.serving.ledger import Ledger
from toolkit.serving.limits import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import Models, ServedModel
from toolkit.serving.openai import openai_routes
from toolkit.serving.page import ApiPage, read_api_page
from toolkit.serving.pulse import figures_route, pulse
from toolkit.serving.recording import Recorded
from toolkit.serving.roles import require
from toolkit.serving.shadow import Shadow
from toolkit.serving.shared import Shared
from toolkit.serving.site_routes import site_routes
from toolkit.serving.tally import Heard, Tally

if TYPE_CHECKING:
    from toolkit.serving.tracing import Tracing

NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own sends errors with what caused them wherever the environment says. Ours is `tracing`."""

Beside = Callable[[Backing], AbstractAsyncContextManager[Any]]
"""A server of another protocol, in the same event loop."""


def build_app(
    *, models: Models, access: Access, metrics: Metrics, limits: Limits, in_hand: InHand | None = None,
    log_requests: bool = False, beside: AbstractAsyncContextManager[object] | None = None, crew: Crew | None = None,
    routes: Iterable[APIRouter] = (), shadow: Shadow | None = None, heard: Sequence[Heard] = (),
    ledger: Ledger | None = None, servers: Sequence[Beside] = (), shared: Shared | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:  # fmt: skip
    """The server of what is installed.

    A route of a domain's service finds the caller in `request.state.identity`, the request's id in
    `request.state.request_id`, and leaves its verdicts, if it has any, in `request.state.verdicts` to be counted; one
    that leaves verdicts has no other effect than its answer. What they were given to it leaves in `request.state.seen`.

    Args:
        in_hand: where the requests are counted that are not answered yet.
        beside: what runs in the server's loop as long as it serves; `servers` of other protocols do, too.
        crew: the workers of which this is one, where there are several.
        routes: more of the server's own.
        shadow: puts a sample of requests to a second version.
        heard: told of each request that is done, as `metrics` is.
        ledger: keeps the site's records of what is answered; with it come the routes that show them.
        shared: what it has in common with other processes that serve the same.
        tracing: sends traces of requests to a collector.
    """
    page, in_hand, shared = read_api_page(), in_hand or InHand(), shared or Shared()
    passed = pulse(shared.figures, partial(_waiting, models), (CONSOLE, SITE, KSERVE_SERVER, *OPERATIONS))
    tally = Tally((metrics.answered, *heard), passed, log_requests)
    door = Door(access, shared.sessions)
    backing = Backing(models, access, limits, in_hand, tally, ledger, tracing)
    metrics.taken_in(lambda: in_hand.requests)
    metrics.watch_rates(access.rates)

    others = [*([] if beside is None else [beside]), *(server(backing) for server in servers)]
    if tracing is not None:
        others.insert(0, tracing.running())  # the last to end
    app = FastAPI(
        title="toolkit", lifespan=lambda app: _serving(app, models, ledger, others),
        docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY,
    )  # fmt: skip
    _add_operations(app, models, metrics, page, crew)
    own = [
        kserve_routes(models), openai_routes(models), *routes, figures_route(shared.figures, [require("operate")]),
        console_routes(Console(models, door, shared.figures.since)),
        *([] if ledger is None else [site_routes(ledger, models)]),
    ]  # fmt: skip
    for router in own:
        # Not by include_router: an included router is searched twice for each request.
        app.router.routes.extend(router.routes)
    paths = _paths(app.router)
    _add_errors(app)
    if ledger is not None:
        metrics.watch_drift(ledger.weeks)
        for model in models.all():
            ledger.serves(model.facts)
    Dispatch(models, shadow).before(app.router)

    def known(path: str) -> bool:
        return path in paths or any(path in _paths(model.service.routes) for model in models.all())

    # The last one added is the outermost.
    app.add_middleware(Intake, limits=limits, in_hand=in_hand)
    if ledger is not None:
        app.add_middleware(Recorded, ledger=ledger)
    app.add_middleware(Keys, access=access, door=door, sign_in=lambda: _page_response(page, 401))
    app.add_middleware(Heads)
    app.add_middleware(Envelope, tally=tally, known=known)
    if tracing is not None:
        app.add_middleware(tracing.layer, known=known)
    return app


@asynccontextmanager
async def _serving(
    app: FastAPI, models: Models, ledger: Ledger | None, others: Iterable[AbstractAsyncContextManager[Any]]
) -> AsyncIterator[None]:
    """What runs as long as the app serves; in the end its models answer what they have taken. What keeps it from
    serving is left in `app.state.failed`, since uvicorn only logs it."""
    async with AsyncExitStack() as stack:
        try:
            if ledger is not None:
                await asyncio.to_thread(ledger.start)
            for one in others:
                await stack.enter_async_context(one)
        except ToolkitError as error:
            app.state.failed = error
            raise
        yield
    for model in models.all():
        await model.queue.stop()
    if ledger is not None:
        await asyncio.to_thread(ledger.stop)


def _waiting(models: Models) -> int:
    return sum(model.queue.waiting for model in models.all())


def _add_operations(app: FastAPI, models: Models, metrics: Metrics, page: ApiPage, crew: Crew | None) -> None:
    @app.get(LIVE, tags=["operations"], summary="Is the process alive? Needs no key.", response_description="It is.")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get(
        READY,
        tags=["operations"],
        summary="What is served, and is it taking requests?",
        response_description="It takes requests.",
        responses={503: {"description": "It is stopping, or its grant ended."}},
    )
    async def readyz() -> JSONResponse:
        versions = models.all()
        record = _readiness(versions[0])
        if len(versions) > 1:
            record["versions"] = [_readiness(model) for model in versions]
        if crew is not None:
            record["workers"] = crew.health()
        return JSONResponse(record, 200 if record["status"] == "ready" else 503)

    @app.get(
        METRICS,
        tags=["operations"],
        summary="Figures for Prometheus. Needs the role operate.",
        response_description="The exposition format.",
        response_class=PlainTextResponse,
        responses={403: {"description": "The key's role may not."}},
        dependencies=[Depends(require("operate"))],
    )
    async def show_metrics() -> Response:
        return Response(crew.render() if crew else metrics.render(), media_type=metrics.content_type)

    @app.get(PAGE, include_in_schema=False)
    async def docs() -> Response:
        return _page_response(page, 200)

    @app.get(SCHEMA, include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(_schema(app, models.all()[0], LIVENESS))

    @app.get("/products/{product}" + SCHEMA, include_in_schema=False)
    async def openapi_of(product: str) -> JSONResponse:
        schema = _schema(None, models.find(product), set())
        return JSONResponse(schema | {"servers": [{"url": f"/products/{product}"}]})


def _page_response(page: ApiPage, status: int) -> Response:
    headers = {"content-security-policy": page.policy}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="toolkit"'
    return Response(page.html, status, headers, media_type="text/html")


def _readiness(model: ServedModel) -> dict[str, Any]:
    served, running, grant = model.facts, model.queue.facts, model.standing()
    return {
        "status": "stopping" if model.queue.closed else "ready" if grant.holds else "refused",
        "product": served.product, "version": served.version, "bundle": served.id,
        "form": running.form, "provider": running.provider,
        "keys": "development keys" if served.development_keys else "site keys",
        "sample": served.sample,
        "grant": {"state": grant.state, "message": grant.message, "seconds_left": grant.seconds_left},
    }  # fmt: skip


def _paths(router: APIRouter) -> frozenset[str]:
    """Those of a router's own routes; making OpenAPI's page to know them took most of a worker's start."""
    return frozenset(getattr(route, "path", "") for route in router.routes)


def _schema(app: FastAPI | None, model: ServedModel, open_to_all: Collection[str]) -> dict[str, Any]:
    """What OpenAPI says of the routes of an app, if any, and of a version's."""
    routes = [*(app.routes if app else ()), *model.service.routes.routes]
    schema = get_openapi(title=model.facts.product, version=model.facts.version, routes=routes)
    schema.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    schema["security"] = [{"bearer": []}, {"header": []}]
    for path in open_to_all:
        schema["paths"][path]["get"]["security"] = []
    return schema


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ToolkitError)
    async def refused(request: Request, error: ToolkitError) -> Response:
        return error_response(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        field = ".".join(str(part) for part in first["loc"][1:]) or None
        return error_answer(
            request.url.path, 422, "invalid", f"{where}: {first['msg']}", "The API page at /docs shows what fits.",
            param=field,
        )  # fmt: skip

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
        return error_answer(
            request.url.path, error.status_code, code, f"{error.detail}.", "The API page at /docs lists the routes.",
            headers=error.headers,
        )  # fmt: skip
