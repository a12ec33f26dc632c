"""Questions of reasoning-gym as prompts, and from a prompt back to its question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.errors import DataError, PlanError
from toolkit.text import Prompt

NOT_OFFERED = {
    "composite": "name its parts instead",
    "codeio": "it runs snippets of code on this machine",
    "bf": "it writes to the terminal",
}


@dataclass(frozen=True)
class Task:
    """A generator with its settings. `dataset[index]` is an item: question, answer, metadata."""

    name: str
    dataset: Any


class Exam:
    """All questions of some tasks. The same arguments give the same questions.

    Raises:
        PlanError: there is no such task, or it does not take such parameters.
    """

    def __init__(self, tasks: Sequence[str], size: int, seed: int, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        if unused := parameters.keys() - set(tasks):
            raise PlanError(
                f"teacher_program.parameters is for {', '.join(sorted(unused))}, none of teacher_program.tasks",
                hint="Name the task, or take its parameters out.",
            )
        self._size = size
        self._tasks = {name: Task(name, _dataset(name, size, seed, parameters.get(name, {}))) for name in tasks}

    def prompts(self) -> Sequence[Prompt]:
        return [
            Prompt.of(f"{name}-{index:06}", task.dataset[index]["question"])
            for name, task in self._tasks.items()
            for index in range(self._size)
        ]

    def item(self, prompt: Prompt) -> tuple[Task, Mapping[str, Any]]:
        """The question that a prompt asks.

        Raises:
            DataError: it is none of these.
        """
        name, _, number = prompt.id.rpartition("-")
        task = self._tasks.get(name)
        if task is None or not number.isdecimal() or int(number) >= self._size:
            raise DataError(
                f"the prompt {prompt.id} is no question of {', '.join(self._tasks)} with {self._size} each",
                hint="Take the prompts from the teacher itself, under the same settings.",
            )
        item: Mapping[str, Any] = task.dataset[int(number)]
        if item["question"] not in prompt.messages[-1].content:
            raise DataError(
                f"the prompt {prompt.id} asks something else than that question",
                hint="Keep the question as it is; teacher_program.seed and parameters must be those it was made with.",
            )
        return task, item


def _dataset(name: str, size: int, seed: int, parameters: Mapping[str, Any]) -> Any:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS or name in NOT_OFFERED:
        why = f": {NOT_OFFERED[name]}" if name in NOT_OFFERED else ""
        raise PlanError(
            f"the teacher program has no task {name}{why}",
            hint=f"Tasks: {', '.join(sorted(DATASETS.keys() - NOT_OFFERED.keys()))}.",
        )
    try:
        return reasoning_gym.create_dataset(name, **{**parameters, "size": size, "seed": seed})
    except (TypeError, ValueError, AssertionError) as error:
        raise PlanError(
            f"the task {name} does not take teacher_program.parameters.{name}: {error}", hint="Mend its parameters."
        ) from error
