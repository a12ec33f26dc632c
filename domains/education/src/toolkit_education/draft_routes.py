"""The routes of free drafting and of the review queue: for keys with the role operate."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from toolkit.serving.app import require
from toolkit.serving.bodies import Body
from toolkit_education.draft_records import LONGEST_NOTE
from toolkit_education.draft_room import MOST_AT_ONCE, DraftRoom, shown

Outcome = Literal["waiting", "solved", "accepted", "refused", "rejected"]


class DraftsIn(Body):
    """The body of POST /v1/drafts."""

    many: int = Field(4, ge=1, le=MOST_AT_ONCE)


class ReviewIn(Body):
    """The body of a review."""

    note: str = Field("", max_length=LONGEST_NOTE, description="For whoever asks later why.")


def add_drafts(router: APIRouter, room: DraftRoom) -> None:
    """Routes to draft, to list, and to accept or reject."""
    drafts = APIRouter(tags=["drafts"], dependencies=[Depends(require("operate"))])

    @drafts.post(
        "/v1/drafts", summary="Draft new problems; each is solved by another before it may be served.",
        response_model=None,
        description="Refused where the figures that were sealed do not reach the plan's bounds. What the solver cannot "
        "decide waits for a person.",
    )  # fmt: skip
    async def draft(body: DraftsIn) -> JSONResponse:
        found = await room.draft(body.many)
        return JSONResponse({"drafts": await asyncio.to_thread(lambda: [shown(one) for one in found])})

    @drafts.get(
        "/v1/drafts", summary="The review queue, or the drafts of another outcome.", response_model=None,
        description="`after` is the `number` of the last one that was seen. `drafting` says why nothing is drafted "
        "here, where nothing is.",
    )  # fmt: skip
    async def listed(
        outcome: Outcome = "waiting",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    ) -> JSONResponse:
        def read() -> dict[str, object]:
            found = [shown(one) for one in room.records.listed(outcome, limit, after)]
            return {"drafting": room.mistrust, "counts": dict(room.records.counts()), "drafts": found}

        return JSONResponse(await asyncio.to_thread(read))

    async def reviewed(request: Request, identity: str, note: str, *, accept: bool) -> JSONResponse:
        by = request.state.identity.name
        found = await asyncio.to_thread(room.review, identity, accept=accept, reviewer=by, note=note)
        return JSONResponse(await asyncio.to_thread(shown, found))

    @drafts.post(
        "/v1/drafts/{draft}/accept", summary="Accept a draft that waits: from now on it may be served.",
        response_model=None,
    )  # fmt: skip
    async def accept(draft: str, body: ReviewIn, request: Request) -> JSONResponse:
        return await reviewed(request, draft, body.note, accept=True)

    @drafts.post(
        "/v1/drafts/{draft}/reject", summary="Reject a draft that waits, or take out one that is served.",
        response_model=None,
    )  # fmt: skip
    async def reject(draft: str, body: ReviewIn, request: Request) -> JSONResponse:
        return await reviewed(request, draft, body.note, accept=False)

    router.include_router(drafts)
