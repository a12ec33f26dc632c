"""The task anomaly_maps, as the line calls it: good parts are learnt, and a picture in gives a verdict and a map of
what is strange in it.

An anomaly detector is a classifier of two classes, of which only one was ever seen: so verdicts are scored, compiled,
proven and served by what image_classification has, and this module adds the maps. What trains is imported inside the
functions that train, so that a site can load this module without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from toolkit.artifacts import Dataset, Evaluation, Facts, Student, StudentSpec, TeacherLabels
from toolkit.distil.processes import ALONE, Processes
from toolkit.errors import PlanError
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
from toolkit.services import Service
from toolkit.tasks.anomaly_maps import data
from toolkit.tasks.anomaly_maps.evaluate import decode_map, evaluate
from toolkit.tasks.anomaly_maps.family import build_student
from toolkit.tasks.anomaly_maps.layout import scan_parts
from toolkit.tasks.anomaly_maps.showing import detail, heated
from toolkit.tasks.image_classification import task as pictures
from toolkit.tasks.image_classification.estimate import estimate_for
from toolkit.tasks.image_classification.installed import bundle_files, open_installed, prove, queue
from toolkit.tasks.image_classification.task import (
    CURL,
    check_answer,
    check_end,
    compiled_predictor,
    judged,
    measure,
    request,
    teacher_predictor,
)
from toolkit.tasks.image_classification.thumbnails import thumbnail
from toolkit.text_teachers import AnyTeacher

__all__ = [
    "CURL",
    "build_student",
    "bundle_files",
    "check_answer",
    "check_end",
    "compiled_predictor",
    "evaluate",
    "judged",
    "measure",
    "open_dataset",
    "open_installed",
    "prove",
    "queue",
    "request",
    "source_digest",
    "teacher_predictor",
]  # fmt: skip

WORDS: Mapping[str, str] = {}
OBJECTIVE = "feature-map"

source_digest, open_dataset = data.source_digest, data.open_dataset


def prepare(plan: Plan, source: Path, purpose: str, folder: Path, classes: tuple[str, ...], report: Report) -> Dataset:
    """Read, check and split a folder of good parts, and of faulty ones to test with, into `folder`."""
    report("read and check pictures", 0, 1)
    facts = data.prepare(plan, source, purpose, folder, classes)
    report("read and check pictures", 1, 1)
    return open_dataset(folder, "", facts)


def estimate(plan: Plan) -> tuple[dict[str, float], float]:
    """A first guess at the seconds by stage and the memory (MB), before anything runs."""
    path = plan.data.path
    good = plan.data.good_classes
    count = 0 if path is None else len(scan_parts(path, purpose="train", good_classes=good).entries)
    stages, memory = estimate_for(plan, count, teacher_epochs=0)
    return stages, 2 * memory  # maps are larger than features


def check(plan: Plan, teacher: AnyTeacher, objectives: Sequence[Objective]) -> None:
    """Raise what can be known before anything runs."""
    others = sorted({objective.name for objective in objectives} - {OBJECTIVE})
    if others:
        raise PlanError(
            f"anomaly_maps has no labels to learn from, so {', '.join(others)} cannot be computed",
            hint="Use --set recipe.name=feature-maps.",
        )
    if plan.teacher.input_size != plan.student.input_size:
        raise PlanError(
            f"teacher.input_size is {plan.teacher.input_size} and student.input_size {plan.student.input_size}: "
            "maps are compared place by place",
            hint="Give both the same size, a multiple of 32.",
        )
    if plan.student.input_size % 32:
        raise PlanError(
            f"student.input_size is {plan.student.input_size}, not a multiple of 32: levels of a pyramid halve evenly",
            hint="Use 128, 160, 192, 224, 256 ...",
        )
    if plan.compute.sharding != "none":
        raise PlanError(
            "students of anomaly maps are too small to be shared out", hint="Use --set compute.sharding=none."
        )
    if plan.recipe.baseline:
        raise PlanError(
            "there are no labels that a baseline could learn from alone", hint="Use --set recipe.baseline=false."
        )


def label(
    plan: Plan, dataset: Dataset, teacher: AnyTeacher, folder: Path, journal: Path, report: Report, executor: Executor
) -> TeacherLabels:
    """Store the teacher's maps of every view of the good parts, and make a detector of it."""
    from toolkit.tasks.anomaly_maps import labelling

    del journal
    return labelling.label(plan, dataset, cast(Teacher, teacher), folder, report, executor)


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
    """Train the student and make a detector of it, into `folder`."""
    from toolkit.tasks.anomaly_maps import training

    return training.train(plan, dataset, labels, spec, objectives, folder, report, processes)


def student_predictor(student: Student, spec: StudentSpec, which: str) -> TensorPredictor:
    from toolkit.tasks.anomaly_maps.predictors import TorchDetector, load_network

    facts = PredictorFacts(form=which, provider="torch", digest=student.digest)
    return TorchDetector(load_network(student, which), spec.describe["input_size"], facts)


def compile_student(
    plan: Plan, dataset: Dataset, student: Student, spec: StudentSpec, target: Target, profile: HardwareProfile,
    folder: Path, report: Report,
) -> Facts:  # fmt: skip
    """The form to ship: one that still refuses pictures with marks and passes those without."""
    from toolkit.compile.export import Preprocessing, export_network, join
    from toolkit.tasks.anomaly_maps.network import OUTPUTS
    from toolkit.tasks.anomaly_maps.predictors import load_network
    from toolkit.tasks.image_classification import compiling

    report("export the student", 0, 4)
    channels, size = spec.describe["channels"], spec.describe["input_size"]
    network = export_network(load_network(student, "student"), channels, size, OUTPUTS)
    exported = join(network, Preprocessing(channels, size))
    torch_student = student_predictor(student, spec, "student")
    marked = data.with_marks(dataset, plan.compute.seed)
    return compiling.compile_student(plan, marked, exported, torch_student, target, profile, folder, report)


def shown(dataset: Dataset, evaluation: Evaluation) -> Mapping[str, Any]:
    """What was taken for what, and the worst rows as small pictures with their heat on them."""
    maps = evaluation.facts["maps"]
    answered = {row["id"]: row for row in evaluation.per_row}
    rows, seen = dataset.split("test"), {}
    for index, name in enumerate(rows.ids):
        if name in maps:
            row = rows[index]
            seen[name] = thumbnail(heated(row.inputs["image"], decode_map(maps[name])))
    return {name: evaluation.facts[name] for name in ("classes", "confusion", "unreadable")} | {
        "worst": [
            {key: answered[name][key] for key in ("id", "truth", "predicted", "confidence")} | {"picture": seen[name]}
            for name in maps
            if not answered[name]["right"]
        ]
    }


def headline(stage: str, facts: Facts) -> str:
    """Good parts and rows; how well the teacher, the student and all of them tell strange pictures from good ones."""
    if stage == "prepare":
        return pictures.headline(stage, facts) + f"; {facts['masks']:,} masks"
    if stage == "label":
        return f"{facts['name']}: {len(facts['levels'])} levels of maps"
    if stage == "distil":
        told = facts["student"]
        return f"{told['parameters']:,} parameters: AUROC {told['validation_accuracy']:.3f} on marks on validation"
    named = [(form, metrics["auroc"]["value"]) for form, metrics in facts["metrics"].items() if "auroc" in metrics]
    return ", ".join(f"{form} AUROC {value:.3f}" for form, value in named) + " on test"


def serve(bundle: Mapping[str, Any], predictor: ServedPredictor) -> Service:
    """`POST /v1/inspect`, whose answers say where."""
    from toolkit.tasks.anomaly_maps.answers import AnomalyAnswer
    from toolkit.tasks.image_classification.service import inspection_service

    return inspection_service(
        classes=bundle["classes"],
        thresholds=bundle["thresholds"],
        bundle_id=bundle["id"],
        good_class=bundle["good_class"],
        channels=bundle["channels"],
        predictor=predictor,
        detail=detail,
        answer=AnomalyAnswer,
    )
