"""`toolkit evaluate --benchmark`: public benchmarks, on the installed student and on a teacher beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table

from toolkit.cli.installed import open_installed
from toolkit.cli.planning import make_plan
from toolkit.cli.progress import ProgressReporter
from toolkit.errors import UsageError
from toolkit.plan import Options, Plan, toolkit_home
from toolkit.report.wording import figure, interval

if TYPE_CHECKING:
    from toolkit.artifacts import Evaluation
    from toolkit.text import TextPredictor

TASK = "text_generation"


@dataclass(frozen=True)
class Asking:
    """How a benchmark is put; None where as lm-eval does."""

    shots: int | None
    limit: int | None
    tokens: int | None
    calculator: bool


def benchmark_record(
    which: str, data: Path | None, site: Path, teacher: str | None, assignments: Sequence[str], asking: Asking
) -> dict[str, Any]:
    """What the site's student scores, and `teacher` where one is named, as `--json` shows it."""
    from toolkit.benchmarks.reading import read_benchmark
    from toolkit.benchmarks.scoring import score

    benchmark = read_benchmark(which, data, toolkit_home())
    tokens = asking.tokens or benchmark.form.answer_tokens
    with ProgressReporter() as progress:
        models = [
            _model(score(benchmark, predictor, progress, **asdict(asking)))
            for predictor in _predictors(site, teacher, assignments, tokens)
        ]
    return {
        "benchmark": benchmark.name, "data_sha256": benchmark.digest, "questions": len(models[0]["per_row"]),
        "shots": models[0]["shots"], "answer_tokens": tokens, "calculator": asking.calculator, "models": models,
    }  # fmt: skip


def _predictors(
    site: Path, teacher: str | None, assignments: Sequence[str], tokens: int
) -> Iterator[TextPredictor]:  # fmt: skip
    """The student; then the teacher, which is read when its turn comes."""
    installed = open_installed(site)
    _check_task(installed.plan)
    domain = installed.plan.domain
    planned = make_plan(Options(domain, None, teacher, None), assignments, None) if teacher else None
    yield cast("TextPredictor", installed.predictor)
    if planned is None:
        return
    from toolkit.artifacts import TeacherLabels
    from toolkit.distil.journal import journal_of
    from toolkit.tasks.base import task_of

    plan, offered = planned.resolved.plan, planned.plugins.teachers()
    _check_task(plan)
    text = plan.text.model_copy(update={"answer_tokens": tokens, "temperature": 0.0})
    plan = plan.model_copy(update={"text": text})
    named = offered[plan.teacher.name]
    labels = TeacherLabels(Path(), named.fingerprint(plan))
    journal = journal_of(toolkit_home(), named, plan)
    yield cast("TextPredictor", task_of(plan).teacher_predictor(plan, named, labels, journal, plan.compute.threads))


def _check_task(plan: Plan) -> None:
    if plan.task != TASK:
        raise UsageError(
            f"benchmarks ask questions in words, and this is a model of {plan.task}",
            hint="Score it on labelled data: toolkit evaluate --data FOLDER.",
        )


def _model(found: Evaluation) -> dict[str, Any]:
    from toolkit.stages.evaluations import as_record

    record = as_record(found)
    return {
        "form": found.facts["form"], "model": found.facts["digest"], "shots": found.facts["shots"],
        "metrics": record["metrics"], "parts": record["slices"], "per_row": record["per_row"],
    }  # fmt: skip


def show_benchmark(console: Console, record: dict[str, Any]) -> None:
    """The figures as a table, a line a model and metric."""
    how = f"{record['shots']} examples{', with a calculator' if record['calculator'] else ''}"
    console.print(f"{record['benchmark']}: {record['questions']:,} questions, {how}", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("model", "metric", "value", "95% interval", "n"):
        table.add_column(column)
    for model in record["models"]:
        for name, metric in model["metrics"].items():
            table.add_row(model["form"], name, figure(metric), interval(metric), str(metric["n"]))
    console.print(table)
