"""On-policy distillation: the loss on what the student wrote, and on what was given, is the one worked out sample by
sample with logits in full; lambda decides whose text it is; one that was broken off ends with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from toolkit.protocols import Objective
from toolkit.tasks.text_generation.dealing import Dealt
from toolkit.tasks.text_generation.onpolicy import Course, Exposure, InMemory, OnPolicyLesson, Part
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.sampling import Drawing, write
from toolkit.tasks.text_generation.students import from_config
from toolkit.tasks.text_generation.teacher import LanguageTeacher, label, read_teacher
from toolkit.tasks.text_generation.tokens import Tokenised, tokenise
from toolkit.tasks.text_generation.training import Knowledge, Mixture
from toolkit.text import Message

STOPS = {0}
OWN, GIVEN = Course(1.0, 1.0), Course(0.0, 0.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LanguageTeacher:
    return read_teacher(save_teacher(tmp_path_factory.mktemp("teacher")), name="tiny")


@pytest.fixture(scope="module")
def samples(teacher: LanguageTeacher) -> tuple[Tokenised, ...]:
    numbers = WORDS[6:]
    rows = [
        Row(f"r{n}-{m}", (Message("user", " ".join(numbers[n : n + m])),), " ".join(numbers[n + m : n + 2 * m]))
        for n in range(6) for m in (1, 2)
    ]  # fmt: skip
    return tokenise(rows, teacher.tokenizer, max_tokens=64).samples


def new_student(seed: int = 0) -> PreTrainedModel:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return from_config(LlamaConfig(vocab_size=24, **sizes), seed=seed).model


def lesson_of(
    samples: Sequence[Tokenised], teacher: LanguageTeacher, exposure: Exposure, *, size: int = 4, rows: int = 3,
    chunk: int = 5, given: Knowledge | None = None,
) -> OnPolicyLesson:  # fmt: skip
    dealt = Dealt(samples, size)
    return OnPolicyLesson(
        dealt, exposure, InMemory(teacher, 64), Drawing(6), STOPS, rows=rows, given=given, chunk=chunk
    )


def taught(
    lesson: OnPolicyLesson, student: PreTrainedModel, parts: Sequence[Part], progress: float = 0.5
) -> dict[str, float]:
    """What the parts of a step tell, summed up, with the loss and the gradient's norm."""
    student.zero_grad()
    told: dict[str, float] = {"loss": 0.0}
    for part in parts:
        found = lesson.teach(Learner(student, "lm_head"), part, progress, Precision())
        found.loss.backward()
        for name, value in {**found.told, "loss": float(found.loss.detach())}.items():
            told[name] = told.get(name, 0.0) + value
    return told | {"norm": float(torch.nn.utils.get_total_norm([p.grad for p in student.parameters()]))}


def written_by(student: PreTrainedModel, parts: Sequence[Part]) -> list[tuple[Tokenised, tuple[int, ...]]]:
    prompts = [sample.ids[: sample.prompt] for sample in parts[0].step]
    return list(zip(parts[0].step, write(student, prompts, Drawing(6), stops=STOPS, seed=parts[0].seed), strict=True))


def by_hand(
    student: PreTrainedModel, teacher: LanguageTeacher, texts: Sequence[tuple[int, tuple[int, ...]]], beta: float,
    temperature: float = 1.0,
) -> float:  # fmt: skip
    """The mean divergence of all completion tokens over the whole vocabulary, each text run alone, by its formula."""
    values = []
    for prompt, ids in texts:
        with torch.no_grad():
            said = [
                model(input_ids=torch.tensor([ids])).logits[0].double().numpy() for model in (student, teacher.model)
            ]
        mine, theirs = (np.exp(log_softmax(one / temperature, axis=-1))[prompt - 1 : -1] for one in said)
        if beta == 0:
            values += list((theirs * np.log(theirs / mine)).sum(axis=1))
        elif beta == 1:
            values += list((mine * np.log(mine / theirs)).sum(axis=1))
        else:
            mixed = beta * theirs + (1 - beta) * mine
            values += list(
                (beta * theirs * np.log(theirs / mixed) + (1 - beta) * mine * np.log(mine / mixed)).sum(axis=1)
            )
    return temperature**2 * float(np.mean(values))


@pytest.mark.parametrize(("beta", "temperature"), [(0.0, 1.0), (0.5, 1.0), (0.9, 2.0), (1.0, 1.0)])
def test_the_loss_on_its_own_text_is_the_one_by_hand(
    beta: float, temperature: float, teacher: LanguageTeacher, samples: tuple[Tokenised, ...]
) -> None:
    exposure = Exposure(OWN, Course(beta, beta), Mix(0.5, 0.7, temperature=temperature))
    lesson, student = lesson_of(samples, teacher, exposure), new_student()
    parts = lesson.parts(0, 1)
    assert len(parts) == 2
    texts = [(one.prompt, (*one.ids[: one.prompt], *text)) for one, text in written_by(student, parts)]
    told = taught(lesson, student, parts)
    assert told["response"] == pytest.approx(by_hand(student, teacher, texts, beta, temperature), rel=1e-4)
    assert told["loss"] == pytest.approx(0.7 * told["response"], rel=1e-5)  # what it wrote itself is no label
    assert told["tokens"] == sum(len(ids) - prompt for prompt, ids in texts)
    assert told["own"] == pytest.approx(1)
    assert told["own-ended"] == pytest.approx(np.mean([ids[-1] in STOPS for _, ids in texts]))
    assert "hard-label" not in told


def test_a_recipes_schedules_hold_on_its_own_text_too() -> None:
    terms = (Objective("hard-label", 0.4, schedule="fall"), Objective("response", 0.6, 2.0, schedule="rise", beta=0.9))
    exposure = Exposure(OWN, Course(0.0, 1.0), Mixture(terms))
    assert exposure.mix(0.25, own=False) == Mix(pytest.approx(0.3), pytest.approx(0.15), 0.25, 2.0)
    assert exposure.mix(1.0, own=True) == Mix(0.0, 0.6, 1.0, 2.0)


def test_the_loss_on_given_text_is_the_one_by_hand(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    exposure = Exposure(GIVEN, Course(0.0, 1.0), Mix(0.3, 0.7))
    student = new_student()
    cached = Knowledge(label(teacher, samples, tmp_path, codec="hidden"), teacher.head)
    for given, near in ((None, 1e-4), (cached, 1e-2)):  # the cache is in half precision
        lesson = lesson_of(samples, teacher, exposure, given=given)
        parts = lesson.parts(1, 2)
        texts = [(sample.prompt, sample.ids) for sample in parts[0].step]
        told = taught(lesson, student, parts, progress=0.25)
        assert told["response"] == pytest.approx(by_hand(student, teacher, texts, 0.25), rel=near)
        hard = []
        for prompt, ids in texts:
            with torch.no_grad():
                logs = log_softmax(student(input_ids=torch.tensor([ids])).logits[0].double().numpy(), axis=-1)
            hard += [-logs[place - 1, ids[place]] for place in range(prompt, len(ids))]
        assert told["hard-label"] == pytest.approx(np.mean(hard), rel=1e-4)
        assert told["loss"] == pytest.approx(0.3 * told["hard-label"] + 0.7 * told["response"], rel=1e-5)
        assert told["pull/hard-label"] + told["pull/response"] == pytest.approx(1)
        assert told["own"] == 0


def test_a_step_in_parts_is_the_same_step(teacher: LanguageTeacher, samples: tuple[Tokenised, ...]) -> None:
    student, exposure = new_student(), Exposure(OWN, Course(1.0, 1.0))
    found = []
    for rows, chunk in ((4, 256), (1, 2)):
        lesson = lesson_of(samples, teacher, exposure, rows=rows, chunk=chunk)
        found.append(taught(lesson, student, lesson.parts(0, 0)))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    apart = [lesson_of(samples, teacher, exposure, rows=3) for _ in range(2)]  # as two processes would share a step
    each = [taught(one, student, [one.parts(0, 0)[number]]) for number, one in enumerate(apart)]
    assert sum(one["loss"] for one in each) == pytest.approx(found[0]["loss"], rel=1e-4)


def test_lambda_is_the_share_of_steps_that_the_student_writes(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...]
) -> None:
    lesson = lesson_of(samples, teacher, Exposure(Course(0.0, 0.8), GIVEN), size=1)
    lots = np.array([lesson.parts(epoch, step)[0].lot for epoch in range(100) for step in range(lesson.steps)])
    assert np.mean(lots < 0.8 * 0.5) == pytest.approx(0.4, abs=0.05)  # over 1,200 steps
    early, late = lesson.parts(0, int(lots[:12].argmin())), lesson.parts(0, int(lots[:12].argmax()))
    assert taught(lesson, new_student(), early, progress=0.0)["own"] == 0
    assert taught(lesson, new_student(), early, progress=1.0)["own"] == 1
    assert taught(lesson, new_student(), late, progress=1.0)["own"] == (lots[:12].max() < 0.8)


def test_a_course_moves_evenly() -> None:
    assert [Course(0.2, 1.0).at(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.6, 1.0])


def test_parts_do_not_depend_on_the_student(teacher: LanguageTeacher, samples: tuple[Tokenised, ...]) -> None:
    lesson = lesson_of(samples, teacher, Exposure(OWN, GIVEN))
    before = lesson.parts(3, 1)
    taught(lesson, new_student(), before)
    assert lesson.parts(3, 1) == before == lesson.twin().parts(3, 1)
    assert before != lesson.parts(4, 1)
    seen = [sample.id for step in range(lesson.steps) for sample in lesson.parts(3, step)[0].step]
    assert sorted(seen) == sorted(sample.id for sample in samples)


def train(
    student: PreTrainedModel, lesson: OnPolicyLesson, folder: Path, *, epochs: int = 4, precision: Wanted = "fp32",
    before: Callable[[int], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    return fit(
        Learner(student, "lm_head"), lesson, Schedule(epochs, 1e-2, 0.01),
        groups=[{"params": list(student.parameters())}], validate=lambda _: Score(0.5, 1.0), folder=folder,
        report=lambda done, _: before(done), precision=precision,
    )  # fmt: skip


def test_what_the_student_writes_comes_to_be_what_its_teacher_would(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    fitted = train(new_student(), lesson_of(samples, teacher, Exposure(OWN, Course(1.0, 1.0))), tmp_path, epochs=40)
    assert fitted.history[-1]["response"] < fitted.history[0]["response"] / 3


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_is_broken_off_ends_with_the_same_weights(
    precision: Wanted, teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    def lesson() -> OnPolicyLesson:
        return lesson_of(samples, teacher, Exposure(given=Mix(0.5, 0.5)))

    with one_thread():
        whole = train(new_student(), lesson(), tmp_path / "whole", precision=precision)
        for at, seed in ((2, 0), (7, 9)):  # once begun, the first weights come from the checkpoint
            with pytest.raises(Interrupted):
                train(new_student(seed), lesson(), tmp_path / "broken", precision=precision, before=interrupt_at(at))
        assert_same(train(new_student(9), lesson(), tmp_path / "broken", precision=precision), whole)
    assert 0 < sum(epoch["own"] for epoch in whole.history) < len(whole.history)  # both kinds of steps were there


def test_steps_of_nothing_are_refused() -> None:
    for items, size in (([], 1), ([1, 2], 0)):
        with pytest.raises(PlanError):
            Dealt(items, size)


def test_every_item_is_dealt_once_an_epoch_and_each_epoch_otherwise() -> None:
    dealt = Dealt(range(23), 5, seed=2)
    assert dealt.steps == 4
    epochs = [[item for step in range(4) for item in dealt.step(epoch, step)] for epoch in (0, 1, 0)]
    assert [sorted(items) for items in epochs] == [list(range(23))] * 3
    assert epochs[0] == epochs[2] != epochs[1]
    assert {len(dealt.step(0, step)) for step in range(4)} <= {5, 6}
    assert Dealt(range(23), 5, seed=3).step(0, 0) != dealt.step(0, 0)
