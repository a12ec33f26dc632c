"""Students out of teachers: consistent sizes, the teacher's own weights, better than chance before any training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from toolkit.errors import DataError, PlanError
from toolkit.tasks.text_generation.pruning import pruned
from toolkit.tasks.text_generation.shapes import Shape, Target, built, kept_layers, parameters_of, shape_for, shape_of
from toolkit.tasks.text_generation.students import cut_vocabulary, from_checkpoint, from_config, from_teacher, save

SIZES = {
    "vocab_size": 40, "hidden_size": 36, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 3, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip


def model_of(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return built(config).eval()


def text(seed: int, rows: int = 8, length: int = 24) -> Tensor:
    """Lines that repeat a pattern: each token is the one before it plus a step that the line keeps."""
    draw = torch.Generator().manual_seed(seed)
    starts, steps = torch.randint(0, 40, (rows, 1), generator=draw), torch.randint(1, 4, (rows, 1), generator=draw)
    return (starts + steps * torch.arange(length)) % 40


def loss_of(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model(input_ids=ids, labels=ids).loss


@pytest.fixture(scope="module")
def trained() -> PreTrainedModel:
    """A tiny teacher after some dozens of steps."""
    model = model_of(LlamaConfig(**SIZES, tie_word_embeddings=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        optimizer.zero_grad()
        loss_of(model, text(step)).backward()
        optimizer.step()
    return model.eval()


def test_a_pruned_student_beats_chance_on_held_out_text_before_any_training(trained: PreTrainedModel) -> None:
    held_out = text(10_001, rows=16)
    whole = parameters_of(trained.config)
    for target in (Target(factor=0.7), Target(factor=0.7, layers=4), Target(parameters=whole // 2)):
        student = from_teacher(trained, target, [text(20_000 + n) for n in range(4)])
        assert student.parameters <= target.of(whole)
        assert student.parameters > 0.7 * target.of(whole)
        with torch.no_grad():
            mine = float(loss_of(student.model, held_out))
            chances = [float(loss_of(from_config(student.model.config, seed=s).model, held_out)) for s in range(3)]
        assert mine < min(chances), (target, mine, chances)


def test_width_keeps_what_the_text_uses_and_loses_nothing_where_the_rest_is_silent(trained: PreTrainedModel) -> None:
    """Neurons and heads that give nothing are those that go, and the function stays the same."""
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
    model.load_state_dict(trained.state_dict())
    model.eval()
    silent = torch.arange(0, 48, 3)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[silent] = 0
            layer.self_attn.v_proj.weight[8:16] = 0  # the second of three groups of two heads
    student, kept = pruned(model, Shape(4, 36, 32, 4, 2), [text(1)])
    assert all(not set(silent.tolist()) & set(neurons.tolist()) for neurons in kept.neurons)
    assert [heads.tolist() for heads in kept.kv_heads] == [[0, 2]] * 4
    assert [heads.tolist() for heads in kept.heads] == [[0, 1, 4, 5]] * 4
    with torch.no_grad():
        torch.testing.assert_close(student(text(2)).logits, model(text(2)).logits, rtol=1e-4, atol=1e-4)


def test_silent_channels_of_the_hidden_state_go_and_the_function_stays_the_same() -> None:
    """What RMSNorm divides by changes with the width; its weight makes good for it, exactly where channels were 0."""
    model = model_of(LlamaConfig(**SIZES, tie_word_embeddings=True, rms_norm_eps=1e-9))
    with torch.no_grad():
        model.model.embed_tokens.weight[:, :12] = 0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:12] = 0
            layer.mlp.down_proj.weight[:12] = 0
        student, kept = pruned(model, Shape(4, 24, 48, 6, 3), [text(1)])
        assert kept.channels.tolist() == list(range(12, 36))
        torch.testing.assert_close(student(text(2)).logits, model(text(2)).logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("tied", [True, False])
def test_every_member_of_the_family_is_pruned_saved_and_loaded_equal(
    tmp_path: Path, kind: type[PretrainedConfig], tied: bool
) -> None:
    teacher = model_of(kind(**SIZES, tie_word_embeddings=tied))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = from_teacher(teacher, Target(factor=0.5), [text(1)])
    again = from_teacher(teacher, Target(factor=0.5), [text(1)])
    assert shape_of(student.model.config) == shape_for(teacher.config, Target(factor=0.5))
    assert all(torch.equal(a, b) for a, b in zip(student.model.parameters(), again.model.parameters(), strict=True))
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    save(student, tmp_path)
    loaded = from_checkpoint(tmp_path).model
    head, embeddings = loaded.lm_head.weight, loaded.model.embed_tokens.weight
    assert (head is embeddings) == tied
    with torch.no_grad():
        assert torch.equal(loaded(text(3)).logits, student.model.eval()(text(3)).logits)


def test_depth_keeps_first_and_last_and_their_weights_as_they_are(trained: PreTrainedModel) -> None:
    assert kept_layers(6, 3) == (0, 2, 5)
    assert kept_layers(12, 6) == (0, 2, 4, 7, 9, 11)
    assert kept_layers(5, 5) == (0, 1, 2, 3, 4)
    student, kept = pruned(trained, Shape(2, 36, 48, 6, 3), [])
    assert kept.layers == (0, 3)
    last = trained.model.layers[3].mlp.up_proj.weight
    assert torch.equal(student.model.layers[1].mlp.up_proj.weight, last)
    with pytest.raises(PlanError, match="5 layers cannot be kept of 4"):
        from_teacher(trained, Target(factor=0.5, layers=5), [])


def test_what_is_said_layer_by_layer_follows_the_layers() -> None:
    kinds = ["sliding_attention", "full_attention", "full_attention", "full_attention"]
    config = Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=4, layer_types=kinds)
    student, _ = pruned(model_of(config), Shape(2, 36, 48, 6, 3), [])
    assert student.config.layer_types == ["sliding_attention", "full_attention"]


def test_what_cannot_be_pruned_is_refused_with_what_to_do(trained: PreTrainedModel) -> None:
    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=20, n_positions=16))
    with pytest.raises(PlanError, match="type gpt2 cannot be pruned") as error:
        from_teacher(other, Target(factor=0.5), [text(1)])
    assert "checkpoint" in error.value.hint
    with pytest.raises(PlanError, match="the smallest has"):
        from_teacher(trained, Target(parameters=10), [text(1)])
    with pytest.raises(PlanError, match="fewer than the student's"):
        from_teacher(trained, Target(parameters=10**9), [text(1)])
    with pytest.raises(DataError, match="no calibration text"):
        from_teacher(trained, Target(factor=0.5), [])
    with pytest.raises(PlanError, match="is no part of"):
        pruned(trained, Shape(4, 36, 48, 5, 3), [text(1)])
    for wrong in ({}, {"parameters": 3, "factor": 0.5}, {"factor": 1.5}):
        with pytest.raises(PlanError):
            Target(**wrong)


def test_chance_is_the_seeds_and_leaves_the_callers_alone() -> None:
    config = LlamaConfig(**SIZES)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (from_config(config, seed=seed).model.lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_padded_rows_are_cut_and_the_others_say_the_same() -> None:
    model = model_of(LlamaConfig(**SIZES, tie_word_embeddings=True))
    with torch.no_grad():
        whole = model(text(1) % 30).logits
        cut_vocabulary(model, 36)
        torch.testing.assert_close(model(text(1) % 30).logits, whole[..., :36])
    with pytest.raises(PlanError):
        cut_vocabulary(model, 40)


def test_a_folder_that_holds_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no Hugging Face checkpoint"):
        from_checkpoint(tmp_path)
    with pytest.raises(PlanError, match="states no language model"):
        from_config(tmp_path, seed=0)
    LlamaConfig(**SIZES).save_pretrained(tmp_path)
    assert shape_of(from_config(tmp_path, seed=0).model.config) == Shape(4, 36, 48, 6, 3)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(PlanError, match="cannot be loaded"):
        from_checkpoint(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_that_lacks_weights_is_refused_and_tied_ones_lack_none(tied: bool, tmp_path: Path) -> None:
    model_of(LlamaConfig(**SIZES, tie_word_embeddings=tied)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    from_checkpoint(tmp_path)
    weights = load_file(file)
    assert ("lm_head.weight" in weights) is not tied
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(PlanError, match=r"lacks 1 of its weights, such as model.layers.1.mlp.up_proj.weight"):
        from_checkpoint(tmp_path)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(PlanError, match="cannot be loaded"):
        from_checkpoint(tmp_path)
