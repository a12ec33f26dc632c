"""A teacher as one that knows nothing of marks is asked: in words, with every value; what it writes is taken back to a
draft.

A text that gets its product wrong, or uses a term that may not leave, is held back: a student learns no lies.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord
from toolkit.text import Completion, Prompt, Sampling
from toolkit.text_teachers import LocalTeacher, TextTeacher
from toolkit.workspace import digest_of
from toolkit_content.drafting import draft_of
from toolkit_content.preparing import Told
from toolkit_content.scoring import pack_for
from toolkit_content.slots import faults_of
from toolkit_content.terms import Scanner
from toolkit_content.wording import Asking

VERSION = 1
"""Of how a teacher is asked; another one is another teacher."""


@dataclass(frozen=True)
class Copywriter:
    """A `TextTeacher` that writes drafts. `told` are products by the ids of their rows."""

    teacher: TextTeacher | LocalTeacher
    told: Mapping[str, Told]
    asking: Asking
    scanner: Scanner
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
        return digest_of(["copywriter", VERSION, self.teacher.fingerprint(plan)])

    def sampling(self, plan: Plan) -> Sampling:
        if isinstance(self.teacher, TextTeacher):
            return self.teacher.sampling(plan)
        return Sampling(plan.text.temperature, 1.0, plan.text.answer_tokens, plan.compute.seed)

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        if isinstance(self.teacher, TextTeacher):
            self.teacher.check(plan, [self._in_words(prompt) for prompt in prompts])

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Generator[Completion]:
        """A draft to each prompt; one that is held back says so."""
        answers = self._inner(plan).answers(plan, map(self._in_words, prompts), spent=spent)
        try:
            for answer in answers:
                yield self._drafted(answer)
        finally:
            answers.close()

    def _inner(self, plan: Plan) -> TextTeacher:
        if isinstance(self.teacher, TextTeacher):
            return self.teacher
        from toolkit.tasks.text_generation.predictors import LocalWriter
        from toolkit.tasks.text_generation.teacher import read_teacher

        return LocalWriter(self.teacher, read_teacher(self.teacher.source(plan), name=self.teacher.name))

    def _in_words(self, prompt: Prompt) -> Prompt:
        return replace(prompt, messages=self.asking.messages(self._of(prompt.id)))

    def _of(self, identity: str) -> Told:
        return self.told[identity.partition("#")[0]]

    def _drafted(self, answer: Completion) -> Completion:
        one = self._of(answer.prompt_id)
        pack, text = pack_for(one, self.asking.packs), " ".join(answer.text.split())
        blocked = any(hit.term.severity == "block" for hit in self.scanner.scan(text))
        if blocked or faults_of(one.product, text, pack):
            return replace(answer, finish="content_filter")
        return replace(answer, text=draft_of(one.product, text, pack))
