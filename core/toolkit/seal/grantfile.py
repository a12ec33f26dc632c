"""A grant as a document: one recipient's licence and the content keys wrapped to it, signed by the issuer.

Knows what a grant says and how it opens; `grant` makes them, from the escrow.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import (
    HEX_DIGEST,
    NAME,
    Fields,
    encode,
    from_base64,
    length_prefixed,
    to_base64,
    utc_now,
)
from toolkit.seal.cipher import content_key_id
from toolkit.seal.envelope import Signer, open_document, sign_document
from toolkit.seal.keyfile import RecipientKey
from toolkit.seal.manifest import Manifest
from toolkit.seal.recipient import Recipient, unwrap
from toolkit.seal.trust import TrustRoot
from toolkit.seal.validity import UNLIMITED, Validity, check_validity, read_time, read_validity

FORMAT = "distil-grant/1"
KIND = "grant"
MAX_GRANT = 256 * 1024


@dataclass(frozen=True)
class WrappedKey:
    """A variant's content key, wrapped."""

    variant: str
    key_id: str
    wrapped: bytes


@dataclass(frozen=True)
class Grant:
    """A grant whose signature held. `terms` is all of it but the wrapped keys, to which those are bound."""

    grant_id: str
    serial: int
    bundle_id: str
    manifest_sha256: str
    recipient: str
    signer: str
    issued: int
    validity: Validity
    keys: tuple[WrappedKey, ...]
    terms: Mapping[str, Any]
    data: bytes

    @property
    def label(self) -> str:
        return grant_path(self.grant_id)


def grant_path(grant_id: str) -> str:
    """Where a grant lies in a bundle."""
    return f"grants/{grant_id}.dsse"


def read_grant(data: bytes, trust: TrustRoot, *, part: str) -> Grant:
    """Check the bytes of a grant.

    Raises:
        IntegrityError: not signed by an issuer of the trust root, or not as the format says. Whether its conditions
            are met is another question (`site.clock`).
    """
    document = open_document(
        data, kind=KIND, signers=trust.issuers, part=part, limit=MAX_GRANT, revoked=trust.revoked_ids
    )
    fields = document.fields
    fields.header(FORMAT)
    return Grant(
        grant_id=fields.text("grant_id", r"[0-9a-f]{32}"),
        serial=fields.integer("serial", low=1),
        bundle_id=fields.text("bundle_id", NAME),
        manifest_sha256=fields.text("manifest_sha256", HEX_DIGEST),
        recipient=fields.text("recipient", HEX_DIGEST),
        signer=document.signer,
        issued=read_time(fields, "issued"),
        validity=read_validity(fields),
        keys=fields.records("keys", _wrapped_key, most=64),
        terms={name: value for name, value in fields.values.items() if name != "keys"},
        data=data,
    )


def make_grant(
    *, bundle_id: str, manifest_sha256: str, serial: int, recipient: Recipient, issuer: Signer,
    content_keys: Mapping[str, bytes], validity: Validity = UNLIMITED,
) -> tuple[str, bytes]:  # fmt: skip
    """(grant id, its bytes): `content_keys` by variant, wrapped to `recipient`, as long as `validity` says."""
    check_validity(validity)
    grant_id = secrets.token_hex(16)
    terms: dict[str, Any] = {
        "format": FORMAT, "critical": [], "grant_id": grant_id, "serial": serial, "issued": utc_now(),
        "bundle_id": bundle_id, "manifest_sha256": manifest_sha256, "recipient": recipient.fingerprint,
        **validity.as_record(),
    }  # fmt: skip
    keys = [
        {
            "variant": variant, "key_id": content_key_id(key),
            "wrapped": to_base64(recipient.wrap(key, _info(terms, variant, content_key_id(key)))),
        }
        for variant, key in sorted(content_keys.items())
    ]  # fmt: skip
    return grant_id, sign_document(terms | {"keys": keys}, kind=KIND, signer=issuer)


def check_grant(grant: Grant, manifest: Manifest, *, part: str) -> None:
    """Refuse a grant that was issued for another bundle, or another manifest of it."""
    if grant.bundle_id != manifest.bundle_id or grant.manifest_sha256 != manifest.digest:
        raise IntegrityError(f"{part} was issued for another bundle", part=part)


def choose_grant(grants: Sequence[Grant], *keys: RecipientKey) -> Grant:
    """The newest grant for this recipient, who may have several keys: those from before a rotation."""
    fingerprints = [key.fingerprint for key in keys]
    mine = [grant for grant in grants if grant.recipient in fingerprints]
    if not mine:
        raise IntegrityError(
            f"the bundle has no grant for this site ({fingerprints[0][:16]}…)", part="grants/",
            hint="Send recipient.json to the issuer, who runs `toolkit grant BUNDLE --to recipient.json`.",
        )  # fmt: skip
    return max(mine, key=lambda grant: grant.serial)


def unwrap_content_keys(grant: Grant, key: RecipientKey) -> dict[str, bytes]:
    """The content keys of a grant by variant; only the recipient it was made for gets them."""
    opened = {}
    for wrapped in grant.keys:
        info = _info(grant.terms, wrapped.variant, wrapped.key_id)
        content_key = unwrap(wrapped.wrapped, key, info, part=grant.label)
        if len(content_key) != 32 or content_key_id(content_key) != wrapped.key_id:
            raise IntegrityError(f"{grant.label} holds another key than it says", part=grant.label)
        opened[wrapped.variant] = content_key
    return opened


def _info(terms: Mapping[str, Any], variant: str, key_id: str) -> bytes:
    return length_prefixed(b"distil-toolkit grant", encode(terms), variant.encode(), key_id.encode())


def _wrapped_key(fields: Fields) -> WrappedKey:
    wrapped = from_base64(fields.text("wrapped"), part=fields.part)
    return WrappedKey(fields.text("variant", NAME), fields.text("key_id", HEX_DIGEST), wrapped)
