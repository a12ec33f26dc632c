"""The student family: the trunks of image_classification's, seen at an eighth and a sixteenth of the picture.
torch-free."""

from __future__ import annotations

from typing import Any

from toolkit.artifacts import Dataset, Facts, StudentSpec
from toolkit.plan import Plan
from toolkit.tasks.image_classification.family import describe_student

SEEN = (2, 5)
"""The last block at each size: strides 8 and 16."""


def build_student(plan: Plan, dataset: Dataset) -> StudentSpec:
    """The student that the plan names, for this data's channels."""
    channels, side = dataset.facts["channels"], plan.student.input_size
    described = describe_student(plan.student.size, channels=channels, size_px=side, classes=2)
    widths = [described["blocks"][index][0] for index in SEEN]
    describe = described | {"family": "ds-cnn-pyramid", "seen": list(SEEN), "widths": widths}
    return StudentSpec(
        build=lambda: network_of(describe),
        inputs={"pixels": (channels, side, side)},
        outputs={"probabilities": (2,), "map": (side // 8, side // 8)},
        describe=describe,
    )


def network_of(describe: Facts) -> Any:
    """The untrained torch module of such a description."""
    from toolkit.tasks.anomaly_maps.network import PyramidNet

    return PyramidNet(
        channels=describe["channels"], stem=describe["stem"], blocks=describe["blocks"], seen=describe["seen"]
    )
