"""Which objectives can be computed of tokens. torch-free: plans are checked against them first."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.errors import PlanError
from toolkit.protocols import Objective

KNOWN = ("hard-label", "response")


def check_objectives(objectives: Sequence[Objective]) -> None:
    """Refuse those that compare rows or features.

    Raises:
        PlanError: naming them.
    """
    if strange := [objective.name for objective in objectives if objective.name not in KNOWN]:
        raise PlanError(
            f"the task text_generation cannot learn by {', '.join(strange)}",
            hint=f"It knows {' and '.join(KNOWN)}: --set recipe.name=sequence.",
        )
