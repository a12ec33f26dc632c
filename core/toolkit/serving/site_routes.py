"""Routes of the site itself: its trails here, its review set in `review_routes`."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from toolkit.serving.key_routes import add_keys
from toolkit.serving.ledger import Ledger
from toolkit.serving.models import Models
from toolkit.serving.review_routes import add_review
from toolkit.serving.roles import require
from toolkit.site.audit import AuditEntry
from toolkit.site.inference_chain import latest, place_of

MOST = 1000

Limit = Annotated[int, Query(ge=1, le=MOST, description="Most entries of the answer.")]


MAX_SEQUENCE = 2**53 - 1
"""As far as JSON's numbers are exact."""
BEFORE = "^[0-9TZ:.+-]*(~[0-9a-f]{16}~[0-9]{1,16})?$"
"""A time, and perhaps which line of that time."""


def site_routes(ledger: Ledger, models: Models) -> APIRouter:
    """The routes over one site's records."""
    router = APIRouter(prefix="/site", tags=["site"])
    _add_trails(router, ledger)
    add_review(router, ledger)
    _add_drift(router, ledger, models)
    add_keys(router, ledger.site)
    return router


def _add_drift(router: APIRouter, ledger: Ledger, models: Models) -> None:
    @router.get(
        "/drift",
        summary="Whether scores and inputs of the running week are spread as in the release.",
        description="`state` is the worst of the measures' `states`: ok, watch, alert, too_few (fewer than 50 values), "
        "or no_reference in a bundle that brings none. `reference` and `week` count values.",
        dependencies=[Depends(require("operate"))],
    )
    async def drift() -> JSONResponse:
        await asyncio.to_thread(ledger.look)
        serving = {model.facts.id for model in models.all()}
        return JSONResponse({"products": [one for one in ledger.weeks.as_records() if one["bundle"] in serving]})


def _add_trails(router: APIRouter, ledger: Ledger) -> None:
    @router.get(
        "/audit",
        summary="The signed trail of what happened on the site, in order.",
        description="Each entry's signature is checked as it is read. `next` is what to ask `after` for those that "
        "follow; null where none does.",
        dependencies=[Depends(require("operate"))],
    )
    async def audit(after: Annotated[int, Query(ge=0, le=MAX_SEQUENCE)] = 0, limit: Limit = 100) -> JSONResponse:
        def read() -> list[AuditEntry]:
            return list(islice(ledger.site.audit.entries(), after, after + limit + 1))

        found = await asyncio.to_thread(read)
        shown = [
            {"sequence": e.sequence, "time": e.time, "event": e.event, "uid": e.uid, "details": dict(e.details)}
            for e in found[:limit]
        ]
        return JSONResponse({"entries": shown, "next": shown[-1]["sequence"] if len(found) > limit else None})

    @router.get(
        "/inferences",
        summary="Who asked what was served, and how it ended: newest first.",
        description="`next` is what to ask `before` for those before these; null where there is none.",
        dependencies=[Depends(require("operate"))],
    )
    async def inferences(
        limit: Limit = 100,
        before: Annotated[
            str, Query(max_length=80, pattern=BEFORE, description="A time, or what `next` said; only older ones.")
        ] = "",
        key: Annotated[str, Query(max_length=64, description="Only what this key asked.")] = "",
        request_id: Annotated[str, Query(max_length=64)] = "",
        bundle: Annotated[str, Query(max_length=64)] = "",
    ) -> JSONResponse:
        wanted = {"key": key, "request_id": request_id, "bundle": bundle}
        time, stream, sequence = (*before.split("~"), "", "0")[:3]
        end = (time, stream, int(sequence))

        def fits(record: dict[str, Any]) -> bool:
            return (not before or place_of(record) < end) and all(
                not value or record.get(name) == value for name, value in wanted.items()
            )

        def read() -> list[dict[str, Any]]:
            return list(islice(filter(fits, latest(ledger.trail.folder)), limit + 1))

        found = await asyncio.to_thread(read)
        following = "~".join(map(str, place_of(found[limit - 1]))) if len(found) > limit else None
        return JSONResponse({"entries": found[:limit], "next": following})
