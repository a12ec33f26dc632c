"""What teachers of text say and are asked: prompts, completions, verdicts, and the protocol of such a teacher.

Records and types only. It knows neither how an answer is fetched nor what a good one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from toolkit.plan import Plan
from toolkit.protocols import CompiledForm, HardwareProfile, PredictorFacts, Teacher, TeacherRecord

if TYPE_CHECKING:
    import numpy as np

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "content_filter"]
"""Why an answer ends: by itself, cut off at the most tokens, or held back by the teacher's own filter."""

OPEN_LICENCES = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")
"""Licences, as SPDX ids, under which an answer may train a model; each but the last asks to keep its notice."""


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
class GenerationRequest:
    """What a model is to go on from: at most `max_tokens` tokens, the likeliest ones where `temperature` is 0."""

    id: str
    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer to the request `id`; the last one of it says why it ends."""

    id: str
    text: str
    finish: Finish | None = None


@runtime_checkable
class TextPredictor(Protocol):
    """Messages in, text out: a teacher, a student, a compiled or an installed model alike."""

    @property
    def facts(self) -> PredictorFacts: ...

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        """Answer every request; pieces of different answers may come in any order."""
        ...

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[np.ndarray]:
        """For each (messages, completion) the natural logarithms [n] of the probabilities of the completion's tokens.

        Raises:
            Unsupported: it is a black box.
        """
        ...


class Answers(Protocol):
    """A teacher's answers as they come. A generator is one, where the teacher works in the thread that iterates."""

    def __iter__(self) -> Iterator[Completion]: ...
    def __next__(self) -> Completion: ...

    def close(self) -> None:
        """End all at once, requests under way included, and leave no thread behind. May be called from another thread
        than the one that iterates, which is then told that the answers have ended."""
        ...


@runtime_checkable
class TextTeacher(Protocol):
    """A large language model, or another source of answers, that is asked and never looked into."""

    @property
    def name(self) -> str: ...

    @property
    def tasks(self) -> frozenset[str]: ...

    @property
    def gives(self) -> frozenset[str]:
        """Carriers of knowledge: text, and response where each token comes with its likeliest alternatives."""
        ...

    def record(self, plan: Plan) -> TeacherRecord:
        """Licence and identity, without asking anything."""
        ...

    def fingerprint(self, plan: Plan) -> str:
        """SHA-256 of what tells this teacher from another (endpoint and model, or file), without asking anything."""
        ...

    def sampling(self, plan: Plan) -> Sampling:
        """How it draws its answers. Fingerprint, sampling and messages together name an answer."""
        ...

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """Raise what can be known before anything is asked: settings that do not fit, answers that are not there."""
        ...

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Answers:
        """One answer a prompt, each as it comes, in any order; nothing is asked before the first is wanted.

        `prompts` is read as answers are taken, never far ahead: who takes slowly is not billed for what they do not
        take. It may be read in another thread, and reading may block; what was read is answered meanwhile. An error it
        raises ends the asking at once and reaches the caller.

        Args:
            spent: money already spent on this work by runs before this one, which counts towards a budget.

        Raises:
            UsageError: settings or a prompt that the teacher will not take (exit 2). Refused: a budget is spent
            (exit 3). EnvironmentUnfit: the teacher cannot be reached or answers nonsense (exit 5).
        """
        ...


@runtime_checkable
class LocalTeacher(Protocol):
    """A large language model on this machine, that writes and is looked into."""

    @property
    def name(self) -> str: ...

    @property
    def tasks(self) -> frozenset[str]: ...

    @property
    def gives(self) -> frozenset[str]:
        """Carriers of knowledge: response and text."""
        ...

    def record(self, plan: Plan) -> TeacherRecord:
        """Licence and identity, without loading the model."""
        ...

    def fingerprint(self, plan: Plan) -> str:
        """SHA-256 of its weights."""
        ...

    def source(self, plan: Plan) -> Path:
        """The folder of its checkpoint, as save_pretrained writes it, or its .gguf file."""
        ...


@runtime_checkable
class LanguageTarget(Protocol):
    """A target that language models can be built for as well."""

    def compile_language(self, checkpoint: Path, profile: HardwareProfile, folder: Path) -> Iterable[CompiledForm]:
        """The forms of a checkpoint as save_pretrained writes it, the most wanted first and fp32 last, as
        `serving.language` runs them; `folder` is where it may work."""
        ...


AnyTeacher = Teacher | TextTeacher | LocalTeacher


class ExactTeacher(TextTeacher, Protocol):
    """A teacher that sets its own questions, knows every answer, and checks what others answer."""

    def prompts(self, plan: Plan) -> Sequence[Prompt]:
        """Its questions. The same plan gives the same ones."""
        ...

    def verifier(self, plan: Plan) -> Callable[[Prompt, str], Verdict]:
        """What checks somebody's answer to one of its questions, and raises DataError where the question is none of
        them. An answer is never run as code."""
        ...


def record_of(identity: str, licence: str, licence_text: str = "") -> TeacherRecord:
    """The record of a teacher whose licence is what the user states: unknown unless it is one of OPEN_LICENCES."""
    known = {name.lower(): name for name in OPEN_LICENCES}
    spdx = known.get(licence.strip().lower())
    keep = () if spdx in (None, "CC0-1.0") else (f"Keep the {spdx} notice of the teacher.",)
    return TeacherRecord(
        id=identity,
        licence=spdx or licence.strip(),
        licence_text=licence_text,
        distillation="allowed" if spdx else "unknown",
        obligations=keep,
    )
