"""The student family: depthwise-separable CNNs from about 20 k to 500 k parameters, named by size. torch-free."""

from __future__ import annotations

from typing import Any

from toolkit.artifacts import Dataset, Facts, StudentSpec
from toolkit.plan import Plan

WIDTHS = {"nano": 0.5, "micro": 0.75, "small": 1.0, "medium": 2.0, "large": 3.2}
STEM = 24
BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1))
"""(channels, stride) of each block at width 1, after a stem of stride 4 that keeps early activations small."""


def build_student(plan: Plan, dataset: Dataset) -> StudentSpec:
    """The student that the plan names, for this data's channels and classes."""
    describe = describe_student(
        plan.student.size,
        channels=dataset.facts["channels"],
        size_px=plan.student.input_size,
        classes=len(dataset.classes),
    )
    return StudentSpec(
        build=lambda: network_of(describe),
        inputs={"pixels": (describe["channels"], describe["input_size"], describe["input_size"])},
        outputs={"logits": (describe["classes"],)},
        describe=describe,
    )


def describe_student(size: str, *, channels: int, size_px: int, classes: int) -> dict[str, Any]:
    """All that is needed to build this student again, JSON-ready."""
    width = WIDTHS[size]

    def scaled(value: int) -> int:
        return max(8, round(value * width / 8) * 8)

    return {
        "family": "ds-cnn", "size": size, "channels": channels, "input_size": size_px, "classes": classes,
        "stem": scaled(STEM), "blocks": [[scaled(value), stride] for value, stride in BLOCKS],
    }  # fmt: skip


def network_of(describe: Facts) -> Any:
    """The untrained torch module of such a description."""
    from toolkit.tasks.image_classification.network import DepthwiseSeparableNet

    return DepthwiseSeparableNet(
        channels=describe["channels"], stem=describe["stem"], blocks=describe["blocks"], classes=describe["classes"]
    )
