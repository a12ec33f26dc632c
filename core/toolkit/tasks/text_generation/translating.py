"""A teacher that is asked in other words than the student: what it says is translated back, or held back.

So a large model that knows nothing of a domain's short forms can teach them. Which words those are is the domain's
affair.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord
from toolkit.text import Completion, Prompt, Sampling
from toolkit.text_teachers import TextTeacher
from toolkit.workspace import digest_of


@dataclass(frozen=True)
class Translated:
    """A `TextTeacher` around another teacher.

    Args:
        manner: names how it is asked, with a version: another manner is another teacher.
        asked: a prompt in the words that the teacher understands.
        read: what it answered as the student is to say it; with the finish `content_filter` where that is none.
    """

    teacher: TextTeacher
    manner: str
    asked: Callable[[Prompt], Prompt]
    read: Callable[[Completion], Completion]
    gives: frozenset[str] = frozenset({"text"})

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def tasks(self) -> frozenset[str]:
        return self.teacher.tasks

    def record(self, plan: Plan) -> TeacherRecord:
        return self.teacher.record(plan)

    def fingerprint(self, plan: Plan) -> str:
        return digest_of([self.manner, self.teacher.fingerprint(plan)])

    def sampling(self, plan: Plan) -> Sampling:
        return self.teacher.sampling(plan)

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        self.teacher.check(plan, [self.asked(prompt) for prompt in prompts])

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Generator[Completion]:
        """What it says to each prompt, translated."""
        answers = self.teacher.answers(plan, map(self.asked, prompts), spent=spent)
        try:
            for answer in answers:
                yield self.read(answer)
        finally:
            answers.close()
