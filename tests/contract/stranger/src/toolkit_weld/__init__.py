"""Domain `weld`: seams of a welding robot. A gap leaks, so a student that misses gaps is not released."""

from collections.abc import Iterable

from toolkit.artifacts import Evaluation, HardwareBudget, Violation
from toolkit.hookspecs import hookimpl
from toolkit.plan import DataPlan, Options, Plan, StudentPlan

LEAST_RECALL = 0.99


@hookimpl
def draft_plan(options: Options) -> Plan:
    """A torch camera gives few, small pictures."""
    small = StudentPlan(size="nano", input_size=64)
    return Plan(domain=options.domain, data=DataPlan(minimum_per_class=12), student=small)


@hookimpl
def require_hardware() -> HardwareBudget:
    """The robot's controller waits 20 ms for a verdict."""
    return HardwareBudget(latency_p95_ms=20, size_mb=1)


@hookimpl
def check_release(student: Evaluation) -> Iterable[Violation]:
    """Gaps must be found."""
    recall = student.metrics["recall/gap"]
    if recall.value < LEAST_RECALL:
        yield Violation(
            "weld", "gaps are missed", f"{recall.value:.0%} of {recall.n} found", f"at least {LEAST_RECALL:.0%}"
        )
