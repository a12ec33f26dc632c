"""OpenAI's routes over whatever writes here: /v1/chat/completions, /v1/completions and /v1/models, whole and streamed.

A model is found by the name that its client gives; none, or one that is not served, is OpenAI's own 404. Errors have
OpenAI's form wherever they arise (`answers`). A client that goes stops what it asked for.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from toolkit.errors import ToolkitError, Unsupported
from toolkit.serving.answers import openai_error
from toolkit.serving.dispatch import VERSION, key_of, note, product_of
from toolkit.serving.models import Models, ServedModel, named
from toolkit.serving.openai_bodies import Asked, ChatRequest, CompletionRequest
from toolkit.serving.refusals import NotServed
from toolkit.serving.stopping import together, until_stop
from toolkit.text import Conversation, GenerationRequest, TextDelta, Usage

OWNER = "distil-toolkit"

_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is none, or does not fit this model."},
    404: {"description": "No such model."},
    503: {"description": "The queue is full; ask again after Retry-After seconds."},
}


@dataclass
class _Written:
    """What came of one answer so far."""

    text: str = ""
    finish: str | None = None
    usage: Usage | None = None

    def add(self, piece: TextDelta) -> None:
        self.text, self.finish, self.usage = self.text + piece.text, piece.finish, piece.usage or self.usage


@dataclass
class _Answer:
    """The answers to one request, and how they are told: as a chat's, or as texts'."""

    model: ServedModel
    asked: Sequence[GenerationRequest]
    chat: bool
    prompts: int
    choices: list[_Written] = field(default_factory=list)
    identity: str = field(default_factory=lambda: secrets.token_hex(12))
    born: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.choices = [_Written() for _ in self.asked]

    def head(self, *, chunk: bool = False) -> dict[str, Any]:
        """`system_fingerprint` is the bundle that answers."""
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.identity}", "object": kind, "created": self.born,
            "model": self.model.facts.product, "system_fingerprint": self.model.facts.id,
        }  # fmt: skip

    def whole(self, place: int) -> dict[str, Any]:
        one = self.choices[place]
        said = {"message": {"role": "assistant", "content": one.text, "refusal": None}} if self.chat else {
            "text": one.text
        }  # fmt: skip
        return {"index": place, **said, "finish_reason": one.finish, "logprobs": None}

    def part(self, place: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        said = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        return {"index": place, **said, "finish_reason": finish, "logprobs": None}

    def usage(self) -> dict[str, int]:
        """Each prompt counts once, however many answers it got."""
        each = len(self.choices) // self.prompts
        given = sum(one.usage.prompt_tokens for one in self.choices[::each] if one.usage)
        made = sum(one.usage.completion_tokens for one in self.choices if one.usage)
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def openai_routes(models: Models) -> APIRouter:
    """The routes over what is served."""
    router = APIRouter(prefix="/v1", tags=["text"])
    born = int(time.time())

    @router.get("/models", summary="The models that write, by the names that requests may give.")
    async def all_models() -> JSONResponse:
        found = [_listed(models, one, born) for one in models.all() if one.service.conversation is not None]
        return JSONResponse({"object": "list", "data": found})

    @router.get("/models/{model}", summary="One of them.", responses={404: _RESPONSES[404]})
    async def one_model(model: str) -> JSONResponse:
        found, _ = _found(models, model)
        return JSONResponse(_record(model, born) | {"bundle": found.facts.id})

    @router.post(
        "/chat/completions", summary="Answer a conversation, whole or as it is written.", responses=_RESPONSES,
        description="With `stream` the answer comes as server-sent events.", response_model=None,
    )  # fmt: skip
    async def chat(body: ChatRequest, request: Request) -> JSONResponse | StreamingResponse:
        model, conversation = _asked_for(models, body.model, request)
        answer = _Answer(model, body.asked(conversation.request), chat=True, prompts=1)
        return await _answered(body, answer, conversation)

    @router.post(
        "/completions", summary="Go on from a text, whole or as it is written.", responses=_RESPONSES,
        description="The text is taken as it is: neither a template nor a system message is put around it.",
        response_model=None,
    )  # fmt: skip
    async def complete(body: CompletionRequest, request: Request) -> JSONResponse | StreamingResponse:
        model, conversation = _asked_for(models, body.model, request)
        prompts = 1 if isinstance(body.prompt, str) else len(body.prompt)
        answer = _Answer(model, body.asked(conversation.request), chat=False, prompts=prompts)
        return await _answered(body, answer, conversation)

    return router


def _asked_for(models: Models, name: str, request: Request) -> tuple[ServedModel, Conversation]:
    version = request.headers.get(VERSION)
    model, conversation = _found(models, name, product_of(request.scope), version, key_of(request))
    note(request, model)
    return model, conversation


def _found(
    models: Models, name: str, product: str | None = None, version: str | None = None, key: str = ""
) -> tuple[ServedModel, Conversation]:
    """By the name in the body, or where that has none by the product that path or header names."""
    try:
        model = named(models, name, version, key) if name else models.find(product, version, key)
    except NotServed as error:
        raise NotServed(f"the model `{(name or product or '')[:200]}` does not exist", hint=error.hint) from error
    conversation: Conversation | None = model.service.conversation
    if conversation is None:
        raise Unsupported(
            f"{model.facts.product} does not write", hint=f"Ask it at POST /v2/models/{model.facts.product}/infer."
        )  # fmt: skip
    return model, conversation


async def _answered(body: Asked, answer: _Answer, by: Conversation) -> JSONResponse | StreamingResponse:
    stops = body.stops()
    requests = [
        replace(one, id=f"{answer.identity}-{place}", every_token=bool(stops)) for place, one in enumerate(answer.asked)
    ]
    pieces = together([until_stop(by.predictor.generate(one), stops) for one in requests])
    if body.stream:
        first = await anext(pieces)  # what is wrong with the request is an answer of its own, not a broken stream
        events = _events(answer, first, pieces, with_usage=body.with_usage)
        return StreamingResponse(events, media_type="text/event-stream")
    async with aclosing(pieces):
        async for place, piece in pieces:
            answer.choices[place].add(piece)
    choices = [answer.whole(place) for place in range(len(answer.choices))]
    return JSONResponse(answer.head() | {"choices": choices, "usage": answer.usage()})


async def _events(
    answer: _Answer, first: tuple[int, TextDelta], rest: AsyncGenerator[tuple[int, TextDelta]], *, with_usage: bool
) -> AsyncGenerator[bytes]:
    """The chunks of the answers as server-sent events; an error in the midst of them is one too."""
    head = answer.head(chunk=True) | ({"usage": None} if with_usage else {})
    part = partial(_chunk, answer, head)
    async with aclosing(rest):
        if answer.chat:
            for place in range(len(answer.choices)):
                yield part(place, {"role": "assistant", "content": ""})
        try:
            came: tuple[int, TextDelta] | None = first
            while came is not None:
                place, piece = came
                answer.choices[place].add(piece)
                if piece.text:
                    yield part(place, {"content": piece.text})
                if piece.finish is not None:
                    yield part(place, {}, piece.finish)
                came = await anext(rest, None)
        except ToolkitError as error:
            yield _event({"error": openai_error(error)})
            return
    if with_usage:
        yield _event(head | {"choices": [], "usage": answer.usage()})
    yield b"data: [DONE]\n\n"


def _chunk(
    answer: _Answer, head: dict[str, Any], place: int, delta: dict[str, Any], finish: str | None = None
) -> bytes:  # fmt: skip
    return _event(head | {"choices": [answer.part(place, delta, finish)]})


def _event(record: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(record, ensure_ascii=False).encode() + b"\n\n"


def _listed(models: Models, model: ServedModel, born: int) -> dict[str, Any]:
    """By its product where that alone finds it, else with its version."""
    facts = model.facts
    alone = models.find(facts.product) is model
    return _record(facts.product if alone else f"{facts.product}@{facts.version}", born) | {"bundle": facts.id}


def _record(name: str, born: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": born, "owned_by": OWNER}
