"""`toolkit install`: put a sealed bundle on a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, bundle_folder, say, site_folder, unlock

InstallArgument = Annotated[
    str,
    typer.Argument(metavar="BUNDLE", help="A bundle's folder or `bundle export` file, or the id of one in the home."),
]


def install(
    bundle: InstallArgument,
    site: SiteOption = None,
    canary: Annotated[
        float | None, typer.Option("--canary", metavar="SHARE", help="Put it on trial: it answers this share (0.1).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a bundle and make it its product's current version, or put it on trial beside that one; a running server
    takes it up. Whatever fails, the site stays as it was."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins
    from toolkit.site.fit import plugin_check
    from toolkit.site.install import install as put
    from toolkit.site.install import permille_of
    from toolkit.site.layout import open_site
    from toolkit.site.standing import standing_of

    folder: Path = site_folder(site)
    opened = open_site(folder, unlock())
    check = plugin_check(lambda domain: load_plugins(domain, defaults), folder)
    done = put(bundle_folder(bundle), opened, check=check, permille=permille_of(1.0 if canary is None else canary))
    record: dict[str, Any] = {
        "bundle_id": done.bundle_id, "site": str(folder), "path": str(done.path), "changed": done.changed,
        "renewed": done.renewed,
        "custody": opened.custody, "development_keys": done.manifest.development_keys, "canary": canary,
    }  # fmt: skip
    standing = standing_of(opened, done.bundle_id)
    record["grant"] = standing

    def text(console: Console) -> None:
        did = "renewed; what is served stays" if done.renewed else "installed"
        say(console, f"{done.bundle_id} {did if done.changed else 'was installed already'} on {folder}")
        if canary is not None:
            say(console, f"It is on trial. All requests: toolkit promote {done.bundle_id}; none: toolkit rollback")
        if standing["message"]:
            say(console, f"note: {standing['message']}")

    emit(record, as_json=as_json, text=text)
