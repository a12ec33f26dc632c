"""Training a student of feature maps on good parts, and the detector that is made of it: what the engine is handed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.artifacts import Dataset, StudentSpec, TeacherLabels
from toolkit.distil import labels as store
from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.devices import prepare_torch
from toolkit.distil.features import feature_map
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import Taught
from toolkit.distil.loop import Schedule, Score, fit
from toolkit.distil.objectives import WEIGHT
from toolkit.distil.precision import Precision
from toolkit.distil.processes import Processes
from toolkit.distil.spread import one_batch
from toolkit.distil.watching import pace_file, read_pace, watched
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report
from toolkit.score.maps import picture_auroc
from toolkit.tasks.anomaly_maps.labelling import (
    MAPS,
    NETWORK,
    PYRAMID,
    Shapes,
    detector_of,
    good_pictures,
    pixels_of,
    session,
    unflattened,
)
from toolkit.tasks.anomaly_maps.marks import all_marked, mirrored
from toolkit.tasks.anomaly_maps.network import (
    DetectingNet,
    Foretelling,
    Standard,
    Surprise,
    fit_detector,
    highest,
    surprises,
)
from toolkit.tasks.anomaly_maps.predictors import read_program, write_program
from toolkit.tasks.image_classification.augment import shuffled, stack_pictures
from toolkit.tasks.image_classification.batches import steps_an_epoch
from toolkit.workspace import canonical_json, write_file

STUDENT = "student"
SAMPLE = 64
"""Training pictures whose places stand for all of them while a training is validated."""

PART = 32
"""Pictures that go through a trained student at once."""


class MapLearner(Learner):
    """A student while it learns its teacher's maps: pixels to levels in the teacher's channels and sizes."""

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        levels: tuple[Tensor, ...] = self.student(inputs)
        return levels


@dataclass(frozen=True)
class MapBatch:
    """Float32 pixels [b, channels, side, side] and the teacher's levels of them."""

    pixels: Tensor
    levels: tuple[Tensor, ...]


@dataclass(frozen=True)
class MapLesson:
    """Shuffled batches of views with the teacher's maps: every pass over the rows looks at the next view that the
    teacher saw. Rows stand for themselves, so several processes share out those of a batch."""

    views: Sequence[np.ndarray]
    answers: Sequence[store.Arrays]
    shapes: Shapes
    standard: Standard
    objective: Objective
    batch_size: int
    steps: int
    seed: int
    device: torch.device
    processes: Processes

    def parts(self, epoch: int, step: int) -> Sequence[MapBatch]:
        rows = len(self.views[0])
        number, place = divmod(epoch * self.steps + step, max(1, rows // self.batch_size))
        chosen = shuffled(rows, self.seed, number)[place * self.batch_size : (place + 1) * self.batch_size].numpy()
        view = number % len(self.views)
        pixels = torch.from_numpy(pixels_of(self.views[view][chosen]))
        flat = torch.from_numpy(self.answers[view][MAPS][chosen].astype(np.float32))
        levels = self.standard(unflattened(flat, self.shapes))
        batch = MapBatch(pixels.to(self.device), tuple(level.to(self.device) for level in levels))
        return (batch,) * self.processes.size  # each takes its rows of it

    def teach(self, learner: Learner, part: MapBatch, progress: float, precision: Precision) -> Taught:
        count = len(part.pixels)
        mine = self.processes.rows(count)
        with precision.products(learner), one_batch(learner, self.processes):
            said: tuple[Tensor, ...] = learner(part.pixels[mine])
        pairs = zip(said, part.levels, strict=True)
        rows = sum(feature_map(level.float(), wanted[mine]).mean(dim=(1, 2)) for level, wanted in pairs)
        assert isinstance(rows, Tensor)
        weight = self.objective.weight * self.objective.factor(progress)
        share = rows.sum() / count
        told = {self.objective.name: float(share.detach())}
        if self.processes.first:
            told |= {f"{WEIGHT}{self.objective.name}": weight, "rows": float(count)}
        return Taught(weight * share, told)

    def close_epoch(self) -> Mapping[str, float]:
        return {}

    def twin(self) -> MapLesson:
        return self

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        del saved


def train(
    plan: Plan,
    dataset: Dataset,
    labels: TeacherLabels,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    folder: Path,
    report: Report,
    processes: Processes,
) -> dict[str, Any]:
    """The student, with the detector that good pictures make of it, into `folder`; the facts of a Student."""
    device = prepare_torch(plan.compute, processes)
    record = folder / f"{STUDENT}.json"
    if not processes.decide(record.exists):
        _fit(plan, dataset, labels, spec, objectives[0], folder, report, processes, device)
    facts = json.loads(processes.decide(record.read_bytes))
    facts["pace"] = processes.decide(lambda: read_pace(pace_file(folder, STUDENT)))
    return {"network": dict(spec.describe), STUDENT: facts}


def _fit(
    plan: Plan, dataset: Dataset, labels: TeacherLabels, spec: StudentSpec, objective: Objective, folder: Path,
    report: Report, processes: Processes, device: torch.device,
) -> None:  # fmt: skip
    pictures = stack_pictures(dataset.split("train"), plan.student.input_size).numpy()
    held_out = good_pictures(dataset, plan.student.input_size)
    lesson = _lesson(plan, labels, pictures, objective, processes, device)
    torch.manual_seed(plan.compute.seed)
    learner = MapLearner(_student(spec, lesson.shapes))
    learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in learner.parameters() if p.ndim > 1]
    plain = [p for p in learner.parameters() if p.ndim <= 1]
    recipe, what = plan.recipe, f"train the {STUDENT}"
    with watched(folder, STUDENT, what, report) as watch:
        fitted = fit(
            learner,
            lesson,
            Schedule(recipe.epochs, recipe.learning_rate, recipe.weight_decay, seed=plan.compute.seed),
            groups=[{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
            validate=_validation(plan, labels, lesson, held_out, device),
            folder=folder / STUDENT,
            report=lambda done, total: report(what, done, total),
            precision=plan.compute.precision,
            processes=processes,
            watch=watch,
        )
    if not processes.first:
        return
    student = _student(spec, lesson.shapes)
    student.load_state_dict(fitted.weights)
    module = _detecting(plan, labels, lesson, student.eval(), held_out)
    write_program(folder / f"{STUDENT}.pt2", module, pictures.shape[1], plan.student.input_size)
    parameters = sum(p.numel() for p in student.parameters()) + module.detector.whiten.numel()
    write_file(folder / f"{STUDENT}.json", canonical_json(fitted.facts() | {"parameters": parameters}))
    Checkpoints(folder / STUDENT).clear()


def _lesson(
    plan: Plan, labels: TeacherLabels, pictures: np.ndarray, objective: Objective, processes: Processes,
    device: torch.device,
) -> MapLesson:  # fmt: skip
    answers, shapes = store.load(labels.path / "labels"), labels.facts["levels"]
    return MapLesson(
        views=[mirrored(pictures, view) for view in range(len(answers))],
        answers=answers,
        shapes=shapes,
        standard=Standard.of(_known(answers, shapes, sample_of(len(pictures)))),
        objective=objective,
        batch_size=plan.recipe.batch_size,
        steps=steps_an_epoch(len(pictures), plan.recipe.batch_size),
        seed=plan.compute.seed,
        device=device,
        processes=processes,
    )


def _student(spec: StudentSpec, shapes: Shapes) -> Foretelling:
    return Foretelling(spec.build(), spec.describe["widths"], [shape[0] for shape in shapes])


def sample_of(rows: int) -> np.ndarray:
    """Training pictures that stand for all, where something is told of all of them again and again."""
    return np.arange(rows)[:: max(1, rows // SAMPLE)]


def _known(answers: Sequence[store.Arrays], shapes: Shapes, rows: np.ndarray) -> tuple[Tensor, ...]:
    """What the teacher saw in these training pictures as they are."""
    return unflattened(torch.from_numpy(answers[0][MAPS][rows].astype(np.float32)), shapes)


@dataclass(frozen=True)
class _Shown:
    """Pictures uint8 [n, channels, side, side] and what their teacher sees in them, in units of its deviation."""

    pictures: np.ndarray
    seen: Sequence[Tensor]

    @torch.no_grad()
    def surprises(self, student: nn.Module, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """What the student did not foretell, batch by batch, on the CPU."""
        for at in range(0, len(self.pictures), PART):
            pixels = torch.from_numpy(pixels_of(self.pictures[at : at + PART])).to(device)
            foretold = [level.float().cpu() for level in student(pixels)]
            yield surprises([level[at : at + PART] for level in self.seen], foretold)


def _shown(labels: TeacherLabels, lesson: MapLesson, pictures: np.ndarray) -> _Shown:
    """Pictures that the teacher has not labelled."""
    ask = session((labels.path / NETWORK).read_bytes(), torch.get_num_threads())
    parts = [ask(pixels_of(pictures[at : at + PART])) for at in range(0, len(pictures), PART)]
    levels = [torch.from_numpy(np.concatenate(level)) for level in zip(*parts, strict=True)]
    return _Shown(pictures, lesson.standard(levels))


def _validation(
    plan: Plan, labels: TeacherLabels, lesson: MapLesson, good: np.ndarray, device: torch.device
) -> Callable[[nn.Module], Score]:
    """How well a student beside its teacher tells good pictures that it has not learnt from, from the same with marks:
    the only defects that may be looked at before the test."""
    rows = sample_of(len(lesson.views[0]))
    known = _Shown(lesson.views[0][rows], lesson.standard(_known(lesson.answers, lesson.shapes, rows)))
    both = _shown(labels, lesson, np.concatenate([good, all_marked(good, plan.compute.seed)]))
    faulty = np.arange(len(both.pictures)) >= len(good)

    def validate(student: nn.Module) -> Score:
        detector = fit_detector(lambda: known.surprises(student, device))
        scores = highest(detector, both.surprises(student, device)).double().numpy()
        told = picture_auroc(scores, faulty, seed=plan.compute.seed)
        value = told.value if told else 0.0
        return Score(value, 1 - value, len(faulty))

    return validate


def _detecting(
    plan: Plan, labels: TeacherLabels, lesson: MapLesson, student: nn.Module, held_out: np.ndarray
) -> DetectingNet:
    """What is shipped: the teacher's pyramid, the student's, and the detector of what lies between them."""
    cpu, views = torch.device("cpu"), lesson.views[0]

    def good() -> Iterator[tuple[Tensor, ...]]:
        for at in range(0, len(views), PART):
            rows = np.arange(at, min(at + PART, len(views)))
            shown = _Shown(views[rows], lesson.standard(_known(lesson.answers, lesson.shapes, rows)))
            yield from shown.surprises(student, cpu)

    detector = detector_of(plan, good, _shown(labels, lesson, held_out).surprises(student, cpu))
    teacher = read_program(labels.path / PYRAMID)
    return DetectingNet(Surprise(teacher, student, lesson.standard), detector)
