"""Key records and the files they lie in: signing keys (Ed25519, by suite ML-DSA-65 too), and ML-KEM-768 + X25519 key
pairs that receive.

A file is canonical JSON, mode 0600, never overwritten. `custody` says what guards it: `development` (nothing but the
file's mode) or `passphrase` (Argon2id and AES-256-GCM). Knows no role's meaning.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.canonical import Fields, decode, encode, to_base64
from toolkit.seal.suites import DUAL_SUITE, SIGNER, SUITE
from toolkit.workspace import write_file

FORMAT = "distil-key/1"
SIGNING_ROLES = ("root", "publisher", "issuer", "revocation", "site")
MAX_KEY_FILE = 64 * 1024
# RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes.
ARGON2 = {"iterations": 3, "lanes": 4, "memory_kib": 65536}


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key, in the dual suite with an ML-DSA-65 key that signs with it. `key_id` is the signer's id."""

    role: str
    key_id: str
    custody: str
    private: Ed25519PrivateKey = field(repr=False, compare=False)
    second: MLDSA65PrivateKey | None = field(default=None, repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """By the Ed25519 key."""
        return self.private.sign(message)

    def signatures(self, message: bytes) -> dict[str, bytes]:
        """By each of its keys, by the key's id."""
        first, _, second = self.key_id.partition("+")
        found = {first: self.sign(message)}
        return found if self.second is None else found | {second: self.second.sign(message)}


@dataclass(frozen=True)
class RecipientKey:
    """A key pair that content keys are wrapped to. `public` is 1,184 bytes ML-KEM-768 and 32 bytes X25519;
    `fingerprint` is its SHA-256."""

    role: str
    fingerprint: str
    custody: str
    public: bytes = field(repr=False)
    private: MLKEM768X25519PrivateKey = field(repr=False, compare=False)


def create_signing_key(path: Path, role: str, passphrase: str | None, suite: str = SUITE) -> SigningKey:
    """Make a key of a suite and its file. `role` is one of SIGNING_ROLES."""
    secret = Ed25519PrivateKey.generate().private_bytes_raw()
    if suite == DUAL_SUITE:
        secret += MLDSA65PrivateKey.generate().private_bytes_raw()
    key = _signing_key(role, secret, _custody(passphrase))
    _write(path, role, key.key_id, secret, passphrase)
    return key


def create_recipient_key(path: Path, role: str, passphrase: str | None) -> RecipientKey:
    """Make a key pair and its file."""
    secret = MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
    key = _recipient_key(role, secret, _custody(passphrase))
    _write(path, role, key.fingerprint, secret, passphrase)
    return key


def load_signing_key(path: Path, role: str, passphrase: str | None) -> SigningKey:
    """Read a signing key.

    Raises:
        UsageError: the file is missing, or needs a passphrase and none was given.
        IntegrityError: wrong passphrase, another role, a damaged file.
        EnvironmentUnfit: others may read the file.
    """
    secret, custody, public_id = _read(path, role, passphrase)
    if len(secret) not in (32, 64) or (key := _signing_key(role, secret, custody)).key_id != public_id:
        raise _damaged(path)
    return key


def load_recipient_key(path: Path, role: str, passphrase: str | None) -> RecipientKey:
    """Read a key pair that receives; errors as in `load_signing_key`."""
    secret, custody, public_id = _read(path, role, passphrase)
    if len(secret) != 96 or (key := _recipient_key(role, secret, custody)).fingerprint != public_id:
        raise _damaged(path)
    return key


def key_facts(path: Path) -> tuple[str, str, str]:
    """(role, custody, public id) of a key file, without opening the key."""
    fields = _fields(path)
    return fields.text("role"), fields.text("custody"), fields.text("public_id", SIGNER)


def _signing_key(role: str, secret: bytes, custody: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(secret[:32])
    second = MLDSA65PrivateKey.from_seed_bytes(secret[32:]) if len(secret) > 32 else None
    publics = [key.public_key().public_bytes_raw().hex() for key in (private, second) if key is not None]
    return SigningKey(role, "+".join(publics), custody, private, second)


def _recipient_key(role: str, secret: bytes, custody: str) -> RecipientKey:
    kem, curve = MLKEM768PrivateKey.from_seed_bytes(secret[:64]), X25519PrivateKey.from_private_bytes(secret[64:])
    public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    private = MLKEM768X25519PrivateKey(kem, curve)
    return RecipientKey(role, hashlib.sha256(public).hexdigest(), custody, public, private)


def _custody(passphrase: str | None) -> str:
    return "development" if passphrase is None else "passphrase"


def _write(path: Path, role: str, public_id: str, secret: bytes, passphrase: str | None) -> None:
    if path.exists():
        raise UsageError(f"{path} exists; a key is never overwritten", hint="Move it away first, if you mean to.")
    header: dict[str, Any] = {
        "format": FORMAT, "critical": [], "role": role, "public_id": public_id, "custody": _custody(passphrase)
    }  # fmt: skip
    if passphrase is None:
        record = header | {"secret": to_base64(secret)}
    else:
        if not passphrase:
            raise UsageError("the passphrase is empty", hint="Write one line into the passphrase file.")
        salt, nonce = os.urandom(16), os.urandom(12)
        header |= {"kdf": "argon2id", "salt": to_base64(salt), "nonce": to_base64(nonce), **ARGON2}
        sealed = AESGCM(_stretch(passphrase, salt, **ARGON2)).encrypt(nonce, secret, encode(header))
        record = header | {"sealed": to_base64(sealed)}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path, encode(record), mode=0o600)


def _fields(path: Path) -> Fields:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(MAX_KEY_FILE + 1)
    except FileNotFoundError as error:
        raise UsageError(f"there is no key {path}", hint="Restore it from its backup.") from error
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Check who may read it.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise EnvironmentUnfit(f"others may read the key {path}", hint=f"chmod 600 {path}")
    fields = Fields(decode(data, part=path.name, limit=MAX_KEY_FILE), path.name)
    fields.header(FORMAT)
    return fields


def _read(path: Path, role: str, passphrase: str | None) -> tuple[bytes, str, str]:
    fields = _fields(path)
    custody, public_id = fields.text("custody"), fields.text("public_id", SIGNER)
    if fields.text("role") != role:
        raise IntegrityError(f"{path} is a {fields.text('role')} key, not a {role} key", part=path.name)
    if custody == "development":
        return fields.base64("secret"), custody, public_id
    if custody != "passphrase" or fields.text("kdf") != "argon2id":
        raise _damaged(path)
    if passphrase is None:
        raise UsageError(f"{path} is locked by a passphrase", hint="Name its file in TOOLKIT_PASSPHRASE_FILE.")
    costs = {
        "iterations": fields.integer("iterations", low=1, high=16),
        "lanes": fields.integer("lanes", low=1, high=16),
        "memory_kib": fields.integer("memory_kib", low=1024, high=1024 * 1024),
    }
    salt, nonce, sealed = fields.base64("salt"), fields.base64("nonce"), fields.base64("sealed")
    if len(salt) != 16 or len(nonce) != 12:
        raise _damaged(path)
    header = {name: value for name, value in fields.values.items() if name != "sealed"}
    try:
        return AESGCM(_stretch(passphrase, salt, **costs)).decrypt(nonce, sealed, encode(header)), custody, public_id
    except InvalidTag as error:
        raise IntegrityError(
            f"the passphrase does not open {path}", part=path.name, hint="Check the passphrase file."
        ) from error


def _stretch(passphrase: str, salt: bytes, *, iterations: int, lanes: int, memory_kib: int) -> bytes:
    derive = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return derive.derive(passphrase.encode())


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(f"the key file {path} is damaged", part=path.name, hint="Restore it from its backup.")
