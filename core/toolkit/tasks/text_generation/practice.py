"""Recipes by which a student learns from what it writes itself, as the plan says: `on-policy`, `self` and `grpo`.

Problems are rows whose answer is known; those of the split `validation` are held out, to see what was gained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from toolkit.artifacts import Dataset
from toolkit.distil.learner import Learner, last_layer
from toolkit.distil.loop import Schedule, fit
from toolkit.distil.policy import Clip
from toolkit.distil.precision import Precision
from toolkit.distil.watching import watched
from toolkit.errors import DataError
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report
from toolkit.tasks.text_generation.answers import answers_right
from toolkit.tasks.text_generation.dealing import Dealt
from toolkit.tasks.text_generation.grpo import GrpoLesson, Reinforcement
from toolkit.tasks.text_generation.onpolicy import Course, Exposure, InMemory, OnPolicyLesson
from toolkit.tasks.text_generation.reader import load_corpus, taught
from toolkit.tasks.text_generation.rounds import Improvement, Rounds, Tuning
from toolkit.tasks.text_generation.sampling import Drawing
from toolkit.tasks.text_generation.solving import Solver
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, stops_of
from toolkit.tasks.text_generation.training import Knowledge, Mixture
from toolkit.text import Prompt, Verdict

IN_ONE_PROCESS = ("self", "grpo")
"""Recipes that train in one process: what they write is kept in files of their own."""

Groups = Callable[[PreTrainedModel], Iterable[dict[str, Any]]]


def on_policy(
    plan: Plan, dataset: Dataset, samples: Sequence[Tokenised], objectives: Sequence[Objective], given: Knowledge,
    tokenizer: Tokenizer,
) -> OnPolicyLesson:  # fmt: skip
    """The lesson that begins on given completions and ends on the student's own; its teacher is held in memory."""
    practice, recipe = plan.practice, plan.recipe
    assert plan.teacher.checkpoint is not None
    teacher = read_teacher(plan.teacher.checkpoint, vocabulary=plan.text.vocabulary)
    return OnPolicyLesson(
        Dealt(samples, recipe.batch_size, seed=plan.compute.seed),
        Exposure(
            Course(practice.own_first, practice.own_last),
            Course(practice.beta_first, practice.beta_last),
            Mixture(objectives),
        ),
        InMemory(teacher),
        _drawing(plan),
        stops_of(taught(dataset.path)[0].messages, tokenizer),
        rows=_rows(plan),
        given=given,
        seed=plan.compute.seed,
    )


def improve(
    plan: Plan, dataset: Dataset, model: PreTrainedModel, tokenizer: Tokenizer, given: Sequence[Tokenised],
    groups: Groups, folder: Path, report: Report, precision: Precision,
) -> Mapping[str, Any]:  # fmt: skip
    """Train a fine-tuned student round after round on its own right answers, in place; what each round did."""
    problems, held_out, solver = _problems(plan, dataset, tokenizer)
    recipe, practice, seed = plan.recipe, plan.practice, plan.compute.seed
    tuning = Tuning(
        Schedule(recipe.epochs, recipe.learning_rate, recipe.weight_decay, seed=seed),
        plan.text.capacity,
        _rows(plan),
        groups,
        solver.validator(held_out),
        recipe.accumulation,
        precision,
    )
    how = Rounds(practice.rounds, practice.answers, practice.learnt, seed)
    improvement = Improvement(model, problems, held_out, solver, tuning, how, folder, given=given)
    return {"rounds": [one.facts() for one in improvement.run(report).rounds]}


def reinforce(
    plan: Plan, dataset: Dataset, model: PreTrainedModel, tokenizer: Tokenizer, groups: Groups, folder: Path,
    curves: Path, report: Report, precision: Precision,
) -> Mapping[str, Any]:  # fmt: skip
    """Train a fine-tuned student by the rewards of its answers, in place; its accuracy on held-out problems before and
    after, and the curves."""
    problems, held_out, solver = _problems(plan, dataset, tokenizer)
    practice, seed = plan.practice, plan.compute.seed
    before = float(solver.right(model, held_out).mean())
    lesson = GrpoLesson(
        Dealt(problems, plan.recipe.batch_size, seed=seed),
        solver,
        Reinforcement(
            practice.answers,
            practice.updates,
            Clip(practice.clip, practice.clip),
            practice.norm,
            practice.scaled,
            practice.kl,
        ),
        rows=_rows(plan) * practice.answers,
        reference=copy.deepcopy(model).requires_grad_(False).train(False) if practice.kl else None,
        seed=seed,
    )
    what = "reward its answers"
    with watched(curves, "rewards", what, report) as watch:
        fitted = fit(
            Learner(model, last_layer(model)),
            lesson,
            Schedule(practice.epochs, practice.learning_rate, 0.0, seed=seed),
            groups=groups(model),
            validate=solver.validator(held_out),
            folder=folder,
            report=lambda done, total: report(what, done, total),
            precision=precision,
            watch=watch,
        )
    model.load_state_dict(fitted.weights)
    after = float(solver.right(model, held_out).mean())
    return {"before": before, "after": after, "problems": len(problems), "history": list(fitted.history)}


def _problems(plan: Plan, dataset: Dataset, tokenizer: Tokenizer) -> tuple[list[Prompt], list[Prompt], Solver]:
    """Those to train on, those held out, and who puts them to a student.

    Raises:
        DataError: there are none.
    """
    rows = {split: [row for row in load_corpus(dataset.path, split) if row.answer] for split in ("train", "validation")}
    if empty := [split for split, found in rows.items() if not found]:
        raise DataError(
            f"the recipe {plan.recipe.name} learns from problems whose answer is known, and no {empty[0]} row has one",
            hint="Give rows an `answer`, or write completions that end with `#### ANSWER`.",
        )
    known = {row.id: row.answer for found in rows.values() for row in found}

    def verify(prompt: Prompt, text: str) -> Verdict:
        right = answers_right(text, known[prompt.id])
        return Verdict(float(right), "exact-match", "" if right else f"the answer is {known[prompt.id]}")

    # One prompt may have several rows, each with a completion of its own: as a problem it counts once
    train, held = (list({row.messages: Prompt(row.id, row.messages) for row in rows[name]}.values()) for name in rows)
    return train, held, Solver(tokenizer, verify, _drawing(plan))


def _drawing(plan: Plan) -> Drawing:
    return Drawing(plan.text.answer_tokens, plan.practice.temperature)


def _rows(plan: Plan) -> int:
    """Of a micro-batch."""
    return max(1, plan.recipe.batch_size // plan.recipe.accumulation)
