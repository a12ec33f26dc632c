"""All that the report shows of a run, as one JSON-ready mapping: collected, never computed here."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from toolkit import __version__
from toolkit.artifacts import CompiledModel, Dataset, Evaluation, Student, TeacherLabels, Violation
from toolkit.score.gates import GateDecision
from toolkit.score.money import api_cost_per_1000, cost_per_1000
from toolkit.seal.keys import custody_of
from toolkit.stages import evaluations
from toolkit.stages.context import Context, Upstream, take
from toolkit.tasks.base import Measured, task_of


def summarise(
    context: Context,
    upstream: Upstream,
    compiled_evaluation: Evaluation,
    decision: GateDecision,
    violations: Sequence[Violation],
    measured: Measured,
) -> dict[str, Any]:
    """What was measured; `run_facts` adds which run shows it, and `report.page` makes a page of both."""
    dataset, labels = take(upstream, "prepare", Dataset), take(upstream, "label", TeacherLabels)
    student, compiled = take(upstream, "distil", Student), take(upstream, "compile", CompiledModel)
    scored, task = upstream["evaluate"].path, task_of(context.plan)
    return {
        "words": dict(task.WORDS),
        "judged": task.judged(compiled_evaluation).metric,
        "machine": describe_machine(),
        "data": _data(dataset),
        "teacher": _teacher(labels) | {"metrics": _metrics(evaluations.read(scored, "teacher"))},
        "student": _student(student, "student") | {"metrics": _metrics(evaluations.read(scored, "student"))},
        "baseline": _student(student, "baseline") | {"metrics": _metrics(evaluations.read(scored, "baseline"))}
        if "baseline" in student.facts
        else None,
        "compiled": {**_compiled(compiled, compiled_evaluation), **task.shown(dataset, compiled_evaluation)},
        "gate": decision.as_record(),
        "violations": [asdict(violation) for violation in violations],
        "costs": measured.costs.as_record(),
        "end_to_end": dict(measured.footprints),
        "money": _money(context, measured.footprints),
    }  # fmt: skip


def run_facts(context: Context, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the report that changes from run to run, even where every stage was kept."""
    return {
        "id": context.run.id,
        "domain": context.plan.domain,
        "product": context.plan.product or context.plan.domain,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "toolkit": __version__,
        "sample": bool(measured["data"]["sample"]),
        "development_keys": custody_of(context.workspace.keys) in ("development", "none"),
        "overrides": [context.override] if context.override else [],
        "machine": measured["machine"],
    }


def describe_machine() -> dict[str, Any]:
    """This machine and the versions that matter, for every figure that was measured on it."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": _version("onnxruntime"),
        "torch": _version("torch"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = [line.partition(":")[2].strip() for line in stream if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _data(dataset: Dataset) -> dict[str, Any]:
    keys = ("source", "classes", "counts", "unlabelled", "findings", "leaks", "good_class", "channels", "sample")
    licence = dataset.facts["licence"]
    return {key: dataset.facts.get(key) for key in keys} | {"licence": licence["text"], "stated": licence["stated"]}


def _teacher(labels: TeacherLabels) -> dict[str, Any]:
    facts, record = labels.facts, labels.facts["record"]
    return {
        "name": facts["name"],
        "architecture": facts.get("architecture", ""),
        "licence": record["licence"],
        "distillation": record["distillation"],
        "parameters": facts.get("parameters"),
        "validation_accuracy": facts.get("validation_accuracy"),
        "picked_epoch": facts.get("picked_epoch"),
        "history": facts["history"],
        "pace": facts.get("pace", []),
    }


def _student(student: Student, which: str) -> dict[str, Any]:
    network, fitted = student.facts["network"], student.facts[which]
    return {
        "size": network.get("size", ""),
        "input_size": network.get("input_size"),
        "parameters": fitted["parameters"],
        "validation_accuracy": fitted["validation_accuracy"],
        "picked_epoch": fitted["picked_epoch"],
        "precision": fitted["precision"],
        "history": fitted["history"],
        "pace": fitted.get("pace", []),
        "practice": fitted.get("practice", {}),
    }


def _compiled(compiled: CompiledModel, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "profile": compiled.profile,
        "form": compiled.form,
        "rung": compiled.rung,
        "parity": compiled.parity,
        "forms": compiled.facts["forms"],
        "metrics": _metrics(evaluation),
    }


def _metrics(evaluation: Evaluation | None) -> dict[str, Any]:
    assert evaluation is not None
    return {name: metric.as_record() for name, metric in evaluation.metrics.items()}


def _money(context: Context, footprints: Mapping[str, Any]) -> dict[str, Any]:
    """What a thousand requests cost at the plan's price, by the median end to end; beside that what an API takes for
    texts as long as the teacher's, or as the student's where the teacher's is not known."""
    cost = context.plan.cost
    found = {
        name: asdict(cost_per_1000(measured["latency"]["p50"]["value"], cost.server_hour, cost.utilisation))
        for name, measured in footprints.items()
    }
    tokens = footprints.get("teacher") or footprints.get("student") or {}
    if "answer_tokens" in tokens and (cost.api_in or cost.api_out):
        prices = cost.api_in, cost.api_out
        found["api"] = asdict(api_cost_per_1000(tokens["prompt_tokens"], tokens["answer_tokens"], *prices))
    return {"currency": cost.currency} | found
