"""Installing a bundle: all of it checked while it is copied, then one file replaced. Killed anywhere, the site is as
before or as after. On disk everything stays ciphertext.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.artifacts import Violation
from toolkit.carriage.archive import import_bundle
from toolkit.errors import EnvironmentUnfit, IntegrityError, Refused, ToolkitError, UsageError
from toolkit.seal.grantfile import Grant, choose_grant
from toolkit.seal.manifest import ENVELOPE, Manifest, check_teacher
from toolkit.seal.open import open_bundle
from toolkit.seal.tree import open_tree
from toolkit.seal.verify import check_files, check_listing, read_bundle, read_envelope
from toolkit.site.clock import check_list, check_time, read_clock
from toolkit.site.fit import InstalledDomain, environment_violations, installed_domains
from toolkit.site.layout import Site
from toolkit.site.staging import Staging, clear_leftovers, put_version
from toolkit.site.state import State, Version, read_state, write_state

KEEP = 3
"""Versions kept on a site: the current one and those to roll back to."""
MARGIN = 4 * 1024 * 1024

Check = Callable[[Manifest], Iterable[Violation]]


@dataclass(frozen=True)
class InstalledVersion:
    """A version as it stands on the site. `changed` is False where the very same was installed already."""

    bundle_id: str
    path: Path
    manifest: Manifest
    grant_id: str
    changed: bool


def install(
    bundle: Path, site: Site, *, check: Check, domains: Mapping[str, InstalledDomain] | None = None
) -> InstalledVersion:
    """Install the bundle in `bundle`, a folder or an archive, and make it the current version.

    Args:
        check: what plugins have against it, asked once everything else held (hook `check_install`).
        domains: the domains of this environment; read from its entry points where not given.

    Raises:
        IntegrityError: not as it was sealed, not by whom it should be, or not granted to this site (exit 4).
        Refused: older than what was installed before, its grant ended, or `check` found a violation (exit 3).
        EnvironmentUnfit: the domain or the space is missing, the clock was set back, or another process holds the
            site (exit 5).
    """
    with site.lock("install a bundle"):
        state = settle(site)
        try:
            folder = _unpacked(bundle, site)
            return _install(folder, site, state, check, installed_domains() if domains is None else domains)
        except UsageError:
            raise
        except ToolkitError as error:
            clear_leftovers(site, state)  # first, for on a full disk they leave no room for the trail
            site.audit.refused("install", error, source=bundle.name)
            raise
        finally:
            clear_leftovers(site, read_state(site.current, site.key_id))


def _unpacked(bundle: Path, site: Site) -> Path:
    """The folder of a bundle. An archive is unpacked beside the staged files, which go away when the install ends."""
    if bundle.is_symlink() or not bundle.is_file():
        return bundle
    folder = site.staging / f"{secrets.token_hex(8)}.unpacked"
    import_bundle(bundle, site.trust, folder)
    return folder


def settle(site: Site) -> State:
    """Finish or write off what a killed process left behind; the caller holds the lock.

    The state is one file, so it is either as before or as after; the audit trail is made to say which.
    """
    state = read_state(site.current, site.key_id)
    begun = None
    for entry in site.audit.read():
        verb, _, step = entry.event.partition(".")
        if verb in ("install", "rollback") and step in ("begin", "done", "abandoned"):
            begun = entry if step == "begin" else None
    if begun is not None:
        verb = begun.event.partition(".")[0]
        bundle_id = str(begun.details.get("bundle_id", ""))
        step = "done" if state.current == bundle_id else "abandoned"
        site.audit.append(f"{verb}.{step}", {"bundle_id": bundle_id, "after": "an interruption"})
    clear_leftovers(site, state)
    return state


def _install(
    bundle: Path, site: Site, state: State, check: Check, domains: Mapping[str, InstalledDomain]
) -> InstalledVersion:
    keys = site.recipient_keys()
    with open_tree(bundle) as root:
        manifest, envelope = read_envelope(root, site.trust)
        check_teacher(manifest.teacher, manifest.overrides)
        _check_rank(manifest, state)
        grant = choose_grant(check_listing(root, manifest, site.trust), *keys)
        _check_serial(grant, state)
        site.trust.check_revoked(grant.recipient, part=grant.label)
        clock = read_clock(state, site.trust, manifest, grant)
        check_time(grant.validity, clock)
        check_list(site.trust.revoked, clock)
        _check_space(site, manifest)
        try:
            with Staging(site.staging) as staging:
                check_files(root, manifest, staging.receive)
                staging.add(ENVELOPE, envelope)
                staging.add(grant.label, grant.data)
                staging.finish()
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot write into {site.path}: {error.strerror}", hint="Check free space and rights."
            ) from error
    with open_bundle(staging.path, site.trust, *keys, unlock=site.passphrase) as opened:
        for role in opened.roles:
            opened.view(role)
            opened.forget(role)
    _check_violations(manifest, check, domains)
    if _stands(site, state, manifest, grant):
        return InstalledVersion(manifest.bundle_id, _folder(site, manifest), manifest, grant.grant_id, False)
    return _commit(site, state, staging, manifest, grant)


def _commit(site: Site, state: State, staging: Staging, manifest: Manifest, grant: Grant) -> InstalledVersion:
    version = Version.of(manifest, grant.serial)
    facts = {
        "bundle_id": version.bundle_id, "product": version.product, "epoch": version.epoch,
        "counter": version.counter, "manifest_sha256": version.manifest_sha256, "grant_id": grant.grant_id,
    }  # fmt: skip
    site.audit.append("install.begin", facts)
    put_version(staging, _folder(site, manifest))
    write_state(site.current, _with_version(state, version), site.signer())
    site.audit.append("install.done", facts)
    return InstalledVersion(manifest.bundle_id, _folder(site, manifest), manifest, grant.grant_id, True)


def _with_version(state: State, version: Version) -> State:
    others = [one for one in state.kept if one.bundle_id != version.bundle_id]
    marks = [one for one in state.marks if one.product != version.product]
    return replace(
        state, current=version.bundle_id, kept=(version, *others)[:KEEP], marks=(*marks, version)
    )  # fmt: skip


def _stands(site: Site, state: State, manifest: Manifest, grant: Grant) -> bool:
    """True where this very version is current and whole, with this very grant."""
    if state.current != manifest.bundle_id or state.find(manifest.bundle_id) != Version.of(manifest, grant.serial):
        return False
    try:
        found = read_bundle(_folder(site, manifest), site.trust)
    except (IntegrityError, UsageError):
        return False
    return [one.grant_id for one in found.grants] == [grant.grant_id]


def _check_rank(manifest: Manifest, state: State) -> None:
    mark = state.mark(manifest.product)
    if mark is None:
        return
    rank = (manifest.epoch, manifest.counter)
    if rank < mark.rank:
        raise Refused(
            f"{manifest.bundle_id} (epoch {rank[0]}, counter {rank[1]}) is older than what was installed here "
            f"(epoch {mark.epoch}, counter {mark.counter})",
            hint="To return to a kept version, use `toolkit rollback`.",
        )
    if rank == mark.rank and manifest.digest != mark.manifest_sha256:
        raise IntegrityError(
            f"{manifest.bundle_id} has the counter of {mark.bundle_id} and another content", part=ENVELOPE,
            hint="Two bundles must not share a counter: ask the publisher which one is real.",
        )  # fmt: skip


def _check_serial(grant: Grant, state: State) -> None:
    known = state.find(grant.bundle_id)
    if known is not None and grant.serial < known.serial:
        raise IntegrityError(
            f"{grant.label} is older than the grant installed here (serial {grant.serial} < {known.serial})",
            part=grant.label, hint="Use the newest grant.",
        )  # fmt: skip


def _check_space(site: Site, manifest: Manifest) -> None:
    needed = sum(listed.size for listed in manifest.listed()) + MARGIN
    free = shutil.disk_usage(site.path).free
    if free < needed:
        raise EnvironmentUnfit(
            f"{site.path} has {free / 1e6:,.0f} MB free and {needed / 1e6:,.0f} MB are needed", hint="Make room."
        )


def _check_violations(manifest: Manifest, check: Check, domains: Mapping[str, InstalledDomain]) -> None:
    unfit = list(environment_violations(manifest, domains))
    if unfit:
        raise EnvironmentUnfit(_listed(unfit), hint="Install what the bundle needs into this environment.")
    violations = list(check(manifest))
    if violations:
        raise Refused(_listed(violations), hint="The bundle does not fit this site; ask whoever sealed it.")


def _listed(violations: list[Violation]) -> str:
    return "; ".join(
        f"{one.by}: {one.because}" + (f" (found {one.measured}, allowed {one.allowed})" if one.allowed else "")
        for one in violations
    )


def _folder(site: Site, manifest: Manifest) -> Path:
    return site.versions / manifest.bundle_id
