"""What teachers of text say and are asked: prompts, completions, verdicts, and the protocol of such a teacher.

Records and types, and the answers of a model made whole. It knows neither how an answer is fetched nor what a good one
is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from toolkit.protocols import CompiledForm, HardwareProfile, PredictorFacts

if TYPE_CHECKING:
    import numpy as np

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "content_filter"]
"""Why an answer ends: by itself, cut off at the most tokens, or held back by the teacher's own filter."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """What a teacher is asked. `sample` tells several answers to the same messages apart: 0, 1, 2, ..."""

    id: str
    messages: tuple[Message, ...]
    sample: int = 0

    @classmethod
    def of(cls, identity: str, text: str, *, system: str = "") -> Prompt:
        """A single question, after a system message where there is one."""
        first = (Message("system", system),) if system else ()
        return cls(identity, (*first, Message("user", text)))


@dataclass(frozen=True)
class Sampling:
    """How a teacher draws an answer; None where it does not draw, or leaves it to its server."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    top_logprobs: int = 0


@dataclass(frozen=True)
class Usage:
    """Tokens as the teacher counts them; reasoning is part of the completion."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class TokenChoice:
    """A token of an answer with its log-probability (natural logarithm), and the likeliest tokens in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """A teacher's answer.

    `cost` is in the plan's currency; where the teacher did not count tokens, `usage` is None and `cost` the most it can
    have been. `reasoning` is what a reasoning model thought before it answered (DeepSeek-R1, arXiv 2501.12948).
    """

    prompt_id: str
    text: str
    finish: Finish = "stop"
    usage: Usage | None = None
    cost: float = 0.0
    reasoning: str = ""
    top_logprobs: tuple[TokenChoice, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """The answer as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Completion:
        """Raises KeyError, TypeError or ValueError where the record is none of a completion."""
        usage = record["usage"]
        choices = (
            TokenChoice(one["token"], float(one["logprob"]), tuple((str(t), float(p)) for t, p in one["top"]))
            for one in record["top_logprobs"]
        )
        return cls(
            prompt_id=record["prompt_id"],
            text=record["text"],
            finish=record["finish"],
            usage=Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"])) if usage else None,
            cost=float(record["cost"]),
            reasoning=record["reasoning"],
            top_logprobs=tuple(choices),
        )


@dataclass(frozen=True)
class Verdict:
    """What a verifier makes of an answer: `score` from 0, wrong, to 1, right; `because` says why where it is not 1."""

    score: float
    by: str
    because: str = ""


@dataclass(frozen=True)
class Logprobs:
    """What a model says of a completion's tokens: the natural logarithms of their probabilities, float32 [n], and where
    the token is the one that it would have chosen itself, bool [n]."""

    values: np.ndarray
    likeliest: np.ndarray


@dataclass(frozen=True)
class Grammar:
    """What an answer must keep to: `rules` are a JSON schema, a regular expression, or a grammar as Lark writes it."""

    kind: Literal["json_schema", "regex", "lark"]
    rules: str


@dataclass(frozen=True)
class GenerationRequest:
    """What a model is to go on from: at most `max_tokens` tokens, the likeliest ones where `temperature` is 0.

    With `calculator` the results of `<<48/2=24>>` marks are computed, and not the model's own. `wanted` are texts that
    must all stand in the answer before it may end by itself. It keeps to `grammar`, where there is one. Where `prompt`
    is not None that text is gone on from as it is, and there are no messages. What is drawn is drawn by `seed`, and the
    same again by the same one; by chance where it is None. With `every_token` each is told by itself, for who looks in
    them for the answer's end; else what comes quickly may come in pieces of several.
    """

    id: str
    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = 0
    calculator: bool = False
    wanted: tuple[str, ...] = ()
    grammar: Grammar | None = None
    prompt: str | None = None
    every_token: bool = False

    @property
    def constrained(self) -> bool:
        """Whether anything but the model has a say in its answer."""
        return self.calculator or bool(self.wanted) or self.grammar is not None


class Constraint(Protocol):
    """What guides an answer while it is written; one for each answer, asked before every token."""

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        """The tokens that must come next after those of the answer so far; none where the model is free."""
        ...

    def allowed(self, ids: Sequence[int], vocabulary: int) -> np.ndarray | None:
        """Which of a head's tokens may come next, bool [vocabulary]; None: any."""
        ...


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer to the request `id`; the last one of it says why it ends. `usage` is what it took so far,
    where that is counted."""

    id: str
    text: str
    finish: Finish | None = None
    usage: Usage | None = None


@runtime_checkable
class TextPredictor(Protocol):
    """Messages in, text out: a teacher, a student, a compiled or an installed model alike."""

    @property
    def facts(self) -> PredictorFacts: ...

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        """Answer every request; pieces of different answers may come in any order."""
        ...

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[Logprobs]:
        """What it says of each (messages, completion).

        Raises:
            Unsupported: it is a black box.
        """
        ...


def whole_answers(predictor: TextPredictor, requests: Sequence[GenerationRequest]) -> dict[str, str]:
    """The answers to requests by their ids, each put together of its pieces; the model is not asked for nothing."""
    pieces: dict[str, list[str]] = {}
    for delta in predictor.generate(requests) if requests else ():
        pieces.setdefault(delta.id, []).append(delta.text)
    return {identity: "".join(found) for identity, found in pieces.items()}


@runtime_checkable
class ServedText(Protocol):
    """The same model behind the server's queue: requests wait, and are refused when the queue is full."""

    @property
    def facts(self) -> PredictorFacts: ...

    def check(self, request: GenerationRequest) -> None:
        """Raise UsageError, or its kind, where the model cannot answer the request."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        """The answer as it is written, bearing the request's id; no more of it once the iterator is closed."""
        ...


class Asking(Protocol):
    """How messages become what a model is asked: with the system message it learnt, an id, and an end."""

    def __call__(
        self, messages: Sequence[Message], *, most: int | None = None, temperature: float = 0.0, top_p: float = 1.0,
        seed: int | None = None, calculator: bool = False, wanted: Sequence[str] = (),
        grammar: Grammar | None = None, prompt: str | None = None,
    ) -> GenerationRequest: ...  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """What a service offers to OpenAI's routes: who answers, and how it is asked."""

    predictor: ServedText
    request: Asking


@runtime_checkable
class LanguageTarget(Protocol):
    """A target that language models can be built for as well."""

    def compile_language(self, checkpoint: Path, profile: HardwareProfile, folder: Path) -> Iterable[CompiledForm]:
        """The forms of a checkpoint as save_pretrained writes it, the most wanted first and fp32 last, as
        `serving.language` runs them; `folder` is where it may work."""
        ...
