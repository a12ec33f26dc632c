"""Core's own answers to the hooks, all last: core behaviour is itself a plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from toolkit.artifacts import Dataset, Evaluation, HardwareBudget, StudentSpec, TeacherLabels
from toolkit.distil.recipes import FeatureMaps, OnPolicy, SequenceLevel, SoftLabels, Verified, WhiteBox
from toolkit.errors import DataError
from toolkit.executors import LocalExecutor
from toolkit.hookspecs import hookimpl
from toolkit.plan import Options, Plan
from toolkit.protocols import CipherSuite, Executor, KeyProvider, Recipe, Report, ServedPredictor, TensorPredictor
from toolkit.seal.cipher import COB256
from toolkit.seal.custody import OWN
from toolkit.services import Service
from toolkit.tasks.base import task_named, task_of
from toolkit.text import ServedText, TextPredictor
from toolkit.text_teachers import AnyTeacher


@hookimpl
def register_recipes() -> Iterable[Recipe]:
    """Offer `soft-labels` and `white-box`; for anomalies `feature-maps`; for text `sequence`, `on-policy`, `self` and
    `grpo`."""
    return [SoftLabels(), WhiteBox(), FeatureMaps(), SequenceLevel(), OnPolicy(), Verified("self"), Verified("grpo")]


@hookimpl
def register_executors() -> Iterable[Executor]:
    """Offer `local`."""
    return [LocalExecutor()]


@hookimpl
def register_key_providers() -> Iterable[KeyProvider]:
    """Offer `development` and `passphrase`."""
    return OWN.values()


@hookimpl
def register_cipher_suites() -> Iterable[CipherSuite]:
    """Offer `cob256`."""
    return [COB256]


@hookimpl(trylast=True)
def draft_plan(options: Options) -> Plan:
    """Core's defaults."""
    return Plan(domain=options.domain)


@hookimpl(trylast=True)
def prepare_data(
    plan: Plan, source: Path | None, purpose: str, workspace: Path, classes: tuple[str, ...], report: Report
) -> Dataset:
    """What the task reads; core has no sample of its own."""
    if source is None:
        raise DataError(f"the domain {plan.domain} renders no sample", hint="Name your data: --data FOLDER")
    return task_of(plan).prepare(plan, source, purpose, workspace, classes, report)


@hookimpl(trylast=True)
def build_student(plan: Plan, dataset: Dataset) -> StudentSpec:
    """The task's student family."""
    return task_of(plan).build_student(plan, dataset)


@hookimpl(trylast=True)
def label(
    plan: Plan,
    dataset: Dataset,
    teacher: AnyTeacher,
    workspace: Path,
    journal: Path,
    report: Report,
    executor: Executor,
) -> TeacherLabels:
    """The task's way to adapt a teacher and ask it."""
    return task_of(plan).label(plan, dataset, teacher, workspace, journal, report, executor)


@hookimpl(trylast=True)
def evaluate(plan: Plan, dataset: Dataset, predictor: TensorPredictor | TextPredictor) -> Evaluation:
    """The task's metrics."""
    return task_of(plan).evaluate(plan, dataset, predictor)


@hookimpl(trylast=True)
def require_hardware(plan: Plan) -> HardwareBudget:
    """What the plan's target allows."""
    target = plan.target
    return HardwareBudget(latency_p95_ms=target.latency_p95_ms, memory_mb=target.memory_mb, size_mb=target.size_mb)


@hookimpl(trylast=True)
def serve(bundle: Mapping[str, Any], predictor: ServedPredictor | ServedText) -> Service:
    """The task's default service."""
    return task_named(bundle["plan"]["task"]).serve(bundle, predictor)
