"""The gate: whether a compiled student keeps what the plan promises, and whether it fits its hardware budget.

It reads a comparison and figures measured elsewhere; it refuses to know how they came about, and it never stops a line
itself: the stage that asks raises what `refuses` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from toolkit.artifacts import HardwareBudget, Metric, Violation
from toolkit.score.compare import Comparison

Outcome: TypeAlias = Literal["pass", "fail", "insufficient_n"]
SmallSample: TypeAlias = Literal["refuse", "warn"]


@dataclass(frozen=True)
class TableRow:
    """One line of the gate's table, ready to print."""

    name: str
    value: str
    interval: str = ""


@dataclass(frozen=True)
class GateDecision:
    """`because` is one sentence with the figures; `refuses` tells whether the line must stop here (exit 3)."""

    outcome: Outcome
    because: str
    refuses: bool
    small_sample: SmallSample
    comparison: Comparison
    table: tuple[TableRow, ...]

    def as_record(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome, "because": self.because, "refuses": self.refuses,
            "small_sample": self.small_sample, "comparison": self.comparison.as_record(),
            "table": [[row.name, row.value, row.interval] for row in self.table],
        }  # fmt: skip


def decide(comparison: Comparison, *, small_sample: SmallSample = "refuse") -> GateDecision:
    """Decide whether the student keeps the promised share of its teacher's quality.

    fail: the data show the promise missed, student - retain x teacher is not above zero; or the teacher is no better
    than its own floor, so that keeping its quality means nothing.
    insufficient_n: the figures hold but the rows are too few to be sure, of the student or of the teacher's floor.
    pass: the one-sided 95% bound of student - retain x teacher lies above zero, and the teacher's over its floor too.
    """
    outcome, because = _judge(comparison)
    refuses = outcome == "fail" or (outcome == "insufficient_n" and small_sample == "refuse")
    return GateDecision(outcome, because, refuses, small_sample, comparison, _table(comparison))


def _judge(comparison: Comparison) -> tuple[Outcome, str]:
    c, floor = comparison, comparison.floor
    rows = _counted(c.n, "row") + (f" in {_counted(c.groups, 'group')}" if c.groups < c.n else "")
    promise = f"student - {c.retain:g} x teacher is {_points(c.margin)} on {rows}"
    if floor and floor.gap <= 0:
        return "fail", (
            f"the gate is void: the teacher is right on {c.teacher.value:.1%} of {rows}, no more than the "
            f"{floor.share.value:.1%} of always naming the most frequent class"
        )
    if c.margin <= 0:
        return "fail", (
            f"{promise}, not above zero: the student is right on {c.student.value:.1%}, "
            f"the teacher on {c.teacher.value:.1%}"
        )
    if floor and floor.lower_bound <= 0:
        return "insufficient_n", (
            f"{rows} do not show that the teacher ({c.teacher.value:.1%}) beats the most frequent class "
            f"({floor.share.value:.1%}): the one-sided 95% bound of the gap is {_points(floor.lower_bound)}"
        )
    if c.lower_bound <= 0:
        return "insufficient_n", (
            f"{promise}, but its one-sided 95% bound is {_points(c.lower_bound)}, not above zero: "
            "too few rows to be sure"
        )
    return "pass", f"{promise}, and its one-sided 95% bound is {_points(c.lower_bound)}, above zero"


def _table(comparison: Comparison) -> tuple[TableRow, ...]:
    c = comparison
    rows = [
        TableRow("teacher", f"{c.teacher.value:.1%}", _percent(c.teacher)),
        TableRow("student", f"{c.student.value:.1%}", _percent(c.student)),
        TableRow("student - teacher", f"{c.difference.value:+.2f} points",
                 f"{c.difference.low:+.2f} to {c.difference.high:+.2f}"),
    ]  # fmt: skip
    if c.retained:
        rows.append(TableRow("quality retained", f"{c.retained.value:.1%}", _percent(c.retained)))
    rows += [
        TableRow(f"student - {c.retain:g} x teacher", _points(c.margin), f"above {_points(c.lower_bound)}"),
        TableRow("only teacher right : only student right", f"{c.teacher_only} : {c.student_only}",
                 f"McNemar exact p = {c.mcnemar_p:.3g}"),
    ]  # fmt: skip
    if c.floor:
        rows.append(TableRow("most frequent class", f"{c.floor.share.value:.1%}", _percent(c.floor.share)))
    rows.append(TableRow("rows", str(c.n), _counted(c.groups, "group") if c.groups < c.n else ""))
    return tuple(rows)


def check_budget(measured: Mapping[str, Metric], budget: HardwareBudget) -> list[Violation]:
    """What breaks the budget. `measured` is keyed by the budget's own field names (latency_p95_ms, memory_mb, size_mb,
    throughput_rps); a figure that the budget limits and nobody measured is a violation too."""
    limits = {
        "latency_p95_ms": (budget.latency_p95_ms, "ms"), "memory_mb": (budget.memory_mb, "MB"),
        "size_mb": (budget.size_mb, "MB"), "throughput_rps": (budget.throughput_rps, "requests/s"),
    }  # fmt: skip
    violations = []
    for name, (limit, unit) in limits.items():
        if limit is None:
            continue
        at_least = name == "throughput_rps"
        allowed = f"{'at least' if at_least else 'at most'} {limit:g} {unit}"
        metric = measured.get(name)
        if metric is None:
            violations.append(Violation("hardware budget", f"{name} was not measured", "not measured here", allowed))
        elif metric.value < limit if at_least else metric.value > limit:
            violations.append(
                Violation("hardware budget", f"{name} is outside the budget", f"{metric.value:.4g} {unit}", allowed)
            )
    return violations


def _points(share: float) -> str:
    """A share as points. Its rounding never crosses zero: +0.00 is only printed for what is exactly nothing."""
    text = f"{100 * share:+.2f} points"
    return f"{100 * share:+.1e} points" if share and float(text.split()[0]) == 0 else text


def _percent(metric: Metric) -> str:
    return f"{metric.low:.1%} to {metric.high:.1%}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
