"""Training a student of feature maps on good parts, and the detector that is made of it: what the engine is handed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
from toolkit.distil.learner import Learner, decay_groups
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
    in_batches,
    levels_of,
    pixels_of,
    session,
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
        levels = self.standard(levels_of(self.answers[view][MAPS], self.shapes, chosen))
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

    def close_step(self) -> None:
        """There is no state."""

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
    lesson = _lesson(plan, labels, pictures, objective, processes, device)
    held_out = _shown(labels, lesson, good_pictures(dataset, plan.student.input_size))
    torch.manual_seed(plan.compute.seed)
    learner = MapLearner(_student(spec, lesson.shapes))
    learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe, what = plan.recipe, f"train the {STUDENT}"
    with watched(folder, STUDENT, what, report) as watch:
        fitted = fit(
            learner,
            lesson,
            Schedule(recipe.epochs, recipe.learning_rate, recipe.weight_decay, seed=plan.compute.seed),
            groups=decay_groups(learner.parameters()),
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
    parameters = sum(p.numel() for p in student.parameters()) + module.detector.size()
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
        standard=Standard.of(levels_of(answers[0][MAPS], shapes, sample_of(len(pictures)))),
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
    levels = [torch.from_numpy(np.concatenate(level)) for level in zip(*in_batches(ask, pictures), strict=True)]
    return _Shown(pictures, lesson.standard(levels))


def _trained_on(lesson: MapLesson, rows: np.ndarray) -> _Shown:
    """Training pictures as they are."""
    seen = levels_of(lesson.answers[0][MAPS], lesson.shapes, rows)
    return _Shown(lesson.views[0][rows], lesson.standard(seen))


def _validation(
    plan: Plan, labels: TeacherLabels, lesson: MapLesson, good: _Shown, device: torch.device
) -> Callable[[nn.Module], Score]:
    """How well a student beside its teacher tells good pictures that it has not learnt from, from the same with marks:
    the only defects that may be looked at before the test."""
    known = _trained_on(lesson, sample_of(len(lesson.views[0])))
    marked = _shown(labels, lesson, all_marked(good.pictures, plan.compute.seed))
    faulty = np.repeat([False, True], len(good.pictures))

    def validate(student: nn.Module) -> Score:
        detector = fit_detector(lambda: known.surprises(student, device))
        both = chain(good.surprises(student, device), marked.surprises(student, device))
        scores = highest(detector, both).double().numpy()
        told = picture_auroc(scores, faulty, seed=plan.compute.seed)
        value = told.value if told else 0.0
        return Score(value, 1 - value, len(faulty))

    return validate


def _detecting(
    plan: Plan, labels: TeacherLabels, lesson: MapLesson, student: nn.Module, held_out: _Shown
) -> DetectingNet:
    """What is shipped: the teacher's pyramid, the student's, and the detector of what lies between them."""
    cpu, count = torch.device("cpu"), len(lesson.views[0])

    def good() -> Iterator[tuple[Tensor, ...]]:
        for at in range(0, count, PART):
            yield from _trained_on(lesson, np.arange(at, min(at + PART, count))).surprises(student, cpu)

    detector = detector_of(plan, good, held_out.surprises(student, cpu))
    teacher = read_program(labels.path / PYRAMID)
    return DetectingNet(Surprise(teacher, student, lesson.standard), detector)
