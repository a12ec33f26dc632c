"""The keys of a toolkit home: root, publisher, issuer, and the issuer's escrow pair, with the root.json over them.

Daily work needs publisher, issuer and escrow; the root's file may be moved to a safe once root.json is signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import UsageError
from toolkit.seal.keyfile import (
    RecipientKey,
    SigningKey,
    create_recipient_key,
    create_signing_key,
    key_facts,
    load_recipient_key,
    load_signing_key,
)
from toolkit.seal.trust import TrustRoot, load_trust, parse_trust, sign_root
from toolkit.workspace import folder_lock, write_file

ROOT = "root.json"
LOCK_WAIT = 60.0


@dataclass(frozen=True)
class KeyRing:
    """What sealing and granting need. `escrow` receives every bundle's content keys, so that they can be granted."""

    trust: TrustRoot
    publisher: SigningKey = field(repr=False)
    issuer: SigningKey = field(repr=False)
    escrow: RecipientKey = field(repr=False)

    @property
    def development(self) -> bool:
        """True where any of the keys lies open, guarded only by its file's mode."""
        return self.trust.development or "development" in (
            self.publisher.custody, self.issuer.custody, self.escrow.custody
        )  # fmt: skip


def key_path(folder: Path, role: str) -> Path:
    """Where the key of a role lies."""
    return folder / f"{role}.key.json"


def ensure_development_keys(folder: Path, passphrase: str | None = None) -> KeyRing:
    """The keys in `folder`; where there are none, they are made without a passphrase, marked `custody: development`.

    Safe to call from several processes at once. `passphrase` only opens keys that `init_keys` made before.
    """
    return load_keys(folder, passphrase) if (folder / ROOT).exists() else _create(folder, None)


def init_keys(folder: Path, passphrase: str) -> KeyRing:
    """Make production keys, locked by a passphrase.

    Raises:
        UsageError: there are keys already, or the passphrase is empty.
    """
    if (folder / ROOT).exists() or any(folder.glob("*.key.json")):
        raise UsageError(
            f"there are keys in {folder} already",
            hint="Keep them, or move the whole folder away; bundles sealed with them stay tied to them.",
        )
    if not passphrase:
        raise UsageError("the passphrase is empty", hint="Write one line into the passphrase file.")
    return _create(folder, passphrase)


def load_keys(folder: Path, passphrase: str | None) -> KeyRing:
    """Open the keys of a home."""
    if not (folder / ROOT).exists():
        raise UsageError(f"there are no keys in {folder}", hint="Make them with `toolkit keys init`.")
    ring = KeyRing(
        trust=load_trust(folder / ROOT),
        publisher=load_signing_key(key_path(folder, "publisher"), "publisher", passphrase),
        issuer=load_signing_key(key_path(folder, "issuer"), "issuer", passphrase),
        escrow=load_recipient_key(key_path(folder, "escrow"), "escrow", passphrase),
    )
    if ring.publisher.key_id not in ring.trust.publishers or ring.issuer.key_id not in ring.trust.issuers:
        raise UsageError(f"the keys in {folder} are not those that its root.json names", hint="Restore the folder.")
    return ring


def _create(folder: Path, passphrase: str | None) -> KeyRing:
    """Make what is missing, root.json last: a creation that was cut short is taken up, and no key is overwritten."""
    with folder_lock(folder, purpose="make keys", wait=LOCK_WAIT):
        folder.chmod(0o700)
        if (folder / ROOT).exists():
            return load_keys(folder, passphrase)
        root = _signing_key(folder, "root", passphrase)
        publisher = _signing_key(folder, "publisher", passphrase)
        issuer = _signing_key(folder, "issuer", passphrase)
        path = key_path(folder, "escrow")
        make_or_load = load_recipient_key if path.exists() else create_recipient_key
        escrow = make_or_load(path, "escrow", passphrase)
        data = sign_root(root, publishers=[publisher.key_id], issuers=[issuer.key_id], development=passphrase is None)
        write_file(folder / ROOT, data)
        return KeyRing(parse_trust(data), publisher, issuer, escrow)


def _signing_key(folder: Path, role: str, passphrase: str | None) -> SigningKey:
    path = key_path(folder, role)
    return load_signing_key(path, role, passphrase) if path.exists() else create_signing_key(path, role, passphrase)


def custody_of(folder: Path) -> str:
    """`development`, `passphrase` or `none`: what guards the publisher's key in `folder`."""
    path = key_path(folder, "publisher")
    return key_facts(path)[1] if path.exists() else "none"
