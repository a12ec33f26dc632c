"""Changing which of the kept versions answer: back to one, forward to one, a share of the requests to one on trial.
Explicit, checked like an install, audited.

The high-water mark stays where it is, so that going back opens no door for older bundles.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from toolkit.errors import IntegrityError, Refused, ToolkitError, UsageError
from toolkit.seal.open import open_bundle
from toolkit.seal.verify import verify_bundle
from toolkit.site.clock import check_time, read_clock
from toolkit.site.install import InstalledVersion, check_share
from toolkit.site.layout import Site
from toolkit.site.state import ALL, Failure, Served, State, Version, read_state
from toolkit.site.switch import settle, switch

_LISTED = "`toolkit status` lists what it keeps."


def rollback(site: Site, to: str | None = None, *, product: str | None = None, by: str = "") -> InstalledVersion:
    """Make a kept version current again; where a canary is on trial and `to` names none, that trial ends.

    Args:
        to: its bundle id; the newest one older than the current version where not given.
        product: whose version; needed where a site serves several and `to` does not say it.
        by: who asked for it, where that is not the user of this process.

    Raises:
        UsageError: nothing is installed, or there is nothing to go back to.
        Refused: the site does not keep that version, or its grant ended.
        IntegrityError: the version on disk is not what was installed.
    """
    with _changing(site, "rollback", "roll back", to=to or "", **_who(by)) as (held, state):
        served = _back(state, to, product)
        return _change(held, state, "rollback", served, served.bundle_id, _who(by))


def promote(site: Site, bundle_id: str | None = None, *, permille: int = ALL, by: str = "") -> InstalledVersion:
    """Give a kept version a share of its product's requests: all, and it is the current one; some, and it is on trial
    beside that; none, and its trial ends.

    Args:
        bundle_id: the canary where not given.
        permille: its share, in thousandths.
        by: who asked for it, where that is not the user of this process.

    Raises: as `rollback`.
    """
    check_share(permille)
    with _changing(site, "promote", "promote a version", bundle_id=bundle_id or "", **_who(by)) as (held, state):
        version = _kept(state, bundle_id if bundle_id is not None else _only_canary(state))
        served = _shared(state, version, permille)
        return _change(held, state, "promote", served, version.bundle_id, _who(by))


@contextmanager
def _changing(site: Site, verb: str, purpose: str, **facts: str) -> Iterator[tuple[Site, State]]:
    """A site that is held as long as the block runs, and its settled state. What is refused in it is in the trail."""
    with site.held(purpose) as held:
        state = settle(held)
        try:
            yield held, state
        except UsageError:
            raise
        except ToolkitError as error:
            held.audit.refused(verb, error, **facts)
            raise


def withdraw(site: Site, bundle_id: str, why: str) -> bool:
    """What a server does by itself with a version that does not serve: its trial ends, or the version before it is
    current again. False where somebody did so already, or there is none to go back to.

    Raises:
        IntegrityError, Refused: the version before it cannot be served either.
    """
    if not _withdrawn(read_state(site.current, site.key_id), bundle_id, why):
        return False
    with site.held("take a version back") as held:
        state = settle(held)
        found = _withdrawn(state, bundle_id, why)
        if found is None:
            return False
        left, served = found
        try:
            _change(held, left, "rollback", served, served.bundle_id, {"by": "server", "from": bundle_id, "why": why})
        except ToolkitError as error:
            held.audit.refused("rollback", error, by="server", why=why)
            raise
    return True


def _withdrawn(state: State, bundle_id: str, why: str) -> tuple[State, Served] | None:
    """The state that knows of the failure, and what is served then."""
    version = state.find(bundle_id)
    served = state.of(version.product) if version else None
    if version is None or served is None or bundle_id not in (served.bundle_id, served.canary):
        return None
    failed = tuple(one for one in state.failed if one.bundle_id != bundle_id)
    left = replace(state, failed=(*failed, Failure(bundle_id, why[:500])))
    if served.canary == bundle_id:
        return left, Served(served.product, served.bundle_id)
    older = _older(left, version)
    return (left, Served(served.product, older.bundle_id)) if older else None


def _change(
    site: Site, state: State, verb: str, served: Served, subject: str, facts: dict[str, Any]
) -> InstalledVersion:  # fmt: skip
    """`served` answers from now on, once the version that it is about was found as it was installed."""
    path = site.versions / subject
    manifest = verify_bundle(path, site.trust)
    kept = state.find(subject)
    if kept is None or manifest.digest != kept.manifest_sha256:
        raise IntegrityError(
            f"versions/{subject} is not what was installed", part=f"versions/{subject}",
            hint="Install that version's bundle again.",
        )  # fmt: skip
    with open_bundle(path, site.trust, *site.recipient_keys(), unlock=site.passphrase) as opened:
        for role in opened.roles:
            opened.view(role)
            opened.forget(role)
        grant_id = opened.grant_id
        check_time(opened.grant.validity, read_clock(state, site.trust, manifest, opened.grant))
    before = state.of(served.product)
    changed = before != served
    if changed:
        facts = {"bundle_id": subject, "from": before.bundle_id if before else ""} | facts
        switch(site, verb, state.serving(served), served, facts)
    return InstalledVersion(subject, path, manifest, grant_id, changed)


def _back(state: State, to: str | None, product: str | None) -> Served:
    if not state.served:
        raise UsageError("nothing is installed on this site", hint="Install a bundle with `toolkit install BUNDLE`.")
    if to is not None:
        version = _kept(state, to)
        if product not in (None, version.product):
            raise UsageError(f"{to} is a version of {version.product}, not of {product}", hint=_LISTED)
        return Served(version.product, to)
    served = _of(state, product)
    if served.canary:
        return Served(served.product, served.bundle_id)
    current = state.find(served.bundle_id)
    older = _older(state, current) if current else None
    if older is None:
        raise UsageError("the site keeps no older version to go back to", hint=_LISTED)
    return Served(served.product, older.bundle_id)


def _of(state: State, product: str | None) -> Served:
    names = ", ".join(served.product for served in state.served)
    if product is None:
        if len(state.served) > 1:
            raise UsageError(f"the site serves {names}: whose version?", hint="Name it: --product NAME")
        return state.served[0]
    served = state.of(product)
    if served is None:
        raise UsageError(f"the site does not serve {product}", hint=f"It serves {names}.")
    return served


def _older(state: State, current: Version) -> Version | None:
    """The newest kept version below `current` that has not failed."""
    failed = {one.bundle_id for one in state.failed}
    older = [
        one for one in state.kept
        if one.product == current.product and one.rank < current.rank and one.bundle_id not in failed
    ]  # fmt: skip
    return max(older, key=lambda one: one.rank, default=None)


def _kept(state: State, bundle_id: str) -> Version:
    version = state.find(bundle_id)
    if version is None:
        kept = ", ".join(one.bundle_id for one in state.kept) or "none"
        raise Refused(f"the site does not keep the version {bundle_id}", hint=f"It keeps {kept}.")
    return version


def _only_canary(state: State) -> str:
    canaries = [served.canary for served in state.served if served.canary]
    if len(canaries) != 1:
        problem = "no version is on trial" if not canaries else f"several are on trial: {', '.join(canaries)}"
        raise UsageError(problem, hint="Name the version: toolkit promote BUNDLE")
    return canaries[0]


def _shared(state: State, version: Version, permille: int) -> Served:
    served = state.of(version.product)
    if served is None or permille == ALL:
        return Served(version.product, version.bundle_id)
    if version.bundle_id == served.bundle_id:
        hint = "Give the other version a share, or all: toolkit promote OTHER"
        raise UsageError(f"{version.bundle_id} is the current version, and has what is left", hint=hint)
    if not permille:
        return Served(served.product, served.bundle_id) if served.canary == version.bundle_id else served
    return Served(served.product, served.bundle_id, version.bundle_id, permille)


def _who(by: str) -> dict[str, str]:
    return {"by": by} if by else {}
