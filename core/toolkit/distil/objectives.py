"""From a recipe's weighted objectives to one number to minimise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from toolkit.distil import losses
from toolkit.errors import PlanError
from toolkit.protocols import Objective


@dataclass(frozen=True)
class Batch:
    """What one step sees. `labels` are indices [n] or probabilities [n, k]; `teacher_logits` are [n, k] or absent."""

    inputs: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None


def total_loss(
    objectives: Sequence[Objective], student_logits: Tensor, batch: Batch
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each objective's own value for the curves."""
    terms = [_term(objective, student_logits, batch) for objective in objectives]
    weighted = [objective.weight * term for objective, term in zip(objectives, terms, strict=True)]
    total = weighted[0]
    for term in weighted[1:]:
        total = total + term
    return total, {o.name: float(t.detach()) for o, t in zip(objectives, terms, strict=True)}


def _term(objective: Objective, student_logits: Tensor, batch: Batch) -> Tensor:
    if objective.name == "hard-label":
        return losses.hard_label(student_logits, batch.labels)
    if objective.name == "response" and batch.teacher_logits is not None:
        return losses.response(student_logits, batch.teacher_logits, objective.temperature)
    raise PlanError(
        f"the objective {objective.name} cannot be computed from what this teacher gives",
        hint="Choose a recipe whose objectives are hard-label and response.",
    )
