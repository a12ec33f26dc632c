"""Signed documents: DSSE envelopes with one Ed25519 signature (github.com/secure-systems-lab/dsse, protocol v1).

The payload is parsed only after the signature over its exact bytes held. The key id of an Ed25519 key is its public
key in hexadecimal, so nothing has to be looked up before the signature is checked. Knows no payload's meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import HEX_DIGEST, Fields, decode, encode, from_base64, to_base64


class Signer(Protocol):
    """What signs: a key file's key, or a token that never gives its key away."""

    @property
    def key_id(self) -> str: ...
    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True)
class Document:
    """A payload whose signature held: `fields` to read, `signer` the key id, `digest` SHA-256 of the payload."""

    fields: Fields
    signer: str
    digest: str


def sign_document(payload: Any, *, kind: str, signer: Signer) -> bytes:
    """The canonical envelope over the canonical JSON of `payload`. `kind` becomes part of the payload type."""
    body = encode(payload)
    signature = signer.sign(_signed_bytes(_payload_type(kind), body))
    return encode(
        {
            "payload": to_base64(body),
            "payloadType": _payload_type(kind),
            "signatures": [{"keyid": signer.key_id, "sig": to_base64(signature)}],
        }
    )


def open_document(data: bytes, *, kind: str, signers: Container[str] | None, part: str, limit: int) -> Document:
    """Check an envelope and read its payload.

    Args:
        signers: key ids that may sign; None for a document that brings its own key (a trust root), whose reader must
            then check `signer` against the payload.
        limit: the longest envelope accepted, in bytes.

    Raises:
        IntegrityError: not canonical, another kind, not exactly one signature, an unknown signer, a wrong signature.
    """
    envelope = Fields(decode(data, part=part, limit=limit), part)
    if set(envelope.values) != {"payload", "payloadType", "signatures"}:
        raise IntegrityError(f"{part} is not a DSSE envelope", part=part)
    if envelope.values["payloadType"] != _payload_type(kind):
        raise IntegrityError(f"{part} does not hold a {kind}", part=part)
    body = envelope.base64("payload")
    signatures = envelope.records("signatures", _signature, most=1)
    if len(signatures) != 1:
        raise IntegrityError(f"{part} carries no signature", part=part)
    key_id, signature = signatures[0]
    if signers is not None and key_id not in signers:
        raise IntegrityError(
            f"{part} is signed by {key_id[:16]}…, whom the trust root does not name for a {kind}",
            part=part, hint="Ask the publisher for its root.json, or for a bundle signed with the right key.",
        )  # fmt: skip
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key_id))
        public.verify(signature, _signed_bytes(_payload_type(kind), body))
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError(
            f"the signature of {part} does not hold: it was altered after it was signed", part=part,
            hint="Fetch it again from whoever made it.",
        ) from error  # fmt: skip
    return Document(Fields(decode(body, part=part, limit=limit), part), key_id, hashlib.sha256(body).hexdigest())


def _signature(fields: Fields) -> tuple[str, bytes]:
    if set(fields.values) != {"keyid", "sig"}:
        raise fields.wrong("signatures")
    return fields.text("keyid", HEX_DIGEST), from_base64(fields.text("sig"), part=fields.part)


def _payload_type(kind: str) -> str:
    return f"application/vnd.distil-toolkit.{kind}+json"


def _signed_bytes(payload_type: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)
