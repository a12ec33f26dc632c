"""Low-rank adapters: they alone learn, and what they learnt is added to the weights of a student of its own kind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from distil_parts import Interrupted, assert_same, interrupt_at
from text_parts import Oracle
from transformers import LlamaConfig, PreTrainedModel

from toolkit.distil.chunks import Mix
from toolkit.distil.learner import Learner
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.precision import Precision
from toolkit.distil.recipes import LABELS_ALONE
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.plan import Plan, StudentPlan
from toolkit.tasks.text_generation import task
from toolkit.tasks.text_generation.adapters import Adapted, Nf4Linear
from toolkit.tasks.text_generation.packing import PackedBatches
from toolkit.tasks.text_generation.students import from_config
from toolkit.tasks.text_generation.tokens import Tokenised
from toolkit.tasks.text_generation.training import SequenceLesson

RANK = 2
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


def student() -> PreTrainedModel:
    return from_config(LlamaConfig(vocab_size=24, **SIZES), seed=0).model


def train(model: PreTrainedModel, folder: Path, stop: int | None = None) -> Fitted:
    samples = [Tokenised(f"s{n}", (n, n + 1, n + 2, n + 3), 1) for n in range(16)]
    before = interrupt_at(stop) if stop is not None else lambda _: None
    return fit(
        Learner(model, "lm_head"), SequenceLesson(PackedBatches(samples, capacity=16, rows=1), Mix(1.0, 0.0)),
        Schedule(3, 1e-2, 0.0), groups=[{"params": [p for p in model.parameters() if p.requires_grad]}],
        validate=lambda _: Score(0.5, 1.0), folder=folder, report=lambda done, _: before(done),
    )  # fmt: skip


@needs_peft
def test_adapters_alone_learn_and_are_added_to_the_weights(tmp_path: Path) -> None:
    model, own = student(), {name: weight.clone() for name, weight in student().state_dict().items()}
    adapted = Adapted(model, RANK)
    model.load_state_dict(train(model, tmp_path).weights)
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        merged = adapted.merged()
        after = merged(input_ids=ids).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert list(merged.state_dict()) == list(own)
    ranks = {
        name: int(np.linalg.matrix_rank((weight - own[name]).detach().double().numpy(), tol=1e-5))
        for name, weight in merged.state_dict().items() if weight.ndim == 2
    }  # fmt: skip
    assert {name for name, rank in ranks.items() if rank} == {name for name in own if name.endswith("_proj.weight")}
    assert max(ranks.values()) == RANK
    for name, weight in merged.state_dict().items():
        if weight.ndim == 1:
            torch.testing.assert_close(weight, own[name], rtol=0, atol=0)


@needs_peft
@pytest.mark.usefixtures("every_step")
def test_a_training_of_adapters_is_taken_up_at_its_step(tmp_path: Path) -> None:
    def adapted() -> PreTrainedModel:
        model = student()
        Adapted(model, RANK)
        return model

    whole = train(adapted(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(adapted(), tmp_path / "broken", stop=4)
    assert_same(train(adapted(), tmp_path / "broken"), whole)


needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@needs_peft
@needs_bitsandbytes
@pytest.mark.usefixtures("every_step")
def test_beside_weights_in_four_bits_adapters_learn_are_taken_up_and_are_added_to_them(tmp_path: Path) -> None:
    def adapted() -> tuple[PreTrainedModel, Adapted]:
        model = student()
        return model, Adapted(model, RANK, bits=4)

    whole = train(adapted()[0], tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(adapted()[0], tmp_path / "broken", stop=4)
    assert_same(train(adapted()[0], tmp_path / "broken"), whole)

    model, adapters = adapted()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "lora" not in name}
    model.load_state_dict(whole.weights)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        said = model(input_ids=ids).logits
        merged = adapters.merged()
        torch.testing.assert_close(merged(input_ids=ids).logits, said, rtol=1e-4, atol=1e-5)
    assert list(merged.state_dict()) == list(student().state_dict())
    assert {tensor.dtype for tensor in merged.state_dict().values()} == {torch.float32}


@needs_bitsandbytes
def test_four_bits_are_near_the_weights_take_an_eighth_and_no_cast_rounds_them() -> None:
    linear = torch.nn.Linear(256, 512)
    packed = Nf4Linear(linear)
    size = sum(one.numel() * one.element_size() for one in packed.buffers())
    assert size <= 0.141 * linear.weight.numel() * 4
    error = (packed.weight - linear.weight).square().mean().sqrt() / linear.weight.square().mean().sqrt()
    assert error < 0.1
    rows = torch.randn(3, 256, requires_grad=True)
    torch.testing.assert_close(packed(rows), torch.nn.functional.linear(rows, packed.weight, linear.bias))
    (slope,) = torch.autograd.grad(packed(rows).sum(), rows)
    torch.testing.assert_close(slope, packed.weight.sum(dim=0).expand(3, -1))
    assert torch.equal(packed.weight, packed.to(torch.bfloat16).weight)
    assert packed(rows.bfloat16()).dtype == torch.bfloat16


def test_four_bits_are_of_weights_that_are_frozen() -> None:
    plan = Plan(domain="none", task="text_generation", student=StudentPlan(frozen_bits=4))
    with pytest.raises(PlanError, match="this plan trains them") as caught:
        task.check(plan, Oracle(), LABELS_ALONE)
    assert "lora_rank" in str(caught.value.hint)


def test_activations_computed_twice_give_the_same_gradients() -> None:
    batch = PackedBatches([Tokenised("s", tuple(range(1, 13)), 2)], capacity=16, rows=1)
    lesson = SequenceLesson(batch, Mix(1.0, 0.0))
    slopes = []
    for checkpointed in (False, True):
        model = student().train()
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        (part,) = lesson.parts(0, 0)
        lesson.teach(Learner(model, "lm_head"), part, 0.0, Precision()).loss.backward()
        slopes.append([p.grad for p in model.parameters()])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_what_is_missing_is_named() -> None:
    with pytest.raises(EnvironmentUnfit, match="peft"):
        Adapted(student(), RANK)
