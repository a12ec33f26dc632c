"""`toolkit site`: make a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import say
from toolkit.plan import passphrase_from_environment

app = typer.Typer(help="The place where bundles are installed and served.", no_args_is_help=True)


@app.command("init")
def init(
    site: Annotated[Path, typer.Argument(help="The site's folder; it is made.")],
    trust: Annotated[Path, typer.Option("--trust", help="The root.json that this site shall trust from now on.")],
    name: Annotated[str, typer.Option("--name", help="What the issuer shall call this site.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a site with keys of its own; with TOOLKIT_PASSPHRASE_FILE they are locked by that passphrase."""
    from toolkit.seal.trust import load_trust
    from toolkit.site.layout import init_site

    made = init_site(site, load_trust(trust), passphrase=passphrase_from_environment(), name=name)
    record = {
        "site": str(made.path), "root": made.trust.fingerprint, "custody": made.custody,
        "recipient": str(made.recipient_json), "audit_key": made.key_id,
    }  # fmt: skip

    def text(console: Console) -> None:
        say(console, f"site  {made.path} (keys: {made.custody})")
        say(console, f"root  {made.trust.fingerprint}")
        say(console, "Compare the root with the publisher's `toolkit keys show`, over another channel.")
        say(console, f"Next, at the issuer: toolkit grant BUNDLE --to {made.recipient_json}")

    emit(record, as_json=as_json, text=text)
