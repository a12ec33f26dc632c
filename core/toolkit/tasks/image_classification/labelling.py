"""Labelling pictures: the teacher is adapted to the classes at hand, exported, and asked about every view of every
training row. On a CPU it answers through ONNX Runtime, several times faster there than torch, else through torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.artifacts import Dataset, TeacherLabels
from toolkit.compile.export import Preprocessing, export_network, join
from toolkit.distil import labels as store
from toolkit.distil.checkpoints import Checkpoints, serialise
from toolkit.distil.devices import prepare_torch
from toolkit.distil.learner import WithFeatures
from toolkit.distil.watching import pace_file, read_pace, watched
from toolkit.plan import Plan
from toolkit.protocols import Report, Teacher, TeacherSpec
from toolkit.tasks.image_classification.batches import TrainingData, load_training_data
from toolkit.tasks.image_classification.training import (
    adapt_teacher,
    teacher_head,
    teacher_network,
)
from toolkit.workspace import write_file

TEACHER = "teacher"
MODEL, NETWORK, WEIGHTS, FACTS = "teacher.onnx", "network.onnx", "teacher.pt", "teacher.json"


def label(plan: Plan, dataset: Dataset, teacher: Teacher, workspace: Path, report: Report) -> TeacherLabels:
    """Fill `workspace` with the adapted teacher and its labels; what is there already is not done again."""
    device = prepare_torch(plan.compute)
    spec = teacher.load(plan, dataset.classes)
    data = load_training_data(plan, dataset)
    if not (workspace / FACTS).exists():
        _adapt(plan, dataset, data, spec, device, workspace, report)
    carriers = (store.LOGITS, store.FEATURES) if "features" in teacher.gives else (store.LOGITS,)
    mended = store.fill(
        workspace / "labels",
        views=plan.recipe.views,
        rows=len(data.labels),
        carriers=carriers,
        label_view=_labeller(plan, data, spec, carriers, device, workspace),
        report=report,
    )
    facts = json.loads((workspace / FACTS).read_bytes())
    facts |= {"record": asdict(teacher.record(plan)), "name": teacher.name, "mended": list(mended)}
    facts["pace"] = read_pace(pace_file(workspace, TEACHER))
    return TeacherLabels(workspace, "", facts=facts)


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
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "parameters": sum(p.numel() for p in module.parameters()),
        "validation_accuracy": fitted.score.accuracy,
        "picked_epoch": fitted.epoch,
        "history": list(fitted.history),
        **spec.describe,
    }
    write_file(folder / FACTS, json.dumps(facts).encode())
    Checkpoints(folder).clear()


def _labeller(
    plan: Plan, data: TrainingData, spec: TeacherSpec, carriers: Sequence[str], device: torch.device, folder: Path
) -> Callable[[int], store.Arrays]:
    """What the teacher says of every row under one view."""
    answer = _answerer(plan, spec, carriers, device, folder)
    rows = torch.arange(len(data.labels))

    def label_view(view: int) -> store.Arrays:
        views = (data.views.render(part, view, plan.teacher.input_size) for part in torch.split(rows, 64))
        parts = list(zip(*(answer(pixels) for pixels in views), strict=True))
        return {name: np.concatenate(part) for name, part in zip(carriers, parts, strict=True)}

    return label_view


def _answerer(
    plan: Plan, spec: TeacherSpec, carriers: Sequence[str], device: torch.device, folder: Path
) -> Callable[[Tensor], Sequence[np.ndarray]]:
    """Pixels of a batch to what each carrier holds of them, float32."""
    if device.type == "cpu":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = plan.compute.threads
        session = onnxruntime.InferenceSession(
            (folder / NETWORK).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        return lambda pixels: session.run(list(carriers), {"pixels": pixels.contiguous().numpy()})
    network = teacher_network(spec)
    network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    module = WithFeatures(network, teacher_head(network, spec)).eval().to(device)

    @torch.inference_mode()
    def answer(pixels: Tensor) -> Sequence[np.ndarray]:
        said = dict(zip((store.LOGITS, store.FEATURES), module(pixels.to(device)), strict=True))
        return [said[name].float().cpu().numpy() for name in carriers]

    return answer
