"""A teacher of text in a module that another process can import, and one for each promise that it can break."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from toolkit.errors import DataError
from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord
from toolkit.testing.text_teachers import SourceFailed
from toolkit.text import Completion, Prompt, Sampling


@dataclass
class Oracle:
    """A teacher in this process that notes what it is asked; `order` says in which order it answers a batch."""

    batch: int = 1
    asked: list[str] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    answer_as: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "MIT"
    fingerprinted: str = "0" * 64
    name: str = "oracle"
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord("oracle", self.licence, "", "allowed")

    def fingerprint(self, plan: Plan) -> str:
        return self.fingerprinted

    def sampling(self, plan: Plan) -> Sampling:
        return Sampling()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        if any("unanswerable" in prompt.id for prompt in prompts):
            raise DataError("it cannot be answered", hint="Leave it out.")

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Iterator[Completion]:
        self.spent.append(spent)
        held: list[Prompt] = []
        for prompt in prompts:
            held.append(prompt)
            if len(held) == self.batch:
                yield from self.say(held)
        yield from self.say(held)

    def say(self, held: list[Prompt]) -> Iterator[Completion]:
        while held:
            prompt = held.pop()
            self.asked.append(prompt.id)
            answer = Completion(self.answer_as or prompt.id, f"to {prompt.messages[-1].content}", cost=1.5)
            yield replace(answer, **self.changes)


class Eager(Oracle):
    """Reads everything before it answers anything."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Iterator[Completion]:
        yield from super().answers(plan, list(prompts))


class Forgetful(Oracle):
    """Leaves the last prompt out."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Iterator[Completion]:
        for answer in super().answers(plan, prompts):
            if answer.prompt_id != "p7":
                yield answer


class Swallowing(Oracle):
    """Takes an error of the source for its end."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Iterator[Completion]:
        try:
            yield from super().answers(plan, prompts)
        except SourceFailed:
            return


class Lingering(Oracle):
    """Leaves a thread behind."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Iterator[Completion]:
        threading.Thread(target=threading.Event().wait, args=(20,), daemon=True, name="lingering").start()
        yield from super().answers(plan, prompts)


class Fickle(Oracle):
    """Is another one each time."""

    def fingerprint(self, plan: Plan) -> str:
        self.fingerprinted = f"{int(self.fingerprinted, 16) + 1:064x}"
        return self.fingerprinted


class Torch(Oracle):
    """Loads torch to say who it is; a stand-in for it, and not where other tests run, for it takes long to load."""

    def fingerprint(self, plan: Plan) -> str:
        if "pytest" not in sys.modules:
            sys.modules["torch"] = ModuleType("torch")
        return super().fingerprint(plan)
