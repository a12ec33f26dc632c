"""The chat routes of OpenAI's API, as far as a small model on a site answers them: whole and streamed.

What is not understood is refused, never passed over: an answer that ignores half of a request looks right and is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from toolkit.errors import DataError, ToolkitError, Unsupported
from toolkit.tasks.text_generation.service import Manner
from toolkit.text import GenerationRequest, Grammar, Message, ServedText, TextDelta

OWNER = "distil-toolkit"

NOT_ASKED: dict[str, tuple[Any, ...]] = {
    "n": (1,), "stop": ((), [], ""), "tools": ([],), "tool_choice": ("none", "auto"), "logprobs": (False,),
    "logit_bias": ({},), "frequency_penalty": (0,), "presence_penalty": (0,),
    "modalities": (["text"],), "functions": ([],),
}  # fmt: skip
"""Fields that would change the answer and are not understood, and the values that ask for nothing."""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    422: {"description": "The request is none, or does not fit this model."},
    503: {"description": "The queue is full; ask again after Retry-After seconds."},
}


class Part(BaseModel):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(BaseModel):
    """`include_usage`: a last chunk without choices says what the answer took."""

    include_usage: bool = False


class JsonSchema(BaseModel):
    """A schema, and what else comes with it: a name, and whether it is strict, which it always is."""

    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(BaseModel):
    """`json_object`: any object in JSON. `json_schema`: what keeps to the schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def grammar(self) -> Grammar | None:
        """Raises DataError where the schema is missing."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Grammar("json_schema", '{"type": "object"}')
        if self.json_schema is None:
            raise DataError("response_format has no json_schema", hint='Give {"json_schema": {"schema": {...}}}.')
        return Grammar("json_schema", json.dumps(self.json_schema.schema_))


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow")

    model: str = Field("", description="Any name: a server has one model.")
    messages: list[Turn] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1, le=131_072, description="Most tokens of the answer.")
    max_completion_tokens: int | None = Field(None, ge=1, le=131_072, description="The same; this one counts.")
    temperature: float | None = Field(None, ge=0, le=2, description="0, the default: the likeliest answer.")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63, description="Of a drawn answer: the same seed gives the same one.")
    response_format: ResponseFormat | None = None
    calculator: bool = Field(False, description="Compute the results of <<48/2=24>> marks while it writes.")
    wanted: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=64, description="Texts that must all stand in the answer before it ends."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def asked(self, manner: Manner) -> GenerationRequest:
        """Raises Unsupported where a field asks for what this server does not do."""
        for name, value in (self.model_extra or {}).items():
            if name in NOT_ASKED and value is not None and value not in NOT_ASKED[name]:
                raise Unsupported(f"{name} is not understood here", hint="Leave it out.")
        return manner.request(
            [turn.message() for turn in self.messages],
            most=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            seed=self.seed,
            calculator=self.calculator,
            wanted=self.wanted,
            grammar=self.response_format.grammar() if self.response_format else None,
        )


def chat_routes(manner: Manner, predictor: ServedText) -> APIRouter:
    """The routes over one model."""
    router = APIRouter(prefix="/v1", tags=["text"])
    born = int(time.time())

    @router.get("/models", summary="The one model that is served here.")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [_model(manner, born)]})

    @router.post(
        "/chat/completions",
        summary="Answer a conversation, whole or as it is written.",
        description="With `stream` the answer comes as server-sent events.",
        responses=_RESPONSES,
        response_model=None,
    )
    async def complete(body: ChatRequest, request: Request) -> JSONResponse | StreamingResponse:
        asked = body.asked(manner)
        writing = predictor.generate(asked)
        if body.stream:
            first = await anext(writing)  # what is wrong with the request is an answer of its own, not a broken stream
            usage = body.stream_options is not None and body.stream_options.include_usage
            events = _events(manner, asked, first, writing, with_usage=usage)
            return StreamingResponse(events, media_type="text/event-stream")
        pieces = [piece async for piece in writing]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(piece.text for piece in pieces)},
            "finish_reason": pieces[-1].finish,
            "logprobs": None,
        }
        head = _head(manner, asked, "chat.completion")
        return JSONResponse(head | {"choices": [choice], "usage": _usage(pieces[-1])})

    return router


async def _events(
    manner: Manner, asked: GenerationRequest, first: TextDelta, rest: AsyncGenerator[TextDelta], *, with_usage: bool
) -> AsyncGenerator[bytes]:
    """The chunks of an answer as server-sent events; an error in the midst of it is one too."""
    head = _head(manner, asked, "chat.completion.chunk")

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})

    piece = first
    async with aclosing(rest):
        yield chunk({"role": "assistant", "content": ""})
        try:
            while True:
                if piece.text:
                    yield chunk({"content": piece.text})
                if piece.finish is not None:
                    break
                piece = await anext(rest)
        except ToolkitError as error:
            yield _event({"error": {"message": error.message, "type": error.code, "code": error.code}})
            return
    yield chunk({}, piece.finish)
    if with_usage:
        yield _event(head | {"choices": [], "usage": _usage(piece)})
    yield b"data: [DONE]\n\n"


def _event(record: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(record, ensure_ascii=False).encode() + b"\n\n"


def _head(manner: Manner, asked: GenerationRequest, kind: str) -> dict[str, Any]:
    """`system_fingerprint` is the bundle that answers."""
    return {
        "id": asked.id, "object": kind, "created": int(time.time()), "model": manner.product,
        "system_fingerprint": manner.bundle,
    }  # fmt: skip


def _usage(last: TextDelta) -> dict[str, int] | None:
    if last.usage is None:
        return None
    given, made = last.usage.prompt_tokens, last.usage.completion_tokens
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _model(manner: Manner, born: int) -> dict[str, Any]:
    return {"id": manner.product, "object": "model", "created": born, "owned_by": OWNER}
