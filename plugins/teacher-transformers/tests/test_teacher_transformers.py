"""The teacher `transformers` keeps what every teacher promises. Its checkpoints are made here: tiny, seeded, real."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from toolkit.distil.learner import last_layer
from toolkit.errors import PlanError
from toolkit.plan import Plan, TeacherPlan
from toolkit.testing.teachers import check_teacher
from toolkit.text_teachers import LocalTeacher
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


@pytest.mark.parametrize("make", [resnet, vit])
def test_a_checkpoint_that_lacks_weights_of_its_own_is_refused_and_one_without_a_last_layer_is_not(
    make, tmp_path: Path
) -> None:
    folder = make(tmp_path / "checkpoint")
    file = folder / "model.safetensors"
    weights = load_file(file)
    body = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(body, file, metadata={"format": "pt"})
    spec = TransformersTeacher().load(plan_of(folder), ["good", "pit"])
    spec.build()
    first = min(body)
    for spoilt in ({first: weights[first].flatten()[:3].contiguous()}, {}):
        save_file({**{name: body[name] for name in body if name != first}, **spoilt}, file, metadata={"format": "pt"})
        with pytest.raises(PlanError, match=r"lacks 1 weights of its own network"):
            spec.build()
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(PlanError, match="cannot be loaded"):
        spec.build()


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


def llama(folder: Path) -> Path:
    """A language model with a tokenizer of three words."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).save_pretrained(folder)
    backend = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1, "word": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return folder


def text_plan(checkpoint: Path) -> Plan:
    teacher = TeacherPlan(name="transformers", checkpoint=checkpoint)
    return Plan(domain="chat", task="text_generation", teacher=teacher)


def gguf(file: Path, data: bytes = b"GGUF" + b"\0" * 60) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def test_a_language_model_is_a_teacher_on_this_machine(tmp_path: Path) -> None:
    teacher, folder = TransformersTeacher(), llama(tmp_path / "checkpoint")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert isinstance(teacher, LocalTeacher)
    assert teacher.source(text_plan(folder)) == folder
    record = teacher.record(text_plan(folder))
    assert (record.id, record.licence, record.distillation) == ("transformers:checkpoint", "MIT", "allowed")
    assert {"text_generation", "image_classification"} <= teacher.tasks
    assert {"text", "response"} <= teacher.gives


def test_another_tokenizer_or_template_is_another_language_teacher_and_a_card_is_not(tmp_path: Path) -> None:
    teacher, folder = TransformersTeacher(), llama(tmp_path / "checkpoint")
    plan = text_plan(folder)
    seen = [teacher.fingerprint(plan)]
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert teacher.fingerprint(text_plan(moved)) == seen[0]
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert teacher.fingerprint(plan) == seen[0]
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    seen.append(teacher.fingerprint(plan))
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"word"', '"other"'))
    seen.append(teacher.fingerprint(plan))
    assert len(set(seen)) == 3


def test_a_gguf_file_teaches_text_and_text_alone(tmp_path: Path) -> None:
    teacher, file = TransformersTeacher(), gguf(tmp_path / "models" / "Small-Q8.GGUF")
    plan = text_plan(file)
    assert teacher.source(plan) == file
    assert teacher.record(plan).id == "transformers:Small-Q8"
    with pytest.raises(PlanError, match="a language model") as refused:
        teacher.record(plan_of(file))
    assert "folder of a checkpoint" in refused.value.hint
    with pytest.raises(PlanError, match=r"none\.gguf does not exist"):
        teacher.source(text_plan(tmp_path / "none.gguf"))


def test_the_licence_of_a_gguf_file_is_what_the_card_beside_it_states(tmp_path: Path) -> None:
    teacher, plan = TransformersTeacher(), text_plan(gguf(tmp_path / "small.gguf"))
    assert (teacher.record(plan).licence, teacher.record(plan).distillation) == ("", "unknown")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (tmp_path / "LICENSE").write_text("The text.")
    record = teacher.record(plan)
    assert (record.licence, record.distillation, record.licence_text) == ("Apache-2.0", "allowed", "The text.")


def test_the_licence_of_a_gguf_file_is_what_its_metadata_state(tmp_path: Path) -> None:
    written = pytest.importorskip("gguf", reason="needs the extra gguf").GGUFWriter(tmp_path / "small.gguf", "llama")
    written.add_license("apache-2.0")
    written.write_header_to_file()
    written.write_kv_data_to_file()
    written.write_tensors_to_file()
    written.close()
    assert TransformersTeacher().record(text_plan(tmp_path / "small.gguf")).licence == "Apache-2.0"


def test_the_fingerprint_of_a_gguf_file_is_its_own_and_not_its_neighbours(tmp_path: Path) -> None:
    teacher, file = TransformersTeacher(), gguf(tmp_path / "small.gguf")
    before = teacher.fingerprint(text_plan(file))
    gguf(tmp_path / "other.gguf", b"GGUF other")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert teacher.fingerprint(text_plan(file)) == before
    gguf(file, b"GGUF" + b"\0" * 59 + b"\1")
    assert teacher.fingerprint(text_plan(file)) != before
