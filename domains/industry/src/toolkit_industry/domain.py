"""What inspection knows: a sample lot for newcomers, and limits on defects that pass and on good parts refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from toolkit.artifacts import Dataset, Evaluation, Violation
from toolkit.hookspecs import hookimpl
from toolkit.plan import DataPlan, GatePlan, Options, Plan, RecipePlan, Section, TeacherPlan
from toolkit.protocols import Report, Settings
from toolkit.tasks.anomaly_maps.layout import learns_from_good_alone
from toolkit.tasks.base import task_of

SECTION = "industry"


class IndustryPlan(Section):
    """The table [industry] of toolkit.toml."""

    sample_per_class: int = Field(150, ge=20, le=5000, description="Training parts of a class in the sample lot.")
    sample_test_per_class: int = Field(60, ge=10, le=5000, description="Test parts of a class in the sample lot.")
    most_escapes: float = Field(1.0, ge=0, le=1, description="Largest share of defects that may be called good.")
    most_overkill: float = Field(1.0, ge=0, le=1, description="Largest share of good parts that may be refused.")


@hookimpl
def register_settings() -> Iterable[Settings]:
    """Offer the table [industry]."""
    return [
        Settings(
            SECTION,
            IndustryPlan,
            read_by={
                "prepare": ("sample_per_class", "sample_test_per_class"),
                "gate": ("most_escapes", "most_overkill"),
            },
        )
    ]


@hookimpl
def draft_plan(options: Options) -> Plan:
    """Inspection by picture: classes are told apart, or, where there are good parts alone to learn from, what is
    strange is found. The rendered sample is small, so it may warn where customers' data must prove."""
    if options.data is not None:
        alone = learns_from_good_alone(options.data, DataPlan().good_classes)
        return Plan(domain=options.domain, task="anomaly_maps" if alone else "image_classification")
    return Plan(
        domain=options.domain,
        task="image_classification",
        gate=GatePlan(small_sample="warn"),
        teacher=TeacherPlan(epochs=4),
        recipe=RecipePlan(epochs=55),
    )


@hookimpl
def prepare_data(
    plan: Plan, source: Path | None, purpose: str, workspace: Path, classes: tuple[str, ...], report: Report
) -> Dataset | None:
    """Without data, render the sample lot; core reads everything else."""
    if source is not None:
        return None
    from toolkit_industry.sample import render_lot

    settings: IndustryPlan = getattr(plan, SECTION)
    lot = workspace / "lot"
    render_lot(
        lot,
        seed=plan.compute.seed,
        per_class=settings.sample_per_class,
        test_per_class=settings.sample_test_per_class,
        progress=lambda done, total: report("render the sample lot", done, total),
    )
    task = task_of(plan)
    facts = task.prepare(plan, lot, purpose, workspace, classes, report).facts
    return task.open_dataset(workspace, "", {**facts, "source": lot.name, "sample": True})


@hookimpl
def check_release(plan: Plan, student: Evaluation) -> Iterable[Violation]:
    """Escapes and overkill within what the plant allows."""
    settings: IndustryPlan = getattr(plan, SECTION)
    limits = {"escapes": settings.most_escapes, "overkill": settings.most_overkill}
    for name, most in limits.items():
        metric = student.metrics.get(name)
        if metric is not None and metric.value > most:
            measured = f"{metric.value:.1%} of {metric.n} ({metric.low:.1%} to {metric.high:.1%})"
            yield Violation(SECTION, f"too many {name}", measured, f"at most {most:.1%}")
