"""The domain whose server `bench-serving` asks: core's own routes, and for pictures a handler that does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from toolkit.hookspecs import hookimpl
from toolkit.services import Service
from toolkit.tasks.image_classification.service import inspection_service
from toolkit.tasks.text_generation.service import text_service


@hookimpl
def serve(site: Path, bundle: Mapping[str, Any], predictor: Any) -> Service:
    """As each task serves by itself; beside pictures `POST /v1/empty`: what all else costs around an answer."""
    if bundle["plan"]["task"] == "text_generation":
        return text_service(bundle, predictor)
    service = inspection_service(
        bundle["classes"], bundle["thresholds"], bundle["id"], bundle["good_class"], bundle["channels"], predictor
    )
    routes = APIRouter()

    @routes.post("/v1/empty")
    async def empty(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({"verdict": "none"})

    routes.include_router(service.routes)
    return Service(routes=routes)
