"""The student, and beside it the same student on the labels alone: what the engine is handed of a plan."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from toolkit.artifacts import Dataset, StudentSpec, TeacherLabels
from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.devices import prepare_torch
from toolkit.distil.learner import Learner, last_layer
from toolkit.distil.loop import Fitted, Schedule, fit
from toolkit.distil.precision import Precision, Wanted
from toolkit.distil.recipes import LABELS_ALONE, carriers
from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report
from toolkit.tasks.text_generation import completions, students
from toolkit.tasks.text_generation.completions import GIVEN, Learnt
from toolkit.tasks.text_generation.labelling import TOKENIZER, knowledge_of
from toolkit.tasks.text_generation.packing import PackedBatches
from toolkit.tasks.text_generation.preflight import Side, preflight
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.sampling import Drawing, check_room
from toolkit.tasks.text_generation.shapes import Target
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, tokenise
from toolkit.tasks.text_generation.training import Knowledge, Mixture, SequenceLesson, validator
from toolkit.workspace import canonical_json, write_file

CALIBRATION = 64
"""Training rows whose tokens tell what of a teacher matters, where a student is pruned from it."""


def build(plan: Plan, dataset: Dataset) -> PreTrainedModel:
    """The student before training: from a checkpoint, from a config alone, or pruned from the teacher.

    Raises:
        PlanError: there is none of them, or the teacher cannot be pruned.
    """
    folder = plan.student.checkpoint
    if folder is not None and not students.has_weights(folder):
        return students.from_config(folder, seed=plan.compute.seed).model
    if folder is not None:
        return students.from_checkpoint(folder).model
    assert plan.teacher.checkpoint is not None
    teacher = read_teacher(plan.teacher.checkpoint, vocabulary=plan.text.vocabulary)
    rows = [row for row in load_corpus(dataset.path, "train") if row.labelled] or load_corpus(dataset.path, "train")
    shown = [replace(row, completion=row.completion or row.messages[-1].content) for row in rows[:CALIBRATION]]
    samples = tokenise(shown, teacher.tokenizer, max_tokens=plan.text.max_tokens).samples
    calibration = [torch.tensor([sample.ids]) for sample in samples]
    target = Target(parameters=plan.student.parameters)
    model = students.from_teacher(teacher.model, target, calibration).model
    nn.Module.to(model, torch.float32)
    return model


def train_pair(
    plan: Plan,
    labels: TeacherLabels,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Train both into `folder`; the facts of a Student. There is no baseline where no row came with its completion."""
    device = prepare_torch(plan.compute)
    learnt, tokenizer = completions.read(labels.path), tokenizer_of(plan, labels)
    knowledge = knowledge_of(labels) if "response" in carriers(objectives) else None
    wanted: dict[str, tuple[Sequence[Objective], Knowledge | None]] = {"student": (objectives, knowledge)}
    given = [one for one in learnt if one.by == GIVEN]
    if plan.recipe.baseline and {"train", "validation"} <= {one.split for one in given}:
        wanted["baseline"] = (LABELS_ALONE, None)
    facts: dict[str, Any] = {"network": dict(spec.describe)}
    precision: Wanted | Precision = plan.compute.precision
    for name, (terms, known) in wanted.items():
        if not (folder / f"{name}.json").exists():
            model: PreTrainedModel = spec.build()
            splits = _samples(plan, given if name == "baseline" else learnt, tokenizer)
            _check_fit(plan, model, tokenizer, learnt, splits, labels if known is not None else None)
            tell = functools.partial(report, f"train the {name}")
            nn.Module.to(model, device)
            fitted = _fit(plan, model, splits, Mixture(terms), known, folder / f"{name}-training", tell, precision)
            model.load_state_dict(fitted.weights)
            students.save(students.Student(model.cpu(), {}), folder / name, tokenizer)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            write_file(folder / f"{name}.json", canonical_json(fitted.facts() | {"parameters": parameters}))
            Checkpoints(folder / f"{name}-training").clear()
        facts[name] = json.loads((folder / f"{name}.json").read_bytes())
        # The two are compared: the baseline takes over what was chosen for the student.
        precision = replace(Precision.of(facts[name]["precision"]), why="as the student, which it is compared to")
    return facts


def tokenizer_of(plan: Plan, labels: TeacherLabels) -> Tokenizer:
    """The student's own, or its teacher's.

    Raises:
        PlanError: there is neither.
    """
    folders = [folder for folder in (plan.student.checkpoint, labels.path / TOKENIZER) if folder is not None]
    for folder in folders:
        if (folder / "tokenizer.json").is_file() or (folder / "tokenizer_config.json").is_file():
            found: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            return found
    raise PlanError(
        "neither the student's checkpoint nor its teacher has a tokenizer",
        hint="Save one beside the student: tokenizer.save_pretrained(student.checkpoint).",
    )


def _samples(plan: Plan, learnt: Sequence[Learnt], tokenizer: Tokenizer) -> dict[str, Sequence[Tokenised]]:
    return {
        split: tokenise(
            [one.row for one in learnt if one.split == split], tokenizer, max_tokens=plan.text.max_tokens
        ).samples
        for split in ("train", "validation")
    }


def _check_fit(
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    learnt: Sequence[Learnt],
    splits: dict[str, Sequence[Tokenised]],
    labels: TeacherLabels | None,
) -> None:
    """The student has room for its tokens, its samples and its answers. Teacher and student count in the same tokens,
    where it is looked into; what a head is padded with is cut."""
    samples = [sample for split in splits.values() for sample in split]
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    student = teacher = Side("student", tokenizer, model.config.vocab_size, int(context))
    if labels is not None:
        theirs = AutoTokenizer.from_pretrained(labels.path / TOKENIZER, local_files_only=True)
        teacher = Side("teacher", theirs, labels.facts["vocabulary"], labels.facts["context"])
    found = preflight(teacher, student, [one.row for one in learnt], samples, vocabulary=plan.text.vocabulary)
    check_room(model, max(sample.prompt for sample in samples), Drawing(plan.text.answer_tokens))
    students.cut_vocabulary(model, found.vocabulary)


def _fit(
    plan: Plan,
    model: PreTrainedModel,
    splits: dict[str, Sequence[Tokenised]],
    mix: Mixture,
    knowledge: Knowledge | None,
    folder: Path,
    report: Any,
    precision: Wanted | Precision,
) -> Fitted:
    recipe, capacity, seed = plan.recipe, plan.text.capacity, plan.compute.seed
    rows = max(1, recipe.batch_size // recipe.accumulation)
    train = PackedBatches(splits["train"], capacity=capacity, rows=rows, accumulation=recipe.accumulation, seed=seed)
    watched = PackedBatches(splits["validation"], capacity=capacity, rows=rows)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return fit(
        Learner(model, last_layer(model)),
        SequenceLesson(train, mix, knowledge),
        Schedule(epochs=recipe.epochs, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, seed=seed),
        groups=[{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        validate=validator(watched),
        folder=folder,
        report=report,
        precision=precision,
    )
