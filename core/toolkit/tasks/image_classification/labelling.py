"""Labelling pictures: the teacher is adapted to the classes at hand, exported, and asked about every view of every
training row. On a CPU it answers through ONNX Runtime, several times faster there than torch, else through torch.

Rows are asked about by the executor's workers, in pieces that depend on nothing but the number of rows: whoever labels,
and however many, the same rows stand together in a batch.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.artifacts import Dataset, TeacherLabels
from toolkit.compile.export import Preprocessing, export_network, join
from toolkit.distil import labels as store
from toolkit.distil.checkpoints import Checkpoints, serialise
from toolkit.distil.devices import choose_device, prepare_torch
from toolkit.distil.learner import WithFeatures
from toolkit.distil.watching import pace_file, read_pace, watched
from toolkit.plan import ComputePlan, Plan
from toolkit.protocols import Executor, Report, Teacher, TeacherSpec
from toolkit.tasks.image_classification.augment import Augmentation, Views
from toolkit.tasks.image_classification.batches import TrainingData, load_training_data
from toolkit.tasks.image_classification.training import (
    adapt_teacher,
    teacher_head,
    teacher_network,
)
from toolkit.workspace import file_digests, is_whole, write_file

TEACHER = "teacher"
MODEL, NETWORK, WEIGHTS, FACTS = "teacher.onnx", "network.onnx", "teacher.pt", "teacher.json"

BATCH = 64
"""Rows that go through the teacher at once."""

PIECE = 8 * BATCH
"""Rows of a piece of work: seconds of it, and what is done again where a worker dies."""


def label(
    plan: Plan, dataset: Dataset, teacher: Teacher, workspace: Path, report: Report, executor: Executor
) -> TeacherLabels:
    """Fill `workspace` with the adapted teacher and its labels; what is there already is not done again."""
    device = prepare_torch(plan.compute)
    spec = teacher.load(plan, dataset.classes)
    data = load_training_data(plan, dataset)
    if not _is_adapted(workspace):
        _adapt(plan, dataset, data, spec, device, workspace, report)
    carriers = (store.LOGITS, store.FEATURES) if "features" in teacher.gives else (store.LOGITS,)

    def asking(threads: int) -> Asking:
        """Read only where a view is to be labelled."""
        views, cpu = data.views, device.type == "cpu"
        return Asking(
            pictures=views.pictures.numpy(),
            seed=views.seed,
            augmentation=views.augmentation,
            size=plan.teacher.input_size,
            carriers=carriers,
            threads=threads,
            device=str(device),
            weights=(workspace / (NETWORK if cpu else WEIGHTS)).read_bytes(),
            spec=None if cpu else spec,
        )

    mended = store.fill(
        workspace / "labels",
        views=plan.recipe.views,
        rows=len(data.labels),
        carriers=carriers,
        label_views=lambda views: label_views(plan, executor, asking, len(data.labels), views),
        report=report,
    )
    facts = json.loads((workspace / FACTS).read_bytes())
    facts |= {"record": asdict(teacher.record(plan)), "name": teacher.name, "mended": list(mended)}
    facts["pace"] = read_pace(pace_file(workspace, TEACHER))
    return TeacherLabels(workspace, "", facts=facts)


def _is_adapted(folder: Path) -> bool:
    """Whether the adapted teacher lies there, as it was written."""
    return (folder / FACTS).exists() and is_whole(folder, json.loads((folder / FACTS).read_bytes())["files"])


def _adapt(
    plan: Plan,
    dataset: Dataset,
    data: TrainingData,
    spec: TeacherSpec,
    device: torch.device,
    folder: Path,
    report: Report,
) -> None:
    what = "adapt the teacher"
    with watched(folder, TEACHER, what, report) as watch:
        module, fitted = adapt_teacher(
            plan, data, spec, device, folder, lambda done, total: report(what, done, total), watch
        )
    channels, size = dataset.facts["channels"], plan.teacher.input_size
    showing = WithFeatures(module, teacher_head(module, spec))
    exported = export_network(showing, channels, size, (store.LOGITS, store.FEATURES))
    write_file(folder / NETWORK, exported)
    write_file(folder / WEIGHTS, serialise(fitted.weights))
    model = join(exported, Preprocessing(channels, size))
    write_file(folder / MODEL, model)
    facts = {
        "model": MODEL,
        "files": file_digests(folder, [folder / name for name in (NETWORK, WEIGHTS, MODEL)]),
        "parameters": sum(p.numel() for p in module.parameters()),
        "validation_accuracy": fitted.score.accuracy,
        "picked_epoch": fitted.epoch,
        "history": list(fitted.history),
        **spec.describe,
    }
    write_file(folder / FACTS, json.dumps(facts).encode())
    Checkpoints(folder).clear()


@dataclass(frozen=True)
class Piece:
    """Rows `first` to `last`, that one not included, under one view."""

    view: int
    first: int
    last: int


@dataclass(frozen=True)
class Asking:
    """All that a worker needs to ask the teacher, wherever the worker is: called, it loads the teacher.

    Args:
        pictures: all of them, uint8 [n, channels, side, side]; as an array, which workers of one machine can share.
        threads: what a worker may use of its machine.
        weights: the exported network on a CPU, else the trained weights of the network that `spec` builds.
    """

    pictures: np.ndarray
    seed: int
    augmentation: Augmentation
    size: int
    carriers: Sequence[str]
    threads: int
    device: str
    weights: bytes
    spec: TeacherSpec | None

    def __call__(self) -> Callable[[Piece], store.Arrays]:
        torch.set_num_threads(self.threads)
        with warnings.catch_warnings():  # pictures that workers share cannot be written to; a view never does
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            views = Views(torch.from_numpy(self.pictures), self.seed, self.augmentation)
        answer = self._on_cpu() if self.spec is None else self._on_device(self.spec)

        def ask(piece: Piece) -> store.Arrays:
            rows = torch.split(torch.arange(piece.first, piece.last), BATCH)
            parts = list(zip(*(answer(views.render(part, piece.view, self.size)) for part in rows), strict=True))
            return {name: np.concatenate(part) for name, part in zip(self.carriers, parts, strict=True)}

        return ask

    def _on_cpu(self) -> Callable[[Tensor], Sequence[np.ndarray]]:
        """Pixels of a batch to what each carrier holds of them, float32."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = onnxruntime.InferenceSession(self.weights, options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(list(self.carriers), {"pixels": pixels.contiguous().numpy()})

    def _on_device(self, spec: TeacherSpec) -> Callable[[Tensor], Sequence[np.ndarray]]:
        device = choose_device(ComputePlan(device=self.device))
        network = teacher_network(spec)
        network.load_state_dict(torch.load(io.BytesIO(self.weights), weights_only=True))
        module = WithFeatures(network, teacher_head(network, spec)).eval().to(device)

        @torch.inference_mode()
        def answer(pixels: Tensor) -> Sequence[np.ndarray]:
            said = dict(zip((store.LOGITS, store.FEATURES), module(pixels.to(device)), strict=True))
            return [said[name].float().cpu().numpy() for name in self.carriers]

        return answer


def label_views(
    plan: Plan,
    executor: Executor,
    asking: Callable[[int], Callable[[], Callable[[Piece], store.Arrays]]],
    rows: int,
    views: Sequence[int],
) -> Iterator[store.Arrays]:
    """What the teacher says of every row, one view after the other."""
    parts = [(first, min(first + PIECE, rows)) for first in range(0, rows, PIECE)]
    pieces = [Piece(view, first, last) for view in views for first, last in parts]
    with executor.open(plan) as workers, closing(workers.map(asking(workers.threads), pieces)) as said:
        for _ in views:
            whole = list(islice(said, len(parts)))
            yield {name: np.concatenate([part[name] for part in whole]) for name in whole[0]}
