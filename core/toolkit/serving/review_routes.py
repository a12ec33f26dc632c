"""The routes of the review set: a person's judgement of an answer, and the samples to look at."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator

from toolkit.errors import UsageError
from toolkit.services import Seen
from toolkit.serving.bodies import Body
from toolkit.serving.ledger import Ledger
from toolkit.serving.refusals import NotServed
from toolkit.serving.roles import require
from toolkit.site.review import Entry, Said

MOST = 1000


class JudgementIn(Body):
    """The body of POST /site/review."""

    request_id: str = Field(min_length=1, max_length=64, description="Of the answer.")
    agree: bool = Field(description="Whether the answer is right.")
    label: str = Field("", max_length=20_000, description="What would have been right: a class, or a text.")
    note: str = Field("", max_length=2000)
    number: int = Field(0, ge=0, le=10_000, description="Which of several inputs of one request, from 0.")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> JudgementIn:
        if self.agree and self.label:
            raise ValueError("a label is for an answer that is not right")
        return self


def add_review(router: APIRouter, ledger: Ledger) -> None:
    """The routes over one site's review set."""
    reviewer = ledger.reviewer

    @router.post(
        "/review",
        summary="Say whether an answer is right, and what would have been.",
        description="`held` tells whether the input is at hand; where another process has it, it follows in a second.",
        status_code=201,
        responses={404: {"description": "No such request."}},
    )
    async def judge(body: JudgementIn, request: Request) -> JSONResponse:
        said = Said(body.agree, request.state.identity.name, body.label, body.note)
        entry = await asyncio.to_thread(reviewer.judge, body.request_id, body.number, said)
        return JSONResponse(asdict(entry), 201)

    @router.get(
        "/review",
        summary="The samples that a person should look at, newest first.",
        dependencies=[Depends(require("operate"))],
    )
    async def entries(
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
        before: Annotated[str, Query(max_length=80, description="A time, or what `next` said; only older ones.")] = "",
    ) -> JSONResponse:
        found = await asyncio.to_thread(reviewer.set.entries)
        end = tuple(before.split("~"))
        shown = [entry for entry in found if not before or (entry.time, entry.id) < end]
        return JSONResponse({
            "entries": [asdict(entry) for entry in shown[:limit]],
            "next": f"{shown[limit - 1].time}~{shown[limit - 1].id}" if len(shown) > limit else None,
            "count": len(found), "judged": sum(entry.agree is not None for entry in found),
        })  # fmt: skip

    @router.get(
        "/review/{sample}",
        summary="One sample with its content, decrypted.",
        dependencies=[Depends(require("operate"))],
        responses={404: {"description": "No such sample."}},
    )
    async def sample(sample: Annotated[str, Path(max_length=64)]) -> JSONResponse:
        def read() -> tuple[Entry, Seen | None, Said | None]:
            try:
                reviewer.set.facts(sample)
            except UsageError as error:
                raise NotServed(error.message, hint="GET /site/review lists them.") from error
            return reviewer.set.open(sample, ledger.site.recipient_keys())

        entry, seen, said = await asyncio.to_thread(read)
        return JSONResponse(asdict(entry) | {"sample": _shown(seen), "said": said and asdict(said)})


def _shown(seen: Seen | None) -> dict[str, Any] | None:
    if seen is None:
        return None
    content: Any = base64.b64encode(seen.content).decode()
    if seen.kind == "text":
        content = json.loads(seen.content)
    return {"kind": seen.kind, "measures": dict(seen.measures), "margin": seen.margin, "content": content}
