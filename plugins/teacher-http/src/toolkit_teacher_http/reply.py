"""Reading what a server answered: strictly, for it may be anything."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from toolkit.text import Finish, TokenChoice, Usage

SHOWN = 300
"""Characters of what a server said that an error repeats."""


class Malformed(Exception):
    """No answer of the form that was asked for. The message says what was wrong.

    Args:
        usage: what it was billed at all the same, where that could be read.
    """

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


Count = Annotated[int, Field(ge=0, lt=2**40)]


class _Alternative(_Part):
    token: str
    logprob: FiniteFloat


class _Token(_Alternative):
    top_logprobs: list[_Alternative] = []


class _Logprobs(_Part):
    content: list[_Token] | None = None


class _Message(_Part):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(_Part):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(_Part):
    prompt_tokens: Count
    completion_tokens: Count


class _Reply(_Part):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: object = None


@dataclass(frozen=True)
class Answer:
    """An answer as the server gave it."""

    text: str
    reasoning: str
    finish: Finish
    usage: Usage | None
    top_logprobs: tuple[TokenChoice, ...]


def read_answer(body: bytes) -> Answer:
    """The answer in a body of status 200.

    Raises:
        Malformed: it is not JSON, is an error, is empty, or was broken off.
    """
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Malformed(f"{said(body)!r}: {where + ': ' if where else ''}{first['msg']}") from error
    if reply.error:
        raise Malformed(f"an error in place of an answer: {said(body)}")
    usage = Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens) if reply.usage else None
    if not reply.choices:
        raise Malformed(f"no choices in {said(body)!r}", usage)
    choice = reply.choices[0]
    finish = _finish(choice.finish_reason, usage)
    text, reasoning = _parted(choice.message)
    if not text.strip() and not (reasoning and finish == "length") and finish != "content_filter":
        raise Malformed("an empty answer", usage)
    return Answer(text, reasoning, finish, usage, _choices(choice.logprobs))


def _finish(reason: str | None, usage: Usage | None) -> Finish:
    known: dict[str | None, Finish] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}
    if reason not in known:
        raise Malformed(f"an answer that was broken off (finish_reason {reason!r:.40})", usage)
    return known[reason]


def _parted(message: _Message) -> tuple[str, str]:
    """The answer, and the reasoning before it: a field of its own, or in <think> tags where the server leaves them in.

    DeepSeek-R1's chat template opens the tag itself, so that the text may hold only the closing one.
    """
    text = message.content or ""
    if reasoning := message.reasoning_content or message.reasoning:
        return text, reasoning
    head, closed, tail = text.partition("</think>")
    if closed:
        return tail.lstrip("\n"), head.removeprefix("<think>").strip("\n")
    if text.startswith("<think>"):
        return "", text.removeprefix("<think>").strip("\n")
    return text, ""


def _choices(logprobs: _Logprobs | None) -> tuple[TokenChoice, ...]:
    tokens = (logprobs.content if logprobs else None) or []
    return tuple(
        TokenChoice(one.token, one.logprob, tuple((other.token, other.logprob) for other in one.top_logprobs))
        for one in tokens
    )


def _error_message(body: bytes) -> str | None:
    """The message of an `error` object, as OpenAI-compatible servers send it; None where there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = found.get("error") if isinstance(found, dict) else None
    if not error:
        return None
    return shown(str(error.get("message") or error) if isinstance(error, dict) else str(error))


def said(body: bytes) -> str:
    """What a server said, for an error: its message, or the beginning of its text without mark-up."""
    if (message := _error_message(body)) is not None:
        return message
    text = body[: 16 * SHOWN].decode("utf-8", errors="replace")
    if text.lstrip()[:1] == "<":
        text = re.sub(r"<[^>]*>", " ", re.sub(r"(?is)<(style|script)\b.*?</\1>", " ", text))
    return shown(text) or "nothing"


def shown(text: str) -> str:
    """One line without control characters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "..."


Outcome = Literal["answer", "again", "settings", "environment", "elsewhere"]


def outcome(status: int) -> Outcome:
    """What a status means for who asked: an answer, ask again, mend the settings, pay or wait, or go elsewhere."""
    if status == 200:
        return "answer"
    if 300 <= status < 400:
        return "elsewhere"
    if status == 402:
        return "environment"
    if status in (408, 409, 425, 429) or status >= 500 or status < 300:
        return "again"
    return "settings"
