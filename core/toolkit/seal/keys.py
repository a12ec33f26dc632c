"""The keys of a toolkit home: root, publisher, issuer, revocation, the key of model.sig, the issuer's escrow pair, and
root.json over them.

Daily work needs publisher, model, issuer and escrow; the root's file may be moved to a safe once root.json is signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.errors import UsageError
from toolkit.seal.custody import Unlock, access
from toolkit.seal.keyfile import (
    ModelKey,
    RecipientKey,
    SigningKey,
    create_model_key,
    create_recipient_key,
    create_signing_key,
    key_facts,
    load_model_key,
    load_recipient_key,
    load_signing_key,
)
from toolkit.seal.revocation import LIST, load_list
from toolkit.seal.suites import SUITE, check_suite_name, cipher_of
from toolkit.seal.trust import MAX_SIGNERS, TrustRoot, load_trust, parse_trust, root_payload, sign_root
from toolkit.workspace import folder_lock, write_file

ROOT = "root.json"
LOCK_WAIT = 60.0


@dataclass(frozen=True)
class KeyRing:
    """What sealing and granting need. `escrow` receives every bundle's content keys, so that they can be granted;
    `model` signs model.sig, None where the root names nobody for it."""

    trust: TrustRoot
    publisher: SigningKey = field(repr=False)
    issuer: SigningKey = field(repr=False)
    escrow: RecipientKey = field(repr=False)
    model: ModelKey | None = field(default=None, repr=False)

    @property
    def development(self) -> bool:
        """True where any of the keys lies open, guarded only by its file's mode."""
        keys = self.publisher, self.issuer, self.escrow, *((self.model,) if self.model else ())
        return self.trust.development or "development" in {key.custody for key in keys}


def key_path(folder: Path, role: str) -> Path:
    """Where the key of a role lies."""
    return folder / f"{role}.key.json"


def ensure_development_keys(folder: Path, passphrase: Unlock = None) -> KeyRing:
    """The keys in `folder`; where there are none, they are made without a passphrase, marked `custody: development`.

    Safe to call from several processes at once. `passphrase` only opens keys that `init_keys` made before.
    """
    return load_keys(folder, passphrase) if (folder / ROOT).exists() else _create(folder, None)


def init_keys(
    folder: Path, passphrase: Unlock, *, suite: str = SUITE, root_keys: int = 1, threshold: int = 1
) -> KeyRing:  # fmt: skip
    """Make production keys, locked by a passphrase.

    Args:
        root_keys: how many root keys there are, of which `threshold` must sign a new root.

    Raises:
        UsageError: there are keys already, the passphrase is empty, or the numbers or the suite do not fit.
    """
    check_suite_name(suite)
    access(passphrase).cipher(suite)  # a root that allows what nobody can do would be of no use
    if not 1 <= threshold <= root_keys <= MAX_SIGNERS:
        raise UsageError(
            f"{threshold} of {root_keys} root keys is no threshold",
            hint=f"Have 1 to {MAX_SIGNERS} root keys, and as many sign.",
        )
    if (folder / ROOT).exists() or any(folder.glob("*.key.json")):
        raise UsageError(
            f"there are keys in {folder} already",
            hint="Keep them, or move the whole folder away; bundles sealed with them stay tied to them.",
        )
    if not access(passphrase).passphrase:
        raise UsageError("the passphrase is empty", hint="Write one line into the passphrase file.")
    return _create(folder, passphrase, suite, root_keys, threshold)


def load_keys(folder: Path, passphrase: Unlock) -> KeyRing:
    """Open the keys of a home."""
    if not (folder / ROOT).exists():
        raise UsageError(f"there are no keys in {folder}", hint="Make them with `toolkit keys init`.")
    trust = home_trust(folder)
    ring = KeyRing(
        trust=trust,
        publisher=load_signing_key(key_path(folder, "publisher"), "publisher", passphrase),
        issuer=load_signing_key(key_path(folder, "issuer"), "issuer", passphrase),
        escrow=load_recipient_key(key_path(folder, "escrow"), "escrow", passphrase),
        model=load_model_key(key_path(folder, "model"), passphrase) if trust.models else None,
    )
    own = {ring.publisher.key_id: trust.publishers, ring.issuer.key_id: trust.issuers}
    own |= {ring.model.key_id: trust.models} if ring.model else {}
    if any(key_id not in named for key_id, named in own.items()):
        raise UsageError(f"the keys in {folder} are not those that its root.json names", hint="Restore the folder.")
    trust.check_revoked(*own, part=ROOT)
    return ring


def home_trust(folder: Path) -> TrustRoot:
    """The home's root.json, with what the home has revoked."""
    trust = load_trust(folder / ROOT)
    path = folder / LIST
    # Its signer may have been rotated since; the list lies beside the keys and is the home's own.
    return replace(trust, revoked=load_list(path, None)) if path.exists() else trust


def root_paths(folder: Path) -> list[Path]:
    """The files of the root keys that lie in `folder`."""
    return sorted(folder.glob("root*.key.json"))


def _create(
    folder: Path, passphrase: Unlock, suite: str = SUITE, root_keys: int = 1, threshold: int = 1
) -> KeyRing:  # fmt: skip
    """Make what is missing, root.json last: a creation that was cut short is taken up, and no key is overwritten."""
    with folder_lock(folder, purpose="make keys", wait=LOCK_WAIT):
        folder.chmod(0o700)
        if (folder / ROOT).exists():
            return load_keys(folder, passphrase)
        names = ["root", *(f"root-{number}" for number in range(2, root_keys + 1))]
        roots = [_signing_key(key_path(folder, name), "root", passphrase, suite) for name in names]
        publisher, issuer, revocation = (
            _signing_key(key_path(folder, role), role, passphrase, suite)
            for role in ("publisher", "issuer", "revocation")
        )
        path = key_path(folder, "escrow")
        make_or_load = load_recipient_key if path.exists() else create_recipient_key
        escrow = make_or_load(path, "escrow", passphrase)
        path = key_path(folder, "model")
        model = (load_model_key if path.exists() else create_model_key)(path, passphrase)
        payload = root_payload(
            version=1, roots=[root.key_id for root in roots], threshold=threshold, publishers=[publisher.key_id],
            issuers=[issuer.key_id], revokers=[revocation.key_id], models=[model.key_id], ciphers=[cipher_of(suite)],
            development=access(passphrase).makes == "development",
        )  # fmt: skip
        data = sign_root(payload, roots)
        write_file(folder / ROOT, data)
        return KeyRing(parse_trust(data), publisher, issuer, escrow, model)


def _signing_key(path: Path, role: str, passphrase: Unlock, suite: str) -> SigningKey:
    if path.exists():
        return load_signing_key(path, role, passphrase)
    return create_signing_key(path, role, passphrase, suite)


def custody_of(folder: Path) -> str:
    """`development`, `passphrase` or `none`: what guards the publisher's key in `folder`."""
    path = key_path(folder, "publisher")
    return key_facts(path)[1] if path.exists() else "none"
