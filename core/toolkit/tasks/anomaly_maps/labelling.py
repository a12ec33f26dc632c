"""Labelling good parts: the pretrained teacher as it is, seen at some of its layers, says what every view of every
training picture looks like to it. The same maps make a detector of it, which the student is measured beside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.artifacts import Dataset, TeacherLabels
from toolkit.compile.export import Preprocessing, export_network, join
from toolkit.distil import labels as store
from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.protocols import Executor, Report, Teacher, TeacherSpec
from toolkit.tasks.anomaly_maps.marks import mirrored
from toolkit.tasks.anomaly_maps.network import (
    OUTPUTS,
    DetectingNet,
    Detector,
    TeacherPyramid,
    fit_detector,
    highest,
    limit_of,
)
from toolkit.tasks.anomaly_maps.predictors import write_program
from toolkit.tasks.image_classification.augment import stack_pictures
from toolkit.tasks.image_classification.labelling import Piece, label_views
from toolkit.tasks.image_classification.training import teacher_network
from toolkit.workspace import write_file

MAPS = "maps"
"""The carrier that the label store keeps: a row's levels, flattened one after the other."""

MODEL, NETWORK, PYRAMID, FACTS = "teacher.onnx", "network.onnx", "teacher.pt2", "teacher.json"
BATCH = 16
"""Rows that go through the teacher at once: its maps are large."""

Shapes = Sequence[Sequence[int]]
"""[channels, height, width] of each level."""


def label(
    plan: Plan, dataset: Dataset, teacher: Teacher, folder: Path, report: Report, executor: Executor
) -> TeacherLabels:
    """Fill `folder` with the teacher's detector and maps; what is there already is not done again."""
    pictures = stack_pictures(dataset.split("train"), plan.teacher.input_size).numpy()
    spec = teacher.load(plan, dataset.classes)
    if not (folder / PYRAMID).exists():
        write_file(folder / NETWORK, _exported(plan, spec, pictures.shape[1]))
        write_program(folder / PYRAMID, _pyramid(spec), pictures.shape[1], plan.teacher.input_size)
    network = (folder / NETWORK).read_bytes()

    def asking(threads: int) -> Asking:
        return Asking(pictures, threads, network)

    mended = store.fill(
        folder / "labels",
        views=plan.recipe.views,
        rows=len(pictures),
        carriers=(MAPS,),
        label_views=lambda views: label_views(plan, executor, asking, len(pictures), views),
        report=report,
    )
    if not (folder / FACTS).exists():
        report("make a detector of the teacher", 0, 1)
        _detector(plan, dataset, spec, folder)
        report("make a detector of the teacher", 1, 1)
    facts = json.loads((folder / FACTS).read_bytes())
    facts |= {"record": asdict(teacher.record(plan)), "name": teacher.name, "mended": list(mended)}
    return TeacherLabels(folder, "", facts=facts)


@dataclass(frozen=True)
class Asking:
    """All that a worker needs to ask the teacher: called, it loads it. `pictures` uint8 [n, channels, side, side]."""

    pictures: np.ndarray
    threads: int
    network: bytes

    def __call__(self) -> Callable[[Piece], store.Arrays]:
        answer = session(self.network, self.threads)

        def ask(piece: Piece) -> store.Arrays:
            rows = mirrored(self.pictures[piece.first : piece.last], piece.view)
            return {MAPS: np.concatenate([flattened(maps) for maps in in_batches(answer, rows)])}

        return ask


def session(network: bytes, threads: int) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    """Float32 pixels of a batch to its levels, through ONNX Runtime."""
    from toolkit.serving.sessions import session_of

    running = session_of(network, threads=threads)
    return lambda pixels: running.run(None, {"pixels": pixels})


def in_batches(
    ask: Callable[[np.ndarray], Sequence[np.ndarray]], pictures: np.ndarray
) -> Iterator[Sequence[np.ndarray]]:
    """What a `session` says of pictures uint8 [n, channels, side, side], batch by batch."""
    return (ask(pixels_of(pictures[at : at + BATCH])) for at in range(0, len(pictures), BATCH))


def pixels_of(pictures: np.ndarray) -> np.ndarray:
    """Uint8 [n, channels, side, side] to float32 in 0..1, as the shipped graph makes them."""
    return np.ascontiguousarray(pictures, dtype=np.float32) / np.float32(255)


def flattened(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Levels [n, c_i, h_i, w_i] to [n, d]."""
    return np.concatenate([level.reshape(len(level), -1) for level in maps], axis=1)


def unflattened(flat: Tensor, shapes: Shapes) -> tuple[Tensor, ...]:
    """What `flattened` took: levels [n, c_i, h_i, w_i]."""
    parts = torch.split(flat, [int(np.prod(shape)) for shape in shapes], dim=1)
    return tuple(part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True))


def levels_of(stored: np.ndarray, shapes: Shapes, rows: np.ndarray | slice) -> tuple[Tensor, ...]:
    """The levels of some rows of a view in the label store."""
    return unflattened(torch.from_numpy(stored[rows].astype(np.float32)), shapes)


def detector_of(
    plan: Plan, good: Callable[[], Iterator[Sequence[Tensor]]], held_out: Iterator[Sequence[Tensor]]
) -> Detector:
    """A detector of what good training pictures show, its limit drawn on good ones that were not learnt from."""
    detector = fit_detector(good)
    detector.limit.fill_(limit_of(highest(detector, held_out), plan.maps.overkill))
    return detector


def good_pictures(dataset: Dataset, side: int) -> np.ndarray:
    """The good pictures of validation, uint8 [n, channels, side, side]."""
    rows = dataset.split("validation")
    good = [row for row in rows if row.label == dataset.facts["good_class"]]
    return torch.cat([stack_pictures([row], side) for row in good]).numpy()  # type: ignore[arg-type]


def _pyramid(spec: TeacherSpec) -> nn.Module:
    if not spec.maps:
        raise PlanError("this teacher names no layers whose maps it shows", hint="See `toolkit teachers`.")
    layers = [f"network.{name}" for name in spec.maps]
    return TeacherPyramid(teacher_network(spec).eval(), layers).eval()


def _exported(plan: Plan, spec: TeacherSpec, channels: int) -> bytes:
    names = [f"level{index}" for index in range(len(spec.maps))]
    return export_network(_pyramid(spec), channels, plan.teacher.input_size, names)


def _detector(plan: Plan, dataset: Dataset, spec: TeacherSpec, folder: Path) -> None:
    """Export what the teacher finds by itself: its maps of the pictures as they are lie at hand."""
    side = plan.teacher.input_size
    ask = session((folder / NETWORK).read_bytes(), plan.compute.threads)
    held_out = good_pictures(dataset, side)
    shapes = [list(level.shape[1:]) for level in ask(pixels_of(held_out[:1]))]
    stored = store.load(folder / "labels")[0][MAPS]

    def known() -> Iterator[Sequence[Tensor]]:
        for at in range(0, len(stored), BATCH):
            yield levels_of(stored, shapes, slice(at, at + BATCH))

    def unknown() -> Iterator[Sequence[Tensor]]:
        for levels in in_batches(ask, held_out):
            yield [torch.from_numpy(level) for level in levels]

    module = DetectingNet(_pyramid(spec), detector_of(plan, known, unknown())).eval()
    channels = held_out.shape[1]
    model = join(export_network(module, channels, side, OUTPUTS), Preprocessing(channels, side))
    write_file(folder / MODEL, model)
    facts = {
        "model": MODEL,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "parameters": sum(p.numel() for p in module.parameters()),
        "levels": shapes,
        "history": [],
        **spec.describe,
    }
    write_file(folder / FACTS, json.dumps(facts).encode())
