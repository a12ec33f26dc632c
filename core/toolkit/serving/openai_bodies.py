"""What OpenAI's clients send to /v1/chat/completions and /v1/completions, and what of it becomes a model's request.

What is not understood is refused, never passed over: an answer that ignores half of a request looks right and is not.
Source: OpenAI's API reference, "Chat Completions" and "Completions".
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from toolkit.errors import DataError, Unsupported
from toolkit.serving.bodies import Readable
from toolkit.text import Asking, GenerationRequest, Grammar, Message

MOST_CHOICES, MOST_PROMPTS, MOST_STOPS = 8, 32, 4

NOT_ASKED: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},), "frequency_penalty": (0,),
    "presence_penalty": (0,), "modalities": (["text"],), "audio": (), "web_search_options": (), "moderation": (),
    "reasoning_effort": (), "verbosity": ("medium",), "echo": (False,), "suffix": ("",), "best_of": (1,),
    "top_k": (-1, 0), "min_p": (0,), "repetition_penalty": (1,), "min_tokens": (0,), "ignore_eos": (False,),
}  # fmt: skip
"""Fields that would change the answer and are not understood, with the values that ask for nothing."""
HARMLESS = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "prediction", "parallel_tool_calls",
)  # fmt: skip
"""Fields that change nothing of the answer, whatever they say: who asks, what is kept of it, how fast it comes, and how
tools are called, of which there are none."""
_LONGEST_NAME = 80


class Refused(Unsupported):
    """A field that asks for what is not done here; `param` names it."""

    def __init__(self, param: str, what: str = "is not understood here", *, hint: str = "Leave it out.") -> None:
        super().__init__(f"{param} {what}", hint=hint)
        self.param = param


class Checked(BaseModel):
    """A body, or a part of one, that says nothing but what is understood."""

    model_config = ConfigDict(extra="allow")
    not_asked: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    harmless: ClassVar[Collection[str]] = ()

    def check(self, within: str = "") -> None:
        """Raises Refused where a field asks for what this server does not do; `within` comes before its name."""
        known = {field.alias or name: getattr(self, name) for name, field in type(self).model_fields.items()}
        for name, value in (self.model_extra or {}).items():
            nothing = self.not_asked.get(name, ())
            if value is None or name in self.harmless or any(_is_same(value, one) for one in nothing):
                continue
            near = [] if name in self.not_asked else difflib.get_close_matches(name, [*known, *self.harmless], n=1)
            suggestion = f"Did you mean {near[0]}? If not, leave it out." if near else "Leave it out."
            raise Refused(f"{within}{name[:_LONGEST_NAME]}", hint=suggestion)
        for name, value in known.items():
            if isinstance(value, Checked):
                value.check(f"{within}{name}.")
            for place, one in enumerate(value if isinstance(value, list) else ()):
                if isinstance(one, Checked):
                    one.check(f"{within}{name}.{place}.")


def _is_same(value: Any, other: Any) -> bool:
    """As JSON has it, where 0 is not false."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


class Part(Checked):
    """A piece of a message's content."""

    harmless = ("prompt_cache_breakpoint", "cache_control")

    type: Literal["text"]
    text: str


class Turn(Checked):
    """One message of a conversation; that of an answer may be sent back as it came."""

    not_asked: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tool_calls": ([],), "annotations": ([],)}
    harmless = ("name",)  # no template that a student learns by has a place for it

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class StreamOptions(Checked):
    """`include_usage`: a last chunk without choices says what the answer took."""

    not_asked: ClassVar[Mapping[str, tuple[Any, ...]]] = {"continuous_usage_stats": (False,)}
    harmless = ("include_obfuscation",)

    include_usage: bool = False


class JsonSchema(Checked):
    """A schema, and what else comes with it: a name, and whether it is strict, which it always is."""

    harmless = ("name", "description", "strict")

    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Checked):
    """`json_object`: any object in JSON. `json_schema`: what keeps to the schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def grammar(self) -> Grammar | None:
        """Raises DataError where the schema is missing, Refused where it would be passed over."""
        if self.type == "json_schema":
            if self.json_schema is None:
                raise DataError("response_format has no json_schema", hint='Give {"json_schema": {"schema": {...}}}.')
            return Grammar("json_schema", json.dumps(self.json_schema.schema_))
        if self.json_schema is not None:
            raise Refused("response_format.json_schema", f"is not for the type {self.type}", hint="Say json_schema.")
        return Grammar("json_schema", '{"type": "object"}') if self.type == "json_object" else None


class Asked(Readable, Checked):
    """What both routes understand."""

    not_asked = NOT_ASKED
    harmless = HARMLESS

    model: str = Field("", max_length=500, description="A product, product@version or a bundle's id; empty: the first.")
    temperature: float | None = Field(None, ge=0, le=2, description="0, the default: the likeliest answer.")
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="The same seed gives the same drawn answer.")
    n: int | None = Field(None, ge=1, le=MOST_CHOICES, description="Answers to each prompt.")
    stop: Annotated[str, Field(max_length=500)] | list[Annotated[str, Field(max_length=500)]] | None = Field(
        None, description=f"Up to {MOST_STOPS} texts that end the answer, and do not stand in it."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream tells what the answer took."""
        return self.stream_options is not None and self.stream_options.include_usage

    def stops(self) -> tuple[str, ...]:
        """Raises Refused where there are too many."""
        found = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(found) > MOST_STOPS:
            raise Refused("stop", f"has {len(found)} texts, {MOST_STOPS} are the most", hint="Leave some out.")
        return tuple(text for text in found if text)

    def check(self, within: str = "") -> None:
        super().check(within)
        if self.stream_options is not None and not self.stream:
            raise Refused("stream_options", "is only for streams", hint='Send "stream": true as well.')

    def drawn(self) -> dict[str, Any]:
        """How the tokens are drawn, as `Asking` takes it."""
        likeliest = self.top_p == 0
        return {
            "temperature": 0.0 if likeliest else self.temperature or 0.0,
            "top_p": 1.0 if likeliest or self.top_p is None else self.top_p,
            "seed": None if self.seed is None else self.seed % 2**63,
        }

    def several(self, first: GenerationRequest) -> Sequence[GenerationRequest]:
        """The request once for each answer; drawn ones differ, each by a seed of its own, or by chance."""
        seed = first.seed
        return [replace(first, seed=None if seed is None else (seed + n) % 2**63) for n in range(self.n or 1)]


class ChatRequest(Asked):
    """The body of POST /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1, le=131_072, description="Most tokens of the answer.")
    max_completion_tokens: int | None = Field(None, ge=1, le=131_072, description="The same; this one counts.")
    response_format: ResponseFormat | None = None
    calculator: bool = Field(False, description="Compute the results of <<48/2=24>> marks while it writes.")
    wanted: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=64, description="Texts that must all stand in the answer before it ends."
    )

    def asked(self, request: Asking) -> Sequence[GenerationRequest]:
        """Raises Refused, or DataError, where it is no request that can be answered."""
        self.check()
        first = request(
            [turn.message() for turn in self.messages],
            most=self.max_completion_tokens or self.max_tokens,
            calculator=self.calculator,
            wanted=self.wanted,
            grammar=self.response_format.grammar() if self.response_format else None,
            **self.drawn(),
        )
        return self.several(first)


class CompletionRequest(Asked):
    """The body of POST /v1/completions: texts that are gone on from as they are, without a conversation around them."""

    prompt: str | list[str] = Field(description=f"One text, or up to {MOST_PROMPTS}.")
    max_tokens: int | None = Field(None, ge=1, le=131_072, description="Most tokens of the answer.")

    def asked(self, request: Asking) -> Sequence[GenerationRequest]:
        """Raises Refused, or DataError, where it is no request that can be answered."""
        self.check()
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not 1 <= len(prompts) <= MOST_PROMPTS:
            raise Refused("prompt", f"has {len(prompts)} texts, 1 to {MOST_PROMPTS} may come", hint="Ask again.")
        return [
            one
            for prompt in prompts
            for one in self.several(request((), prompt=prompt, most=self.max_tokens, **self.drawn()))
        ]
