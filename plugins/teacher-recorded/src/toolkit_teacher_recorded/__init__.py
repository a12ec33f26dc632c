"""Teacher `recorded`: answers that somebody already has, as JSON lines. Nothing is asked, and nothing is paid."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import Field

from toolkit.errors import DataError, PlanError
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan, Section
from toolkit.protocols import Settings, TeacherRecord
from toolkit.text import Completion, Prompt, Sampling
from toolkit.text_teachers import TextTeacher, record_of
from toolkit.workspace import file_digest
from toolkit_teacher_recorded.book import Book, open_book

SECTION = "teacher_recorded"
NAMED = 5
"""As many missing prompts as an error names."""


class RecordedSettings(Section):
    """The table [teacher_recorded]: where the answers are, and whose they are."""

    path: Path | None = Field(None, description="JSON lines: id or messages or prompt, completion, maybe reasoning.")
    author: str = Field("", description="Who gave the answers, such as the model's name.")
    licence: str = Field("", description="Licence of the answers, as SPDX id; else it is unknown.")


@dataclass(frozen=True)
class RecordedTeacher:
    """Answers that somebody already has, one JSON object a line, matched by id or by the prompt's text."""

    name: str = "recorded"
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        """The licence is what the plan states."""
        settings = cast(RecordedSettings, getattr(plan, SECTION))
        return record_of(f"recorded:{settings.author or _path(plan).name}", settings.licence)

    def fingerprint(self, plan: Plan) -> str:
        return file_digest(_path(plan))

    def sampling(self, plan: Plan) -> Sampling:
        """None: it was done long ago."""
        return Sampling()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """Raise DataError where a line is broken, or a prompt has no answer."""
        path = _path(plan)
        with open_book(path) as book:
            missing = [prompt for prompt in prompts if not book.has(prompt)]
        if missing:
            raise _missing(missing, len(prompts), path)

    def answers(
        self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0
    ) -> Generator[Completion, None, None]:
        path = _path(plan)
        with open_book(path) as book:
            for prompt in prompts:
                yield _answer(book, prompt, path)


def _answer(book: Book, prompt: Prompt, path: Path) -> Completion:
    line = book.find(prompt)
    if line is None:
        raise _missing([prompt], 1, path)
    return Completion(prompt.id, line.completion, reasoning=line.reasoning or "")


def _missing(missing: Sequence[Prompt], total: int, path: Path) -> DataError:
    names = ", ".join(
        f"{prompt.id} (answer {prompt.sample + 1})" if prompt.sample else prompt.id for prompt in missing[:NAMED]
    )
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return DataError(
        f"{len(missing)} of {total} prompts have no answer in {path}: {names}{more}",
        hint="Add their lines, by id or by the prompt's exact text; or leave these prompts out.",
    )


def _named(prompt: Prompt) -> str:
    return f"{prompt.id} (answer {prompt.sample + 1})" if prompt.sample else prompt.id


def _path(plan: Plan) -> Path:
    path: Path | None = getattr(plan, SECTION).path
    if path is None:
        raise PlanError("the teacher recorded needs a file of answers", hint=f"--set {SECTION}.path=FILE")
    if not path.is_file():
        raise PlanError(f"no file of answers at {path}", hint=f"{SECTION}.path names a file of JSON lines.")
    return path


@hookimpl
def register_teachers() -> Iterable[TextTeacher]:
    """Offer the teacher `recorded`."""
    return [RecordedTeacher()]


@hookimpl
def register_settings() -> Iterable[Settings]:
    """The table [teacher_recorded]. Where the file lies changes no label; what it holds is in the fingerprint."""
    return [Settings(SECTION, RecordedSettings, {})]
