"""Which of the forms that a target offers is shipped, and why not the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.errors import PlanError
from toolkit.protocols import CompiledForm


@dataclass(frozen=True)
class Tried:
    """A form, how it does on validation, and how fast it answers here (median, ms)."""

    form: CompiledForm
    accuracy: float
    latency_ms: float


def choose(tried: Sequence[Tried], precision: str, margin: float) -> tuple[Tried, dict[str, str]]:
    """The first form that is as good as fp32 within the margin and faster here; fp32, the last one, where none is.

    Raises:
        PlanError: the plan asks for a form that is not offered.
    """
    reference = tried[-1]
    because = {reference.form.form: "the reference"}
    chosen: Tried | None = None
    for one in tried[:-1]:
        lost, name = reference.accuracy - one.accuracy, one.form.form
        if precision not in ("auto", name):
            because[name] = f"the plan asks for {precision}"
        elif precision == "auto" and lost > margin:
            because[name] = f"it loses {lost:.1%} of validation accuracy, the margin is {margin:.1%}"
        elif precision == "auto" and one.latency_ms >= reference.latency_ms:
            because[name] = f"it is not faster here: {one.latency_ms:.3f} against {reference.latency_ms:.3f} ms"
        elif chosen is not None:
            because[name] = f"{chosen.form.form} fits too and is wanted more"
        else:
            because[name] = f"it loses {max(lost, 0):.1%} of validation accuracy, the margin is {margin:.1%}"
            chosen = one
    if precision not in ("auto", *because):
        raise PlanError(f"the target offers no form {precision}", hint=f"It offers {', '.join(because)}.")
    return chosen or reference, because


def facts_of(tried: Sequence[Tried], chosen: Tried, because: Mapping[str, str]) -> dict[str, Any]:
    """The form that was chosen, and every form as the report shows it."""
    return {
        "form": chosen.form.form,
        "model_sha256": hashlib.sha256(chosen.form.model).hexdigest(),
        "size_bytes": len(chosen.form.model),
        "forms": [
            {
                "form": one.form.form,
                "size_bytes": len(one.form.model),
                "validation_accuracy": one.accuracy,
                "latency_ms": one.latency_ms,
                "chosen": one is chosen,
                "because": because[one.form.form],
                "notes": dict(one.form.notes),
            }
            for one in tried
        ],
    }
