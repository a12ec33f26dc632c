"""The routes of the content service: copy, one or many; checks of any text; channels and terms; export with its
marks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ConfigDict, Field

from toolkit.errors import DataError, Refused, ToolkitError
from toolkit.serving.bodies import Body
from toolkit.serving.refusals import Forbidden
from toolkit_content.channels import Channel, channel_named
from toolkit_content.checks import Checker, of_brief, of_length, passes
from toolkit_content.drafting import Brief, spans_of
from toolkit_content.marking import check_export, marked, rule_named
from toolkit_content.products import Product, product_of
from toolkit_content.service import Desk
from toolkit_content.terms import Scanner
from toolkit_content.writer import Copy, Piece, Writer, script_of, variants

MOST_PRODUCTS, MOST_VARIANTS, LONGEST = 1000, 8, 20_000

EXAMPLE = {
    "brand": "Nordal", "model": "K3", "category": "kettle", "colour": "red", "material": "stainless steel",
    "capacity": "1.7 L",
}  # fmt: skip

Form = Literal["title", "bullets", "description", "post", "script"]
Value = str | int | float | bool | list[str] | list[int] | list[float] | None
Attributes = dict[str, Value | dict[str, Value]]
"""Attributes by name, and `id` where there is one; or `{"id": ..., "attributes": {...}}`."""


class BriefIn(Body):
    """What copy is wanted."""

    form: Form = "description"
    tone: str = Field("plain", max_length=40)
    channel: str = Field("", max_length=40, description="See GET /v1/channels; without one no length is checked.")
    language: Literal["en", "zh"] = "en"
    must: list[str] = Field(default_factory=list, max_length=50, description="Words of the brand that must be there.")
    never: list[str] = Field(default_factory=list, max_length=200, description="Words that the brand does not want.")
    names: list[str] = Field(
        default_factory=list, max_length=50, description="The brand's own names: no terms in them."
    )

    def brief(self) -> Brief:
        return Brief(self.form, self.tone, self.channel, self.language, tuple(self.must), tuple(self.never))


class CopyIn(Body):
    """The body of POST /v1/copy."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"product": EXAMPLE}]})

    product: Attributes = Field(description="Attributes by name, and `id` where it has one.")
    brief: BriefIn = BriefIn()
    variants: int = Field(1, ge=1, le=MOST_VARIANTS)
    seed: int = Field(0, ge=0, lt=2**31, description="Of the variants after the first, and of what is drawn again.")
    stream: bool = Field(False, description="Server-sent events: drafts as they are written, then each checked text.")


class CatalogueIn(Body):
    """The body of POST /v1/catalogue."""

    products: list[Attributes] = Field(min_length=1, max_length=MOST_PRODUCTS)
    brief: BriefIn = BriefIn()
    seed: int = Field(0, ge=0, lt=2**31)


class CheckIn(Body):
    """The body of POST /v1/check."""

    text: str = Field(max_length=LONGEST)
    product: Attributes | None = None
    brief: BriefIn = BriefIn()


class Exported(Body):
    """A text that is to be handed out, with its metadata."""

    text: str = Field(max_length=LONGEST)
    metadata: dict[str, str] = Field(default_factory=dict)


class ExportIn(Body):
    """The body of POST /v1/export."""

    copies: list[Exported] = Field(min_length=1, max_length=MOST_PRODUCTS)
    profile: str = Field(max_length=20, description="Whose rules: cn, eu or none.")


def content_routes(desk: Desk) -> APIRouter:
    """The routes over one student."""
    router = APIRouter(tags=["content"])
    _add_writing(router, desk)
    _add_checking(router, desk)
    return router


def _add_writing(router: APIRouter, desk: Desk) -> None:
    @router.post(
        "/v1/copy", summary="Copy about one product, in one or several variants.", response_model=None,
        description="Every text has been checked: it says each attribute, and invents none. `by` says who wrote it: "
        "the student, or the template that answers where no draft passes. With `stream`, events are `draft` with "
        "`text`, unchecked but for terms that may not leave, and `copy`.",
    )  # fmt: skip
    async def copy(body: CopyIn) -> JSONResponse | StreamingResponse:
        product = _product(body.product, "product")
        writer, channel = _writer(desk, body.brief), _channel(desk, body.brief)
        if body.stream:
            return StreamingResponse(_events(desk, product, body, channel, writer), media_type="text/event-stream")
        found = [
            _record(desk, product, one, body.brief, channel, writer)
            async for one in variants(writer, product, body.brief.brief(), channel, body.variants, seed=body.seed)
        ]
        return JSONResponse({"copies": found, "bundle": desk.bundle})

    @router.post(
        "/v1/catalogue", summary="Copy about many products: one JSON line each, as it is written.", response_model=None,
        description="A product that cannot be written about has `error` in its line, and the others go on. What is "
        "sent again without the ids that came is a resumed batch.",
    )  # fmt: skip
    async def catalogue(body: CatalogueIn) -> StreamingResponse:
        writer, channel = _writer(desk, body.brief), _channel(desk, body.brief)

        async def lines() -> AsyncGenerator[bytes]:
            for number, attributes in enumerate(body.products):
                identity = str(attributes.get("id") or number)
                try:
                    product = _product(attributes, identity)
                    one = await writer.write(product, body.brief.brief(), channel, seed=body.seed + number)
                    told = _record(desk, product, one, body.brief, channel, writer)
                except ToolkitError as error:
                    told = {"error": error.as_record()}
                yield json.dumps({"id": identity, **told}, ensure_ascii=False).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _events(
    desk: Desk, product: Product, body: CopyIn, channel: Channel | None, writer: Writer
) -> AsyncGenerator[bytes]:
    """Drafts as they are written, and each text once it is checked; an error ends them."""
    guarded = replace(writer, predictor=replace(desk.guarded, scanner=writer.checker.scanner))
    seen: set[str] = set()
    try:
        for number in range(body.variants):
            steps = guarded.writing(product, body.brief.brief(), channel, seed=body.seed + number, drawn=number > 0)
            async for step in steps:
                if isinstance(step, Piece):
                    yield _event({"variant": number, "draft": step.draft, "text": step.text})
                elif step.text not in seen:
                    seen.add(step.text)
                    told = _record(desk, product, step, body.brief, channel, writer)
                    yield _event({"variant": number, "copy": told})
    except ToolkitError as error:
        yield _event({"error": error.as_record()})
        return
    yield b"data: [DONE]\n\n"


def _event(record: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(record, ensure_ascii=False).encode() + b"\n\n"


def _add_checking(router: APIRouter, desk: Desk) -> None:
    @router.post("/v1/check", summary="What is to be said of a text, whoever wrote it.", response_model=None)
    async def check(body: CheckIn) -> JSONResponse:
        writer, channel, brief = _writer(desk, body.brief), _channel(desk, body.brief), body.brief.brief()
        if body.product is not None:
            product = _product(body.product, "product")
            found = list(writer.checker.findings(product, body.text, brief, channel))
        else:
            found = [*writer.checker.of_text(body.text), *of_brief(body.text, brief)]
            found += of_length(body.text, brief, channel) if channel else []
        return JSONResponse({"passes": passes(found), "findings": [finding.as_record() for finding in found]})

    @router.get("/v1/channels", summary="Where copy can go, and how long it may be there.")
    async def channels() -> JSONResponse:
        return JSONResponse({
            channel.name: {
                "languages": list(channel.languages),
                "limits": {form: vars(limit) for form, limit in channel.limits.items()},
            }
            for channel in desk.channels.values()
        })  # fmt: skip

    @router.get("/v1/lexicon", summary="The terms that are looked for, with their reasons and sources.")
    async def lexicon() -> JSONResponse:
        return JSONResponse([
            {
                "name": lexicon.name, "language": lexicon.language, "version": lexicon.version,
                "terms": [
                    {"term": one.term, "severity": one.severity, "because": one.because, "source": one.source,
                     "allow": [pattern.pattern for pattern in one.allow]}
                    for one in lexicon.terms
                ],
            }
            for lexicon in desk.lexicons
        ])  # fmt: skip

    @router.post(
        "/v1/export", summary="Hand texts out, if they bear the marks that the rules ask for.", response_model=None
    )
    async def export(body: ExportIn) -> JSONResponse:
        rule = rule_named(body.profile)
        for number, one in enumerate(body.copies):
            try:
                check_export(one.text, one.metadata, rule)
            except Refused as error:
                raise Forbidden(f"text {number + 1}: {error.message}", hint=error.hint) from error
        return JSONResponse({"profile": rule.name, "copies": [one.model_dump() for one in body.copies]})


def _product(stated: Attributes, identity: str) -> Product:
    found = product_of(stated, identity)
    if isinstance(found, str):
        raise DataError(f"{identity}: {found}", hint='Send attributes: {"brand": "...", "capacity": "1.7 L"}.')
    return found


def _channel(desk: Desk, brief: BriefIn) -> Channel | None:
    return channel_named(desk.channels, brief.channel) if brief.channel else None


def _writer(desk: Desk, brief: BriefIn) -> Writer:
    """The language's writer; with a scanner of its own where the brand has names or words of its own."""
    writer = desk.writer(brief.language)
    if not brief.names and not brief.never:
        return writer
    scanner = Scanner(desk.lexicons, never=brief.never, names=brief.names)
    checker = writer.checker
    return replace(writer, checker=Checker(checker.pack, scanner, checker.copies))


def _record(
    desk: Desk, product: Product, copy: Copy, brief: BriefIn, channel: Channel | None, writer: Writer
) -> dict[str, Any]:
    """A copy as a client gets it: its findings, where it says what, and its marks where the site wants them."""
    identity = f"{desk.bundle}/{hashlib.sha256(copy.text.encode()).hexdigest()[:16]}"
    marks = marked(copy.text, desk.marking, language=brief.language, producer=desk.product, identity=identity)
    said = [{"attribute": name, "span": list(span)} for name, span in spans_of(product, copy.text)]
    script = script_of(copy.text, brief.brief(), channel, writer.checker.pack) if brief.form == "script" else None
    found = copy.as_record() | {"said": said, "published": marks.text, "metadata": dict(marks.metadata)}
    return found | ({"script": script} if script else {})
