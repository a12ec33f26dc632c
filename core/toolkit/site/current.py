"""Opening what a site serves now: for `serve` and `evaluate`, without torch, and without writing anything but what is
refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toolkit.errors import IntegrityError, ToolkitError, UsageError
from toolkit.seal.custody import Unlock
from toolkit.seal.grantfile import Grant
from toolkit.seal.open import OpenedBundle, open_bundle
from toolkit.seal.verify import read_head
from toolkit.site.clock import check_time, read_clock
from toolkit.site.layout import Site, open_site
from toolkit.site.state import read_state


@contextmanager
def refusals_written_down(path: Path, verb: str, passphrase: Unlock = None) -> Iterator[None]:
    """What is refused while the block runs is written into the trail of the site in `path`."""
    try:
        yield
    except UsageError:
        raise
    except ToolkitError as error:
        with suppress(ToolkitError):
            open_site(path, passphrase).audit.refused(verb, error)
        raise


def open_current(path: Path, passphrase: Unlock = None) -> OpenedBundle:
    """The current version of the first product of the site in `path`, its files to be read by role.

    Raises:
        UsageError: no site there, nothing installed, or its keys are locked and no passphrase was given.
        IntegrityError: the state, the manifest or a grant is not as it was left.
        Refused: the grant ended, or is not valid yet.
        EnvironmentUnfit: the grant depends on the time, and the clock was set back.
    """
    return open_served(open_site(path, passphrase))


def open_served(site: Site, bundle_id: str = "") -> OpenedBundle:
    """A version that the site keeps, the current one of its first product where none is named; errors as in
    `open_current`."""
    state = read_state(site.current, site.key_id)
    version = state.find(bundle_id or state.current)
    if version is None:
        raise UsageError(f"nothing is installed on {site.path}", hint="Install a bundle: `toolkit install BUNDLE`.")
    opened = open_bundle(site.versions / version.bundle_id, site.trust, *site.recipient_keys(), unlock=site.passphrase)
    try:
        if opened.manifest.digest != version.manifest_sha256:
            raise IntegrityError(
                f"versions/{version.bundle_id} is not the version that was installed", part="bundle.dsse",
                hint="Install the bundle again from its source.",
            )  # fmt: skip
        check_time(opened.grant.validity, read_clock(state, site.trust, opened.manifest, opened.grant))
    except BaseException:
        opened.close()
        raise
    return opened


def installed_grant(site: Site, bundle_id: str) -> Grant:
    """The grant by which an installed version is opened, whatever was revoked since; needs no key.

    Raises:
        IntegrityError: the version is not as it was installed, or has no grant.
    """
    grants = read_head(site.versions / bundle_id, site.trust.unrevoked()).grants
    if not grants:
        raise IntegrityError(f"versions/{bundle_id} has no grant", part="grants/", hint="Install the bundle again.")
    return grants[-1]
