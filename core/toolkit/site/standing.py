"""How an installed version stands, for whoever asks without a key: its grant, the time, and what was revoked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from toolkit.seal.grantfile import Grant
from toolkit.seal.manifest import Manifest
from toolkit.seal.suites import name_of
from toolkit.seal.trust import TrustRoot
from toolkit.seal.validity import Standing
from toolkit.seal.verify import read_head
from toolkit.site.clock import read_clock, stale
from toolkit.site.current import installed_grant
from toolkit.site.layout import Site
from toolkit.site.state import read_state

TRIAL = "trial.json"
"""In a site's folder while a version is on trial: how the versions compare, as the running server last said. It is not
signed: it is shown, and nothing depends on it."""


def judge(trust: TrustRoot, publisher: str, bundle_id: str, grant: Grant, now: int) -> Standing:
    """How a version stands at `now`. What runs goes on under a list that has ended; it is said so."""
    standing = grant.validity.standing(now)
    concerned = {"publisher": name_of(publisher), "issuer": name_of(grant.signer), "site": grant.recipient,
                 "bundle": bundle_id}  # fmt: skip
    for what, identity in concerned.items():
        if trust.revoked and (why := trust.revoked.why(identity)):
            return Standing("revoked", f"the {what} {identity[:40]} was revoked: {why}", standing.seconds_left)
    notes = filter(None, (standing.message, stale(trust.revoked, now)))
    return replace(standing, message="; ".join(notes))


def standing_of(site: Site, bundle_id: str) -> dict[str, Any]:
    """The grant of an installed version: serial, conditions, `state`, `message`, `seconds_left`."""
    grant, manifest = installed_grant(site, bundle_id), installed_manifest(site, bundle_id)
    clock = read_clock(read_state(site.current, site.key_id), site.trust, manifest, grant)
    standing = judge(site.trust, manifest.signer, bundle_id, grant, clock.now)
    if grant.validity.timed and clock.set_back and standing.holds:
        standing = Standing("early", "the clock of this machine was set back", standing.seconds_left)
    return {"serial": grant.serial, "grant_id": grant.grant_id, **grant.validity.as_record(), **asdict(standing)}


def trial_of(site: Site) -> dict[str, Any]:
    """What each version answered, by bundle id, as a running server last said; nothing where no trial is on."""
    try:
        told = json.loads((site.path / TRIAL).read_text(encoding="utf-8"))
        return {one["bundle"]: one["metrics"] for product in told["products"] for one in product["versions"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def installed_manifest(site: Site, bundle_id: str) -> Manifest:
    """The manifest of an installed version, whatever was revoked since."""
    return read_head(site.versions / bundle_id, site.trust.unrevoked()).manifest
