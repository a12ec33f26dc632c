"""`toolkit audit`: the signed trail of a site."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit, plain
from toolkit.cli.places import SiteOption, say, site_folder, unlock
from toolkit.errors import UsageError

app = typer.Typer(help="The signed trail of what happened on a site.", no_args_is_help=True)


@app.command("verify")
def verify(
    site: SiteOption = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="SEQUENCE:DIGEST", help="A head exported before; it must be in it.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the whole chain, and every inference against it: exit 4 where one was edited, removed, moved, or a tail cut
    off."""
    from toolkit.site.audit import parse_head
    from toolkit.site.inference_chain import FOLDER
    from toolkit.site.inference_chain import verify as verify_inferences
    from toolkit.site.layout import open_site

    opened = open_site(site_folder(site))
    trail = opened.audit.read(parse_head(head) if head else None)
    found = verify_inferences(opened.path / FOLDER, trail)
    record = {"ok": True, "sequence": trail[-1].sequence, "digest": trail[-1].digest, "inferences": asdict(found)}

    def text(console: Console) -> None:
        say(console, f"{trail[-1].sequence} entries, none altered")
        say(console, f"{found.lines:,} inferences, none altered; {found.unsealed:,} of them not signed for yet")

    emit(record, as_json=as_json, text=text)


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
            details = "  ".join(f"{name}={plain(str(value))}" for name, value in sorted(entry.details.items()))
            say(console, f"{entry.sequence:>5}  {entry.time}  {entry.event:<18} {details}")

    emit(record, as_json=as_json, text=text)


@app.command("inferences")
def inferences(
    site: SiteOption = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many, newest first.")] = 20,
    request: Annotated[str | None, typer.Option("--request", metavar="ID", help="Only this request.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Who asked what was served, and how it ended, newest first; `verify` checks them."""
    from toolkit.site.inference_chain import FOLDER, latest
    from toolkit.site.layout import open_site

    lines = latest(open_site(site_folder(site)).path / FOLDER)
    found = list(islice((one for one in lines if request in (None, one.get("request_id"))), last))

    def text(console: Console) -> None:
        for one in found:
            verdicts = " ".join(one["verdicts"])
            said = f"{one['status']} {one['ms']:>8} ms  {one['key']:<16} {one['product']} {one['version']}"
            say(console, f"{one['time']}  {one['request_id']:<16} {said}  {one['route']} {verdicts}")

    emit({"inferences": found}, as_json=as_json, text=text)


@app.command("content")
def content(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="Id of a request.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make, for what was asked and answered.")],
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Decrypt what was asked and answered, where the site keeps it; that it was opened is written into the trail."""
    from toolkit.site.contents import kept_contents
    from toolkit.site.inference_chain import FOLDER, latest
    from toolkit.site.layout import open_site
    from toolkit.site.settings import read_settings
    from toolkit.workspace import write_file

    opened = open_site(site_folder(site), unlock())
    line = next((one for one in latest(opened.path / FOLDER) if one.get("request_id") == request), None)
    if line is None:
        raise UsageError(f"no request is called {request[:64]}", hint="See: toolkit audit inferences.")
    kept = kept_contents(opened.path, read_settings(opened.path).inferences)
    bodies = dict(zip(("asked", "answered"), kept.open(line, opened.recipient_keys()), strict=True))
    opened.audit.append("content.opened", {"request_id": request})
    for name, body in bodies.items():
        write_file(folder / name, body.data, mode=0o600)

    def text(console: Console) -> None:
        for name, body in bodies.items():
            say(console, f"{folder / name}: {len(body.data):,} bytes, {body.media_type or 'of no stated type'}")

    record = {name: {"path": str(folder / name), "media_type": body.media_type} for name, body in bodies.items()}
    emit(record, as_json=as_json, text=text)
