"""How an installed version stands, for whoever asks without a key: its grant's conditions and the time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from toolkit.seal.validity import Standing
from toolkit.seal.verify import read_head
from toolkit.site.clock import read_clock
from toolkit.site.current import installed_grant
from toolkit.site.layout import Site
from toolkit.site.state import read_state


def standing_of(site: Site, bundle_id: str) -> dict[str, Any]:
    """The grant of an installed version: serial, conditions, `state`, `message`, `seconds_left`."""
    grant = installed_grant(site, bundle_id)
    manifest = read_head(site.versions / bundle_id, site.trust).manifest
    clock = read_clock(read_state(site.current, site.key_id), manifest, grant)
    standing = grant.validity.standing(clock.now)
    if grant.validity.timed and clock.set_back:
        standing = Standing("early", "the clock of this machine was set back", standing.seconds_left)
    return {"serial": grant.serial, "grant_id": grant.grant_id, **grant.validity.as_record(), **asdict(standing)}
