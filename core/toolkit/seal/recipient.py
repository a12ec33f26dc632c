"""Who receives: the public half in recipient.json, and wrapping a content key to it.

HPKE (RFC 9180) with MLKEM768_X25519, HKDF-SHA256 and AES-256-GCM. HPKE does not say who wrapped: the grant around it
is signed for that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import HEX_DIGEST, Fields, decode, encode, to_base64
from toolkit.seal.files import read_small
from toolkit.seal.keyfile import RecipientKey

FORMAT = "distil-recipient/1"
MAX_RECIPIENT = 64 * 1024
ML_KEM_BYTES = 1184
NAME_OF_SITE = r"[^\x00-\x1f\x7f-\x9f]{0,200}"


@dataclass(frozen=True)
class Recipient:
    """A public key that content keys may be wrapped to."""

    name: str
    fingerprint: str
    public: bytes = field(repr=False)

    @classmethod
    def of(cls, key: RecipientKey, name: str) -> Recipient:
        """The public half of a key pair. What cannot be printed of `name` becomes a question mark."""
        printable = "".join(letter if letter.isprintable() else "?" for letter in name)[:200]
        return cls(printable, key.fingerprint, key.public)

    def as_bytes(self) -> bytes:
        """The bytes of recipient.json."""
        return encode(
            {
                "format": FORMAT, "critical": [], "name": self.name,
                "fingerprint": self.fingerprint, "public": to_base64(self.public),
            }
        )  # fmt: skip

    def wrap(self, content_key: bytes, info: bytes) -> bytes:
        """`content_key` for this recipient alone, bound to `info`."""
        return _suite().encrypt(content_key, _public_key(self.public, "recipient.json"), info)


def load_recipient(path: Path) -> Recipient:
    """Read a recipient.json.

    Raises:
        IntegrityError: damaged, or a key that no honest recipient has (a low-order point, an ML-KEM key out of range).
    """
    part = path.name
    fields = Fields(decode(read_small(path, MAX_RECIPIENT, what="recipient"), part=part, limit=MAX_RECIPIENT), part)
    fields.header(FORMAT)
    public = fields.base64("public")
    recipient = Recipient(fields.text("name", NAME_OF_SITE), fields.text("fingerprint", HEX_DIGEST), public)
    if hashlib.sha256(public).hexdigest() != recipient.fingerprint:
        raise IntegrityError(f"{path} is damaged: its fingerprint is not that of its key", part=part)
    _public_key(public, part)
    return recipient


def unwrap(wrapped: bytes, key: RecipientKey, info: bytes, *, part: str) -> bytes:
    """The content key, or IntegrityError where it was wrapped to another key, altered, or bound to other facts."""
    try:
        return _suite().decrypt(wrapped, key.private, info)
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(f"the key of this site does not open {part}", part=part) from error


def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _public_key(public: bytes, part: str) -> MLKEM768X25519PublicKey:
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:ML_KEM_BYTES]),
            X25519PublicKey.from_public_bytes(public[ML_KEM_BYTES:]),
        )
        # The library finds a low-order point only when it is used.
        _suite().encrypt(b"", key, b"")
    except ValueError as error:
        raise IntegrityError(
            f"{part} holds no usable key: {error}", part=part, hint="Ask the site for its recipient.json again."
        ) from error
    return key
