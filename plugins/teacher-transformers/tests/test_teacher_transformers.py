"""The teacher `transformers` keeps what every teacher promises. Its checkpoints are made here: tiny, seeded, real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from toolkit.distil.learner import last_layer
from toolkit.errors import PlanError
from toolkit.plan import Plan, TeacherPlan
from toolkit.testing.teachers import check_teacher
from toolkit_teacher_transformers import TransformersTeacher

SIZE = 32


def resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
    ResNetForImageClassification(config).save_pretrained(folder)
    return folder


def vit(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=SIZE, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    return folder


def plan_of(checkpoint: Path | None, size: int = SIZE) -> Plan:
    return Plan(domain="industry", teacher=TeacherPlan(name="transformers", checkpoint=checkpoint, input_size=size))


@pytest.mark.parametrize("make", [resnet, vit])
def test_the_teacher_keeps_the_contract(make, tmp_path: Path) -> None:
    check_teacher(TransformersTeacher(), plan_of(make(tmp_path / "checkpoint")))


@pytest.mark.parametrize("make", [resnet, vit])
def test_only_the_last_layer_is_new(make, tmp_path: Path) -> None:
    folder = make(tmp_path / "checkpoint")
    spec = TransformersTeacher().load(plan_of(folder), ["good", "pit", "scratch"])
    module = spec.build()
    head = module.get_submodule(last_layer(module, spec.head))
    shapes = sorted(tuple(parameter.shape) for parameter in head.parameters())
    assert shapes[0] == (3,)
    assert shapes[1][0] == 3


def test_the_licence_is_what_the_model_card_states(tmp_path: Path) -> None:
    folder = resnet(tmp_path / "checkpoint")
    teacher, plan = TransformersTeacher(), plan_of(folder)
    assert teacher.record(plan).distillation == "unknown"
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    (folder / "LICENSE").write_text("The text.")
    record = teacher.record(plan)
    assert (record.licence, record.distillation, record.licence_text) == ("Apache-2.0", "allowed", "The text.")
    (folder / "README.md").write_text("---\nlicense: some-community-licence\n---\n")
    assert teacher.record(plan).distillation == "unknown"


def test_other_weights_have_another_fingerprint(tmp_path: Path) -> None:
    teacher, folder = TransformersTeacher(), resnet(tmp_path / "checkpoint")
    before = teacher.fingerprint(plan_of(folder))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert teacher.fingerprint(plan_of(folder)) != before


def test_pictures_are_normalised_as_the_checkpoint_says(tmp_path: Path) -> None:
    folder = resnet(tmp_path / "checkpoint")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}))
    spec = TransformersTeacher().load(plan_of(folder), ["good", "pit"])
    assert (spec.mean, spec.std) == ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no Hugging Face checkpoint"),
        (lambda folder: (folder / "config.json").unlink(), "no Hugging Face checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(spoil, says: str, tmp_path: Path) -> None:
    folder = resnet(tmp_path / "checkpoint")
    spoil(folder)
    with pytest.raises(PlanError, match=says) as refused:
        TransformersTeacher().record(plan_of(folder))
    assert refused.value.hint


def test_a_plan_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(PlanError, match="needs a checkpoint"):
        TransformersTeacher().fingerprint(plan_of(None))


def test_a_checkpoint_of_another_input_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="32 pixels") as refused:
        TransformersTeacher().load(plan_of(vit(tmp_path / "checkpoint"), size=64), ["good", "pit"])
    assert "teacher.input_size=32" in refused.value.hint
