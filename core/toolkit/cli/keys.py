"""`toolkit keys`: the cryptographic keys of the home (API keys are `toolkit access`)."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import new_passphrase, say
from toolkit.plan import toolkit_home

app = typer.Typer(help="Root, publisher and issuer keys.", no_args_is_help=True)


@app.command("init")
def init(as_json: JsonFlag = False) -> None:
    """Make production keys in the toolkit home, locked by a passphrase."""
    from toolkit.seal.keys import init_keys

    folder = toolkit_home() / "keys"
    init_keys(folder, new_passphrase())
    _show(as_json)


@app.command("show")
def show(as_json: JsonFlag = False) -> None:
    """The home's keys: what guards them, and the fingerprint to compare with a site's."""
    _show(as_json)


def _show(as_json: bool) -> None:
    from toolkit.errors import UsageError
    from toolkit.seal.keys import ROOT, custody_of
    from toolkit.seal.trust import load_trust

    folder = toolkit_home() / "keys"
    if not (folder / ROOT).exists():
        raise UsageError(f"there are no keys in {folder}", hint="Make them with `toolkit keys init`.")
    trust = load_trust(folder / ROOT)
    record: dict[str, Any] = {
        "folder": str(folder), "custody": custody_of(folder), "trust": str(folder / ROOT), "root": trust.fingerprint,
        "publishers": list(trust.publishers), "issuers": list(trust.issuers), "suites": list(trust.suites),
    }  # fmt: skip

    def text(console: Console) -> None:
        say(console, f"keys      {folder} ({record['custody']})")
        say(console, f"root      {trust.fingerprint}")
        say(console, f"publisher {', '.join(trust.publishers)}")
        say(console, f"issuer    {', '.join(trust.issuers)}")
        say(console, f"A site trusts them by {folder / ROOT}: toolkit site init SITE --trust {ROOT}")

    emit(record, as_json=as_json, text=text)
