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
from toolkit.seal.manifest import ENVELOPE, MODEL_SIGNATURE, Manifest, check_teacher
from toolkit.seal.model_signature import MAX_MODEL_SIGNATURE
from toolkit.seal.open import open_bundle
from toolkit.seal.papers import check_papers
from toolkit.seal.tree import open_tree, read_file
from toolkit.seal.verify import check_files, check_listing, read_bundle, read_envelope
from toolkit.site.clock import check_list, check_time, read_clock
from toolkit.site.fit import InstalledDomain, environment_violations, installed_domains
from toolkit.site.layout import Site
from toolkit.site.staging import Staging, clear_leftovers, put_version
from toolkit.site.state import ALL, Served, State, Version
from toolkit.site.switch import settle, switch

KEEP = 3
"""Versions of a product that are kept: the current one and those to roll back to."""
MARGIN = 4 * 1024 * 1024

Check = Callable[[Manifest], Iterable[Violation]]


@dataclass(frozen=True)
class InstalledVersion:
    """A version as it stands on the site. `changed` is False where the very same was installed already; `renewed` says
    that it is an older one, which has a new grant or whole files now and serves as it did."""

    bundle_id: str
    path: Path
    manifest: Manifest
    grant_id: str
    changed: bool
    renewed: bool = False


def install(
    bundle: Path,
    site: Site,
    *,
    check: Check,
    domains: Mapping[str, InstalledDomain] | None = None,
    permille: int = ALL,
    by: str = "",
) -> InstalledVersion:
    """Install the bundle in `bundle`, a folder or an archive, and make it its product's current version, or put it on
    trial beside that one. An older version that is kept gets its new grant and whole files, and serves as it did.

    Args:
        check: what plugins have against it, asked once everything else held (hook `check_install`).
        domains: the domains of this environment; read from its entry points where not given.
        permille: how many of a thousand requests it answers; fewer than all is a trial.
        by: who asked for it, where that is not the user of this process.

    Raises:
        UsageError: a trial of a product of which nothing is served yet.
        IntegrityError: not as it was sealed, not by whom it should be, or not granted to this site (exit 4).
        Refused: older than what was installed before, its grant ended, or `check` found a violation (exit 3).
        EnvironmentUnfit: the domain or the space is missing, the clock was set back, or another process holds the
            site (exit 5).
    """
    check_share(permille, low=1)
    who = {"by": by} if by else {}
    with site.held("install a bundle") as site:
        state = settle(site)
        try:
            folder = _unpacked(bundle, site)
            fits = installed_domains() if domains is None else domains
            checked = _check(folder, site, state, permille, check, fits)
            return _put(site, state, checked, permille, who)
        except UsageError:
            raise
        except ToolkitError as error:
            clear_leftovers(site)  # first, for on a full disk they leave no room for the trail
            site.audit.refused("install", error, source=bundle.name, **who)
            raise
        finally:
            clear_leftovers(site)


def permille_of(share: float) -> int:
    """A share of the requests, from 0 to 1, in thousandths. Raises UsageError where it is none, or too small."""
    permille = round(share * ALL) if 0 <= share <= 1 else -1
    if permille < 0 or (share and not permille):
        raise UsageError(f"a share of {share:g} cannot be", hint="Choose 0, or one from 0.001 to 1.")
    return permille


def check_share(permille: int, low: int = 0) -> None:
    """Raises UsageError where a share is none."""
    if not low <= permille <= ALL:
        raise UsageError(f"a share of {permille / ALL:g} cannot be", hint=f"Choose one from {low / ALL:g} to 1.")


@dataclass(frozen=True)
class _Checked:
    """A bundle that was found whole and fit, and lies in `staging`."""

    staging: Staging
    manifest: Manifest
    grant: Grant


def _unpacked(bundle: Path, site: Site) -> Path:
    """The folder of a bundle. An archive is unpacked beside the staged files, which go away when the install ends."""
    if bundle.is_symlink() or not bundle.is_file():
        return bundle
    folder = site.staging / f"{secrets.token_hex(8)}.unpacked"
    import_bundle(bundle, site.trust, folder)
    return folder


def _check(
    bundle: Path, site: Site, state: State, permille: int, check: Check, domains: Mapping[str, InstalledDomain]
) -> _Checked:
    keys = site.recipient_keys()
    with open_tree(bundle) as root:
        manifest, envelope = read_envelope(root, site.trust)
        check_teacher(manifest.teacher, manifest.overrides)
        _check_rank(manifest, state, permille)
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
                if manifest.model_signer:
                    staging.add(MODEL_SIGNATURE, read_file(root, MODEL_SIGNATURE, limit=MAX_MODEL_SIGNATURE))
                staging.finish()
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot write into {site.path}: {error.strerror}", hint="Check free space and rights."
            ) from error
    with open_tree(staging.path) as staged:
        check_papers(staged, manifest, envelope, site.trust)
    with open_bundle(staging.path, site.trust, *keys, unlock=site.passphrase) as opened:
        for role in opened.roles:
            opened.view(role)
            opened.forget(role)
    _check_violations(manifest, check, domains)
    return _Checked(staging, manifest, grant)


def _put(site: Site, state: State, checked: _Checked, permille: int, who: Mapping[str, str]) -> InstalledVersion:
    manifest, grant = checked.manifest, checked.grant
    version = Version.of(manifest, grant.serial)
    renewed = _is_older(manifest, state)
    served = (state.of(version.product) if renewed else None) or _served(state, version, permille)
    done = InstalledVersion(
        version.bundle_id, _folder(site, manifest), manifest, grant.grant_id, changed=True, renewed=renewed
    )
    if _stands(site, state, version, served, grant):
        return replace(done, changed=False)
    facts = {
        "bundle_id": version.bundle_id, "product": version.product, "epoch": version.epoch,
        "counter": version.counter, "manifest_sha256": version.manifest_sha256, "grant_id": grant.grant_id, **who,
    }  # fmt: skip
    switch(
        site, "install", _with_version(state, version, served), served, facts,
        prepare=lambda: put_version(checked.staging, done.path),
    )  # fmt: skip
    return done


def _served(state: State, version: Version, permille: int) -> Served:
    """What answers for the product with the new version; reinstalled, the current one stays it."""
    served = state.of(version.product)
    if permille == ALL:
        return Served(version.product, version.bundle_id)
    if served is None:
        raise UsageError(f"nothing of {version.product} is served yet", hint="Install it without --canary.")
    if served.bundle_id == version.bundle_id:
        raise UsageError(f"{version.bundle_id} is the current version", hint="Put another version on trial beside it.")
    return Served(version.product, served.bundle_id, version.bundle_id, permille)


def _with_version(state: State, version: Version, served: Served) -> State:
    marks = [one for one in state.marks if one.product != version.product]
    mark = max((version, state.mark(version.product) or version), key=lambda one: one.rank)
    left = replace(state, kept=_kept(state, version, served), marks=(*marks, mark)).serving(served)
    ids = {one.bundle_id for one in left.kept}
    return replace(left, failed=tuple(one for one in left.failed if one.bundle_id in ids))


def _kept(state: State, version: Version, served: Served) -> tuple[Version, ...]:
    """The newest of each product; in any case those that answer, and the one that did before."""
    before = state.of(version.product)
    needed = {served.bundle_id, served.canary, before.bundle_id if before else ""}
    others = [one for one in state.kept if one.bundle_id != version.bundle_id]
    own = [version, *(one for one in others if one.product == version.product)]
    own.sort(key=lambda one: one.bundle_id not in needed)
    stay = {one.bundle_id for one in own[:KEEP]}
    return tuple(one for one in (version, *others) if one.product != version.product or one.bundle_id in stay)


def _stands(site: Site, state: State, version: Version, served: Served, grant: Grant) -> bool:
    """True where this very version answers so already and is whole, with this very grant."""
    if state.of(version.product) != served or state.find(version.bundle_id) != version:
        return False
    try:
        found = read_bundle(site.versions / version.bundle_id, site.trust)
    except (IntegrityError, UsageError):
        return False
    return [one.grant_id for one in found.grants] == [grant.grant_id]


def _check_rank(manifest: Manifest, state: State, permille: int) -> None:
    mark = state.mark(manifest.product)
    if mark is None:
        return
    rank, kept = (manifest.epoch, manifest.counter), state.find(manifest.bundle_id)
    if permille == ALL and kept is not None and kept.manifest_sha256 == manifest.digest:
        return
    if _is_older(manifest, state):
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


def _is_older(manifest: Manifest, state: State) -> bool:
    """Whether a later version of its product was installed before."""
    mark = state.mark(manifest.product)
    return mark is not None and (manifest.epoch, manifest.counter) < mark.rank


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
