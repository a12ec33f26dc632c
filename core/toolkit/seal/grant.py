"""Granting: the keys of a sealed bundle for one more recipient.

The payload of a bundle never changes for a new recipient. Content keys come from the escrow grant, which sealing
leaves in the home and which only the issuer opens. An old holder can always open old ciphertext.
"""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.files import read_small
from toolkit.seal.grantfile import (
    MAX_GRANT,
    check_grant,
    grant_path,
    make_grant,
    read_grant,
    unwrap_content_keys,
)
from toolkit.seal.keys import KeyRing
from toolkit.seal.recipient import Recipient
from toolkit.seal.validity import UNLIMITED, Validity
from toolkit.seal.verify import read_bundle
from toolkit.workspace import flush_folder, folder_lock, write_file

LOCK_WAIT = 60.0


def grant(
    bundle: Path, recipient: Recipient, keys: KeyRing, escrow: Path, *, renew: bool = False,
    validity: Validity | None = None,
) -> Path:  # fmt: skip
    """Give `recipient` the keys of `bundle`; the grant's path in the bundle.

    Args:
        escrow: the home's folder of escrow grants.
        renew: write a new grant with a higher serial where the recipient has one already.
        validity: from when, until when, and on how many instances it holds; None for ever, or as the recipient has it.

    Raises:
        IntegrityError: the bundle is not as it was sealed, or was sealed under another root; it or the recipient was
            revoked.
        UsageError: there is no escrow grant for it here, or the recipient has a grant on other conditions.
    """
    keys.trust.check_revoked(recipient.fingerprint, part="recipient.json")
    found = read_bundle(bundle, keys.trust)
    mine = [one for one in found.grants if one.recipient == recipient.fingerprint]
    if mine and not renew:
        newest = max(mine, key=lambda one: one.serial)
        if validity not in (None, newest.validity):
            raise UsageError(
                f"{recipient.name or recipient.fingerprint[:16]} has a grant on other conditions",
                hint="Issue a new one with --renew.",
            )
        return bundle / newest.label
    escrowed = read_grant(
        read_small(escrow_path(escrow, found.manifest.bundle_id), MAX_GRANT, what="escrow grant"),
        keys.trust.unrevoked(), part="escrow grant",
    )  # fmt: skip
    check_grant(escrowed, found.manifest, part="escrow grant")
    if escrowed.recipient != keys.escrow.fingerprint:
        raise UsageError(
            "the escrow grant was made for other keys",
            hint="Use the keys that sealed the bundle. If it was sealed while the pair was rotated, or a rotation was "
            "cut short: toolkit keys rotate escrow.",
        )
    content_keys = unwrap_content_keys(escrowed, keys.escrow)
    with folder_lock(escrow, purpose="write a grant", wait=LOCK_WAIT):
        serial = next_serial(escrow, at_least=max([escrowed.serial, *(one.serial for one in found.grants)]) + 1)
        grant_id, data = make_grant(
            bundle_id=found.manifest.bundle_id, manifest_sha256=found.manifest.digest, serial=serial,
            recipient=recipient, issuer=keys.issuer, content_keys=content_keys, validity=validity or UNLIMITED,
        )  # fmt: skip
        _put_grant(bundle, grant_id, data)
    return bundle / grant_path(grant_id)


def escrow_path(escrow: Path, bundle_id: str) -> Path:
    """Where the escrow grant of a bundle lies in the home."""
    return escrow / f"{bundle_id}.dsse"


def next_serial(escrow: Path, *, at_least: int = 1) -> int:
    """A serial higher than any issued from this home. The caller holds the folder's lock."""
    path = escrow / "serial"
    text = path.read_text().strip() if path.exists() else "0"
    if not text.isdecimal():
        raise IntegrityError(f"{path} is damaged", part="serial", hint="Restore the escrow folder from its backup.")
    serial = max(int(text) + 1, at_least)
    write_file(path, b"%d\n" % serial, mode=0o600)
    return serial


def _put_grant(bundle: Path, grant_id: str, data: bytes) -> None:
    """Write aside, outside the bundle: a crash must leave nothing in it that the manifest does not list."""
    aside = bundle.parent / f".grant-{grant_id}"
    name = f"{grant_id}.dsse"
    try:
        aside.mkdir()
        write_file(aside / name, data)
        if (bundle / "grants").exists():
            os.rename(aside / name, bundle / "grants" / name)
            flush_folder(bundle / "grants")
            aside.rmdir()
        else:
            os.rename(aside, bundle / "grants")
        flush_folder(bundle)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write into {bundle}: {error.strerror}", hint="Check free space and rights."
        ) from error
