"""The task image_classification, as the line calls it: pictures in, one of several classes out.

What trains is imported inside the functions that train, so that a site can load this module without torch.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from toolkit.artifacts import CompiledModel, Dataset, Evaluation, Facts, Student, StudentSpec, TeacherLabels
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.recipes import carriers
from toolkit.errors import IntegrityError, PlanError
from toolkit.plan import Plan
from toolkit.protocols import (
    Executor,
    HardwareProfile,
    Objective,
    PredictorFacts,
    Report,
    ServedPredictor,
    Target,
    Teacher,
    TensorPredictor,
)
from toolkit.score.classification import majority_right
from toolkit.score.onnx_cost import compare_costs
from toolkit.services import Service
from toolkit.serving.sessions import OnnxPredictor, opened
from toolkit.tasks.base import Judged, Measured, Request
from toolkit.tasks.image_classification import reader
from toolkit.tasks.image_classification.estimate import estimate
from toolkit.tasks.image_classification.evaluate import evaluate, single_inputs
from toolkit.tasks.image_classification.family import build_student
from toolkit.tasks.image_classification.installed import bundle_files, open_installed, prove, queue
from toolkit.tasks.image_classification.rows import load_rows
from toolkit.tasks.image_classification.thumbnails import encode_jpeg, encode_png, thumbnail
from toolkit.text_teachers import AnyTeacher

__all__ = [
    "build_student", "bundle_files", "estimate", "evaluate", "open_installed", "prove", "queue", "source_digest",
]  # fmt: skip

WORDS: Mapping[str, str] = {}
CURL = (
    "-H 'Authorization: Bearer KEY' -H 'Content-Type: image/jpeg' --data-binary @part.jpg "
    "http://127.0.0.1:8080/v1/inspect"
)
WORST_SHOWN = 12

source_digest = reader.source_digest


def prepare(plan: Plan, source: Path, purpose: str, folder: Path, classes: tuple[str, ...], report: Report) -> Dataset:
    """Read, check and split an image folder into `folder`."""
    report("read and check pictures", 0, 1)
    facts = reader.prepare_image_folder(
        source, purpose=purpose, settings=plan.data, seed=plan.compute.seed, folder=folder, classes=classes
    )
    facts["findings"] = json.loads((folder / reader.FINDINGS).read_bytes())["findings"]
    report("read and check pictures", 1, 1)
    return open_dataset(folder, "", facts)


def open_dataset(folder: Path, digest: str, facts: Facts) -> Dataset:
    """A prepared data set with its rows behind it."""
    return Dataset(folder, digest, facts=facts, reader=lambda split: load_rows(folder, split, facts))


def check(plan: Plan, teacher: AnyTeacher, objectives: Sequence[Objective]) -> None:
    """Whatever teaches pictures can be adapted, and every objective computed but those that compare places."""
    if plan.student.checkpoint is not None:
        raise PlanError(
            "a student of pictures begins from nothing, and student.checkpoint names one to begin from",
            hint="Leave out student.checkpoint; student.size says which network it is.",
        )
    together = sorted({one.name for one in objectives} & {"relation-distance", "relation-angle", "similarity"})
    if together and plan.recipe.batch_size < 2:
        raise PlanError(
            f"{together[0]} compares the rows of a step with one another, and recipe.batch_size is 1",
            hint="Use --set recipe.batch_size=64.",
        )
    if "maps" in carriers(objectives):
        raise PlanError(
            "feature-map compares places, and image_classification has classes alone",
            hint="Use --set task=anomaly_maps, or another recipe.",
        )


def check_end(plan: Plan, until: str) -> None:
    """Whatever can be trained can be compiled."""


def label(
    plan: Plan,
    dataset: Dataset,
    teacher: AnyTeacher,
    folder: Path,
    journal: Path,
    report: Report,
    executor: Executor,
) -> TeacherLabels:
    """Adapt the teacher and store its answers to every view of the training rows."""
    from toolkit.tasks.image_classification import labelling

    del journal
    return labelling.label(plan, dataset, cast(Teacher, teacher), folder, report, executor)


def teacher_predictor(
    plan: Plan, teacher: AnyTeacher, labels: TeacherLabels, journal: Path, threads: int
) -> TensorPredictor:
    """The adapted teacher."""
    del plan, teacher, journal
    facts = PredictorFacts("teacher", "", labels.digest)
    return OnnxPredictor(_teacher_file(labels).read_bytes(), facts=facts, threads=threads, portable=True)


def _teacher_file(labels: TeacherLabels) -> Path:
    """The adapted teacher as ONNX with its preprocessing inside."""
    return Path(labels.path / labels.facts["model"])


def train(
    plan: Plan,
    dataset: Dataset,
    labels: TeacherLabels,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    folder: Path,
    report: Report,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train the student and, where the plan wants it, its baseline on the labels alone, into `folder`."""
    from toolkit.tasks.image_classification import training

    return training.train_pair(plan, dataset, labels, spec, objectives, folder, report, processes)


def student_predictor(student: Student, spec: StudentSpec, which: str) -> TensorPredictor:
    from toolkit.tasks.image_classification.predictors import TorchPredictor, load_network

    facts = PredictorFacts(form=which, provider="torch", digest=student.digest)
    return TorchPredictor(load_network(student, spec, which), _pixels(spec)[1], facts)


def compile_student(
    plan: Plan, dataset: Dataset, student: Student, spec: StudentSpec, target: Target, profile: HardwareProfile,
    folder: Path, report: Report,
) -> Facts:  # fmt: skip
    """The form to ship, and what the others were like."""
    from toolkit.tasks.image_classification import compiling

    report("export the student", 0, 4)
    torch_student = student_predictor(student, spec, "student")
    exported = _exported(student, spec)
    return compiling.compile_student(plan, dataset, exported, torch_student, target, profile, folder, report)


def _exported(student: Student, spec: StudentSpec) -> bytes:
    """The student as fp32 ONNX, pictures in, probabilities out."""
    from toolkit.compile.export import Preprocessing, export_network, join
    from toolkit.tasks.image_classification.predictors import load_network

    channels, size = _pixels(spec)
    exported = export_network(load_network(student, spec, "student"), channels, size)
    return join(exported, Preprocessing(channels, size))


def _pixels(spec: StudentSpec) -> tuple[int, int]:
    """Channels and side of what the student takes."""
    channels, side, _ = spec.inputs["pixels"]
    return channels, side


def compiled_predictor(compiled: CompiledModel, target: Target, profile: HardwareProfile) -> TensorPredictor:
    model, facts = _shipped(compiled).read_bytes(), PredictorFacts("compiled", "", compiled.digest)
    return opened(target, profile, model, facts)


def _shipped(compiled: CompiledModel) -> Path:
    return compiled.path / "model.onnx"


def measure(
    plan: Plan, dataset: Dataset, labels: TeacherLabels, teacher: AnyTeacher, compiled: CompiledModel, folder: Path,
    report: Report,
) -> Measured:  # fmt: skip
    """Both on the first readable test picture, by itself as the models take it, and as a JPEG end to end."""
    from toolkit.tasks.image_classification.footprint import footprint

    del plan, teacher, folder
    report("measure what teacher and student cost", 0, 2)
    files = {"teacher": _teacher_file(labels), "student": _shipped(compiled)}
    example = next(iter(single_inputs(dataset.split("test"), 1)))
    costs = compare_costs(files["teacher"].read_bytes(), files["student"].read_bytes(), example)
    report("measure both end to end", 1, 2)
    with tempfile.TemporaryDirectory() as aside:
        picture = Path(aside) / "request.jpg"
        picture.write_bytes(encode_jpeg(example["image"][0]))
        footprints = {who: footprint(file, picture, dataset.facts["channels"]) for who, file in files.items()}
    return Measured(costs, footprints, costs.student.latency.p95)


def judged(evaluation: Evaluation) -> Judged:
    """Every row; the floor names the most frequent class."""
    rows = evaluation.per_row
    return Judged(
        "accuracy", np.array([row["right"] for row in rows]), [row["group"] for row in rows],
        majority_right([row["truth"] for row in rows]),
    )  # fmt: skip


def shown(dataset: Dataset, evaluation: Evaluation) -> Mapping[str, Any]:
    """Who was taken for whom, and the worst rows as small pictures (data URIs)."""
    answered = {row["id"]: row for row in evaluation.per_row}
    worst = evaluation.facts["worst"][:WORST_SHOWN]
    pictures = _pictures(dataset, worst)
    return {name: evaluation.facts[name] for name in ("classes", "confusion", "unreadable")} | {
        "worst": [
            {key: answered[row][key] for key in ("id", "truth", "predicted", "confidence")}
            | {"picture": pictures.get(row, "")}
            for row in worst
        ]
    }


def check_answer(
    request: Request, answer: Mapping[str, Any], scored: Mapping[str, Any], compiled: CompiledModel
) -> str:
    """The verdict, which must be the one of the gate."""
    verdict = str(answer["verdict"])
    if verdict != scored["predicted"]:
        raise IntegrityError(
            f"the server calls {scored['id']} {verdict}, the gate called it {scored['predicted']}",
            part="served answer",
            hint="Run `toolkit verify` on the site, then deploy again.",
        )
    return verdict


def request(plan: Plan, dataset: Dataset) -> Request:
    """The first readable test picture as a PNG, which loses nothing."""
    row = next(row for row in dataset.split("test") if "image" in row.inputs)
    return Request("/v1/inspect", encode_png(row.inputs["image"]), "image/png", row.id)


def headline(stage: str, facts: Facts) -> str:
    """Classes and rows; how good the teacher, the student and all of them are."""
    if stage == "prepare":
        counts = ", ".join(f"{split} {sum(rows.values()):,}" for split, rows in facts["counts"].items())
        counts += f", unlabelled {facts['unlabelled']:,}" if facts.get("unlabelled") else ""
        return f"{len(facts['classes'])} classes; {counts}" + (" (sample)" if facts.get("sample") else "")
    if stage == "label":
        return f"{facts['name']}: {facts['validation_accuracy']:.1%} on validation"
    if stage == "distil":
        return f"{facts['student']['parameters']:,} parameters: {facts['student']['validation_accuracy']:.1%}"
    shown = {form: metrics["accuracy"]["value"] for form, metrics in facts["metrics"].items()}
    return ", ".join(f"{form} {value:.1%}" for form, value in shown.items()) + " on test"


def _pictures(dataset: Dataset, ids: Sequence[str]) -> Mapping[str, str]:
    """Small JPEGs of these test rows as data URIs."""
    rows, wanted = dataset.split("test"), set(ids)
    chosen = (rows[index] for index, row in enumerate(rows.ids) if row in wanted)
    return {row.id: thumbnail(row.inputs["image"]) for row in chosen if "image" in row.inputs}


def serve(bundle: Mapping[str, Any], predictor: ServedPredictor) -> Service:
    """`POST /v1/inspect`."""
    from toolkit.tasks.image_classification.service import inspection_service

    return inspection_service(
        classes=bundle["classes"],
        thresholds=bundle["thresholds"],
        bundle_id=bundle["id"],
        good_class=bundle["good_class"],
        channels=bundle["channels"],
        predictor=predictor,
    )
