"""What each completion token counts: by its task, by how far the student still is from its teacher there, and, where
the teacher wrote it, by how sure that one is. Its state belongs to the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.distil.chunks import HiddenStates, Mix, Tokens, VocabularyLoss
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.sequences import TopK
from toolkit.distil.weighting import TaskWeighting, TaskWeights
from toolkit.tasks.text_generation.tokens import Tokenised


class TokenWeighting:
    """Weighs the tokens of samples, step by step.

    Args:
        tasks: the samples' tasks, those that have figures of their own.
        by, floor: how tasks are weighed (`TaskWeights`).
        difficulty: weigh responses by difficulty, in units of the mean that it had in the epoch before; in the first
            one all count alike.
    """

    def __init__(
        self, tasks: Sequence[str] = (), *, by: TaskWeighting = "even", floor: float = 0.5, difficulty: bool = False
    ) -> None:
        self._numbers = {name: number for number, name in enumerate(tasks)}
        self._tasks = TaskWeights([name or "untitled" for name in tasks], by=by, floor=floor)
        self._difficulty = difficulty
        self._usual: float | None = None
        self._sum = torch.zeros(2, dtype=torch.float64)
        # Of the parts of this step that this process taught: sums and counts, by task, and last of the difficulty.
        self._step = torch.zeros(2, len(tasks) + 1, dtype=torch.float64)

    def tokens(self, samples: Sequence[Tokenised], targets: Tensor, teacher: TopK | HiddenStates | None) -> Tokens:
        """The completion tokens of samples, one after the other, with what each counts.

        Args:
            targets: int64 [n], the tokens.
            teacher: what was said of them; where nobody can tell how sure it was, what it wrote counts in full.
        """
        weights = self._tasks.of(self._of(samples, targets.device))
        said = None
        if teacher is not None and any(sample.said for sample in samples):
            said = _each(samples, [sample.said for sample in samples], targets.device)
        return Tokens(targets, teacher, weights, weights, said, self._usual)

    def observe(self, samples: Sequence[Tokenised], found: VocabularyLoss, mix: Mix) -> None:
        """Look back on a part of a step."""
        values = mix.hard_label * found.hard_label + mix.response * found.response
        if self._numbers:
            self._count(self._of(samples, values.device), values)
        if self._difficulty:
            self._count(torch.full(found.difficulty.shape, len(self._numbers)), found.difficulty)

    def close_step(self, processes: Processes = ALONE) -> None:
        """Look back on a step of which each process taught some parts: what is known, and saved, is then the same in
        all of them, and a training is taken up in the middle of an epoch as it was."""
        if self._numbers or self._difficulty:
            sums, counts = processes.add_up(self._step)
            self._tasks.add(sums[:-1], counts[:-1])
            self._sum += torch.stack([sums[-1], counts[-1]])
            self._step.zero_()

    def close_epoch(self) -> dict[str, float]:
        """Weigh anew; each task's mean loss a token and the weight it had, and the mean difficulty where it counts."""
        told = self._tasks.close_epoch()
        if self._difficulty:
            total, count = self._sum.tolist()
            self._usual = max(total / max(1.0, count), 1e-12)
            told["difficulty"] = self._usual
            self._sum.zero_()
        return told

    def state(self) -> dict[str, Any]:
        return {"tasks": self._tasks.state(), "usual": self._usual, "sum": self._sum}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._tasks.restore(saved["tasks"])
        self._usual, self._sum = saved["usual"], saved["sum"]

    def _count(self, numbers: Tensor | None, values: Tensor) -> None:
        """Add values [n] to the sums of these numbers [n]."""
        assert numbers is not None
        added = torch.stack([values.detach().double().cpu(), torch.ones(len(values), dtype=torch.float64)])
        self._step.index_add_(1, numbers.cpu(), added)

    def _of(self, samples: Sequence[Tokenised], device: torch.device) -> Tensor | None:
        """The number of each token's task."""
        if not self._numbers:
            return None
        return _each(samples, [self._numbers[sample.task] for sample in samples], device)


def _each(samples: Sequence[Tokenised], values: Sequence[int | bool], device: torch.device) -> Tensor:
    """A value a sample for each of its completion tokens."""
    lengths = torch.tensor([sample.learnt for sample in samples])
    return torch.tensor(values).repeat_interleave(lengths).to(device)
