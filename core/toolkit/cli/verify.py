"""`toolkit verify`: check a bundle or a site without installing or changing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import bundle_folder, say, unlock
from toolkit.plan import toolkit_home

if TYPE_CHECKING:
    from toolkit.seal.papers import Papers


def verify(
    what: Annotated[str, typer.Argument(metavar="BUNDLE|SITE", help="A bundle's folder or id, or a site's folder.")],
    trust: Annotated[
        Path | None, typer.Option("--trust", help="The root.json to judge a bundle by; the home's else.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check every signature, digest and name, and the papers; exit 4 and the part that failed where something was
    altered."""
    from toolkit.site.layout import is_site

    record, papers = _site(Path(what)) if is_site(Path(what)) else _bundle(bundle_folder(what), trust)

    def text(console: Console) -> None:
        say(console, f"{record['kind']} {what}: as it was sealed")
        for bundle_id, found in papers.items():
            if record["kind"] == "site":
                say(console, f"version     {bundle_id}")
            for line in shown_papers(found):
                say(console, line)

    emit(record, as_json=as_json, text=text)


def shown_papers(papers: Papers) -> list[str]:
    """A line for each paper that there is, all of which hold."""
    lines = []
    if papers.components is not None:
        lines.append(f"sbom        holds: CycloneDX 1.7, {papers.components} components")
    if papers.provenance:
        lines.append("provenance  holds: SLSA v1, by the publisher")
    if papers.model_signer:
        lines.append(f"model.sig   holds: OpenSSF model-signing v1, key {papers.model_signer[:16]}…")
    if papers.licences:
        lines.append(f"licences    {', '.join(name.partition('/')[2] for name in papers.licences)}")
    return lines or ["papers      none: it was sealed without"]


def _bundle(path: Path, trust: Path | None) -> tuple[dict[str, Any], Mapping[str, Papers]]:
    from toolkit.seal.keys import home_trust
    from toolkit.seal.trust import load_trust
    from toolkit.seal.verify import read_bundle

    found = read_bundle(path, load_trust(trust) if trust else home_trust(toolkit_home() / "keys"))
    unlock().cipher(found.manifest.suite)  # whoever checks it here wants to know whether it can be opened here
    record = {
        "kind": "bundle", "ok": True, "bundle_id": found.manifest.bundle_id, "manifest_sha256": found.manifest.digest,
        "publisher": found.manifest.signer, "grants": len(found.grants), "files": len(list(found.manifest.listed())),
        "development_keys": found.manifest.development_keys, "papers": found.papers.as_record(),
    }  # fmt: skip
    return record, {found.manifest.bundle_id: found.papers}


def _site(path: Path) -> tuple[dict[str, Any], Mapping[str, Papers]]:
    from toolkit.site.inference_chain import FOLDER
    from toolkit.site.inference_chain import verify as verify_inferences
    from toolkit.site.verify import verify_site

    checked = verify_site(path)
    found = verify_inferences(path / FOLDER, checked.site.audit.entries())
    record = {
        "kind": "site", "ok": True, "current": checked.state.current, "root": checked.site.trust.fingerprint,
        "kept": [version.bundle_id for version in checked.state.kept], "audit_entries": checked.audit.sequence,
        "inferences": found.lines,
        "papers": {bundle_id: papers.as_record() for bundle_id, papers in checked.papers.items()},
    }  # fmt: skip
    return record, checked.papers
