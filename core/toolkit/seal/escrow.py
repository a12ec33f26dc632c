"""A new escrow pair in the place of the old one: every escrow grant of the home is wrapped anew.

The root does not name the pair, so no site needs to hear of it, and no bundle changes. A rotation that was cut short
leaves grants for either pair, and the new pair in next/; the next call takes it up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import IntegrityError
from toolkit.seal.custody import Unlock, alike
from toolkit.seal.files import read_small
from toolkit.seal.grant import next_serial
from toolkit.seal.grantfile import MAX_GRANT, Grant, make_grant, read_grant, unwrap_content_keys
from toolkit.seal.keyfile import RecipientKey, create_recipient_key, key_facts, load_recipient_key
from toolkit.seal.keys import LOCK_WAIT, KeyRing, key_path, load_keys
from toolkit.seal.recipient import Recipient
from toolkit.workspace import flush_folder, folder_lock, write_file

ROLE = "escrow"


def escrow_folder(home: Path) -> Path:
    """Where a home keeps the escrow grants of all that it sealed."""
    return home / "escrow"


@dataclass(frozen=True)
class NewEscrow:
    """The pair that receives content keys from now on, and how many grants were wrapped anew for it."""

    fingerprint: str
    grants: int


def rotate_escrow(folder: Path, escrow: Path, passphrase: Unlock) -> NewEscrow:
    """A new escrow pair for the keys in `folder`, and all of the grants in `escrow` for it.

    What was sealed beside an earlier rotation, for the pair that went then, is taken up as well. Whoever has the old
    pair and an old copy of the escrow folder can still open what is in that copy: to shut him out, seal anew.

    Raises:
        UsageError: there are no keys. IntegrityError: an escrow grant is damaged, or for no pair of these keys; nothing
            is changed then.
    """
    with folder_lock(folder, purpose="rotate a key", wait=LOCK_WAIT):
        keys, place = load_keys(folder, passphrase), key_path(folder, ROLE)
        path, retired = folder / "next" / place.name, folder / "retired"
        by = alike(passphrase, key_facts(place)[1])
        new = load_recipient_key(path, ROLE, passphrase) if path.exists() else create_recipient_key(path, ROLE, by)
        before = [load_recipient_key(old, ROLE, passphrase) for old in retired.glob(f"*-{place.name}")]
        escrow.mkdir(mode=0o700, parents=True, exist_ok=True)
        with folder_lock(escrow, purpose="wrap escrow grants anew", wait=LOCK_WAIT):
            found = [_opened(file, keys, (new, keys.escrow, *before)) for file in sorted(escrow.glob("*.dsse"))]
            for one in found:
                if one.grant.recipient != new.fingerprint:  # else by a rotation that was cut short
                    _wrap_anew(one, escrow, keys, new)
        retired.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # of a rotation that was cut short
            (retired / f"{keys.escrow.fingerprint[:16]}-{place.name}").hardlink_to(place)
        path.replace(place)
        flush_folder(folder)
    return NewEscrow(new.fingerprint, len(found))


@dataclass(frozen=True)
class _Opened:
    file: Path
    grant: Grant
    content_keys: Mapping[str, bytes] = field(repr=False)


def _opened(file: Path, keys: KeyRing, pairs: Sequence[RecipientKey]) -> _Opened:
    part = f"escrow/{file.name}"
    grant = read_grant(read_small(file, MAX_GRANT, what="escrow grant"), keys.trust.unrevoked(), part=part)
    pair = next((one for one in pairs if one.fingerprint == grant.recipient), None)
    if pair is None:
        raise IntegrityError(
            f"{part} was made for another escrow pair", part=part,
            hint="Move it out of the folder, or bring back the retired pair that it is for.",
        )  # fmt: skip
    return _Opened(file, grant, unwrap_content_keys(grant, pair))


def _wrap_anew(one: _Opened, escrow: Path, keys: KeyRing, new: RecipientKey) -> None:
    _, data = make_grant(
        bundle_id=one.grant.bundle_id, manifest_sha256=one.grant.manifest_sha256, serial=next_serial(escrow),
        recipient=Recipient.of(new, ROLE), issuer=keys.issuer, content_keys=one.content_keys,
        validity=one.grant.validity,
    )  # fmt: skip
    write_file(one.file, data, mode=0o600)
