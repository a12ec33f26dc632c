"""`toolkit review`: the samples of a site that a person should look at, and sending them back to the lab."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, say, site_folder, unlock

if TYPE_CHECKING:
    from toolkit.site.layout import Site
    from toolkit.site.review import ReviewSet

app = typer.Typer(help="The samples of a site that a person should look at.", no_args_is_help=True)


@app.command("list")
def list_(site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """What is in the review set, newest first: why, and what a person said. Shows no content."""
    _, review = _opened(site)
    found = review.entries()

    def text(console: Console) -> None:
        for one in found:
            spoken = "not judged" if one.agree is None else "right" if one.agree else "wrong"
            line = f"{one.id}  {one.time}  {one.product} {one.version}  {one.verdict:<16} {spoken:<10}"
            say(console, f"{line} {', '.join(one.why)}{'' if one.held else '  (its input is not here)'}")

    emit({"entries": [asdict(one) for one in found]}, as_json=as_json, text=text)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to make, to be carried to the lab.")],
    to: Annotated[Path, typer.Option("--to", help="The lab's recipient file: `toolkit data recipient` writes it.")],
    judged: Annotated[bool, typer.Option("--judged", help="Only what a person has judged.")] = False,
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Send the review set to the lab: signed by the site, and readable for the lab's key alone."""
    from toolkit.seal.recipient import load_recipient
    from toolkit.site.returned import send

    opened, review = _opened(site)
    recipient = load_recipient(to)
    sent = send(opened, review, recipient, folder, judged_only=judged)

    def text(console: Console) -> None:
        say(console, f"{sent.samples} samples, {sent.judged} of them judged, for {recipient.name} in {folder}")
        say(console, f"fingerprint of its key {recipient.fingerprint}; signed by {opened.key_id}")

    emit(
        asdict(sent) | {"folder": str(folder), "recipient": recipient.fingerprint, "signer": opened.key_id},
        as_json=as_json, text=text,
    )  # fmt: skip


def _opened(site: Path | None) -> tuple[Site, ReviewSet]:
    from toolkit.site.layout import open_site
    from toolkit.site.review import review_set
    from toolkit.site.settings import read_settings

    opened = open_site(site_folder(site), unlock())
    return opened, review_set(opened.path, read_settings(opened.path).review)
