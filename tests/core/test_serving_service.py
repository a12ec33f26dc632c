"""What probabilities mean: the verdict, and never a pass in doubt."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from toolkit.errors import PlanError
from toolkit.serving.refusals import ModelFault
from toolkit.tasks.image_classification.service import Decision, decision_for

CLASSES = ("crack", "good", "stain")


@pytest.mark.parametrize(
    ("probabilities", "threshold", "verdict", "passed"),
    [
        ((0.1, 0.8, 0.1), 0.0, "good", True),
        ((0.1, 0.8, 0.1), 0.8, "good", True),
        ((0.1, 0.8, 0.1), 0.9, "crack", False),  # likely good, but not as surely as asked
        ((0.1, 0.3, 0.6), 0.2, "stain", False),  # above the threshold, but a defect is likelier
        ((0.5, 0.5, 0.0), 0.5, "crack", False),  # a tie is a doubt
        ((0.2, 0.3, 0.5), 0.0, "stain", False),
    ],
)
def test_a_part_passes_only_where_it_is_surely_good(
    probabilities: tuple[float, ...], threshold: float, verdict: str, passed: bool
) -> None:
    found = Decision(CLASSES, "good", threshold).of(np.array(probabilities, np.float32))
    assert (found.name, found.passed) == (verdict, passed)
    assert found.probabilities == pytest.approx(dict(zip(CLASSES, probabilities, strict=True)))


def test_where_no_class_is_good_nothing_passes_or_fails() -> None:
    found = Decision(CLASSES).of(np.array([0.2, 0.5, 0.3], np.float32))
    assert (found.name, found.passed) == ("good", None)


@pytest.mark.parametrize("probabilities", [(0.5, np.nan, 0.5), (np.inf, 0.0, 0.0), (0.5, 0.5), ((0.1, 0.8, 0.1),)])
def test_what_is_no_answer_is_no_verdict(probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ModelFault):
        Decision(CLASSES, "good").of(np.array(probabilities, np.float32))


def test_a_bundles_facts_must_fit_together() -> None:
    assert decision_for(CLASSES, {"good": 0.7}, "good") == Decision(CLASSES, "good", 0.7)
    assert decision_for(CLASSES, {}, None) == Decision(CLASSES)
    for classes, thresholds, good in (
        (CLASSES, {}, "fine"), (CLASSES, {"crack": 0.5}, "good"), (CLASSES, {"good": 1.5}, "good"),
        (CLASSES, {"good": 0.5}, None), (("one",), {}, None), (("a", "a"), {}, None),
    ):  # fmt: skip
        with pytest.raises(PlanError):
            decision_for(classes, thresholds, good)


def test_a_domain_may_import_the_service_without_a_web_framework() -> None:
    code = (
        "import sys, toolkit.tasks.image_classification.service as s;"
        "sys.exit(any(m in sys.modules for m in ('fastapi', 'starlette', 'uvicorn', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_server_needs_no_torch() -> None:
    code = (
        "import sys, toolkit.serving.assembly, toolkit.serving.runner, toolkit.tasks.image_classification.inspection;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'onnx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
