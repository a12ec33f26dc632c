"""What teachers of text offer: the protocols of those that are asked, and of those that are looked into.

Records and types only. It knows neither how an answer is fetched nor what a good one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from toolkit.plan import Plan
from toolkit.protocols import Teacher, TeacherRecord
from toolkit.text import Completion, Prompt, Sampling, Verdict

OPEN_LICENCES = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")
"""Licences, as SPDX ids, under which an answer may train a model; each but the last asks to keep its notice."""


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


@dataclass(frozen=True)
class AskedTeacher:
    """An installed teacher as a hook may ask it: `id` is its record's, `fingerprint` tells it from others. `answers`
    gives one answer a prompt, in any order, and raises as `TextTeacher.answers` does."""

    id: str
    fingerprint: str
    answers: Callable[[Sequence[Prompt]], Iterator[Completion]]


class Ask(Protocol):
    """How a hook finds a teacher beside the plan's own."""

    def __call__(self, name: str, tables: Mapping[str, Mapping[str, Any]] | None = None) -> AskedTeacher:
        """The installed teacher of that name, by the plan, in which `tables` replaces values; nothing is asked yet.

        Raises:
            PlanError: no teacher of text has this name here, or a value is none of the plan.
        """
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
