"""Adapting a teacher to the classes at hand, and training a student or its baseline: what the engine is handed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from toolkit.artifacts import Dataset, StudentSpec, TeacherLabels
from toolkit.distil import labels as store
from toolkit.distil.checkpoints import Checkpoints, serialise
from toolkit.distil.devices import prepare_torch
from toolkit.distil.learner import Learner, decay_groups, last_layer
from toolkit.distil.lessons import BatchLesson
from toolkit.distil.lookup import Answers
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.precision import Precision, Wanted
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.recipes import LABELS_ALONE, carriers
from toolkit.distil.watching import UNWATCHED, Watch, pace_file, read_pace, watched
from toolkit.distil.weighting import TaskWeights, Weighting
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report, TeacherSpec
from toolkit.tasks.image_classification.batches import (
    ImageBatches,
    TrainingData,
    load_training_data,
    steps_an_epoch,
)
from toolkit.tasks.image_classification.network import PictureNormalised
from toolkit.workspace import canonical_json, write_file


def adapt_teacher(
    plan: Plan,
    data: TrainingData,
    spec: TeacherSpec,
    device: torch.device,
    folder: Path,
    report: Callable[[int, int], None],
    watch: Watch = UNWATCHED,
) -> tuple[nn.Module, Fitted]:
    """Train a pretrained network with a new head until validation says it is really good, without label smoothing
    (its soft labels would carry less: Mueller et al. 2019, arXiv 1906.02629)."""
    torch.manual_seed(plan.compute.seed)
    module: nn.Module = teacher_network(spec).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = list(module.get_submodule(teacher_head(module, spec)).parameters())
    body = [p for p in module.parameters() if p.requires_grad and all(p is not other for other in head)]
    batch_size = plan.teacher.batch_size
    fitted = fit(
        Learner(module),
        BatchLesson(
            ImageBatches(
                data, batch_size, plan.teacher.input_size, device, steps=steps_an_epoch(data.labelled, batch_size)
            ),
            LABELS_ALONE,
        ),
        Schedule(
            epochs=plan.teacher.epochs,
            learning_rate=plan.teacher.learning_rate,
            weight_decay=1e-4,
            average_decay=0.95,
            seed=plan.compute.seed,
        ),
        groups=[{"params": body}, {"params": head, "scale": 3.0}],
        validate=validator(data, plan.teacher.input_size, device),
        folder=folder,
        report=report,
        watch=watch,
    )
    module.load_state_dict(fitted.weights)
    return module.eval().to("cpu"), fitted


def train_student(
    plan: Plan,
    data: TrainingData,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    answers: Answers | None,
    classes: Sequence[str],
    device: torch.device,
    folder: Path,
    report: Callable[[int, int], None],
    precision: Wanted | Precision,
    processes: Processes = ALONE,
    watch: Watch = UNWATCHED,
) -> Fitted:
    """Train the student, or with `answers` None its baseline: same seed, same first weights, as many steps."""
    torch.manual_seed(plan.compute.seed)
    width = answers.feature_width if answers and "features" in carriers(objectives) else 0
    learner = Learner(spec.build(), spec.head, width)
    sharded = plan.compute.sharding == "full"
    if not sharded:  # shards lie in plain order, and go to the device by themselves
        learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = plan.recipe
    lesson = BatchLesson(
        ImageBatches(
            data,
            recipe.batch_size,
            plan.student.input_size,
            device,
            steps=steps_an_epoch(len(data.labels), recipe.batch_size),
            answers=answers,
        ),
        objectives,
        Weighting(
            difficulty=recipe.weighting == "difficulty",
            tasks=TaskWeights(classes, by=recipe.task_weighting, floor=recipe.task_floor),
        ),
        processes,
    )
    return fit(
        learner,
        lesson,
        Schedule(
            epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            seed=plan.compute.seed,
        ),
        groups=decay_groups(learner.parameters()),
        validate=validator(data, plan.student.input_size, device),
        folder=folder,
        report=report,
        precision=precision,
        processes=processes,
        shard_on=device if sharded else None,
        watch=watch,
    )


def teacher_network(spec: TeacherSpec) -> PictureNormalised:
    """A pretrained network that takes what a student takes."""
    return PictureNormalised(spec.build(), spec.mean, spec.std)


def teacher_head(module: nn.Module, spec: TeacherSpec) -> str:
    """The dotted name of its new last layer, in what `teacher_network` returns."""
    return last_layer(module, f"network.{spec.head}" if spec.head else "")


def validator(data: TrainingData, size: int, device: torch.device) -> Callable[[nn.Module], Score]:
    """Scores a module on the validation rows, without augmentation."""
    pixels, labels = data.validation_pixels(size), data.validation_labels

    @torch.inference_mode()
    def validate(module: nn.Module) -> Score:
        logits = torch.cat([module(part.to(device)).float().cpu() for part in torch.split(pixels, 64)])
        accuracy = float((logits.argmax(dim=1) == labels).float().mean())
        return Score(accuracy, float(functional.cross_entropy(logits, labels)), len(labels))

    return validate


def train_pair(
    plan: Plan,
    dataset: Dataset,
    labels: TeacherLabels,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    folder: Path,
    report: Report,
    processes: Processes,
) -> dict[str, Any]:
    """The student, and beside it the same student on the labels alone: what distilling added, or cost."""
    device = prepare_torch(plan.compute, processes)
    data = load_training_data(plan, dataset)
    answers = Answers(store.load(labels.path / "labels"))
    if plan.recipe.answers == "row-mean":
        answers = answers.averaged()
    wanted: dict[str, tuple[Sequence[Objective], Answers | None]] = {"student": (objectives, answers)}
    if plan.recipe.baseline:
        wanted["baseline"] = (LABELS_ALONE, None)
    facts: dict[str, Any] = {"network": dict(spec.describe)}
    precision: Wanted | Precision = plan.compute.precision
    for name, (terms, known) in wanted.items():
        record = folder / f"{name}.json"
        if not processes.decide(record.exists):
            what = f"train the {name}"
            tell = functools.partial(report, what)
            with watched(folder, name, what, report) as watch:
                fitted = train_student(
                    plan, data, spec, terms, known, dataset.classes, device, folder / name, tell, precision, processes,
                    watch,
                )  # fmt: skip
            if processes.first:
                write_file(folder / f"{name}.pt", serialise(fitted.weights))
                write_file(record, canonical_json(_record(fitted)))
                Checkpoints(folder / name).clear()
        facts[name] = json.loads(processes.decide(record.read_bytes))
        facts[name]["pace"] = processes.decide(functools.partial(read_pace, pace_file(folder, name)))
        # The two are compared: the baseline takes over what was chosen for the student.
        precision = replace(Precision.of(facts[name]["precision"]), why="as the student, which it is compared to")
    return facts


def _record(fitted: Fitted) -> dict[str, Any]:
    """What the report shows of a student. Running means and variances are not parameters."""
    trained = [w for name, w in fitted.weights.items() if not name.endswith(("running_mean", "running_var", "tracked"))]
    return fitted.facts() | {"parameters": sum(weight.numel() for weight in trained)}
