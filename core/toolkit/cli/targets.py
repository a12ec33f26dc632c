"""`toolkit targets`: the hardware profiles a student can be compiled for."""

from __future__ import annotations

import platform
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit


def targets(as_json: JsonFlag = False) -> None:
    """List hardware profiles, and which of them this machine can run."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    record = {
        "targets": [
            {
                "profile": profile.name,
                "target": target.name,
                "arch": list(profile.arch),
                "threads": profile.threads,
                "runs_here": platform.machine() in profile.arch,
                "about": profile.describe,
            }
            for profile, target in load_plugins(None, defaults).profiles().values()
        ]
    }
    emit(record, as_json=as_json, text=lambda console: _show(console, record["targets"]))


def _show(console: Console, offered: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("profile", "target", "threads", "runs here", "about"):
        table.add_column(column)
    for one in offered:
        here = "yes" if one["runs_here"] else "no"
        table.add_row(one["profile"], one["target"], str(one["threads"]), here, one["about"])
    console.print(table if offered else "no plugin offers a target")
