"""`toolkit site`: make a site, and change what it trusts and receives with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import CustodyOption, say, unlock

if TYPE_CHECKING:
    from toolkit.site.layout import Site
    from toolkit.site.trust import Accepted

SiteArgument = Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")]

app = typer.Typer(help="The place where bundles are installed and served.", no_args_is_help=True)


@app.command("init")
def init(
    site: Annotated[Path, typer.Argument(help="The site's folder; it is made.")],
    trust: Annotated[Path, typer.Option("--trust", help="The root.json that this site shall trust from now on.")],
    name: Annotated[str, typer.Option("--name", help="What the issuer shall call this site.")] = "",
    custody: CustodyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a site with keys of its own; with TOOLKIT_PASSPHRASE_FILE they are locked by that passphrase."""
    from toolkit.seal.trust import load_trust
    from toolkit.site.layout import init_site

    made = init_site(site, load_trust(trust), passphrase=unlock(custody), name=name)
    record = {
        "site": str(made.path), "root": made.trust.fingerprint, "custody": made.custody,
        "recipient": str(made.recipient_json), "audit_key": made.key_id,
    }  # fmt: skip

    def text(console: Console) -> None:
        say(console, f"site  {made.path} (keys: {made.custody})")
        say(console, f"root  {made.trust.fingerprint}")
        say(console, "Compare the root with the publisher's `toolkit keys list`, over another channel.")
        say(console, f"Next, at the issuer: toolkit grant BUNDLE --to {made.recipient_json}")

    emit(record, as_json=as_json, text=text)


@app.command("trust")
def trust(
    site: SiteArgument,
    root: Annotated[Path, typer.Option("--root", help="A newer root.json of the publisher.")],
    as_json: JsonFlag = False,
) -> None:
    """Trust a newer root.json; it must be signed by enough of the old root's keys and of its own."""
    from toolkit.seal.files import read_small
    from toolkit.seal.trust import MAX_ROOT
    from toolkit.site.trust import accept_root

    done = accept_root(_open(site), read_small(root, MAX_ROOT, what="trust root"))
    _accepted("root", done, as_json)


@app.command("revoke")
def revoke(
    site: SiteArgument,
    listed: Annotated[Path, typer.Option("--list", help="A newer revoked.json of the publisher.")],
    as_json: JsonFlag = False,
) -> None:
    """Take up a newer revocation list. What it revokes opens no more, and a running server stops answering with it."""
    from toolkit.seal.files import read_small
    from toolkit.seal.revocation import MAX_LIST
    from toolkit.site.trust import accept_list

    done = accept_list(_open(site), read_small(listed, MAX_LIST, what="revocation list"))
    _accepted("revocation list", done, as_json)


@app.command("rotate")
def rotate(site: SiteArgument, as_json: JsonFlag = False) -> None:
    """Make a new key to receive with; the old one stays until the next rotation, for what is installed."""
    from toolkit.site.trust import rotate_recipient

    opened = _open(site)
    made = rotate_recipient(opened)
    record = {"recipient": str(opened.recipient_json), "fingerprint": made.fingerprint}

    def text(console: Console) -> None:
        say(console, f"{opened.recipient_json}: {made.fingerprint}")
        say(console, "Next, at the issuer: toolkit grant BUNDLE --to recipient.json; then install the bundle again.")

    emit(record, as_json=as_json, text=text)


def _open(site: Path) -> Site:
    from toolkit.site.layout import open_site

    return open_site(site, unlock())


def _accepted(what: str, done: Accepted, as_json: bool) -> None:
    record = {"version": done.version, "sha256": done.sha256, "changed": done.changed}
    state = "is trusted from now on" if done.changed else "was trusted already"
    emit(record, as_json=as_json, text=lambda console: say(console, f"{what} version {done.version} {state}"))
