"""`toolkit teachers`: who can teach here."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit


def teachers(as_json: JsonFlag = False) -> None:
    """List the teachers that plugins offer."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    offered = load_plugins(None, defaults).teachers().values()
    record = {
        "teachers": [
            {
                "name": teacher.name,
                "tasks": sorted(teacher.tasks),
                "gives": sorted(teacher.gives),
                "about": (type(teacher).__doc__ or "").strip().splitlines()[0],
            }
            for teacher in offered
        ]
    }
    emit(record, as_json=as_json, text=lambda console: _show(console, record["teachers"]))


def _show(console: Console, offered: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("teacher", "tasks", "gives", "about"):
        table.add_column(column)
    for one in offered:
        table.add_row(one["name"], ", ".join(one["tasks"]), ", ".join(one["gives"]), one["about"])
    console.print(table if offered else "no plugin offers a teacher")
