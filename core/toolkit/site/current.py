"""Opening what a site serves now: for `serve` and `evaluate`, without torch, and without writing anything but what is
refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toolkit.errors import IntegrityError, ToolkitError, UsageError
from toolkit.seal.open import OpenedBundle, open_bundle
from toolkit.site.layout import open_site
from toolkit.site.state import read_state


@contextmanager
def refusals_written_down(path: Path, verb: str, passphrase: str | None = None) -> Iterator[None]:
    """What is refused while the block runs is written into the trail of the site in `path`."""
    try:
        yield
    except UsageError:
        raise
    except ToolkitError as error:
        with suppress(ToolkitError):
            open_site(path, passphrase).audit.refused(verb, error)
        raise


def open_current(path: Path, passphrase: str | None = None) -> OpenedBundle:
    """The current version of the site in `path`, its files to be read by role.

    Raises:
        UsageError: no site there, nothing installed, or its keys are locked and no passphrase was given.
        IntegrityError: the state, the manifest or a grant is not as it was left.
    """
    site = open_site(path, passphrase)
    state = read_state(site.current, site.key_id)
    version = state.find(state.current)
    if version is None:
        raise UsageError(f"nothing is installed on {path}", hint="Install a bundle: `toolkit install BUNDLE`.")
    opened = open_bundle(site.versions / version.bundle_id, site.trust, site.recipient_key())
    if opened.manifest.digest != version.manifest_sha256:
        opened.close()
        raise IntegrityError(
            f"versions/{version.bundle_id} is not the version that was installed", part="bundle.dsse",
            hint="Install the bundle again from its source.",
        )  # fmt: skip
    return opened
