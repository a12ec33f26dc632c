"""`toolkit report`: where a run's report lies, or all its figures."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.errors import UsageError
from toolkit.plan import toolkit_home


def report(
    run: Annotated[str, typer.Argument(help="A run's id; the newest with a report else.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Print the path of a run's report.html; with --json, the figures themselves."""
    folder = toolkit_home() / "runs"
    pages = sorted(folder.glob("*/report.html"), key=lambda page: page.parent.name)
    chosen = [page for page in pages if run in ("", page.parent.name)]
    if not chosen:
        known = ", ".join(page.parent.name for page in pages[-5:]) or "none"
        raise UsageError(
            f"no report of the run {run}" if run else "no run has a report yet", hint=f"Runs with a report: {known}."
        )
    page = chosen[-1]
    record = json.loads(page.with_suffix(".json").read_bytes()) | {"path": str(page)}
    emit(record, as_json=as_json, text=lambda console: console.print(str(page), markup=False))
