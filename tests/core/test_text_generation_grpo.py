"""GRPO as a lesson: its loss is the one worked out answer by answer over whole logits, its figures are those of the
answers, what is rewarded becomes likelier, and a training that was broken off ends with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distil_parts import Interrupted, assert_same, interrupt_at, one_thread
from scipy.special import log_softmax
from solving_parts import PROBLEMS, check, new_student, solver_of
from transformers import PreTrainedModel

from toolkit.distil.learner import Learner
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.policy import Clip
from toolkit.distil.precision import Precision, Wanted
from toolkit.errors import PlanError
from toolkit.tasks.text_generation.dealing import Dealt
from toolkit.tasks.text_generation.grpo import GrpoLesson, Reinforcement
from toolkit.tasks.text_generation.sampling import Drawing
from toolkit.tasks.text_generation.solving import Attempt, Solver
from toolkit.text import Prompt, Verdict

MOST = 5


@pytest.fixture(scope="module")
def solver(tmp_path_factory: pytest.TempPathFactory) -> Solver:
    return solver_of(tmp_path_factory.mktemp("teacher"), most=MOST)


def graded(prompt: Prompt, said: str) -> Verdict:
    """Something of every answer, so that no group is without a signal."""
    return Verdict(len(said) % 7 / 6, "length")


def lesson_of(
    solver: Solver, how: Reinforcement, *, size: int = 3, rows: int = 5, chunk: int = 4,
    reference: PreTrainedModel | None = None,
) -> GrpoLesson:  # fmt: skip
    return GrpoLesson(Dealt(PROBLEMS, size), solver, how, rows=rows, reference=reference, chunk=chunk)


def taught(lesson: GrpoLesson, student: PreTrainedModel, step: int) -> dict[str, float]:
    """What the parts of a step tell, summed up, with the loss; gradients are left on the student."""
    student.zero_grad()
    told: dict[str, float] = {"loss": 0.0}
    for part in lesson.parts(0, step):
        found = lesson.teach(Learner(student, "lm_head"), part, 0.5, Precision())
        found.loss.backward()
        for name, value in {**found.told, "loss": float(found.loss.detach())}.items():
            told[name] = told.get(name, 0.0) + value
    return told


def log_probs(model: PreTrainedModel, attempt: Attempt, temperature: float) -> np.ndarray:
    """Of an answer's tokens, run alone."""
    ids, prompt = attempt.sample.ids, attempt.sample.prompt
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy() / temperature
    return np.asarray(log_softmax(logits, axis=-1)[np.arange(prompt - 1, len(ids) - 1), list(ids[prompt:])])


def by_hand(
    groups: list[tuple[Attempt, ...]], how: Reinforcement, student: PreTrainedModel, old: PreTrainedModel,
    reference: PreTrainedModel | None, temperature: float,
) -> dict[str, float]:  # fmt: skip
    """GRPO's loss by its formulas, an answer and a token at a time."""
    answers = [attempt for group in groups for attempt in group]
    tokens = sum(attempt.sample.learnt for attempt in answers)
    loss = kl = clipped = 0.0
    for group in groups:
        scores = np.array([attempt.score for attempt in group])
        deviation = scores.std(ddof=1) + 1e-4 if how.scaled else 1.0
        for attempt, advantage in zip(group, (scores - scores.mean()) / deviation, strict=True):
            mine, theirs = log_probs(student, attempt, temperature), log_probs(old, attempt, temperature)
            base = mine if reference is None else log_probs(reference, attempt, temperature)
            divisor = {"answer": len(answers) * len(mine), "token": tokens, "constant": len(answers) * MOST}[how.norm]
            for now, before, first in zip(mine, theirs, base, strict=True):
                ratio = np.exp(now - before)
                held = min(max(ratio, 1 - how.clip.low), 1 + how.clip.high)
                divergence = np.exp(first - now) - (first - now) - 1
                loss += (how.kl * divergence - min(ratio * advantage, held * advantage)) / divisor
                kl += divergence / tokens
                clipped += float(held * advantage < ratio * advantage) / tokens
    return {"loss": loss, "kl": kl, "clipped": clipped}


@pytest.mark.parametrize(
    "how",
    [
        Reinforcement(group=4, kl=0.3),
        Reinforcement(group=4, norm="constant", scaled=False),
        Reinforcement(group=3, norm="token", updates=2, clip=Clip(0.01, 0.02), kl=0.1),
        Reinforcement(group=4, updates=2, clip=Clip(0.01, 0.01)),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_loss_of_an_update_is_the_one_by_hand(how: Reinforcement, temperature: float, solver: Solver) -> None:
    solver = Solver(solver.tokenizer, graded, Drawing(MOST, temperature, rows=32))
    student, reference = new_student(), new_student(7) if how.kl else None
    lesson = lesson_of(solver, how, reference=reference)
    part = lesson.parts(0, 0)[0]
    groups = solver.attempts(student, part.problems, each=how.group, seed=part.seed)
    told = taught(lesson, student, 0)
    expected = by_hand(groups, how, student, student, reference, temperature)
    assert told["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    if how.updates == 1:
        return
    wrote = new_student()
    with torch.no_grad():  # an update, so that the student is no longer the one that wrote
        for parameter in student.parameters():
            parameter -= 0.1 * parameter.grad
    told = taught(lesson, student, 1)
    expected = by_hand(groups, how, student, wrote, reference, temperature)
    assert told["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert told["clipped"] == pytest.approx(expected["clipped"])
    assert 0 < told["clipped"] < 1
    if reference is not None:
        assert told["kl"] == pytest.approx(expected["kl"], rel=1e-4)


def test_the_gradient_is_that_of_autograd_over_whole_logits(solver: Solver) -> None:
    how, student = Reinforcement(group=4), new_student()
    lesson = lesson_of(replace(solver, verify=graded), how)
    part = lesson.parts(0, 0)[0]
    groups = replace(solver, verify=graded).attempts(student, part.problems, each=4, seed=part.seed)
    taught(lesson, student, 0)
    found = [parameter.grad.clone() for parameter in student.parameters()]
    student.zero_grad()
    for group in groups:
        scores = torch.tensor([attempt.score for attempt in group])
        for attempt, advantage in zip(group, (scores - scores.mean()) / (scores.std() + 1e-4), strict=True):
            ids, prompt = torch.tensor(attempt.sample.ids), attempt.sample.prompt
            logs = student(input_ids=ids[None]).logits[0].log_softmax(dim=-1)[prompt - 1 : -1]
            mine = logs.gather(-1, ids[prompt:, None])
            # REINFORCE's gradient: where the ratio is 1, it is that of the surrogate
            (-advantage * mine.mean() / (4 * len(groups))).backward()
    for mine, parameter in zip(found, student.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-6)


def test_the_figures_are_those_of_the_answers(solver: Solver) -> None:
    lesson, student = lesson_of(solver, Reinforcement(group=4)), new_student()
    part = lesson.parts(0, 1)[0]
    groups = solver.attempts(student, part.problems, each=4, seed=part.seed)
    answers = [attempt for group in groups for attempt in group]
    told = taught(lesson, student, 1)
    assert told["reward"] == pytest.approx(np.mean([attempt.score for attempt in answers]))
    assert told["length"] == pytest.approx(np.mean([attempt.sample.learnt for attempt in answers]))
    assert told["ended"] == pytest.approx(np.mean([attempt.ended for attempt in answers]))
    alike = [len({attempt.score for attempt in group}) == 1 for group in groups]
    assert told["no-signal"] == pytest.approx(np.mean(alike))
    assert told["clipped"] == 0  # the student that learns is the one that wrote


def test_an_answer_that_was_cut_off_is_worth_nothing(solver: Solver) -> None:
    always = replace(solver, verify=lambda prompt, said: Verdict(1.0, "anything"))
    answers = [one for group in always.attempts(new_student(), PROBLEMS, each=20, seed=0) for one in group]
    assert {one.ended for one in answers} == {True, False}
    assert all(one.score == one.ended for one in answers)
    assert all(one.sample.learnt == MOST for one in answers if not one.ended)


def test_a_step_in_parts_is_the_same_step(solver: Solver) -> None:
    student, how = new_student(), Reinforcement(group=4)
    found = [
        taught(lesson_of(replace(solver, verify=graded), how, rows=rows, chunk=chunk), student, 0)
        for rows, chunk in ((12, 256), (1, 2))
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)


def train(
    student: PreTrainedModel, lesson: GrpoLesson, folder: Path, *, epochs: int = 3, rate: float = 3e-3,
    precision: Wanted = "fp32", before: Callable[[int], None] = lambda _: None, **settings: Any,
) -> Fitted:  # fmt: skip
    return fit(
        Learner(student, "lm_head"), lesson, Schedule(epochs, rate, 0.0, **settings),
        groups=[{"params": list(student.parameters())}], validate=lambda _: Score(0.5, 1.0), folder=folder,
        report=lambda done, _: before(done), precision=precision,
    )  # fmt: skip


def test_what_is_rewarded_becomes_likelier(solver: Solver, tmp_path: Path) -> None:
    seven = replace(solver, verify=lambda prompt, said: Verdict(float(said.startswith("seven")), "first word"))
    lesson = lesson_of(seven, Reinforcement(group=16), size=8, rows=128)
    fitted = train(new_student(), lesson, tmp_path, epochs=25, rate=1e-2)
    rewards = [epoch["reward"] for epoch in fitted.history]
    assert rewards[0] < 0.2
    assert rewards[-1] > 0.7


def test_a_divergence_weight_keeps_it_near_where_it_began(solver: Solver, tmp_path: Path) -> None:
    ends = []
    for weight in (1e-9, 3.0):
        how = Reinforcement(group=8, kl=weight)
        lesson = lesson_of(solver, how, size=8, rows=64, reference=new_student().train(False))
        ends.append(train(new_student(), lesson, tmp_path / str(weight), epochs=12, rate=1e-2).history[-1]["kl"])
    assert ends[1] < ends[0] / 3


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(("updates", "precision"), [(1, "fp32"), (3, "fp32"), (3, "bf16")])
def test_a_training_that_is_broken_off_ends_with_the_same_weights(
    updates: int, precision: Wanted, solver: Solver, tmp_path: Path
) -> None:
    def lesson() -> GrpoLesson:
        how = Reinforcement(group=4, updates=updates, kl=0.1)
        return lesson_of(replace(solver, verify=graded), how, reference=new_student().train(False))

    broken = tmp_path / "broken"
    with one_thread():
        whole = train(new_student(), lesson(), tmp_path / "whole", epochs=2, precision=precision)
        for at, seed in ((1, 0), (3, 9)):  # with three updates, amid those of one batch of answers
            with pytest.raises(Interrupted):
                train(new_student(seed), lesson(), broken, epochs=2, precision=precision, before=interrupt_at(at))
        assert_same(train(new_student(9), lesson(), broken, epochs=2, precision=precision), whole)


def test_what_cannot_be_is_refused(solver: Solver) -> None:
    for wrong in ({"group": 1}, {"updates": 0}, {"kl": -1.0}):
        with pytest.raises(PlanError):
            Reinforcement(**wrong)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="began with"):
        lesson_of(solver, Reinforcement(kl=0.1))
    for drawing in (Drawing(5, 0.0), Drawing(5, 1.0, 0.9)):
        with pytest.raises(PlanError, match="whole distribution"):
            lesson_of(Solver(solver.tokenizer, check, drawing), Reinforcement())
