"""The curriculum as a teacher: it knows the words of its own sentences, and of no others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord
from toolkit.text import Completion, Prompt, Sampling
from toolkit.text_teachers import record_of
from toolkit.workspace import digest_of

NAME = "curriculum"


@dataclass(frozen=True)
class CurriculumTeacher:
    """A `TextTeacher`: `answers_of` gives the exact re-theming of every prompt of a plan."""

    answers_of: Callable[[Plan], Mapping[str, str]]
    name: str = NAME
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        return record_of(f"curriculum:toolkit-education {version('distil-toolkit-education')}", "Apache-2.0")

    def fingerprint(self, plan: Plan) -> str:
        return digest_of(sorted(self.answers_of(plan).items()))

    def sampling(self, plan: Plan) -> Sampling:
        return Sampling()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """What it does not know it will hold back."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Generator[Completion]:
        known = self.answers_of(plan)
        for prompt in prompts:
            said = known.get(prompt.messages[-1].content)
            yield Completion(prompt.id, said or "", "stop" if said else "content_filter")
