"""A site's folder: making it, and opening it with what it pinned when it was made.

keys/site.key.json        signs the audit trail and the state      trust/root.json   as pinned; newer beside it
keys/recipient.key.json   receives content keys                    recipient.json    its public half, for the issuer
current                   the signed state, replaced as one file   versions/<id>/    installed bundles, ciphertext
audit/                    the signed log and its head              staging/          work of an install
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.custody import Unlock
from toolkit.seal.keyfile import (
    RecipientKey,
    SigningKey,
    create_recipient_key,
    create_signing_key,
    key_facts,
    load_recipient_key,
    load_signing_key,
)
from toolkit.seal.recipient import Recipient
from toolkit.seal.revocation import load_list
from toolkit.seal.trust import TrustRoot, load_trust
from toolkit.site.audit import AuditLog
from toolkit.site.state import Pin, State, read_state, write_state
from toolkit.workspace import folder_lock, write_file

LOCK_WAIT = 30.0


@dataclass(frozen=True)
class Site:
    """An opened site. `key_id` is the site's signing key, `custody` what guards its keys (development, passphrase)."""

    path: Path
    trust: TrustRoot
    key_id: str
    custody: str
    passphrase: Unlock = field(default=None, repr=False, compare=False)

    @property
    def current(self) -> Path:
        return self.path / "current"

    @property
    def versions(self) -> Path:
        return self.path / "versions"

    @property
    def staging(self) -> Path:
        return self.path / "staging"

    @property
    def recipient_json(self) -> Path:
        """What the issuer needs to grant a bundle to this site."""
        return self.path / "recipient.json"

    @property
    def audit(self) -> AuditLog:
        """The audit trail; appending asks for the site's key."""
        return AuditLog(self.path / "audit", self.key_id, self.signer)

    def signer(self) -> SigningKey:
        """The site's signing key; a passphrase is asked for only here and in `recipient_key`."""
        return self._signing_key

    @cached_property
    def _signing_key(self) -> SigningKey:
        # Opening a locked key takes a tenth of a second and 64 MiB: once is enough.
        return load_signing_key(_signing_path(self.path), "site", self.passphrase)

    def recipient_key(self) -> RecipientKey:
        """The key pair that bundles are granted to."""
        return load_recipient_key(recipient_path(self.path), "recipient", self.passphrase)

    def recipient_keys(self) -> tuple[RecipientKey, ...]:
        """That key pair, and the one before it where there was a rotation."""
        old = recipient_path(self.path, "old")
        older = (load_recipient_key(old, "recipient", self.passphrase),) if old.exists() else ()
        return (self.recipient_key(), *older)

    @contextmanager
    def held(self, purpose: str) -> Iterator[Site]:
        """Hold the site against another install, rollback or init. What is yielded is the site as it stands then: who
        waited for the lock may have opened it before its trust was changed."""
        with folder_lock(self.path, purpose=purpose, wait=LOCK_WAIT):
            yield open_site(self.path, self.passphrase)


def init_site(path: Path, trust: TrustRoot, *, passphrase: Unlock = None, name: str = "") -> Site:
    """Make a site that trusts `trust`, with keys of its own; an existing site of the same root is returned as it is.

    Raises:
        UsageError: there is a site already that trusts another root.
    """
    with folder_lock(path, purpose="make a site", wait=LOCK_WAIT):
        if not (path / "current").exists():
            _create(path, trust, passphrase, name)
    site = open_site(path, passphrase)
    if trust.digest not in (site.trust.digest, load_trust(path / "trust" / "root.json").digest):
        raise UsageError(
            f"{path} is a site that trusts another root ({site.trust.fingerprint[:16]}…)",
            hint="Choose another folder: a site keeps the root it was made with.",
        )
    return site


def open_site(path: Path, passphrase: Unlock = None) -> Site:
    """Open a site that `init_site` made. Without the passphrase of locked keys it can be read, not changed or served.

    Raises:
        UsageError: no site there.
        IntegrityError: its trust root is damaged.
    """
    if not is_site(path):
        raise UsageError(f"there is no site in {path}", hint="Make one: `toolkit site init SITE --trust root.json`.")
    _role, custody, key_id = key_facts(_signing_path(path))
    return Site(path, _trust(path, read_state(path / "current", key_id)), key_id, custody, passphrase)


def _trust(path: Path, state: State) -> TrustRoot:
    """The root and the list that the state names, by their digests."""
    newer = f"trust/root-{state.root.version}.json"
    part = newer if (path / newer).exists() else "trust/root.json"
    trust = load_trust(path / part)
    if trust.digest != state.root.sha256:
        raise IntegrityError(f"{part} is not the root that this site trusts", part=part, hint="Restore the site.")
    if not state.revoked.version:
        return trust
    part = f"trust/revoked-{state.revoked.version}.json"
    if not (path / part).exists():
        raise IntegrityError(f"{part} is missing", part=part, hint="Restore the site.")
    revoked = load_list(path / part, None)
    if revoked.digest != state.revoked.sha256:
        raise IntegrityError(f"{part} is not the list that this site knows", part=part, hint="Restore the site.")
    return replace(trust, revoked=revoked)


def is_site(path: Path) -> bool:
    """True where `init_site` has finished."""
    return (path / "current").exists() and (path / "trust" / "root.json").exists()


def _create(path: Path, trust: TrustRoot, passphrase: Unlock, name: str) -> None:
    """`current` is written last: until then the folder is no site, and a creation cut short is taken up again."""
    if _signing_path(path).exists():
        signer = load_signing_key(_signing_path(path), "site", passphrase)
    else:
        signer = create_signing_key(_signing_path(path), "site", passphrase)
    if recipient_path(path).exists():
        key = load_recipient_key(recipient_path(path), "recipient", passphrase)
    else:
        key = create_recipient_key(recipient_path(path), "recipient", passphrase)
    write_file(path / "trust" / "root.json", trust.data)
    write_file(path / "recipient.json", Recipient.of(key, name or path.absolute().name).as_bytes())
    (path / "versions").mkdir(exist_ok=True)
    log = AuditLog(path / "audit", signer.key_id, lambda: signer)
    log.start("site.init", {"root_sha256": trust.digest, "recipient": key.fingerprint})
    write_state(path / "current", State(root=Pin(trust.version, trust.digest)), signer)


def _signing_path(path: Path) -> Path:
    return path / "keys" / "site.key.json"


def recipient_path(path: Path, which: str = "") -> Path:
    """The key that receives: the site's own, or the `old` or `new` one of a rotation."""
    return path / "keys" / f"recipient{which and '-' + which}.key.json"
