"""`toolkit plan`: what a deploy would do, where each value came from, and what it would take."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import open_registry
from toolkit.cli.planning import (
    ConfigOption,
    DataOption,
    DomainOption,
    Planned,
    SetOption,
    TargetOption,
    TeacherOption,
    make_plan,
)
from toolkit.plan import STAGES, Options, toolkit_home


def plan(
    domain: DomainOption,
    data: DataOption = None,
    teacher: TeacherOption = None,
    target: TargetOption = None,
    assignments: SetOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the whole plan with its estimated time and cost. Nothing runs."""
    planned = make_plan(Options(domain, data, teacher, target), assignments or [], config)
    record = _record(planned)
    emit(record, as_json=as_json, text=lambda console: _show(console, record))


def _record(planned: Planned) -> dict[str, Any]:
    from toolkit.seal.keys import custody_of
    from toolkit.tasks.base import task_of

    chosen = planned.resolved.plan
    values = chosen.model_dump(mode="json")
    seconds, memory = task_of(chosen).estimate(chosen)
    last = open_registry().seconds_of(chosen.domain)
    total = sum(seconds.values())
    estimate = {
        "basis": "rates read off two x86-64 cores",
        "seconds": {stage: round(seconds.get(stage, 0.0), 1) for stage in STAGES},
        "total_seconds": round(total, 1),
        "memory_mb": round(memory),
        "cost": total / 3600 * chosen.cost.server_hour,
        "currency": chosen.cost.currency,
        "last_run_seconds": round(sum(last.values()), 3) if last else None,
    }
    return {
        "keys": custody_of(toolkit_home() / "keys"),
        "plan": [
            {"key": key, "value": _value(values, key), "from": origin}
            for key, origin in planned.resolved.origins.items()
        ],
        "stages": list(STAGES),
        "estimate": estimate,
    }


def _value(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _show(console: Console, record: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("key", "value", "from"):
        table.add_column(column, style="dim" if column == "from" else "")
    for row in record["plan"]:
        table.add_row(row["key"], "" if row["value"] is None else str(row["value"]), row["from"])
    console.print(table)
    estimate = record["estimate"]
    console.print(f"\nstages: {' > '.join(record['stages'])}", markup=False)
    keys = {"development": "development keys", "none": "development keys, made by the first deploy"}
    console.print(f"keys: {keys.get(record['keys'], 'keys guarded by ' + record['keys'])}", markup=False)
    console.print(
        f"time: about {estimate['total_seconds'] / 60:.0f} min, memory about {estimate['memory_mb'] / 1000:.1f} GB, "
        f"cost {estimate['cost']:.3f} {estimate['currency']} ({estimate['basis']}; what was finished before is kept)"
    )
    if estimate["last_run_seconds"] is not None:
        console.print(f"the last run of this domain took {estimate['last_run_seconds'] / 60:.1f} min on this machine")
