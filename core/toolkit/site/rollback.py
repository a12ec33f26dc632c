"""Going back to a version that the site still keeps: explicit, checked like an install, audited.

The high-water mark stays where it is, so that going back opens no door for older bundles.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.errors import Refused, ToolkitError, UsageError
from toolkit.seal.open import open_bundle
from toolkit.seal.verify import verify_bundle
from toolkit.site.clock import check_time, read_clock
from toolkit.site.install import InstalledVersion, settle
from toolkit.site.layout import Site
from toolkit.site.state import State, Version, write_state


def rollback(site: Site, to: str | None = None) -> InstalledVersion:
    """Make a kept version current again.

    Args:
        to: its bundle id; the newest one older than the current version where not given.

    Raises:
        UsageError: nothing is installed, or there is nothing to go back to.
        Refused: the site does not keep that version, or its grant ended.
        IntegrityError: the version on disk is not what was installed.
    """
    with site.lock("roll back"):
        state = settle(site)
        try:
            return _rollback(site, state, _choose(state, to))
        except UsageError:
            raise
        except ToolkitError as error:
            site.audit.refused("rollback", error, to=to or "")
            raise


def _rollback(site: Site, state: State, version: Version) -> InstalledVersion:
    path = site.versions / version.bundle_id
    manifest = verify_bundle(path, site.trust)
    with open_bundle(path, site.trust, *site.recipient_keys(), unlock=site.passphrase) as opened:
        for role in opened.roles:
            opened.view(role)
            opened.forget(role)
        grant_id = opened.grant_id
        check_time(opened.grant.validity, read_clock(state, site.trust, manifest, opened.grant))
    changed = version.bundle_id != state.current
    if changed:
        facts = {"bundle_id": version.bundle_id, "from": state.current}
        site.audit.append("rollback.begin", facts)
        write_state(site.current, replace(state, current=version.bundle_id), site.signer())
        site.audit.append("rollback.done", facts)
    return InstalledVersion(version.bundle_id, path, manifest, grant_id, changed)


def _choose(state: State, to: str | None) -> Version:
    current = state.find(state.current)
    if current is None:
        raise UsageError("nothing is installed on this site", hint="Install a bundle with `toolkit install BUNDLE`.")
    if to is not None:
        version = state.find(to)
        if version is None:
            kept = ", ".join(one.bundle_id for one in state.kept)
            raise Refused(f"the site does not keep the version {to}", hint=f"It keeps {kept}.")
        return version
    older = [one for one in state.kept if one.product == current.product and one.rank < current.rank]
    if not older:
        raise UsageError("the site keeps no older version to go back to", hint="`toolkit status` lists what it keeps.")
    return max(older, key=lambda one: one.rank)
