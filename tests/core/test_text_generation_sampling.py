"""What a student writes is drawn from its own distribution, whatever its checkpoint asks for, is the same whenever it
is asked for, and leaves no trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import chisquare
from test_text_generation_teacher import save_teacher
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from toolkit.errors import PlanError
from toolkit.tasks.text_generation.sampling import Drawing, seed_of, write
from toolkit.tasks.text_generation.tokens import stops_of
from toolkit.text import Message

STOP, VOCABULARY = 0, 24
PROMPTS = [(7, 8, 9), (10, 11), (12,), (7, 8, 9, 10, 11, 12), (6, 7)]


@pytest.fixture
def student() -> PreTrainedModel:
    """Random, sure of something, in training; its checkpoint asks for what would change every distribution."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, attention_dropout=0.5, **sizes)
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(15)
    model.generation_config = GenerationConfig(
        do_sample=True, repetition_penalty=5.0, top_k=2, temperature=0.1, eos_token_id=9, max_new_tokens=1, min_p=0.4
    )
    return model.train()


def logits(model: PreTrainedModel, ids: Sequence[int]) -> np.ndarray:
    """Of the next token, without padding, cache or dropout."""
    training = model.training
    with torch.no_grad():
        found = model.train(False)(input_ids=torch.tensor([ids])).logits[0, -1].double().numpy()
    model.train(training)
    return np.asarray(found)


def likeliest(model: PreTrainedModel, ids: Sequence[int], most: int) -> tuple[int, ...]:
    """Token by token, each by a pass over all that stands before it."""
    found: list[int] = []
    while len(found) < most and STOP not in found:
        found.append(int(logits(model, [*ids, *found]).argmax()))
    return tuple(found)


def test_without_drawing_each_token_is_the_likeliest_after_all_before_it(student: PreTrainedModel) -> None:
    found = write(student, PROMPTS, Drawing(9, temperature=0, rows=3), stops={STOP}, seed=0)
    assert found == [likeliest(student, prompt, 9) for prompt in PROMPTS]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.5, 0.7)])
def test_tokens_are_drawn_from_the_students_own_distribution(
    student: PreTrainedModel, temperature: float, top_p: float
) -> None:
    draws, prompt = 3000, (7, 8)
    expected = softmax(logits(student, prompt) / temperature)
    order = np.argsort(expected)[::-1]
    kept = order[: int(np.searchsorted(np.cumsum(expected[order]), top_p)) + 1]  # the fewest that reach top_p
    expected = np.where(np.isin(np.arange(VOCABULARY), kept), expected, 0.0) / expected[kept].sum()
    drawing = Drawing(1, temperature, top_p, rows=1000)
    counts = np.bincount(
        [tokens[0] for tokens in write(student, [prompt] * draws, drawing, stops={STOP}, seed=5)], minlength=VOCABULARY
    )
    assert counts[expected == 0].sum() == 0
    often = expected * draws >= 5
    assert often.sum() > 3
    observed = [*counts[often], counts[~often].sum()]
    wanted = [*(expected[often] * draws), max(expected[~often].sum() * draws, 1e-9)]
    if not observed[-1]:
        observed, wanted = observed[:-1], [value * draws / sum(wanted[:-1]) for value in wanted[:-1]]
    assert chisquare(observed, np.asarray(wanted) * draws / sum(wanted)).pvalue > 1e-3


def test_the_same_seed_writes_the_same_whatever_was_done_before(student: PreTrainedModel) -> None:
    drawing = Drawing(12, rows=2)
    first = write(student, PROMPTS, drawing, stops={STOP}, seed=1)
    torch.manual_seed(99)
    torch.rand(7)
    write(student, PROMPTS[:2], drawing, stops={STOP}, seed=8)
    assert write(student, PROMPTS, drawing, stops={STOP}, seed=1) == first
    assert write(student, PROMPTS, drawing, stops={STOP}, seed=2) != first
    twice = write(student, [PROMPTS[0]] * 2, Drawing(12, rows=1), stops={STOP}, seed=1)
    assert twice[0] != twice[1]  # each batch has a seed of its own


def test_an_answer_ends_with_its_first_stop_or_at_the_most_tokens(student: PreTrainedModel) -> None:
    written = write(student, PROMPTS * 20, Drawing(10), stops={STOP, 13}, seed=0)
    ended = [tokens for tokens in written if tokens[-1] in (STOP, 13)]
    cut = [tokens for tokens in written if tokens[-1] not in (STOP, 13)]
    assert ended
    assert cut
    assert all(not {STOP, 13} & set(tokens[:-1]) for tokens in written)
    assert {len(tokens) for tokens in cut} == {10}


def test_the_student_and_torch_are_left_as_they_were(student: PreTrainedModel) -> None:
    student.model.layers[0].train(False)
    modes, config, state = (
        [module.training for module in student.modules()], student.generation_config, torch.get_rng_state()
    )  # fmt: skip
    write(student, PROMPTS, Drawing(4), stops={STOP}, seed=0)
    assert [module.training for module in student.modules()] == modes
    assert student.generation_config is config
    assert torch.equal(torch.get_rng_state(), state)


def test_nobody_to_answer_is_nothing_written(student: PreTrainedModel) -> None:
    assert write(student, [], Drawing(4), stops={STOP}, seed=0) == []


def test_no_room_for_an_answer_is_refused(student: PreTrainedModel) -> None:
    with pytest.raises(PlanError, match="more than the student's 64"):
        write(student, [tuple(range(6, 16)) * 5], Drawing(15), stops={STOP}, seed=0)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"rows": 0}]
)
def test_a_drawing_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PlanError):
        Drawing(**{"max_tokens": 4, **wrong})


def test_seeds_are_told_apart_by_every_part_of_a_name() -> None:
    names = [(0,), (1,), (0, 1), (0, 1, 2), (0, 12), (0, "round", 1), (0, "round", 11)]
    seeds = {seed_of(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_answer_stops_at_the_templates_end_and_at_the_sequences(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_teacher(tmp_path_factory.mktemp("teacher")))
    asked = (Message("user", "one"),)
    assert stops_of(asked, tokenizer) == {0}
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role != 'user' %}<turn>{% endif %}{% endfor %}"
    )
    assert stops_of(asked, tokenizer) == {0, tokenizer.convert_tokens_to_ids("<turn>")}
