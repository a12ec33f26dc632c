"""`toolkit evaluate`: score the model installed on a site on any labelled folder, or on a public benchmark."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.benchmark import Asking, benchmark_record, show_benchmark
from toolkit.cli.installed import open_installed
from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, site_folder
from toolkit.cli.planning import SetOption, TeacherOption
from toolkit.cli.progress import ProgressReporter
from toolkit.errors import UsageError
from toolkit.plan import toolkit_home
from toolkit.report.wording import figure, interval


def evaluate(
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of labelled data, as for training; of a benchmark, its files.")
    ] = None,
    benchmark: Annotated[
        str,
        typer.Option("--benchmark", metavar="NAME|PATH", help="gsm8k, svamp, humaneval, mmlu, or files like theirs."),
    ] = "",
    teacher: TeacherOption = None,
    assignments: SetOption = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples before each question; lm-eval's number else.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer; lm-eval's number else.")] = None,
    calculator: Annotated[bool, typer.Option("--calculator", help="Compute the results of <<a=b>> marks.")] = False,
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Score the installed, sealed model: every readable row is a test row; or its teacher too, on a benchmark."""
    if benchmark:
        asking = Asking(shots, limit, tokens, calculator)
        record = benchmark_record(benchmark, data, site_folder(site), teacher, assignments or [], asking)
        emit(record, as_json=as_json, text=lambda console: show_benchmark(console, record))
        return
    if data is None:
        raise UsageError("nothing to score on", hint="Name a folder (--data) or a benchmark (--benchmark).")
    record = _record(data, site_folder(site))
    emit(record, as_json=as_json, text=lambda console: _show(console, record))


def _record(data: Path, site: Path) -> dict[str, Any]:
    from toolkit.stages.prepare import check_folder
    from toolkit.tasks.asking import ask_by
    from toolkit.tasks.base import task_of

    check_folder(data)
    installed = open_installed(site)
    plan, classes, hook = installed.plan, installed.classes, installed.plugins.hook
    with tempfile.TemporaryDirectory() as folder, ProgressReporter() as progress:
        prepared = hook.prepare_data(
            plan=plan,
            source=data.absolute(),
            purpose="evaluate",
            workspace=Path(folder),
            classes=tuple(classes["classes"]),
            report=progress,
        )
        as_the_model_sees = {key: classes[key] for key in ("channels", "good_class")}
        dataset = task_of(plan).open_dataset(prepared.path, "", {**prepared.facts, **as_the_model_sees})
        ask = ask_by(installed.plugins, plan, toolkit_home())
        found = hook.evaluate(plan=plan, dataset=dataset, predictor=installed.predictor, ask=ask)
    return {
        "bundle_id": installed.bundle_id,
        "data": str(data.absolute()),
        "rows": len(found.per_row),
        "unreadable": found.facts.get("unreadable_rows", []),
        "metrics": {name: metric.as_record() for name, metric in found.metrics.items()},
        "confusion": found.facts.get("confusion"),
        "classes": found.facts.get("classes"),
        "per_row": [dict(row) for row in found.per_row],
    }


def _show(console: Console, record: dict[str, Any]) -> None:
    console.print(f"{record['bundle_id']} on {record['rows']:,} rows of {record['data']}", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("metric", "value", "95% interval", "n"):
        table.add_column(column)
    for name, metric in record["metrics"].items():
        table.add_row(name, figure(metric), interval(metric), str(metric["n"]))
    console.print(table)
    if record["unreadable"]:
        console.print(f"{len(record['unreadable'])} unreadable rows count as wrong", markup=False)
