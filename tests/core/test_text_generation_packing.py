"""Samples packed into rows: none sees another, the same for seed and epoch, counted over the whole step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.distil.sequences import completion_positions
from toolkit.errors import PlanError
from toolkit.tasks.text_generation.attending import ALONE, attends_alone, laid_out
from toolkit.tasks.text_generation.packing import PackedBatches, pack, packed
from toolkit.tasks.text_generation.tokens import IGNORE, Tokenised

LENGTHS = (7, 3, 12, 5, 5, 9, 2, 11)


def sample(number: int, length: int, prompt: int = 1) -> Tokenised:
    ids = np.random.default_rng(number).integers(0, 50, length)
    return Tokenised(f"s{number:03}", tuple(int(one) for one in ids), prompt)


def samples() -> list[Tokenised]:
    return [sample(number, length, 1 + number % 2) for number, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("attention", ["eager", "sdpa", ALONE])
def test_packed_logits_and_gradients_are_those_of_each_sample_alone(attention: str) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation=attention,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    some = samples()
    rows = packed([some[:3], some[3:6]], 24)
    rows, given = laid_out(rows, model)
    logits = model(**given).logits
    places = completion_positions(torch.from_numpy(rows.labels))
    loss = torch.nn.functional.cross_entropy(places.take(logits), places.targets, reduction="sum")
    loss.backward()
    mine = model.model.layers[0].self_attn.k_proj.weight.grad.clone()
    model.zero_grad()
    whole = []
    for one in rows.samples:
        alone = model(input_ids=torch.tensor([one.ids])).logits[0]
        whole.append(alone[one.prompt - 1 : -1])
        targets = torch.tensor(one.ids[one.prompt :])
        torch.nn.functional.cross_entropy(whole[-1], targets, reduction="sum").backward()
    torch.testing.assert_close(places.take(logits), torch.cat(whole), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine, model.model.layers[0].self_attn.k_proj.weight.grad, rtol=1e-4, atol=1e-6)
    assert torch.isfinite(logits).all()  # padding included


def test_a_model_is_told_of_samples_only_where_its_layers_hand_it_on() -> None:
    sizes = {
        "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    sdpa = attends_alone(LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="sdpa")))
    eager = attends_alone(LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="eager")))
    assert [model.config._attn_implementation for model in (sdpa, eager)] == [ALONE, "eager"]
    rows = packed([samples()[:3], samples()[3:6]], 24)
    flat, given = laid_out(rows, sdpa)
    assert (flat.ids.shape, given["samples"]) == ((1, 41), [7, 3, 12, 5, 5, 9])
    same, given = laid_out(rows, eager)
    assert (same, given["attention_mask"].shape) == (rows, (2, 1, 24, 24))


def test_a_student_that_attends_alone_generates_as_before_and_is_saved_without_a_trace(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation="sdpa", pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    ids, seen = torch.tensor([[0, 0, 7, 8], [3, 4, 5, 6]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    padded = {"input_ids": ids, "attention_mask": seen}
    before = model.generate(**padded, max_new_tokens=6, do_sample=False)
    after = attends_alone(model).generate(**padded, max_new_tokens=6, do_sample=False)
    assert after.equal(before)
    model.save_pretrained(tmp_path)
    assert ALONE not in (tmp_path / "config.json").read_text()


def test_rows_laid_out_by_hand() -> None:
    first, second, third = Tokenised("a", (5, 6, 7), 1), Tokenised("b", (8, 9), 1), Tokenised("c", (4, 3, 2), 2)
    rows = packed([[first, second], [third]], 6, pad=1)
    assert rows.ids.tolist() == [[5, 6, 7, 8, 9, 1], [4, 3, 2, 1, 1, 1]]
    n = IGNORE
    assert rows.labels.tolist() == [[n, 6, 7, n, 9, n], [n, n, 2, n, n, n]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 0, 0]]
    assert rows.learnt == 4
    assert rows.attends[0, 0].astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1],
    ]  # fmt: skip


def test_first_fit_decreasing_by_hand() -> None:
    rows = pack([4, 8, 1, 4, 2, 1], 10, seed=0)
    assert sorted(sorted([4, 8, 1, 4, 2, 1][i] for i in row) for row in rows) == [[1, 1, 4, 4], [2, 8]]


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(0, 5), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_every_sample_is_packed_once_and_no_row_is_over_full(lengths: list[int], epoch: int, window: int) -> None:
    rows = pack(lengths, 30, seed=1, epoch=epoch, window=window)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[i] for i in row) <= 30 for row in rows)
    if window >= len(lengths) > 0:
        fewest = -(-sum(lengths) // 30)
        assert len(rows) <= 2 * fewest


@pytest.mark.parametrize(("rows", "accumulation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_every_epoch_has_all_samples_in_the_same_number_of_steps_and_counts_their_tokens(
    rows: int, accumulation: int
) -> None:
    some = [sample(number, 2 + number * 7 % 19, 1) for number in range(60)]
    batches = PackedBatches(some, capacity=24, rows=rows, accumulation=accumulation, seed=3, window=16)
    orders = []
    for epoch in range(4):
        steps = [batches.step(epoch, number) for number in range(batches.steps)]
        seen = [one.id for step in steps for batch in step.batches for one in batch.samples]
        assert sorted(seen) == sorted(one.id for one in some)
        assert sum(step.total for step in steps) == sum(one.learnt for one in some)
        assert all(step.total == sum(batch.learnt for batch in step.batches) > 0 for step in steps)
        assert all(len(batch.ids) <= rows for step in steps for batch in step.batches)
        orders.append(seen)
    assert len({tuple(order) for order in orders}) == 4


def test_the_same_seed_and_epoch_give_the_same_step_whatever_was_asked_before() -> None:
    some = samples()
    one, other = (PackedBatches(part, capacity=16, rows=1, seed=9) for part in (some, some[::-1]))
    for epoch in (2, 0):
        mine, theirs = one.step(epoch, 1).batches[0], other.step(epoch, 1).batches[0]
        assert np.array_equal(mine.ids, theirs.ids)
        assert mine.samples == theirs.samples


def test_a_sample_longer_than_a_row_is_refused_not_cut() -> None:
    with pytest.raises(PlanError, match="has 12 tokens, a row only 11"):
        PackedBatches(samples(), capacity=11, rows=1).step(0, 0)
    with pytest.raises(PlanError, match="at least 1"):
        PackedBatches([], capacity=11, rows=1)
