"""Checking a whole site without changing it and without any secret: trust root, state, versions, audit trail, and
that they tell the same story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.papers import Papers
from toolkit.seal.recipient import load_recipient
from toolkit.seal.verify import read_bundle
from toolkit.site.audit import AuditEntry, AuditHead
from toolkit.site.layout import Site, open_site
from toolkit.site.state import Served, State, read_state
from toolkit.site.switch import told_switch
from toolkit.site.trust import check_chain


@dataclass(frozen=True)
class CheckedSite:
    """A site that is as it was left. `papers` are those of each version kept, by its bundle id."""

    site: Site
    state: State
    audit: AuditHead
    papers: Mapping[str, Papers]


def verify_site(path: Path) -> CheckedSite:
    """Check the site in `path`.

    Raises:
        IntegrityError: something is not as it was left; `.part` names it.
    """
    site = open_site(path)
    entries = site.audit.read()
    state = read_state(site.current, site.key_id)
    _check_story(site, state, entries)
    papers: dict[str, Papers] = {}
    for version in state.kept:
        part = f"versions/{version.bundle_id}"
        try:
            # Whether it may still be opened is judged where it is: what was revoked lies there as it was left.
            found = read_bundle(site.versions / version.bundle_id, site.trust.unrevoked())
        except UsageError as error:
            raise IntegrityError(f"{part} is missing", part=part, hint="Install it again.") from error
        except IntegrityError as error:
            raise IntegrityError(f"{part}: {error}", part=f"{part}/{error.part}", hint=error.hint) from error
        if found.manifest.digest != version.manifest_sha256:
            raise IntegrityError(f"{part} is not the version that was installed", part=f"{part}/bundle.dsse")
        papers[version.bundle_id] = found.papers
    return CheckedSite(site, state, AuditHead(entries[-1].sequence, entries[-1].digest), papers)


def _check_story(site: Site, state: State, entries: Sequence[AuditEntry]) -> None:
    """The audit trail must know the root the site trusts, its recipient key, and the versions that answer."""
    made = entries[0].details
    check_chain(site, str(made.get("root_sha256")))
    received = {str(made.get("recipient"))}
    for entry in entries:
        recipient = str(entry.details.get("recipient", ""))
        if entry.event.startswith("recipient."):
            received = {recipient} if entry.event == "recipient.done" else received | {recipient}
    if load_recipient(site.recipient_json).fingerprint not in received:
        raise IntegrityError("recipient.json is not the site's own", part="recipient.json")
    for what, pin in (("root", state.root), ("revoked", state.revoked)):
        done = [entry.details.get("version") for entry in entries if entry.event == f"{what}.done"]
        if done and pin.version < int(str(done[-1])):
            raise IntegrityError("the site's state is older than its audit trail", part="current")
    _check_switches(state, entries)


def _check_switches(state: State, entries: Sequence[AuditEntry]) -> None:
    """What answers for each product is what the trail told last, or what was begun then and killed on the way."""
    allowed: dict[str, set[Served | None]] = {served.product: {None} for served in state.served}
    products: dict[str, str] = {}
    for entry in entries:
        told = told_switch(entry, products)
        if told is not None:
            step, served = told
            known = allowed.setdefault(served.product, {None})
            if step == "begin":
                known.add(served)
            elif step == "done":
                allowed[served.product] = {served}
    if any(state.of(product) not in known for product, known in allowed.items()):
        raise IntegrityError("the site's state and its audit trail name different versions", part="current")
