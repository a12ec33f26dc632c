"""`toolkit evaluate`: score the model installed on a site on any labelled folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, site_folder
from toolkit.cli.progress import ProgressReporter
from toolkit.plan import passphrase_from_environment
from toolkit.report.wording import figure, interval
from toolkit.resolve import thaw


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled data, as for training.")],
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Score the installed, sealed model: every readable row is a test row."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins
    from toolkit.protocols import PredictorFacts
    from toolkit.site.current import open_current
    from toolkit.stages.prepare import check_folder
    from toolkit.tasks.base import task_of

    check_folder(data)

    with open_current(site_folder(site), passphrase_from_environment()) as bundle:
        bundle_id, domain = bundle.manifest.bundle_id, bundle.manifest.domain.name
        frozen, classes = json.loads(bundle.read("plan")), json.loads(bundle.read("classes"))
        plugins = load_plugins(domain, defaults)
        plan = thaw(frozen, plugins.settings())
        predictor = task_of(plan).open_installed(bundle, PredictorFacts("installed", "", bundle_id), 1, scores=True)
    with tempfile.TemporaryDirectory() as folder, ProgressReporter() as progress:
        prepared = plugins.hook.prepare_data(
            plan=plan,
            source=data.absolute(),
            purpose="evaluate",
            workspace=Path(folder),
            classes=tuple(classes["classes"]),
            report=progress,
        )
        as_the_model_sees = {key: classes[key] for key in ("channels", "good_class")}
        dataset = task_of(plan).open_dataset(prepared.path, "", {**prepared.facts, **as_the_model_sees})
        found = plugins.hook.evaluate(plan=plan, dataset=dataset, predictor=predictor)
    record = {
        "bundle_id": bundle_id,
        "data": str(data.absolute()),
        "rows": len(found.per_row),
        "unreadable": found.facts.get("unreadable_rows", []),
        "metrics": {name: metric.as_record() for name, metric in found.metrics.items()},
        "confusion": found.facts.get("confusion"),
        "classes": found.facts.get("classes"),
        "per_row": [dict(row) for row in found.per_row],
    }
    emit(record, as_json=as_json, text=lambda console: _show(console, record))


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
