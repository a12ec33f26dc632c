"""The default service of text generation, and how a request becomes what a model is asked.

Loads no web framework until a service is asked for, so a domain may import this module anywhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.errors import DataError
from toolkit.services import Service
from toolkit.text import Conversation, GenerationRequest, Grammar, Message, ServedText


@dataclass(frozen=True)
class Manner:
    """How a bundle's model is asked: what stands before every conversation, and how long an answer may be."""

    bundle: str
    product: str
    system: str
    most_tokens: int

    @classmethod
    def of(cls, bundle: Mapping[str, Any]) -> Manner:
        """As the bundle's plan says, with which the student was trained and scored."""
        text = bundle["plan"]["text"]
        return cls(bundle["id"], bundle["product"], text["system"], text["answer_tokens"])

    def request(
        self, messages: Sequence[Message], *, most: int | None = None, temperature: float = 0.0, top_p: float = 1.0,
        seed: int | None = None, calculator: bool = False, wanted: Sequence[str] = (),
        grammar: Grammar | None = None, prompt: str | None = None,
    ) -> GenerationRequest:  # fmt: skip
        """A request with an id of its own; a drawn answer without a seed is another one each time. What goes on from a
        `prompt` gets no system message.

        Raises:
            DataError: there is nothing to answer.
        """
        if prompt is None and (not messages or messages[-1].role == "assistant"):
            raise DataError("there is nothing to answer", hint="Let the last message be the user's.")
        if self.system and messages and messages[0].role != "system":
            messages = (Message("system", self.system), *messages)
        return GenerationRequest(
            f"chatcmpl-{secrets.token_hex(12)}", tuple(messages), most or self.most_tokens, temperature, top_p,
            seed, calculator, tuple(wanted), grammar, prompt,
        )  # fmt: skip


def text_service(bundle: Mapping[str, Any], predictor: ServedText) -> Service:
    """No routes but OpenAI's."""
    from fastapi import APIRouter

    return Service(routes=APIRouter(), conversation=Conversation(predictor, Manner.of(bundle).request))
