"""A new escrow pair in the place of the old one: every escrow grant of the home is wrapped anew.

The root does not name the pair, so no site needs to hear of it, and no bundle changes. A rotation that was cut short
leaves grants for either pair, and the new pair in next/; the next call takes it up.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from toolkit.seal.custody import Unlock, alike
from toolkit.seal.files import read_small
from toolkit.seal.grant import next_serial
from toolkit.seal.grantfile import MAX_GRANT, make_grant, read_grant, unwrap_content_keys
from toolkit.seal.keyfile import RecipientKey, create_recipient_key, key_facts, load_recipient_key
from toolkit.seal.keys import LOCK_WAIT, KeyRing, key_path, load_keys
from toolkit.seal.recipient import Recipient
from toolkit.workspace import flush_folder, folder_lock, write_file

ROLE = "escrow"


@dataclass(frozen=True)
class NewEscrow:
    """The pair that receives content keys from now on, and how many grants were wrapped anew for it."""

    fingerprint: str
    grants: int


def rotate_escrow(folder: Path, escrow: Path, passphrase: Unlock) -> NewEscrow:
    """A new escrow pair for the keys in `folder`, and all of the grants in `escrow` for it.

    Whoever has the old pair and an old copy of the escrow folder can still open what is in that copy: to shut him out,
    seal the bundles again.

    Raises:
        UsageError: there are no keys. IntegrityError: an escrow grant is damaged, or for neither pair; nothing that
            was readable before has become unreadable then.
    """
    with folder_lock(folder, purpose="rotate a key", wait=LOCK_WAIT):
        keys, place = load_keys(folder, passphrase), key_path(folder, ROLE)
        path = folder / "next" / place.name
        by = alike(passphrase, key_facts(place)[1])
        new = load_recipient_key(path, ROLE, passphrase) if path.exists() else create_recipient_key(path, ROLE, by)
        escrow.mkdir(mode=0o700, parents=True, exist_ok=True)
        with folder_lock(escrow, purpose="wrap escrow grants anew", wait=LOCK_WAIT):
            files = sorted(escrow.glob("*.dsse"))
            for file in files:
                _wrap_anew(file, escrow, keys, new)
        retired = folder / "retired" / f"{keys.escrow.fingerprint[:16]}-{place.name}"
        retired.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # of a rotation that was cut short
            retired.hardlink_to(place)
        path.replace(place)
        flush_folder(folder)
    return NewEscrow(new.fingerprint, len(files))


def _wrap_anew(file: Path, escrow: Path, keys: KeyRing, new: RecipientKey) -> None:
    part = f"escrow/{file.name}"
    old = read_grant(read_small(file, MAX_GRANT, what="escrow grant"), keys.trust.unrevoked(), part=part)
    if old.recipient == new.fingerprint:  # by a rotation that was cut short
        return
    _, data = make_grant(
        bundle_id=old.bundle_id, manifest_sha256=old.manifest_sha256, serial=next_serial(escrow),
        recipient=Recipient.of(new, ROLE), issuer=keys.issuer, content_keys=unwrap_content_keys(old, keys.escrow),
        validity=old.validity,
    )  # fmt: skip
    write_file(file, data, mode=0o600)
