"""Adapting a teacher to the classes at hand, and training a student or its baseline: what the engine is handed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from toolkit.artifacts import Dataset, StudentSpec, TeacherLabels
from toolkit.distil import labels as store
from toolkit.distil.checkpoints import Checkpoints, serialise
from toolkit.distil.devices import prepare_torch
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.objectives import Batch
from toolkit.distil.recipes import LABELS_ALONE
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report, TeacherSpec
from toolkit.tasks.image_classification.augment import (
    Augmentation,
    Views,
    label_indices,
    shuffled,
    stack_pictures,
)
from toolkit.tasks.image_classification.network import PictureNormalised
from toolkit.workspace import canonical_json, write_file

MARGIN = 8 / 7
"""Side of the stored pictures to the side of a view: room for crops without enlarging."""


@dataclass(frozen=True)
class TrainingData:
    """The rows in memory: views of train, whole pictures of validation, labels of both."""

    views: Views
    one_hot: Tensor
    labels: Tensor
    validation: Tensor
    validation_labels: Tensor

    def validation_pixels(self, size: int) -> Tensor:
        """Float32 [n, channels, size, size] in 0..1, as the shipped graph would make them."""
        return functional.interpolate(
            self.validation.float(), (size, size), mode="bilinear", antialias=True, align_corners=False
        ).div_(255)


def augmentation(plan: Plan) -> Augmentation:
    """The views that this plan labels and trains on."""
    return Augmentation(mixup=plan.recipe.mixup)


def load_training_data(plan: Plan, dataset: Dataset, augmentation: Augmentation) -> TrainingData:
    side = round(MARGIN * max(plan.teacher.input_size, plan.student.input_size))
    train, validation = dataset.split("train"), dataset.split("validation")
    labels = label_indices(train.labels, dataset.classes)
    return TrainingData(
        views=Views(stack_pictures(train, side), plan.compute.seed, augmentation),
        one_hot=functional.one_hot(labels, len(dataset.classes)).float(),
        labels=labels,
        validation=stack_pictures(validation, side),
        validation_labels=label_indices(validation.labels, dataset.classes),
    )


@dataclass(frozen=True)
class ImageBatches:
    """Shuffled batches of views. Epoch e looks at view e; where the teacher's logits are kept per view, at the view
    e modulo their number, so that student and teacher look at the same pixels."""

    data: TrainingData
    batch_size: int
    size: int
    device: torch.device
    teacher_logits: Tensor | None = None  # [n, classes], the same for every view, or [views, n, classes]

    @property
    def steps(self) -> int:
        return max(1, len(self.data.labels) // self.batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        views = self.data.views
        rows = shuffled(len(self.data.labels), views.seed, epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        stored = self.teacher_logits
        view = epoch if stored is None or stored.ndim == 2 else epoch % len(stored)
        pixels = views.render(rows, view, self.size)
        return Batch(
            inputs=pixels.contiguous(memory_format=torch.channels_last).to(self.device),
            labels=views.mixed_labels(rows, view, self.data.one_hot).to(self.device),
            teacher_logits=None
            if stored is None
            else (stored if stored.ndim == 2 else stored[view])[rows].to(self.device),
        )


def adapt_teacher(
    plan: Plan,
    data: TrainingData,
    spec: TeacherSpec,
    device: torch.device,
    folder: Path,
    report: Callable[[int, int], None],
) -> tuple[nn.Module, Fitted]:
    """Train a pretrained network with a new head until validation says it is really good, without label smoothing
    (its soft labels would carry less: Mueller et al. 2019, arXiv 1906.02629)."""
    torch.manual_seed(plan.compute.seed)
    module: nn.Module = teacher_network(spec).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = list(spec.head(module.network))
    body = [p for p in module.parameters() if p.requires_grad and all(p is not other for other in head)]
    fitted = fit(
        module,
        ImageBatches(data, plan.teacher.batch_size, plan.teacher.input_size, device),
        LABELS_ALONE,
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
    )
    module.load_state_dict(fitted.weights)
    return module.eval().to("cpu"), fitted


def train_student(
    plan: Plan,
    data: TrainingData,
    build: Callable[[], Any],
    objectives: Sequence[Objective],
    teacher_logits: np.ndarray | None,
    device: torch.device,
    folder: Path,
    report: Callable[[int, int], None],
) -> Fitted:
    """Train the student, or with `teacher_logits` None its baseline: same seed, same first weights, same views."""
    torch.manual_seed(plan.compute.seed)
    module: nn.Module = build().to(device, memory_format=torch.channels_last)
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    return fit(
        module,
        ImageBatches(
            data,
            plan.recipe.batch_size,
            plan.student.input_size,
            device,
            None if teacher_logits is None else torch.from_numpy(teacher_logits),
        ),
        objectives,
        Schedule(
            epochs=plan.recipe.epochs,
            learning_rate=plan.recipe.learning_rate,
            weight_decay=plan.recipe.weight_decay,
            seed=plan.compute.seed,
        ),
        groups=[{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        validate=validator(data, plan.student.input_size, device),
        folder=folder,
        report=report,
    )


def teacher_network(spec: TeacherSpec) -> PictureNormalised:
    """A pretrained network that takes what a student takes."""
    return PictureNormalised(spec.build(), spec.mean, spec.std)


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
) -> dict[str, Any]:
    """The student, and beside it the same student on the labels alone: what distilling added, or cost."""
    device = prepare_torch(plan.compute)
    data = load_training_data(plan, dataset, augmentation(plan))
    wanted: dict[str, tuple[Sequence[Objective], np.ndarray | None]] = {
        "student": (objectives, soft_labels(plan, store.load(labels.path / "labels")))
    }
    if plan.recipe.baseline:
        wanted["baseline"] = (LABELS_ALONE, None)
    facts: dict[str, Any] = {"network": dict(spec.describe)}
    for name, (terms, logits) in wanted.items():
        if not (folder / f"{name}.json").exists():
            tell = functools.partial(report, f"train the {name}")
            fitted = train_student(plan, data, spec.build, terms, logits, device, folder / name, tell)
            write_file(folder / f"{name}.pt", serialise(fitted.weights))
            write_file(folder / f"{name}.json", canonical_json(_record(fitted)))
            Checkpoints(folder / name).clear()
        facts[name] = json.loads((folder / f"{name}.json").read_bytes())
    return facts


def soft_labels(plan: Plan, logits: np.ndarray) -> np.ndarray:
    """The label store's float16 [views, n, classes] as the plan's recipe uses them: as they are, or each row's mean,
    float32 [n, classes], in which what a teacher says of one crop is outweighed by what it says of the others."""
    kept = logits.astype(np.float32)
    return kept.mean(axis=0) if plan.recipe.soft_labels == "row-mean" else kept


def _record(fitted: Fitted) -> dict[str, Any]:
    """What the report shows of a training. Running means and variances are not parameters."""
    trained = [w for name, w in fitted.weights.items() if not name.endswith(("running_mean", "running_var", "tracked"))]
    return {
        "parameters": sum(weight.numel() for weight in trained),
        "validation_accuracy": fitted.score.accuracy,
        "picked_epoch": fitted.epoch,
        "history": list(fitted.history),
    }
