"""`toolkit teachers`: who can teach here, and what they have said already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import open_registry
from toolkit.errors import IntegrityError, UsageError
from toolkit.plan import toolkit_home

if TYPE_CHECKING:
    from toolkit.distil.cache.shelf import Cache, Old

app = typer.Typer(
    help="List the teachers that plugins offer; under `cache`, what teachers have said already.",
    invoke_without_command=True,
)
cache = typer.Typer(help="Answers of teachers that are kept: labels of views and of tokens.", no_args_is_help=True)
app.add_typer(cache, name="cache")

UNKNOWN = "-"


@app.callback()
def teachers(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the teachers that plugins offer."""
    if context.invoked_subcommand is not None:
        return
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


@cache.command("ls")
def ls(as_json: JsonFlag = False) -> None:
    """List what teachers have said in this home: of how many rows or tokens, how large, how old, and whether it is
    complete."""
    from toolkit.distil.cache import shelf

    record = {"caches": [_cache_record(one) for one in shelf.caches(toolkit_home())]}
    emit(record, as_json=as_json, text=lambda console: _show_caches(console, record["caches"]))


@cache.command("verify")
def verify(
    which: Annotated[
        str, typer.Argument(metavar="CACHE", help="The beginning of a cache's name, as `ls` shows it; all else.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Hash every shard again; exit 4 and the shards that are not what was written."""
    from toolkit.cli.progress import ProgressReporter
    from toolkit.distil.cache import shelf

    home = toolkit_home()
    chosen = _chosen(shelf.artifacts(home), which)
    damaged: list[str] = []
    with ProgressReporter() as progress:
        for done, artifact in enumerate(chosen):
            progress("verify", done, len(chosen))
            damaged += [f"{_name(artifact)}/{shard}" for shard in shelf.damaged(artifact)]
    if damaged:
        raise IntegrityError(
            f"damaged: {', '.join(damaged)}",
            part=", ".join(damaged),
            hint="Run the same deploy again: what is damaged is labelled again, and nothing else.",
        )
    record = {"ok": True, "verified": [_name(artifact) for artifact in chosen]}
    emit(record, as_json=as_json, text=lambda console: console.print(f"{len(chosen)} verified: as they were written"))


@cache.command("gc")
def gc(
    older_than: Annotated[
        int, typer.Option("--older-than", min=0, max=36_500, metavar="DAYS", help="Days since a run last used it.")
    ] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; else it is only said what would go.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove labels that no run has used for long, and unfinished ones that none goes on with; none that is in use."""
    from toolkit.distil.cache import shelf

    home, used = toolkit_home(), open_registry().last_used()
    found = (shelf.remove if yes else shelf.old)(home, used, timedelta(days=older_than), datetime.now(UTC))
    record = {
        "removed": yes,
        "older_than_days": older_than,
        "bytes": sum(one.size_bytes for one in found),
        "caches": [_old_record(one) for one in found],
    }
    emit(record, as_json=as_json, text=lambda console: _show_old(console, record))


def _chosen(artifacts: Sequence[Path], which: str) -> Sequence[Path]:
    chosen = [path for path in artifacts if _name(path).startswith(which)]
    if which and not chosen:
        raise UsageError(f"no cache is named {which}", hint="See `toolkit teachers cache ls`.")
    return chosen


def _name(artifact: Path) -> str:
    """The digest of what made it; an unfinished one's is the same."""
    return artifact.name.strip(".").partition(".")[0]


def _cache_record(one: Cache) -> dict[str, Any]:
    age = (datetime.now(UTC) - one.changed).total_seconds() / 86_400
    return {
        "cache": _name(one.artifact), "holds": one.holds, "teacher": one.teacher, "rows": one.rows,
        "tokens": one.tokens, "bytes": one.size_bytes, "age_days": round(max(age, 0.0), 3), "complete": one.complete,
        "codec": one.codec, "mass_at_k": one.mass_at_k, "path": str(one.path),
    }  # fmt: skip


def _old_record(one: Old) -> dict[str, Any]:
    return {
        "cache": _name(one.path), "why": one.why, "bytes": one.size_bytes, "last_used": one.last_used.isoformat(),
        "path": str(one.path),
    }  # fmt: skip


def _show(console: Console, offered: list[dict[str, Any]]) -> None:
    rows = [(one["name"], ", ".join(one["tasks"]), ", ".join(one["gives"]), one["about"]) for one in offered]
    console.print(_table(("teacher", "tasks", "gives", "about"), rows) if rows else "no plugin offers a teacher")


def _show_caches(console: Console, found: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["cache"][:12], one["holds"], one["teacher"] or UNKNOWN, _count(one["rows"]), _count(one["tokens"]),
            _megabytes(one["bytes"]), f"{one['age_days']:.1f} days", "complete" if one["complete"] else "not complete",
        )
        for one in found
    ]  # fmt: skip
    columns = ("cache", "holds", "teacher", "rows", "tokens", "size", "age", "state")
    console.print(_table(columns, rows) if rows else "no teacher has said anything here yet")


def _show_old(console: Console, record: dict[str, Any]) -> None:
    found, days = record["caches"], record["older_than_days"]
    if not found:
        console.print(f"nothing is older than {days} days")
        return
    rows = [(one["cache"][:12], one["why"], _megabytes(one["bytes"]), one["last_used"][:10]) for one in found]
    console.print(_table(("cache", "why", "size", "last used"), rows))
    done = "removed" if record["removed"] else "to be removed; nothing was: add --yes"
    console.print(f"{_megabytes(record['bytes'])} {done}")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
