"""How strongly knowledge is transferred: by sample and by task, anew as training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from toolkit.distil import losses
from toolkit.distil.objectives import Batch, Outputs

LEAST, MOST = 0.25, 4.0
"""Bounds of a sample's difficulty in units of the batch's mean: none outweighs another by more than their ratio."""

TaskWeighting = Literal["even", "loss-ratio", "uncertainty"]

NOTHING = 1e-6
"""Nats of a loss that is as good as none: no task outweighs all others because it is learnt."""

SMOOTHNESS = 2.0
"""Temperature of the loss ratios (T of DWA)."""


def by_difficulty(student: Outputs, teacher: Outputs) -> Tensor:
    """Weights [n] of mean one: more where the student still differs from its teacher, less where the teacher is unsure.

    A row's divergence KL(teacher || student) in units of the batch's mean, times the teacher's highest probability,
    held between LEAST and MOST. No gradient flows through a weight.
    """
    with torch.no_grad():
        divergence = losses.response(student.logits, teacher.logits, 1.0)
        raw = confidence(teacher) * divergence / divergence.mean().clamp(min=1e-12)
        bounded = held(raw)
        return bounded / bounded.mean()


def held(raw: Tensor) -> Tensor:
    """Difficulties in units of their mean, between the bounds."""
    return raw.clamp(LEAST, MOST)


def confidence(teacher: Outputs) -> Tensor:
    """The teacher's highest probability [n]: what a row that nobody labelled weighs."""
    return torch.softmax(teacher.logits.detach(), dim=-1).amax(dim=-1)


class TaskWeights:
    """What tasks weigh, from epoch to epoch.

    Args:
        names: of the tasks, by number.
        by: `even`; `loss-ratio`, by how slowly their loss falls: the softmax of L(t-1) / L(t-2), an epoch's mean losses
            (dynamic weight averaging, Liu et al. 2019, arXiv 1803.10704); or `uncertainty`, by how little is left to
            learn: 1 / L(t-1), where the homoscedastic uncertainty of a task whose loss is L settles (Kendall et al.
            2018, arXiv 1705.07115).
        floor: no task weighs less, in units of the mean, so that none starves.
    """

    def __init__(self, names: Sequence[str] = (), *, by: TaskWeighting = "even", floor: float = 0.5) -> None:
        self._names, self._by, self._floor = tuple(names), by, floor
        self._weights = torch.ones(len(self._names))
        self._sums, self._counts = torch.zeros(len(self._names)), torch.zeros(len(self._names))
        self._epochs: list[Tensor] = []

    def of(self, tasks: Tensor | None) -> Tensor | None:
        """What rows or tokens of these tasks [n] weigh now; None where all weigh alike."""
        return None if self._by == "even" or tasks is None else self._weights.to(tasks.device)[tasks]

    def observe(self, tasks: Tensor | None, values: Tensor) -> None:
        """Add up each task's losses [n] of a step."""
        if tasks is not None and self._names:
            numbers = tasks.cpu()
            self._sums.index_add_(0, numbers, values.detach().float().cpu())
            self._counts.index_add_(0, numbers, torch.ones(len(numbers)))

    def add(self, sums: Tensor, counts: Tensor) -> None:
        """The same, added up already: by task, [tasks] each."""
        self._sums += sums
        self._counts += counts

    def close_epoch(self) -> dict[str, float]:
        """Weigh the tasks anew; each task's mean loss as `task/NAME` and the weight it had as `weight/NAME`."""
        known = self._epochs[-1] if self._epochs else torch.zeros_like(self._sums)
        means = torch.where(self._counts > 0, self._sums / self._counts.clamp(min=1), known)
        self._epochs = [*self._epochs[-1:], means]
        told = {f"task/{name}": float(mean) for name, mean in zip(self._names, means, strict=True)}
        if self._by != "even":
            told |= {f"weight/{name}": float(w) for name, w in zip(self._names, self._weights, strict=True)}
        if self._by == "loss-ratio" and len(self._epochs) == 2:
            before, last = self._epochs
            self._weights = loss_ratio_weights(before, last, self._floor)
        if self._by == "uncertainty":
            self._weights = uncertainty_weights(means, self._floor)
        self._sums.zero_()
        self._counts.zero_()
        return told

    def state(self) -> dict[str, Any]:
        return {"weights": self._weights, "sums": self._sums, "counts": self._counts, "epochs": self._epochs}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._weights, self._epochs = saved["weights"], saved["epochs"]
        self._sums, self._counts = saved["sums"], saved["counts"]


class Weighting:
    """What each row of a batch weighs. Its state belongs to the training: it is saved and restored with it.

    Args:
        difficulty: weigh samples by difficulty.
        tasks: what the tasks that `Batch.tasks` counts weigh.
    """

    def __init__(self, *, difficulty: bool = False, tasks: TaskWeights | None = None) -> None:
        self._difficulty, self._tasks = difficulty, tasks or TaskWeights()

    def weigh(self, batch: Batch, student: Outputs) -> Batch:
        """The batch with what its labels and its teacher's answers weigh now."""
        labels, teacher = batch.label_weights, batch.teacher_weights
        if self._difficulty and batch.teacher is not None:
            teacher = _times(teacher, by_difficulty(student, batch.teacher))
        if (task := self._tasks.of(batch.tasks)) is not None:
            task = task.to(student.logits.dtype)
            labels, teacher = _times(labels, task), _times(teacher, task)
        return replace(batch, label_weights=labels, teacher_weights=teacher)

    def observe(self, batch: Batch, values: Tensor) -> None:
        """Add up each task's losses [n] of a step."""
        self._tasks.observe(batch.tasks, values)

    def close_epoch(self) -> dict[str, float]:
        """Weigh the tasks anew, and tell their figures."""
        return self._tasks.close_epoch()

    def state(self) -> dict[str, Any]:
        return self._tasks.state()

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._tasks.restore(saved)


def loss_ratio_weights(before: Tensor, last: Tensor, floor: float) -> Tensor:
    """Weights [tasks] of mean one from the mean losses of the last two epochs, none under `floor`. A task of which
    nothing was known before neither rose nor fell."""
    ratios = torch.where(before > 0, last / before.clamp(min=1e-12), 1.0)
    return _above(floor, len(last) * torch.softmax(ratios / SMOOTHNESS, dim=0))


def uncertainty_weights(last: Tensor, floor: float) -> Tensor:
    """Weights [tasks] of mean one, in the proportion of 1 / loss, none under `floor`. The loss L / s^2 + log s^2 of a
    task is least at s^2 = L, so this is what its learned weight 1 / s^2 comes to. A task of which nothing is known
    weighs as the mean of the others."""
    known = last > 0
    inverse = torch.where(known, 1 / last.clamp(min=NOTHING), 0.0)
    usual = inverse.sum() / known.sum().clamp(min=1)
    inverse = torch.where(known, inverse, usual if bool(known.any()) else torch.ones_like(usual))
    return _above(floor, inverse / inverse.mean())


def _above(floor: float, weights: Tensor) -> Tensor:
    """Weights of mean one, none under the floor."""
    spare = (weights - floor).clamp(min=0)
    return floor + spare * (1 - floor) * len(weights) / spare.sum().clamp(min=1e-12)


def _times(weights: Tensor | None, factor: Tensor) -> Tensor:
    return factor if weights is None else weights.to(factor) * factor
