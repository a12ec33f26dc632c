"""`toolkit plan`: what a deploy would do, where each value came from, and what it would take."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
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
    from toolkit.registry.store import Registry
    from toolkit.workspace import Workspace

    chosen = planned.resolved.plan
    values = chosen.model_dump(mode="json")
    seconds = Registry(Workspace(toolkit_home()).home).seconds_of(chosen.domain)
    total = sum(seconds.get(stage, 0.0) for stage in STAGES)
    estimate = {
        "basis": "the last run of this domain on this machine" if seconds else "no run of this domain here yet",
        "seconds": {stage: seconds.get(stage) for stage in STAGES},
        "total_seconds": total if seconds else None,
        "cost": total / 3600 * chosen.cost.server_hour if seconds else None,
        "currency": chosen.cost.currency,
    }
    return {
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
    if estimate["total_seconds"] is None:
        console.print(f"time and cost: not known yet ({estimate['basis']})")
        return
    console.print(
        f"time: about {estimate['total_seconds'] / 60:.1f} min, cost {estimate['cost']:.3f} {estimate['currency']} "
        f"({estimate['basis']}; finished stages of the same plan are kept)"
    )
