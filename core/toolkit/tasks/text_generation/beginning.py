"""The student that a plan names, before it is trained, and the tokenizer it counts in."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from toolkit.artifacts import Dataset, TeacherLabels
from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.tasks.text_generation import reader, students
from toolkit.tasks.text_generation.labelling import TOKENIZER
from toolkit.tasks.text_generation.scratch import config_for, tokenizer_for
from toolkit.tasks.text_generation.shapes import Target
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import Tokenizer, tokenise

CALIBRATION = 64
"""Training rows whose tokens tell what of a teacher matters, where a student is pruned from it."""


def build(plan: Plan, dataset: Dataset) -> PreTrainedModel:
    """The student before training: from nothing, from a checkpoint, from a config alone, or pruned from the teacher.

    Raises:
        PlanError: there is none of them, or the teacher cannot be pruned.
    """
    if plan.student.vocabulary:
        size = len(_learnt(plan, dataset))
        context = plan.text.max_tokens + plan.text.answer_tokens
        return students.from_config(config_for(plan.student.parameters, size, context), seed=plan.compute.seed).model
    folder = plan.student.checkpoint
    if folder is not None and not students.has_weights(folder):
        return students.from_config(folder, seed=plan.compute.seed).model
    if folder is not None:
        return students.from_checkpoint(folder).model
    assert plan.teacher.checkpoint is not None
    teacher = read_teacher(plan.teacher.checkpoint, vocabulary=plan.text.vocabulary)
    taught = reader.taught(dataset.path)
    rows = [row for row in taught if row.labelled] or taught
    shown = [replace(row, completion=row.completion or row.messages[-1].content) for row in rows[:CALIBRATION]]
    samples = tokenise(shown, teacher.tokenizer, max_tokens=plan.text.max_tokens).samples
    calibration = [torch.tensor([sample.ids]) for sample in samples]
    target = Target(parameters=plan.student.parameters)
    model = students.from_teacher(teacher.model, target, calibration).model
    nn.Module.to(model, torch.float32)
    return model


def _learnt(plan: Plan, dataset: Dataset) -> Tokenizer:
    return tokenizer_for(reader.taught(dataset.path), plan.student.vocabulary)


def tokenizer_of(plan: Plan, dataset: Dataset, labels: TeacherLabels) -> Tokenizer:
    """The student's own, or its teacher's.

    Raises:
        PlanError: there is neither.
    """
    if plan.student.vocabulary:
        return _learnt(plan, dataset)
    folders = [folder for folder in (plan.student.checkpoint, labels.path / TOKENIZER) if folder is not None]
    for folder in folders:
        if (folder / "tokenizer.json").is_file() or (folder / "tokenizer_config.json").is_file():
            found: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            return found
    raise PlanError(
        "neither the student's checkpoint nor its teacher has a tokenizer",
        hint="Save one beside the student: tokenizer.save_pretrained(student.checkpoint).",
    )
