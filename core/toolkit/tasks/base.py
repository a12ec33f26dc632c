"""What a task is, and which there are. A domain's plan names its task."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from toolkit.artifacts import Dataset, Evaluation, Facts, Student, StudentSpec, TeacherLabels
from toolkit.distil.processes import ALONE, Processes
from toolkit.errors import PlanError
from toolkit.plan import STAGES, Plan
from toolkit.protocols import (
    Executor,
    HardwareProfile,
    Objective,
    Report,
    ServedPredictor,
    Service,
    Target,
    TensorPredictor,
    Tensors,
)
from toolkit.text import AnyTeacher, TextPredictor

TASKS = {
    "image_classification": "toolkit.tasks.image_classification.task",
    "text_generation": "toolkit.tasks.text_generation.task",
}

DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "text_generation": {
        "teacher": {"name": "transformers"},
        "recipe": {
            "name": "sequence", "epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "weight_decay": 0.01,
            "weighting": "even",
        },
    },
}  # fmt: skip
"""What a task wants otherwise than core does, where neither user nor domain says anything."""


AnyPredictor = TensorPredictor | TextPredictor


FURTHEST = {"text_generation": "compile"}
"""The stage where the line ends for a task that does not go all the way yet."""


@dataclass(frozen=True)
class Request:
    """A request for the task's default service, and the row it was made of."""

    route: str
    body: bytes
    content_type: str
    row_id: str


class Task(Protocol):
    """The functions of a task's module `task`. Those that train import torch inside."""

    def source_digest(self, source: Path) -> str:
        """SHA-256 over the data's files: the same for the same content."""
        ...

    def prepare(
        self, plan: Plan, source: Path, purpose: str, folder: Path, classes: tuple[str, ...], report: Report
    ) -> Dataset:
        """Read, check and split `source` into `folder`."""
        ...

    def open_dataset(self, folder: Path, digest: str, facts: Facts) -> Dataset:
        """A prepared data set with its rows behind it."""
        ...

    def estimate(self, plan: Plan) -> tuple[dict[str, float], float]:
        """A first guess at the seconds by stage and the memory (MB), before anything runs."""
        ...

    def build_student(self, plan: Plan, dataset: Dataset) -> StudentSpec:
        """The member of the task's student family that the plan names."""
        ...

    def check(self, plan: Plan, teacher: AnyTeacher, objectives: Sequence[Objective]) -> None:
        """Raise what can be known before anything runs: parts of the plan that do not fit this task."""
        ...

    def check_end(self, plan: Plan, until: str) -> None:
        """Raise what can be known before anything runs: a line to that stage that would end before it."""
        ...

    def label(
        self, plan: Plan, dataset: Dataset, teacher: AnyTeacher, folder: Path, journal: Path, report: Report,
        executor: Executor,
    ) -> TeacherLabels:  # fmt: skip
        """Adapt the teacher and store its answers to the training rows, which the executor's workers ask for. What it
        writes is kept in `journal`."""
        ...

    def teacher_predictor(
        self, plan: Plan, teacher: AnyTeacher, labels: TeacherLabels, journal: Path, threads: int
    ) -> AnyPredictor:
        """The teacher as it was adapted, or as it answers; on so many threads, where it is a session of its own."""
        ...

    def teacher_model(self, labels: TeacherLabels) -> bytes:
        """The adapted teacher as ONNX with its preprocessing inside."""
        ...

    def train(
        self,
        plan: Plan,
        dataset: Dataset,
        labels: TeacherLabels,
        spec: StudentSpec,
        objectives: Sequence[Objective],
        folder: Path,
        report: Report,
        processes: Processes = ALONE,
    ) -> dict[str, Any]:
        """Train the student, and its baseline where the plan wants one, into `folder`; the facts of a Student. Of
        several processes the first one writes, and each returns the same."""
        ...

    def student_predictor(self, student: Student, spec: StudentSpec, which: str) -> AnyPredictor:
        """The torch `student` or `baseline`."""
        ...

    def compile_student(
        self, plan: Plan, dataset: Dataset, student: Student, spec: StudentSpec, target: Target,
        profile: HardwareProfile, folder: Path, report: Report,
    ) -> Facts:  # fmt: skip
        """Build the student's forms for the target, try each on validation, and keep one in `folder`; which, why, and
        how it agrees with the torch student."""
        ...

    def export(self, student: Student, spec: StudentSpec) -> bytes:
        """The student as fp32 ONNX with its preprocessing inside."""
        ...

    def inputs(self, dataset: Dataset, split: str, rows: int) -> Iterable[Tensors]:
        """The first `rows` readable rows of a split as a model takes them, one a batch."""
        ...

    def evaluate(self, plan: Plan, dataset: Dataset, predictor: AnyPredictor) -> Evaluation:
        """The task's metrics on the test rows."""
        ...

    def headline(self, stage: str, facts: Facts) -> str:
        """The one line that a user wants to see of `prepare`, `label`, `distil` or `evaluate`."""
        ...

    def footprint(self, model: Path, dataset: Dataset) -> dict[str, Any]:
        """`latency` of one request end to end and `rss` of a process that serves nothing but this model file."""
        ...

    def request(self, dataset: Dataset) -> Request:
        """A first request to a server: a test row as a client would send it."""
        ...

    def pictures(self, dataset: Dataset, ids: Sequence[str]) -> Mapping[str, str]:
        """Test rows as small pictures (data URIs), for the report; a row that has none is left out."""
        ...

    def serve(self, bundle: Mapping[str, Any], predictor: ServedPredictor) -> Service:
        """The task's default service."""
        ...


def check_end(plan: Plan, until: str) -> None:
    """Refuse to begin what cannot be ended.

    Raises:
        PlanError: the task does not go so far, or not with such a student. EnvironmentUnfit: what it takes to is not
            installed.
    """
    last = FURTHEST.get(plan.task, STAGES[-1])
    if STAGES.index(until) > STAGES.index(last):
        raise PlanError(f"the task {plan.task} goes as far as {last}", hint=f"Add --until {last}.")
    task_of(plan).check_end(plan, until)


def task_of(plan: Plan) -> Task:
    """The task that the plan names."""
    return task_named(plan.task)


def task_named(name: str) -> Task:
    """A task's module. Raises PlanError where there is no such task."""
    try:
        module = TASKS[name]
    except KeyError as error:
        raise PlanError(f"no task is named {name}", hint=f"Tasks: {', '.join(TASKS)}.") from error
    return cast(Task, importlib.import_module(module))
