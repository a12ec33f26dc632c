"""Training data as the engine asks for it: rows in memory, and batches of their views with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from toolkit.artifacts import Dataset
from toolkit.distil.lookup import Answers
from toolkit.distil.objectives import Batch, Outputs
from toolkit.distil.weighting import confidence
from toolkit.plan import Plan
from toolkit.tasks.image_classification.augment import (
    Augmentation,
    Views,
    label_indices,
    shuffled,
    stack_pictures,
)

MARGIN = 8 / 7
"""Side of the stored pictures to the side of a view: room for crops without enlarging."""

FEWEST_STEPS = 12
"""Steps in an epoch at least: where there are few rows, they come again under other views."""

UNLABELLED = -1
"""The label of a row that has none."""


@dataclass(frozen=True)
class TrainingData:
    """The rows in memory: views of the training rows, those without a label last, and whole pictures of validation.

    `labels` int64 [n], UNLABELLED where there is none; `one_hot` float32 [n, classes], zeros there.
    """

    views: Views
    one_hot: Tensor
    labels: Tensor
    validation: Tensor
    validation_labels: Tensor

    @property
    def labelled(self) -> int:
        """Rows that have a label: the first so many."""
        return int((self.labels != UNLABELLED).sum())

    def validation_pixels(self, size: int) -> Tensor:
        """Float32 [n, channels, size, size] in 0..1, as the shipped graph would make them."""
        return functional.interpolate(
            self.validation.float(), (size, size), mode="bilinear", antialias=True, align_corners=False
        ).div_(255)


def augmentation(plan: Plan) -> Augmentation:
    """The views that this plan labels and trains on."""
    return Augmentation(mixup=plan.recipe.mixup)


def load_training_data(plan: Plan, dataset: Dataset) -> TrainingData:
    side = round(MARGIN * max(plan.teacher.input_size, plan.student.input_size))
    train, unlabelled, validation = (dataset.split(name) for name in ("train", "unlabelled", "validation"))
    pictures, known = stack_pictures(train, side), label_indices(train.labels, dataset.classes)
    labels = torch.cat([known, torch.full((len(unlabelled),), UNLABELLED)])
    if len(unlabelled):
        pictures = torch.cat([pictures, stack_pictures(unlabelled, side)])
    one_hot = functional.one_hot(labels.clamp(min=0), len(dataset.classes)).float()
    return TrainingData(
        views=Views(pictures, plan.compute.seed, augmentation(plan)),
        one_hot=one_hot * (labels != UNLABELLED).unsqueeze(1),
        labels=labels,
        validation=stack_pictures(validation, side),
        validation_labels=label_indices(validation.labels, dataset.classes),
    )


def steps_an_epoch(rows: int, batch_size: int) -> int:
    """As many as one pass over the rows takes, but not too few."""
    return max(FEWEST_STEPS, rows // batch_size)


@dataclass(frozen=True)
class ImageBatches:
    """Shuffled batches of views: of all rows where the teacher's answers are at hand, else of those with a label.

    Every pass over the rows looks at another view, which for stored answers is one that the teacher saw, so that both
    look at the same pixels. An epoch is `steps` steps, however many passes they are.
    """

    data: TrainingData
    batch_size: int
    size: int
    device: torch.device
    steps: int
    answers: Answers | None = None

    @property
    def rows(self) -> int:
        return len(self.data.labels) if self.answers else self.data.labelled

    @property
    def _steps_a_pass(self) -> int:
        return max(1, self.rows // self.batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        views = self.data.views
        number, place = divmod(epoch * self.steps + step, self._steps_a_pass)
        rows = shuffled(self.rows, views.seed, number)[place * self.batch_size : (place + 1) * self.batch_size]
        view = self.answers.view(number) if self.answers else number
        teacher = self.answers.at(rows, view) if self.answers else None
        pixels = views.render(rows, view, self.size)
        known = self.data.labels[rows] != UNLABELLED
        return Batch(
            inputs=pixels.contiguous(memory_format=torch.channels_last),
            labels=views.mixed_labels(rows, view, self.data.one_hot),
            teacher=teacher,
            label_weights=None if known.all() else known.float(),
            teacher_weights=None if teacher is None or known.all() else torch.where(known, 1.0, confidence(teacher)),
            tasks=self._classes(rows, teacher),
        ).to(self.device)

    def _classes(self, rows: Tensor, teacher: Outputs | None) -> Tensor:
        """The class of each row: its label's, or the one that the teacher sees."""
        labels = self.data.labels[rows]
        return labels if teacher is None else torch.where(labels == UNLABELLED, teacher.logits.argmax(dim=1), labels)
