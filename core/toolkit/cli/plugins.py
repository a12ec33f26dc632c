"""`toolkit plugins`: what is installed, what each offers, and what is broken and why."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toolkit.cli.output import JsonFlag, emit


def plugins(as_json: JsonFlag = False) -> None:
    """List domains and plugins. One that does not load is named with its reason; the others still work."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    loaded = load_plugins(None, defaults)
    record = {
        "plugins": [
            {
                "name": info.name,
                "kind": "domain" if info.group.endswith("domains") else "plugin",
                "distribution": info.distribution,
                "version": info.version,
                "offers": loaded.offers_of(info),
                "broken": info.broken or None,
            }
            for info in loaded.infos
        ]
    }
    emit(record, as_json=as_json, text=lambda console: _show(console, record["plugins"]))


def _show(console: Console, found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "kind", "distribution", "version", "offers"):
        table.add_column(column)
    for one in found:
        offers = Text("broken", style="red") if one["broken"] else Text(", ".join(one["offers"]))
        table.add_row(one["name"], one["kind"], one["distribution"], one["version"], offers)
    console.print(table if found else "no plugin is installed")
    for one in found:
        if one["broken"]:
            console.print(f"{one['name']} does not load: {one['broken']}", markup=False)
