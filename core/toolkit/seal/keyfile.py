"""Key records and the files they lie in: signing keys (Ed25519, by suite ML-DSA-65 too), the P-256 key of model.sig,
and ML-KEM-768 + X25519 key pairs that receive.

A file is canonical JSON, mode 0600, never overwritten. `custody` says what guards it, a `KeyProvider` of that name:
core's own (`seal.custody`) or a plugin's, whose token may hold the Ed25519 key itself. Knows no role's meaning.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.protocols import SigningProvider
from toolkit.seal.canonical import HEX_DIGEST, Fields, decode, encode
from toolkit.seal.custody import Access, Unlock, access
from toolkit.seal.files import open_regular
from toolkit.seal.suites import MODEL_SIGNER, SIGNER, SUITE, is_dual
from toolkit.workspace import write_file

FORMAT = "distil-key/1"
SIGNING_ROLES = ("root", "publisher", "issuer", "revocation", "site")
PUBLIC_ID = f"{SIGNER}|{MODEL_SIGNER}"
MAX_KEY_FILE = 64 * 1024
Made = TypeVar("Made")


class CanSign(Protocol):
    """A private Ed25519 key, here or in a token."""

    def sign(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True)
class HeldKey:
    """A private key that only its provider can use."""

    by: Callable[[bytes], bytes] = field(repr=False)

    def sign(self, data: bytes, /) -> bytes:
        return self.by(data)


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key, in the dual suite with an ML-DSA-65 key that signs with it. `key_id` is the signer's id."""

    role: str
    key_id: str
    custody: str
    private: CanSign = field(repr=False, compare=False)
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


@dataclass(frozen=True)
class ModelKey:
    """The P-256 key that signs model.sig. `key_id` is its compressed point in hexadecimal."""

    key_id: str
    custody: str
    private: EllipticCurvePrivateKey = field(repr=False, compare=False)


def create_signing_key(path: Path, role: str, unlock: Unlock, suite: str = SUITE) -> SigningKey:
    """Make a key of a suite and its file. `role` is one of SIGNING_ROLES. Where the provider can, it holds the
    Ed25519 key itself, and nobody ever sees that."""
    _check_new(path)
    by = access(unlock)
    provider = by.provider(by.makes)
    second = MLDSA65PrivateKey.generate() if is_dual(suite) else None
    seed = b"" if second is None else second.private_bytes_raw()
    if isinstance(provider, SigningProvider):
        public, reference = provider.make_signing_key(f"toolkit {role}", by.passphrase)
        first: CanSign = HeldKey(provider.signer(reference, by.passphrase))
        held = dict(reference)
    else:
        own = Ed25519PrivateKey.generate()
        public, first, held = own.public_key().public_bytes_raw(), own, {}
        seed = own.private_bytes_raw() + seed
    key = SigningKey(role, _signer_id(public, second), by.makes, first, second)
    _write(path, role, key.key_id, seed, by, held)
    return key


def create_recipient_key(path: Path, role: str, unlock: Unlock) -> RecipientKey:
    """Make a key pair and its file."""
    _check_new(path)
    by = access(unlock)
    secret = MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
    key = _recipient_key(role, secret, by.makes)
    _write(path, role, key.fingerprint, secret, by, {})
    return key


def create_model_key(path: Path, unlock: Unlock) -> ModelKey:
    """Make the key of model.sig and its file. No provider holds it: it lies in the file, guarded as a recipient's."""
    _check_new(path)
    by = access(unlock)
    secret = generate_ec_key(SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
    key = _model_key(secret, by.makes)
    _write(path, "model", key.key_id, secret, by, {})
    return key


def load_signing_key(path: Path, role: str, unlock: Unlock) -> SigningKey:
    """Read a signing key.

    Raises:
        UsageError: the file is missing, or needs a passphrase and none was given, or a plugin that is not here.
        IntegrityError: wrong passphrase, another role, a damaged file.
        EnvironmentUnfit: others may read the file, or its token is not here.
    """
    by = access(unlock)
    fields, secret = _read(path, role, by)
    custody, public_id = fields.text("custody"), fields.text("public_id", SIGNER)
    provider = by.provider(custody)
    if isinstance(provider, SigningProvider):
        public, first = bytes.fromhex(public_id[:64]), HeldKey(provider.signer(fields.values, by.passphrase))
        key = _damaged_unless(len(secret) in (0, 32), path, lambda: _held(role, public, first, secret, custody))
    else:
        key = _damaged_unless(len(secret) in (32, 64), path, lambda: _signing_key(role, secret, custody))
    _damaged_unless(key.key_id == public_id, path, lambda: None)
    return key


def load_recipient_key(path: Path, role: str, unlock: Unlock) -> RecipientKey:
    """Read a key pair that receives; errors as in `load_signing_key`."""
    fields, secret = _read(path, role, access(unlock))
    key = _damaged_unless(len(secret) == 96, path, lambda: _recipient_key(role, secret, fields.text("custody")))
    _damaged_unless(key.fingerprint == fields.text("public_id", HEX_DIGEST), path, lambda: None)
    return key


def load_model_key(path: Path, unlock: Unlock) -> ModelKey:
    """Read the key of model.sig; errors as in `load_signing_key`."""
    fields, secret = _read(path, "model", access(unlock))
    try:
        key = _model_key(secret, fields.text("custody")) if len(secret) == 32 else None
    except ValueError:  # 0, or not below the order of the curve
        key = None
    if key is None or key.key_id != fields.text("public_id", MODEL_SIGNER):
        raise _damaged(path)
    return key


def key_facts(path: Path) -> tuple[str, str, str]:
    """(role, custody, public id) of a key file, without opening the key."""
    fields = _fields(path)
    return fields.text("role"), fields.text("custody"), fields.text("public_id", PUBLIC_ID)


def _signing_key(role: str, secret: bytes, custody: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(secret[:32])
    return _held(role, private.public_key().public_bytes_raw(), private, secret[32:], custody)


def _held(role: str, public: bytes, first: CanSign, seed: bytes, custody: str) -> SigningKey:
    second = MLDSA65PrivateKey.from_seed_bytes(seed) if seed else None
    return SigningKey(role, _signer_id(public, second), custody, first, second)


def _signer_id(public: bytes, second: MLDSA65PrivateKey | None) -> str:
    return public.hex() if second is None else f"{public.hex()}+{second.public_key().public_bytes_raw().hex()}"


def _recipient_key(role: str, secret: bytes, custody: str) -> RecipientKey:
    kem, curve = MLKEM768PrivateKey.from_seed_bytes(secret[:64]), X25519PrivateKey.from_private_bytes(secret[64:])
    public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    private = MLKEM768X25519PrivateKey(kem, curve)
    return RecipientKey(role, hashlib.sha256(public).hexdigest(), custody, public, private)


def _model_key(secret: bytes, custody: str) -> ModelKey:
    private = derive_private_key(int.from_bytes(secret, "big"), SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return ModelKey(point.hex(), custody, private)


def _check_new(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists; a key is never overwritten", hint="Move it away first, if you mean to.")


def _write(path: Path, role: str, public_id: str, secret: bytes, by: Access, held: Mapping[str, Any]) -> None:
    header: dict[str, Any] = {
        "format": FORMAT, "critical": [], "role": role, "public_id": public_id, "custody": by.makes, **held
    }  # fmt: skip
    record = header | dict(by.provider(by.makes).wrap(secret, header, by.passphrase)) if secret else header
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path, encode(record), mode=0o600)


def _fields(path: Path) -> Fields:
    try:
        with open_regular(path) as stream:
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


def _read(path: Path, role: str, by: Access) -> tuple[Fields, bytes]:
    """The file and the secret that lies in it; none where a token holds all there is."""
    fields = _fields(path)
    if fields.text("role") != role:
        raise IntegrityError(f"{path} is a {fields.text('role')} key, not a {role} key", part=path.name)
    provider = by.provider(fields.text("custody"))
    if isinstance(provider, SigningProvider) and "sealed" not in fields.values:
        return fields, b""
    try:
        return fields, provider.unwrap(fields.values, by.passphrase)
    except (UsageError, IntegrityError) as error:
        part = {"part": path.name} if isinstance(error, IntegrityError) else {}
        raise type(error)(f"{path}: {error.message}", hint=error.hint, **part) from error


def _damaged_unless(holds: bool, path: Path, make: Callable[[], Made]) -> Made:
    if holds:
        return make()
    raise _damaged(path)


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(f"the key file {path} is damaged", part=path.name, hint="Restore it from its backup.")
