"""The recipes core offers. torch-free: the plan is checked against them before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.plan import Plan
from toolkit.protocols import Objective

LABELS_ALONE: tuple[Objective, ...] = (Objective("hard-label", 1.0),)
"""What the baseline student is trained on, and a teacher is adapted with."""


@dataclass(frozen=True)
class SoftLabels:
    """Hard label + response (Hinton 2015): the default for classification."""

    name: str = "soft-labels"
    needs: frozenset[str] = frozenset({"response"})

    def objectives(self, plan: Plan) -> Sequence[Objective]:
        weight = plan.recipe.teacher_weight
        return (
            Objective("hard-label", 1.0 - weight),
            Objective("response", weight, plan.recipe.temperature),
        )
