"""The revocation list: keys and bundles that are to be trusted no more. Versioned, with an end, carried by hand.

A key that was stolen can sign with any date, so what it signed before is revoked with it. What a recipient could open
once it can open for ever: a list protects what comes after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import HEX_DIGEST, NAME, TEXT, Fields
from toolkit.seal.envelope import Signer, open_document, sign_document
from toolkit.seal.files import read_small
from toolkit.seal.suites import MODEL_SIGNER
from toolkit.seal.validity import as_text, read_time

FORMAT = "distil-revoked/1"
KIND = "revoked"
LIST = "revoked.json"
MAX_LIST = 1024 * 1024
REVOKED_ID = f"{HEX_DIGEST}|{MODEL_SIGNER}|{NAME}"


@dataclass(frozen=True)
class Revocation:
    """One thing revoked: a key by its name (`suites.name_of`), a recipient by its fingerprint, a bundle by its id."""

    id: str
    reason: str


@dataclass(frozen=True)
class RevokedList:
    """A list whose signature held. `issued` and `expires` are seconds since 1970; after `expires` it says nothing of
    what happened since. `keys` are the ids of the keys that signed it."""

    version: int
    issued: int
    expires: int
    entries: tuple[Revocation, ...]
    keys: frozenset[str] = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(entry.id for entry in self.entries)

    def why(self, identity: str) -> str:
        """The reason for which something was revoked; '' where it was not."""
        if identity not in self.ids:
            return ""
        return next((entry.reason or "no reason given" for entry in self.entries if entry.id == identity), "")


def sign_list(signer: Signer, *, version: int, issued: int, expires: int, entries: Collection[Revocation]) -> bytes:
    """The bytes of a list."""
    payload = {
        "format": FORMAT, "critical": [], "version": version, "issued": as_text(issued), "expires": as_text(expires),
        "revoked": [{"id": one.id, "reason": one.reason} for one in sorted(entries, key=lambda one: one.id)],
    }  # fmt: skip
    return sign_document(payload, kind=KIND, signer=signer)


def parse_list(data: bytes, signers: Collection[str] | None) -> RevokedList:
    """Check the bytes of a list; `signers` None for one whose digest is pinned, so that its signer need not be known.

    Raises:
        IntegrityError: not signed by the revocation role, or not as the format says.
    """
    document = open_document(data, kind=KIND, signers=signers, part=LIST, limit=MAX_LIST)
    fields = document.fields
    fields.header(FORMAT)
    found = RevokedList(
        version=fields.integer("version", low=1),
        issued=read_time(fields, "issued"),
        expires=read_time(fields, "expires"),
        entries=fields.records("revoked", _entry, most=8192),
        keys=document.keys,
        data=data,
    )
    if found.expires <= found.issued or len(found.ids) != len(found.entries):
        raise IntegrityError(
            f"{LIST} ends before it was issued, or revokes something twice", part=LIST, hint="Ask for another."
        )
    return found


def load_list(path: Path, signers: Collection[str] | None) -> RevokedList:
    """Read and check a list's file."""
    return parse_list(read_small(path, MAX_LIST, what="revocation list"), signers)


def _entry(fields: Fields) -> Revocation:
    return Revocation(fields.text("id", REVOKED_ID), fields.text("reason", TEXT))
