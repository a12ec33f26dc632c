"""The student, and beside it the same student on the labels alone: what the engine is handed of a plan."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
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
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.precision import Precision, Wanted
from toolkit.distil.recipes import LABELS_ALONE, carriers
from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report
from toolkit.tasks.text_generation import completions, students
from toolkit.tasks.text_generation.adapters import Adapted
from toolkit.tasks.text_generation.coming import Coming
from toolkit.tasks.text_generation.completions import GIVEN
from toolkit.tasks.text_generation.labelling import TOKENIZER, knowledge_of
from toolkit.tasks.text_generation.packing import PackedBatches, UnitBatches
from toolkit.tasks.text_generation.preflight import Side, preflight
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.shapes import Target
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import Tokenizer, tokenise
from toolkit.tasks.text_generation.training import Knowledge, Mixture, SequenceLesson, validator
from toolkit.workspace import canonical_json, write_file

CALIBRATION = 64
"""Training rows whose tokens tell what of a teacher matters, where a student is pruned from it."""

VALIDATED = 8
"""Packed rows that are validated with at once."""


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
    """Train both into `folder`; the facts of a Student. There is no baseline where no row came with its completion.

    Where the teacher still answers, the student learns beside it: its first epoch takes rows as they come.
    """
    device, tokenizer = prepare_torch(plan.compute), tokenizer_of(plan, labels)
    facts: dict[str, Any] = {"network": dict(spec.describe)}
    precision: Wanted | Precision = plan.compute.precision
    for name, terms in (("student", objectives), ("baseline", LABELS_ALONE)):
        units = _units(plan, labels, tokenizer, name)
        if units is None:
            continue
        if not (folder / f"{name}.json").exists():
            model: PreTrainedModel = spec.build()
            known = _knowledge(plan, labels, model, tokenizer, units) if "response" in carriers(terms) else None
            adapted = _adapted(plan, model)
            nn.Module.to(model, device)
            tell = functools.partial(report, f"train the {name}")
            fitted = _fit(plan, model, units, Mixture(terms), known, folder / f"{name}-training", tell, precision)
            model.load_state_dict(fitted.weights)
            if adapted is not None:
                model = adapted.merged()
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


def _units(plan: Plan, labels: TeacherLabels, tokenizer: Tokenizer, name: str) -> Coming | None:
    """What is learnt: the student takes all, as it comes; the baseline what came with its row, None where there is too
    little or nobody wants it."""
    if name == "student":
        coming = completions.read(labels.path) if labels.filling is None else labels.filling
        return Coming(coming, labels.facts["of"], tokenizer, plan.text.max_tokens)
    for _ in labels.filling or ():
        pass  # whoever begins with the baseline waits for the rest
    given = [unit for unit in completions.read(labels.path) if any(one.by == GIVEN for one in unit.learnt)]
    of = Counter(unit.split for unit in given)
    if not plan.recipe.baseline or not all(of[split] for split in ("train", "validation")):
        return None
    return Coming(given, of, tokenizer, plan.text.max_tokens)


def _knowledge(
    plan: Plan, labels: TeacherLabels, model: PreTrainedModel, tokenizer: Tokenizer, units: Coming
) -> Knowledge:
    """What the teacher said of the tokens, once it is sure that the two count in the same ones; what either head is
    padded with is cut."""
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    theirs: Tokenizer = AutoTokenizer.from_pretrained(labels.path / TOKENIZER, local_files_only=True)
    rows = [one.row for unit in completions.read(labels.path) for one in unit.learnt]
    found = preflight(
        Side("teacher", theirs, labels.facts["vocabulary"], labels.facts["context"]),
        Side("student", tokenizer, model.config.vocab_size, int(context)),
        rows,
        units.all("train"),
        vocabulary=plan.text.vocabulary,
    )
    students.cut_vocabulary(model, found.vocabulary)
    return knowledge_of(labels)


def _adapted(plan: Plan, model: PreTrainedModel) -> Adapted | None:
    rank = plan.student.lora_rank
    return Adapted(model, rank, plan.compute.seed) if rank else None


def _fit(
    plan: Plan,
    model: PreTrainedModel,
    units: Coming,
    mix: Mixture,
    knowledge: Knowledge | None,
    folder: Path,
    report: Callable[[int, int], None],
    precision: Wanted | Precision,
) -> Fitted:
    recipe, capacity, seed = plan.recipe, plan.text.capacity, plan.compute.seed
    train = UnitBatches(
        units.split("train"), capacity=capacity, taken=recipe.batch_size, parts=recipe.accumulation, seed=seed
    )
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    learnt = [p for p in model.parameters() if p.requires_grad]
    decayed, plain = [p for p in learnt if p.ndim > 1], [p for p in learnt if p.ndim <= 1]

    @functools.cache
    def validate() -> Callable[[nn.Module], Score]:
        """Validation rows may come last, so they are not asked for before the first epoch is over."""
        units.all("train")
        return validator(PackedBatches(units.all("validation"), capacity=capacity, rows=VALIDATED))

    return fit(
        Learner(model, last_layer(model)),
        SequenceLesson(train, mix, knowledge),
        Schedule(epochs=recipe.epochs, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, seed=seed),
        groups=[{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        validate=lambda module: validate()(module),
        folder=folder,
        report=report,
        precision=precision,
    )
