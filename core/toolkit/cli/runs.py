"""`toolkit runs`: what ran here, when, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import open_registry

if TYPE_CHECKING:
    from toolkit.registry.models import Run


def runs(
    limit: Annotated[int, typer.Option(min=1, max=10**9, help="How many, the newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the runs that the registry knows."""
    record = {"runs": [_record(run) for run in open_registry().runs(limit)]}
    emit(record, as_json=as_json, text=lambda console: _show(console, record["runs"]))


def _record(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "domain": run.domain,
        "user": run.user,
        "host": run.host,
        "started": run.started.isoformat(),
        "ended": run.ended.isoformat() if run.ended else None,
        "outcome": run.outcome,
        "error": run.error,
        "stages": [
            {"name": s.name, "kept": s.kept, "seconds": round(s.seconds, 3), "artifact": s.artifact_digest}
            for s in run.stages
        ],
    }


def _show(console: Console, shown: list[dict[str, Any]]) -> None:
    if not shown:
        console.print("no runs yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("run", "domain", "outcome", "last stage", "seconds", "kept"):
        table.add_column(column)
    for run in shown:
        stages = run["stages"]
        table.add_row(
            run["id"],
            run["domain"],
            run["outcome"],
            stages[-1]["name"] if stages else "",
            f"{sum(s['seconds'] for s in stages):.1f}",
            f"{sum(s['kept'] for s in stages)} of {len(stages)}",
        )
    console.print(table)
