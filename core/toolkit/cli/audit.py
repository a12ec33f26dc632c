"""`toolkit audit`: the signed trail of a site."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, say, site_folder

app = typer.Typer(help="The signed trail of what happened on a site.", no_args_is_help=True)


@app.command("verify")
def verify(
    site: SiteOption = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="SEQUENCE:DIGEST", help="A head exported before; it must be in it.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the whole chain: exit 4 where an entry was edited, removed, moved, or the tail cut off."""
    from toolkit.site.audit import parse_head
    from toolkit.site.layout import open_site

    last = open_site(site_folder(site)).audit.verify(parse_head(head) if head else None)
    record = {"ok": True, "sequence": last.sequence, "digest": last.digest}
    emit(record, as_json=as_json, text=lambda console: say(console, f"{last.sequence} entries, none altered"))


@app.command("head")
def head(site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """The last position, to be kept away from the site: with it a cut tail is found later."""
    from toolkit.site.layout import open_site

    opened = open_site(site_folder(site))
    last = opened.audit.verify()
    record = {"sequence": last.sequence, "digest": last.digest, "key": opened.key_id}
    emit(record, as_json=as_json, text=lambda console: say(console, f"{last.sequence}:{last.digest}"))


@app.command("list")
def entries(site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """All entries, each checked against the one before."""
    from toolkit.site.layout import open_site

    found = list(open_site(site_folder(site)).audit.entries())
    record = {
        "entries": [
            {"sequence": e.sequence, "time": e.time, "event": e.event, "uid": e.uid, "details": dict(e.details)}
            for e in found
        ]
    }

    def text(console: Console) -> None:
        for entry in found:
            details = "  ".join(f"{name}={value}" for name, value in sorted(entry.details.items()))
            say(console, f"{entry.sequence:>5}  {entry.time}  {entry.event:<18} {details}")

    emit(record, as_json=as_json, text=text)
