"""`toolkit promote`: give a kept version a share of the requests, or all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, say, site_folder, unlock


def promote(
    bundle: Annotated[str | None, typer.Argument(help="A kept version's bundle id; the one on trial else.")] = None,
    share: Annotated[
        float, typer.Option("--share", help="Its share of the requests: 1 makes it current, 0 ends its trial.")
    ] = 1.0,
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a version that the site keeps its product's current one, or change how much of the requests it answers."""
    from toolkit.site.install import permille_of
    from toolkit.site.layout import open_site
    from toolkit.site.rollback import promote as forward

    folder = site_folder(site)
    done = forward(open_site(folder, unlock()), bundle, permille=permille_of(share))
    record = {"bundle_id": done.bundle_id, "site": str(folder), "share": share, "changed": done.changed}
    state = {1.0: "is current", 0.0: "is on trial no more"}.get(share, f"is on trial with a share of {share:g}")
    emit(record, as_json=as_json, text=lambda console: say(console, f"{done.bundle_id} {state}"))
