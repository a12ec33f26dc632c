"""From a recipe's weighted objectives to one number to minimise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.distil import features, losses
from toolkit.distil.devices import moved
from toolkit.errors import PlanError
from toolkit.protocols import Objective

WEIGHT = "objective_weight/"
"""Begins the name of the figure that says what an objective weighs at a step."""


@dataclass(frozen=True)
class Outputs:
    """What a model says of n rows.

    `logits` [n, k]; `features` [n, d], what its last layer is given; `projected` [n, e], a student's features in its
    teacher's width.
    """

    logits: Tensor
    features: Tensor | None = None
    projected: Tensor | None = None

    def to(self, device: torch.device) -> Outputs:
        """The same on that device."""
        return moved(self, device)


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    `labels` are indices [n] or probabilities [n, k]. `label_weights` [n] is how much a row's own label counts (0 for a
    row that has none) and `teacher_weights` [n] how much what the teacher says of it does; None: all alike. `tasks`
    [n] is the number of each row's task.
    """

    inputs: Tensor
    labels: Tensor
    teacher: Outputs | None = None
    label_weights: Tensor | None = None
    teacher_weights: Tensor | None = None
    tasks: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on that device."""
        return moved(self, device)


@dataclass(frozen=True)
class Comparison:
    """A loss [n] between the student's features or projection, by the field of Outputs, and the teacher's features."""

    loss: Callable[[Tensor, Tensor], Tensor]
    student: str


COMPARISONS: Mapping[str, Comparison] = {
    "feature": Comparison(features.feature_cosine, "projected"),
    "feature-distance": Comparison(features.feature_distance, "projected"),
    "similarity": Comparison(features.similarity, "features"),
    "relation-distance": Comparison(features.relation_distance, "features"),
    "relation-angle": Comparison(features.relation_angle, "features"),
}


def row_losses(objective: Objective, student: Outputs, batch: Batch) -> Tensor:
    """One objective's own value for each row [n], before any weight.

    Raises:
        PlanError: the teacher gave nothing that this objective could be computed from.
    """
    if objective.name == "hard-label":
        return losses.hard_label(student.logits, batch.labels)
    if objective.name == "response" and batch.teacher is not None:
        return losses.response(student.logits, batch.teacher.logits, objective.temperature)
    comparison = COMPARISONS.get(objective.name)
    if comparison is not None and batch.teacher is not None and batch.teacher.features is not None:
        mine: Tensor | None = getattr(student, comparison.student)
        if mine is not None:
            return comparison.loss(mine, batch.teacher.features)
    raise PlanError(
        f"the objective {objective.name} cannot be computed from what this teacher gives",
        hint="Choose another teacher, or leave it out of [[recipe.objective]].",
    )


@dataclass(frozen=True)
class Term:
    """One objective's part of a step: its value for each row [n], their mean as the rows count, and its weight."""

    rows: Tensor
    mean: Tensor
    weight: float


def weighted_terms(
    objectives: Sequence[Objective], student: Outputs, batch: Batch, progress: float = 0.0
) -> dict[str, Term]:
    """Each objective's term; the loss is the sum of their means times their weights.

    Args:
        progress: share of the training that is done, 0..1, for objectives whose weight changes on the way.
    """
    terms = {}
    for objective in objectives:
        rows = row_losses(objective, student, batch)
        counted = batch.label_weights if objective.name == "hard-label" else batch.teacher_weights
        terms[objective.name] = Term(rows, _mean(rows, counted), objective.weight * objective.factor(progress))
    return terms


def pulls(
    terms: Mapping[str, Term], student: Outputs, whole: Callable[[Sequence[float]], Sequence[float]] = tuple
) -> dict[str, float]:
    """Each objective's share of the pull on the student, as `pull/NAME`: the norm of its weighted gradient at the
    student's features, or at its logits where nothing looks at features, over the sum of all norms. A term whose share
    is a hundredth does nothing, whatever its weight says (EasyDistill issue 34).

    Args:
        whole: makes norms over all rows of those over the rows that are here.
    """
    if len(terms) < 2:
        return {}
    at = student.logits if student.features is None else student.features
    slopes = [torch.autograd.grad(term.mean, at, retain_graph=True)[0] for term in terms.values()]
    found = zip(terms.items(), whole([float(slope.norm()) for slope in slopes]), strict=True)
    norms = {name: term.weight * norm for (name, term), norm in found}
    total = sum(norms.values()) or 1.0
    return {f"pull/{name}": norm / total for name, norm in norms.items()}


def agreement(student: Outputs, teacher: Outputs) -> float:
    """The share of rows that both would answer alike: whose highest logit is that of the same class."""
    return float((student.logits.argmax(dim=-1) == teacher.logits.argmax(dim=-1)).float().mean())


def _mean(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Over rows, as they weigh."""
    if weights is None:
        return rows.mean()
    return (rows * weights).sum() / weights.sum().clamp(min=1.0)
