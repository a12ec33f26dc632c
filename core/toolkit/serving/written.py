"""A model that writes, watched: how soon its texts come, how many tokens they are, and what they were written to.

Stands between the model's queue and its domain, whatever routes that has. Knows texts, nothing of HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace
from typing import Protocol

from toolkit.protocols import PredictorFacts
from toolkit.services import Seen
from toolkit.text import GenerationRequest, Message, ServedText, TextDelta, Usage

SEEN: ContextVar[list[Seen] | None] = ContextVar("toolkit_seen", default=None)
"""Where what is written in answer to the request at hand is noted for the site's records; None where nobody wants
it."""

CUT_OFF = "cut-off"
"""Why a person should look at a text that did not come to its end."""


class TextObserver(Protocol):
    """Told of each text as it is written; times in seconds."""

    def first(self, seconds: float) -> None:
        """The first piece came so long after the request."""
        ...

    def next(self, seconds: float) -> None:
        """So long a token took of another piece, since the one before."""
        ...

    def ended(self, usage: Usage | None) -> None: ...


class Written:
    """A `ServedText` that is watched."""

    def __init__(self, model: ServedText, observer: TextObserver) -> None:
        self._model, self._observer = model, observer

    @property
    def facts(self) -> PredictorFacts:
        return self._model.facts

    def check(self, request: GenerationRequest) -> None:
        """Raise what is wrong with the request: `UsageError` and its kind."""
        self._model.check(request)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        """As the model's own."""
        before, counted, text = time.perf_counter(), 0, ""
        noted = SEEN.get()
        async with aclosing(self._model.generate(request)) as pieces:
            async for piece in pieces:
                now = time.perf_counter()
                if piece.text:
                    so_far = piece.usage.completion_tokens if piece.usage else counted + 1
                    if text:
                        self._observer.next((now - before) / max(1, so_far - counted))
                    else:
                        self._observer.first(now - before)
                    before, counted = now, so_far
                    text += piece.text
                if piece.finish is not None:
                    self._observer.ended(piece.usage)
                    if noted is not None and request.messages:
                        noted.append(seen(request.messages, text, cut=piece.finish == "length"))
                yield piece


def look_at(why: str) -> None:
    """A person should look at what the model wrote last in answer to the request at hand: a domain says why, once it
    knows. Nothing where it wrote nothing, or nobody keeps a review set."""
    if noted := SEEN.get():
        noted[-1] = replace(noted[-1], why=(*noted[-1].why, why))


def seen(messages: Sequence[Message], text: str, *, cut: bool) -> Seen:
    """What is kept of a text: its row with what was written as the completion."""
    row = {"messages": [{"role": turn.role, "content": turn.content} for turn in messages], "completion": text}
    content = json.dumps(row, ensure_ascii=False).encode()
    return Seen("text", content, measures=text_measures(messages, text), why=(CUT_OFF,) if cut else ())


def text_measures(messages: Sequence[Message], text: str) -> Mapping[str, float]:
    """What drift compares of a text: the lengths of prompt and answer, and how much of the prompt is written in
    another script or in digits. They need no tokenizer, so teacher and student are measured alike."""
    prompt = "".join(turn.content for turn in messages if turn.role != "system")
    many = max(1, len(prompt))
    return {
        "prompt_characters": float(len(prompt)),
        "answer_characters": float(len(text)),
        "prompt_non_ascii": round(sum(not letter.isascii() for letter in prompt) / many, 4),
        "prompt_digits": round(sum(letter.isdigit() for letter in prompt) / many, 4),
    }
