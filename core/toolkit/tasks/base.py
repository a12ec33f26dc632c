"""What a task is, and which there are. A domain's plan names its task."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from toolkit.artifacts import (
    BundleFile,
    CompiledModel,
    Dataset,
    Evaluation,
    Facts,
    Metric,
    Student,
    StudentSpec,
    TeacherLabels,
)
from toolkit.distil.processes import ALONE, Processes
from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.protocols import Executor, HardwareProfile, Objective, Report, ServedPredictor, Target, TensorPredictor
from toolkit.score.onnx_cost import CostComparison
from toolkit.services import Service
from toolkit.serving.runtime import Runtime
from toolkit.text import ServedText, TextPredictor
from toolkit.text_teachers import AnyTeacher

if TYPE_CHECKING:
    import numpy as np

TASKS = {
    "anomaly_maps": "toolkit.tasks.anomaly_maps.task",
    "image_classification": "toolkit.tasks.image_classification.task",
    "text_generation": "toolkit.tasks.text_generation.task",
}

AnyPredictor = TensorPredictor | TextPredictor


@dataclass(frozen=True)
class Request:
    """A request for the task's default service, and the row it was made of."""

    route: str
    body: bytes
    content_type: str
    row_id: str


@dataclass(frozen=True)
class Measured:
    """What teacher and student cost: the models alone, side by side, and with everything around them.

    `footprints`, of `student` and where there is one of `teacher`: `latency` of one request end to end, and `rss` of a
    process that serves nothing but this model. `answer_p95`, in ms, is what a budget for latency limits.
    """

    costs: CostComparison
    footprints: Mapping[str, Mapping[str, Any]]
    answer_p95: Metric


@dataclass(frozen=True)
class Judged:
    """What the gate compares a model by, row by row or token by token.

    Args:
        metric: the metric that is the mean of it.
        right: bool [n].
        groups: [n], what belongs together.
        floor: bool [n], where one who knows nothing would be right; None where nobody can say.
    """

    metric: str
    right: np.ndarray
    groups: Sequence[str]
    floor: np.ndarray | None = None


WRITING = ("on-policy", "self", "grpo")
"""Recipes whose student writes while it learns."""


class Task(Runtime, Protocol):
    """The functions of a task's module `task`. Those that train import torch inside."""

    WORDS: Mapping[str, str]
    """What the report calls things, where it does not speak of pictures: `report.verdict.Words`."""

    CURL: str
    """How a person asks the task's default service: arguments of curl, with KEY for an API key."""

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

    def compiled_predictor(self, compiled: CompiledModel, target: Target, profile: HardwareProfile) -> AnyPredictor:
        """What compiling left; on a machine that is not the target's own, a stand-in."""
        ...

    def evaluate(self, plan: Plan, dataset: Dataset, predictor: AnyPredictor) -> Evaluation:
        """The task's metrics on the test rows."""
        ...

    def headline(self, stage: str, facts: Facts) -> str:
        """The one line that a user wants to see of `prepare`, `label`, `distil` or `evaluate`."""
        ...

    def judged(self, evaluation: Evaluation) -> Judged:
        """What an evaluation of teacher or student comes to. Raises DataError where it comes to nothing."""
        ...

    def measure(
        self, plan: Plan, dataset: Dataset, labels: TeacherLabels, teacher: AnyTeacher, compiled: CompiledModel,
        folder: Path, report: Report,
    ) -> Measured:  # fmt: skip
        """What teacher and compiled student cost; `folder` is where it may work."""
        ...

    def shown(self, dataset: Dataset, evaluation: Evaluation) -> Mapping[str, Any]:
        """What the report shows of the compiled student's answers beside its metrics: confusions, rows to look at."""
        ...

    def bundle_files(self, compiled: CompiledModel) -> Iterable[BundleFile]:
        """What compiling left, by the roles that `open_installed` and `prove` read."""
        ...

    def request(self, plan: Plan, dataset: Dataset) -> Request:
        """A first request to a server: a test row as a client would send it."""
        ...

    def check_answer(
        self, request: Request, answer: Mapping[str, Any], scored: Mapping[str, Any], compiled: CompiledModel
    ) -> str:
        """What a server said in answer to that request, in a few words.

        Raises:
            IntegrityError: it is not what the same row was scored with.
        """
        ...

    def serve(self, bundle: Mapping[str, Any], predictor: ServedPredictor | ServedText) -> Service:
        """The task's default service."""
        ...


def check_sharding(plan: Plan) -> None:
    """Refuse shards of what cannot be cut into them.

    Raises:
        PlanError: the recipe, the student or the precision cannot.
    """
    if plan.compute.sharding == "none":
        return
    why = {
        f"the recipe {plan.recipe.name} has the student write, each process at its own pace, and shards go in step": (
            plan.recipe.name in WRITING
        ),
        "student.frozen_bits packs weights into four bits, which each process would hold whole": (
            plan.student.frozen_bits != 32
        ),
        "compute.precision auto tries formats on whole copies of the student, and no process has one": (
            plan.compute.precision == "auto"
        ),
    }
    for reason, holds in why.items():
        if holds:
            raise PlanError(
                f"compute.sharding is full, but {reason}",
                hint="Change it, or hold the whole student in each process: --set compute.sharding=none",
            )


def check_processes(plan: Plan, count: int) -> None:
    """Refuse, before anything runs, what so many processes cannot train.

    Raises:
        PlanError: one process has nobody to share with.
    """
    if plan.compute.sharding == "full" and count == 1:
        raise PlanError(
            "compute.sharding full shares out a student over processes, and this is one",
            hint="Put `torchrun --nproc-per-node N --no-python` before the command, or --set compute.sharding=none.",
        )


def check_end(plan: Plan, until: str) -> None:
    """Refuse to begin what cannot be ended.

    Raises:
        PlanError: the task does not go so far, or not with such a student. EnvironmentUnfit: what it takes to is not
            installed.
    """
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
