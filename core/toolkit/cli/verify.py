"""`toolkit verify`: check a bundle or a site without installing or changing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import bundle_folder, say, unlock
from toolkit.plan import toolkit_home


def verify(
    what: Annotated[str, typer.Argument(metavar="BUNDLE|SITE", help="A bundle's folder or id, or a site's folder.")],
    trust: Annotated[
        Path | None, typer.Option("--trust", help="The root.json to judge a bundle by; the home's else.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check every signature, digest and name; exit 4 and the part that failed where something was altered."""
    from toolkit.site.layout import is_site

    record = _site(Path(what)) if is_site(Path(what)) else _bundle(bundle_folder(what), trust)
    emit(record, as_json=as_json, text=lambda console: say(console, f"{record['kind']} {what}: as it was sealed"))


def _bundle(path: Path, trust: Path | None) -> dict[str, Any]:
    from toolkit.seal.keys import home_trust
    from toolkit.seal.trust import load_trust
    from toolkit.seal.verify import read_bundle

    found = read_bundle(path, load_trust(trust) if trust else home_trust(toolkit_home() / "keys"))
    unlock().cipher(found.manifest.suite)  # whoever checks it here wants to know whether it can be opened here
    return {
        "kind": "bundle", "ok": True, "bundle_id": found.manifest.bundle_id, "manifest_sha256": found.manifest.digest,
        "publisher": found.manifest.signer, "grants": len(found.grants), "files": len(list(found.manifest.listed())),
        "development_keys": found.manifest.development_keys,
    }  # fmt: skip


def _site(path: Path) -> dict[str, Any]:
    from toolkit.site.verify import verify_site

    checked = verify_site(path)
    return {
        "kind": "site", "ok": True, "current": checked.state.current, "root": checked.site.trust.fingerprint,
        "kept": [version.bundle_id for version in checked.state.kept], "audit_entries": checked.audit.sequence,
    }  # fmt: skip
