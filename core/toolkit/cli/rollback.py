"""`toolkit rollback`: go back to a version that the site keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, say, site_folder, unlock


def rollback(
    site: SiteOption = None,
    to: Annotated[str | None, typer.Option("--to", help="A kept bundle id; the newest older one else.")] = None,
    product: Annotated[
        str | None, typer.Option("--product", help="Whose version, where the site serves several products.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """End a trial, or make a kept version current again: checked like an install, audited, and taken up by a running
    server."""
    from toolkit.site.layout import open_site
    from toolkit.site.rollback import rollback as back

    done = back(open_site(site_folder(site), unlock()), to, product=product)
    record = {"bundle_id": done.bundle_id, "site": str(site_folder(site)), "changed": done.changed}
    state = "answers all requests again" if done.changed else "was current already, and alone"
    emit(record, as_json=as_json, text=lambda console: say(console, f"{done.bundle_id} {state}"))
