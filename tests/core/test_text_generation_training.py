"""A language student learns by the loop that pictures learn by: its loss is the one worked out sample by sample, with
logits in full; a step in parts is the same step; a training that was broken off ends with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distil_parts import Interrupted, assert_same, interrupt_at, one_thread
from scipy.special import log_softmax
from test_text_generation_teacher import WORDS, save_teacher
from transformers import LlamaConfig, PreTrainedModel

from toolkit.distil.chunks import Mix
from toolkit.distil.learner import Learner
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.precision import Precision, Wanted
from toolkit.errors import PlanError
from toolkit.tasks.text_generation.packing import PackedBatches
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.students import from_config
from toolkit.tasks.text_generation.teacher import LanguageTeacher, label, read_teacher
from toolkit.tasks.text_generation.tokens import Tokenised, tokenise
from toolkit.tasks.text_generation.training import Knowledge, SequenceLesson, validator
from toolkit.tasks.text_generation.weighting import TokenWeighting
from toolkit.text import Message

CONFIG = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VOCABULARY = 24


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LanguageTeacher:
    return read_teacher(save_teacher(tmp_path_factory.mktemp("teacher")), name="tiny")


@pytest.fixture(scope="module")
def samples(teacher: LanguageTeacher) -> tuple[Tokenised, ...]:
    """Of unlike length: counting on from a word."""
    numbers = WORDS[6:]
    rows = [
        Row(f"r{n}-{m}", (Message("user", numbers[n]),), " ".join(numbers[n + 1 : n + 1 + m]))
        for n in range(6) for m in (1, 2, 3, 4)
    ]  # fmt: skip
    return tokenise(rows, teacher.tokenizer, max_tokens=64).samples


@pytest.fixture(scope="module")
def knowledge(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Knowledge]:
    """The teacher's hidden states, and its best tokens, as many as there are."""
    root = tmp_path_factory.mktemp("cache")
    return {
        "hidden": Knowledge(label(teacher, samples, root, codec="hidden"), teacher.head),
        "topk": Knowledge(label(teacher, samples, root, codec="topk", k=VOCABULARY - 1)),
    }


def new_student(seed: int = 0) -> PreTrainedModel:
    return from_config(LlamaConfig(vocab_size=VOCABULARY, **CONFIG), seed=seed).model


def batches(samples: tuple[Tokenised, ...], *, rows: int = 2, accumulation: int = 1) -> PackedBatches:
    return PackedBatches(samples, capacity=48, rows=rows, accumulation=accumulation)


def train(
    student: PreTrainedModel, lesson: SequenceLesson, folder: Path, *, epochs: int = 4, rate: float = 1e-2,
    validate: Callable[[torch.nn.Module], Score] = lambda _: Score(0.5, 1.0), precision: Wanted | Precision = "fp32",
    before: Callable[[int], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    return fit(
        Learner(student, "lm_head"), lesson, Schedule(epochs, rate, 0.01),
        groups=[{"params": list(student.parameters())}], validate=validate, folder=folder,
        report=lambda done, _: before(done), precision=precision,
    )  # fmt: skip


def by_hand(
    student: PreTrainedModel, teacher: LanguageTeacher, step: list[Tokenised], mix: Mix
) -> tuple[float, float, float]:
    """The mean of cross-entropy and of forward KL over all completion tokens, each sample run alone, by scipy."""
    hard, response = [], []
    for sample in step:
        ids = torch.tensor([sample.ids])
        with torch.no_grad():
            mine, theirs = (model(input_ids=ids).logits[0].double().numpy() for model in (student, teacher.model))
        mine, theirs = (log_softmax(one, axis=-1)[sample.prompt - 1 : -1] for one in (mine, theirs))
        hard += [-row[token] for row, token in zip(mine, sample.ids[sample.prompt :], strict=True)]
        response += list((np.exp(theirs) * (theirs - mine)).sum(axis=-1))
    means = float(np.mean(hard)), float(np.mean(response))
    return *means, mix.hard_label * means[0] + mix.response * means[1]


def alike(student: PreTrainedModel, teacher: LanguageTeacher, step: list[Tokenised]) -> float:
    """The share of completion tokens for which both would choose the same one, each sample run alone."""
    same = []
    for sample in step:
        with torch.no_grad():
            mine, theirs = (one(input_ids=torch.tensor([sample.ids])).logits[0] for one in (student, teacher.model))
        same += (mine.argmax(-1) == theirs.argmax(-1))[sample.prompt - 1 : -1].tolist()
    return sum(same) / len(same)


@pytest.mark.parametrize("kind", ["hidden", "topk"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_loss_of_a_step_is_the_one_by_hand(
    kind: str, accumulation: int, teacher: LanguageTeacher, samples: tuple[Tokenised, ...],
    knowledge: dict[str, Knowledge],
) -> None:  # fmt: skip
    mix = Mix(0.3, 0.7)
    lesson = SequenceLesson(batches(samples, rows=1, accumulation=accumulation), mix, knowledge[kind], chunk=5)
    student = new_student()
    parts = lesson.parts(0, 0)
    assert len(parts) >= accumulation
    taught = [lesson.teach(Learner(student, "lm_head"), part, 0.0, Precision()) for part in parts]
    hard, response, loss = by_hand(student, teacher, [one for part in parts for one in part.batch.samples], mix)
    told = {name: sum(one.told.get(name, 0.0) for one in taught) for name in taught[0].told}
    assert told["hard-label"] == pytest.approx(hard, rel=1e-4)
    assert told["response"] == pytest.approx(response, rel=5e-3)  # the cache is in half precision
    assert sum(float(one.loss.detach()) for one in taught) == pytest.approx(loss, rel=3e-3)
    assert told["pull/hard-label"] + told["pull/response"] == pytest.approx(1)
    assert told["tokens"] == parts[0].total
    assert told["objective_weight/hard-label"] == 0.3
    assert told["objective_weight/response"] == 0.7
    assert told["agreement"] == pytest.approx(alike(student, teacher, [one for p in parts for one in p.batch.samples]))


def weighting() -> TokenWeighting:
    return TokenWeighting(("even", "odd"), by="loss-ratio", floor=0.3, difficulty=True)


def titled(samples: tuple[Tokenised, ...]) -> tuple[Tokenised, ...]:
    """Of two tasks; the teacher wrote every third."""
    return tuple(
        replace(sample, task=("even", "odd")[number % 2], said=number % 3 == 0) for number, sample in enumerate(samples)
    )


@pytest.mark.parametrize("kind", ["hidden", "topk"])
def test_tokens_are_weighed_by_task_difficulty_and_confidence(
    kind: str, samples: tuple[Tokenised, ...], knowledge: dict[str, Knowledge], tmp_path: Path
) -> None:
    lesson = SequenceLesson(batches(titled(samples)), Mix(0.5, 0.5), knowledge[kind], weighting())
    history = train(new_student(), lesson, tmp_path, epochs=4).history
    assert all({"task/even", "task/odd", "difficulty"} <= set(epoch) for epoch in history)
    assert history[-1]["difficulty"] < history[0]["difficulty"]
    weights = [(epoch["weight/even"], epoch["weight/odd"]) for epoch in history]
    assert weights[:2] == [(1.0, 1.0), (1.0, 1.0)]
    assert weights[2] != (1.0, 1.0)
    assert all(sum(pair) == pytest.approx(2) and min(pair) >= 0.3 for pair in weights)
    two = titled(samples)[:2]
    learnt = sum(sample.learnt for sample in two)
    tokens = lesson.weighting.tokens(two, torch.zeros(learnt), knowledge[kind].of(two, torch.device("cpu")))
    assert tokens.said is not None
    assert tokens.said.tolist() == [True] * two[0].learnt + [False] * two[1].learnt
    assert tokens.label_weights is not None
    assert len(set(tokens.label_weights.tolist())) == 2
    assert tokens.usual == history[-1]["difficulty"]


def test_what_two_processes_see_of_an_epoch_weighs_as_what_one_sees(
    samples: tuple[Tokenised, ...], knowledge: dict[str, Knowledge]
) -> None:
    student = Learner(new_student(), "lm_head")
    alone, halves = weighting(), [weighting(), weighting()]
    for number, sample in enumerate(titled(samples)):
        for one in (alone, halves[number % 2]):
            lesson = SequenceLesson(batches((sample,), rows=1), Mix(0.5, 0.5), knowledge["hidden"], one)
            lesson.teach(student, lesson.parts(0, 0)[0], 0.0, Precision())
    halves[0].close_step(Beside(halves[1]))  # type: ignore[arg-type]
    alone.close_step()
    assert halves[0].state()["sum"].tolist() == pytest.approx(alone.state()["sum"].tolist())
    assert halves[0].close_epoch() == pytest.approx(alone.close_epoch())


class Beside:
    """Stands in for `Processes`: the other one adds what it has seen of the step."""

    def __init__(self, other: TokenWeighting) -> None:
        self._other = other

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.add_(self._other._step)


def test_micro_batches_end_with_the_weights_of_whole_ones(
    samples: tuple[Tokenised, ...], knowledge: dict[str, Knowledge], tmp_path: Path
) -> None:
    ended = []
    for rows, accumulation in ((4, 1), (1, 4)):
        packed = batches(samples, rows=rows, accumulation=accumulation)
        lesson = SequenceLesson(packed, Mix(0.5, 0.5), knowledge["hidden"])
        ended.append(train(new_student(), lesson, tmp_path / str(rows), epochs=2, rate=1e-3))
    whole, parts = ended
    for name, weight in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], weight, rtol=1e-3, atol=1e-5)
    assert [one["tokens"] for one in parts.history] == [one["tokens"] for one in whole.history]
    assert parts.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", ["hidden", "topk"])
def test_the_student_comes_to_speak_like_its_teacher(
    kind: str, samples: tuple[Tokenised, ...], knowledge: dict[str, Knowledge], tmp_path: Path
) -> None:
    lesson = SequenceLesson(batches(samples), Mix(0.0, 1.0), knowledge[kind])
    fitted = train(new_student(), lesson, tmp_path, epochs=40)
    assert fitted.history[-1]["response"] < fitted.history[0]["response"] / 4


def test_labels_alone_need_no_teacher(samples: tuple[Tokenised, ...], tmp_path: Path) -> None:
    packed = batches(samples)
    fitted = train(new_student(), SequenceLesson(packed, Mix(1.0, 0.0)), tmp_path, epochs=30,
                   validate=validator(packed))  # fmt: skip
    assert fitted.score.accuracy > 0.6  # where the counting ends is not to be known
    assert "response" not in fitted.history[0]


def test_the_validator_counts_every_token_once(samples: tuple[Tokenised, ...], teacher: LanguageTeacher) -> None:
    student = new_student().train(False)
    score = validator(batches(samples), chunk=7)(student)
    hard, _, _ = by_hand(student, teacher, list(samples), Mix(1.0, 0.0))
    assert score.loss == pytest.approx(hard, rel=1e-4)
    assert score.rows == len(samples)


def test_a_response_without_a_teacher_is_refused(samples: tuple[Tokenised, ...], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no teacher"):
        train(new_student(), SequenceLesson(batches(samples), Mix(0.5, 0.5)), tmp_path)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_is_broken_off_ends_with_the_same_weights(
    precision: Wanted, samples: tuple[Tokenised, ...], knowledge: dict[str, Knowledge], tmp_path: Path
) -> None:
    def lesson() -> SequenceLesson:
        packed = batches(titled(samples), rows=1, accumulation=2)
        return SequenceLesson(packed, Mix(0.5, 0.5), knowledge["topk"], weighting())

    with one_thread():
        whole = train(new_student(), lesson(), tmp_path / "whole", precision=precision)
        for at, seed in ((2, 0), (5, 9)):  # once begun, the first weights come from the checkpoint
            with pytest.raises(Interrupted):
                train(new_student(seed), lesson(), tmp_path / "broken", precision=precision, before=interrupt_at(at))
        assert_same(train(new_student(9), lesson(), tmp_path / "broken", precision=precision), whole)
