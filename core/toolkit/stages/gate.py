"""Score the compiled student beside its teacher, measure what both cost, and decide: EVALUATION again, and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from toolkit.artifacts import (
    CompiledModel,
    Dataset,
    Evaluation,
    Facts,
    HardwareBudget,
    Metric,
    TeacherLabels,
    Violation,
)
from toolkit.errors import GateRefused
from toolkit.score.compare import compare
from toolkit.score.gates import GateDecision, check_budget, decide
from toolkit.stages import evaluations
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.stages.summary import summarise
from toolkit.tasks.base import Measured, task_of
from toolkit.workspace import Stored, canonical_json, write_file

MEGABYTE = 1e6


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Everything the report shows is measured here; the line stops afterwards where the decision refuses."""
    task = task_of(context.plan)
    dataset, compiled = take(upstream, "prepare", Dataset), take(upstream, "compile", CompiledModel)
    context.report("score the compiled student", 0, 3)
    profile, target = context.profile
    student = evaluations.score(context, dataset, task.compiled_predictor(compiled, target, profile), folder)
    teacher = evaluations.read(upstream["evaluate"].path, "teacher")
    assert teacher is not None
    decision = judge(context, teacher, student)
    labels = take(upstream, "label", TeacherLabels)
    measured = task.measure(context.plan, dataset, labels, context.teacher, compiled, folder, context.report)
    violations = violations_of(context, dataset, teacher, student, measured)
    summary = summarise(context, upstream, student, decision, violations, measured)
    write_file(folder / "report.json", canonical_json(summary))
    context.report("score the compiled student", 3, 3)
    return {
        "metrics": {"compiled": summary["compiled"]["metrics"]},
        "judged": summary["judged"],
        "gate": decision.as_record(),
        "violations": [asdict(violation) for violation in violations],
        "ratios": summary["costs"]["ratios"],
        "costs": _own(summary),
    }


def _own(summary: Mapping[str, Any]) -> dict[str, float]:
    """What the student takes by itself: milliseconds of an answer, or else of one run of its network, and bytes."""
    network = summary["costs"]["student"]
    latency = summary["end_to_end"].get("student", network)["latency"]["p50"]
    return {"latency": latency["value"], "size": network["size"]["value"], "memory": network["memory"]["value"]}


def judge(context: Context, teacher: Evaluation, student: Evaluation) -> GateDecision:
    """Teacher and compiled student on the same rows."""
    assert [row["id"] for row in teacher.per_row] == [row["id"] for row in student.per_row]
    theirs, ours = (task_of(context.plan).judged(one) for one in (teacher, student))
    comparison = compare(
        theirs.right,
        ours.right,
        retain=context.plan.gate.retain,
        seed=context.plan.compute.seed,
        groups=ours.groups,
        floor_right=ours.floor,
    )
    return decide(comparison, small_sample=context.plan.gate.small_sample)


def violations_of(
    context: Context, dataset: Dataset, teacher: Evaluation, student: Evaluation, found: Measured
) -> Sequence[Violation]:
    """The hardware budget, and what the domain has against a release."""
    hook, plan = context.plugins.hook, context.plan
    budget: HardwareBudget = hook.require_hardware(plan=plan, dataset=dataset)
    measured: dict[str, Metric] = {
        "latency_p95_ms": found.answer_p95,
        "memory_mb": _megabytes(found.costs.student.memory),
        "size_mb": _megabytes(found.costs.student.size),
    }
    released = chain.from_iterable(hook.check_release(plan=plan, teacher=teacher, student=student))
    return [*check_budget(measured, budget), *released]


def _megabytes(metric: Metric) -> Metric:
    return Metric(
        metric.value / MEGABYTE, metric.low / MEGABYTE, metric.high / MEGABYTE, metric.n, "MB", higher_is_better=False
    )


def enforce(context: Context, gate: Evaluation) -> None:
    """Stop the line where the gate or a violation refuses and nobody overrode that.

    Raises:
        GateRefused: with what was measured and what is asked for (exit 3).
    """
    reasons = refusals(gate.facts)
    if reasons and not context.override:
        raise GateRefused(
            "; ".join(reasons),
            hint=f"Read {context.run.folder / 'report.html'}; --override REASON goes on, recorded and signed.",
        )


def refusals(facts: Facts) -> list[str]:
    """Why the line may not go on, a sentence a reason: the gate's, and each violation's."""
    decision = facts["gate"]
    reasons = [f"the gate says {decision['outcome']}: {decision['because']}"] if decision["refuses"] else []
    return reasons + [
        f"{v['by']} refuses the release: {v['because']} ({v['measured']}; {v['allowed']})" for v in facts["violations"]
    ]


def load(context: Context, stored: Stored) -> Evaluation:
    found = evaluations.read(stored.path, "compiled")
    assert found is not None
    return Evaluation(
        stored.path, stored.digest, stored.parents, stored.facts, metrics=found.metrics, per_row=found.per_row
    )


STAGE = Stage(
    name="gate",
    kind="gate",
    keys=("gate", "cost", "target.latency_p95_ms", "target.memory_mb", "target.size_mb", "compute.seed"),
    needs=("prepare", "label", "distil", "evaluate", "compile"),
    code=("toolkit.score", "toolkit.tasks", "toolkit.stages"),
    run=run,
    load=load,
)
