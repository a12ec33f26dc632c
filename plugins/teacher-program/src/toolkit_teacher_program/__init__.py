"""Teacher `program`: generators of reasoning-gym, which set questions, know every answer, and check those of others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, cast

from pydantic import Field

from toolkit.errors import DataError, EnvironmentUnfit
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan, Section
from toolkit.protocols import Settings, TeacherRecord
from toolkit.text import Completion, Prompt, Sampling, Verdict
from toolkit.text_teachers import ExactTeacher, record_of
from toolkit.workspace import digest_of
from toolkit_teacher_program.exam import Exam
from toolkit_teacher_program.verify import judge, verify

__all__ = ["ProgramSettings", "ProgramTeacher", "verify"]

SECTION, PACKAGE = "teacher_program", "reasoning-gym"


class ProgramSettings(Section):
    """The table [teacher_program]: which questions, and how many."""

    tasks: tuple[str, ...] = Field(("chain_sum",), min_length=1, description="Generators of reasoning-gym, by name.")
    size: int = Field(500, ge=1, le=10_000_000, description="Questions of each task.")
    seed: int = Field(0, ge=0, lt=2**31, description="The same seed gives the same questions.")
    parameters: dict[str, dict[str, Any]] = Field({}, description="How hard a task is: parameters, by task.")


@dataclass(frozen=True)
class ProgramTeacher:
    """An exact generator with its own checker: mathematics, logic, games and more, by reasoning-gym."""

    name: str = "program"
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        package = _package()
        texts = [file for file in package.files or () if file.name == "LICENSE"]
        licence_text = texts[0].read_text() if texts else ""
        return record_of(f"{PACKAGE} {package.version}", package.metadata["License-Expression"] or "", licence_text)

    def fingerprint(self, plan: Plan) -> str:
        """Of the generators' version and settings."""
        return digest_of([_package().version, _settings(plan).model_dump(mode="json")])

    def sampling(self, plan: Plan) -> Sampling:
        """None: there is one answer."""
        return Sampling()

    def prompts(self, plan: Plan) -> Sequence[Prompt]:
        return _exam(plan).prompts()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """Raise DataError where a prompt is none of its questions."""
        exam = _exam(plan)
        for prompt in prompts:
            exam.item(prompt)

    def answers(
        self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0
    ) -> Generator[Completion, None, None]:
        exam = _exam(plan)
        for prompt in prompts:
            yield Completion(prompt.id, _answer(exam, prompt))

    def verifier(self, plan: Plan) -> Callable[[Prompt, str], Verdict]:
        exam = _exam(plan)

        def check(prompt: Prompt, answer: str) -> Verdict:
            task, item = exam.item(prompt)
            score, because = judge(task, item, answer)
            return Verdict(score, f"{PACKAGE} {task.name}", because)

        return check


def _answer(exam: Exam, prompt: Prompt) -> str:
    task, item = exam.item(prompt)
    if not isinstance(item["answer"], str):
        raise DataError(
            f"the task {task.name} states no answer to {prompt.id}: there are many, and it only checks them",
            hint="Take it for rewards, or choose another task.",
        )
    return item["answer"]


def _exam(plan: Plan) -> Exam:
    settings = _settings(plan)
    _package()
    return Exam(settings.tasks, settings.size, settings.seed, settings.parameters)


def _settings(plan: Plan) -> ProgramSettings:
    return cast(ProgramSettings, getattr(plan, SECTION))


def _package() -> Any:
    try:
        return distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise EnvironmentUnfit(
            f"the teacher program needs {PACKAGE}",
            hint=f"pip install {PACKAGE}",
            plugin="distil-toolkit-teacher-program",
        ) from error


@hookimpl
def register_teachers() -> Iterable[ExactTeacher]:
    """Offer the teacher `program`."""
    return [ProgramTeacher()]


@hookimpl
def register_settings() -> Iterable[Settings]:
    """The table [teacher_program]."""
    return [Settings(SECTION, ProgramSettings, {})]
