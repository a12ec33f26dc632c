"""Signed documents: DSSE envelopes (github.com/secure-systems-lab/dsse, protocol v1) of Ed25519 and ML-DSA-65.

The payload is parsed only after every signature over its exact bytes held. A key's id is its public key in
hexadecimal, so nothing has to be looked up before a signature is checked. Knows no payload's meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import Fields, decode, encode, to_base64
from toolkit.seal.suites import KEY_ID, keys_of, name_of, verify_signature

MAX_SIGNATURES = 64
IN_TOTO = "in-toto"
IN_TOTO_TYPE = "application/vnd.in-toto+json"
"""The kind of an in-toto statement, which has a payload type of its own."""


class RevokedSigner(IntegrityError):
    """A signature that holds, by a key that was revoked."""


class Signer(Protocol):
    """What signs: a key file's keys, or a token that never gives its key away. `key_id` is the signer's id."""

    @property
    def key_id(self) -> str: ...
    def signatures(self, message: bytes) -> Mapping[str, bytes]:
        """A signature of each of its keys, by the key's id."""
        ...


@dataclass(frozen=True)
class Document:
    """A payload whose signatures held: `fields` to read, `signer` who signed it ('' where anybody may), `keys` the ids
    of all keys that did, `digest` SHA-256 of the payload."""

    fields: Fields
    signer: str
    digest: str
    keys: frozenset[str] = frozenset()


def sign_document(payload: Any, *, kind: str, signer: Signer) -> bytes:
    """The canonical envelope over the canonical JSON of `payload`. `kind` becomes part of the payload type."""
    body = encode(payload)
    return _envelope(body, kind, signer.signatures(signed_bytes(_payload_type(kind), body)))


def add_signatures(data: bytes, *, kind: str, signer: Signer, part: str, limit: int) -> bytes:
    """The same document, signed by one more; a signature that is there already is made anew."""
    body, found = _read(data, kind, part, limit)
    return _envelope(body, kind, found | dict(signer.signatures(signed_bytes(_payload_type(kind), body))))


def open_document(
    data: bytes, *, kind: str, signers: Collection[str] | None, part: str, limit: int, revoked: Container[str] = ()
) -> Document:  # fmt: skip
    """Check an envelope and read its payload.

    Args:
        signers: who may sign, as the trust root names them; all keys of one of them must have signed, and no other.
            None for a document that brings its own keys (a trust root), whose reader must then check `keys`.
        limit: the longest envelope accepted, in bytes.
        revoked: names of signers that may no longer sign.

    Raises:
        RevokedSigner: signed by one of `revoked`.
        IntegrityError: not canonical, another kind, no signature or one too few or too many, an unknown signer, a wrong
            signature.
    """
    body, found = _read(data, kind, part, limit)
    signer = "" if signers is None else _signer(frozenset(found), signers, kind, part)
    for key_id, signature in found.items():
        _verify(key_id, signature, signed_bytes(_payload_type(kind), body), part)
    if signer and name_of(signer) in revoked:
        raise RevokedSigner(
            f"{part} is signed by {name_of(signer)[:16]}…, whose key was revoked", part=part,
            hint="Ask the publisher for one that is signed anew.",
        )  # fmt: skip
    digest = hashlib.sha256(body).hexdigest()
    return Document(Fields(decode(body, part=part, limit=limit), part), signer, digest, frozenset(found))


def _signer(keys: frozenset[str], signers: Collection[str], kind: str, part: str) -> str:
    """Who of `signers` has signed with all of its keys and no other."""
    signer = next((one for one in signers if keys_of(one) == keys), None)
    if signer is not None:
        return signer
    if any(keys_of(one) & keys for one in signers):
        raise IntegrityError(
            f"{part} does not bear the signatures of both keys that the trust root demands for a {kind}", part=part,
            hint="Fetch it again from whoever made it; a signature may have been stripped.",
        )  # fmt: skip
    raise IntegrityError(
        f"{part} is signed by {min(keys)[:16]}…, whom the trust root does not name for a {kind}",
        part=part, hint="Ask the publisher for its root.json, or for a bundle signed with the right key.",
    )  # fmt: skip


def _read(data: bytes, kind: str, part: str, limit: int) -> tuple[bytes, dict[str, bytes]]:
    """The payload's bytes and the signatures by key id, none of them checked yet."""
    envelope = Fields(decode(data, part=part, limit=limit), part)
    if set(envelope.values) != {"payload", "payloadType", "signatures"}:
        raise IntegrityError(f"{part} is not a DSSE envelope", part=part)
    if envelope.values["payloadType"] != _payload_type(kind):
        raise IntegrityError(f"{part} does not hold a {kind}", part=part)
    body = envelope.base64("payload")
    signatures = envelope.records("signatures", _signature, most=MAX_SIGNATURES)
    ids = [key_id for key_id, _ in signatures]
    if not ids:
        raise IntegrityError(f"{part} carries no signature", part=part)
    if ids != sorted(set(ids)):
        raise IntegrityError(f"{part} carries a key's signature twice, or out of order", part=part)
    return body, dict(signatures)


def _verify(key_id: str, signature: bytes, message: bytes, part: str) -> None:
    try:
        verify_signature(key_id, signature, message)
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError(
            f"the signature of {part} does not hold: it was altered after it was signed", part=part,
            hint="Fetch it again from whoever made it.",
        ) from error  # fmt: skip


def _envelope(body: bytes, kind: str, signatures: Mapping[str, bytes]) -> bytes:
    ordered = [{"keyid": key_id, "sig": to_base64(signatures[key_id])} for key_id in sorted(signatures)]
    return encode({"payload": to_base64(body), "payloadType": _payload_type(kind), "signatures": ordered})


def _signature(fields: Fields) -> tuple[str, bytes]:
    if set(fields.values) != {"keyid", "sig"}:
        raise fields.wrong("signatures")
    return fields.text("keyid", KEY_ID), fields.base64("sig")


def _payload_type(kind: str) -> str:
    return IN_TOTO_TYPE if kind == IN_TOTO else f"application/vnd.distil-toolkit.{kind}+json"


def signed_bytes(payload_type: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)
