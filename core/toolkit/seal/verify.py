"""Checking a bundle without opening it: signatures, digests, sizes, and that nothing lies in it that nobody signed.

Needs a trust root and no secret; no torch, no plugins. Every bit of every file is covered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import IntegrityError
from toolkit.seal.envelope import RevokedSigner, open_document
from toolkit.seal.grantfile import MAX_GRANT, Grant, check_grant, grant_path, read_grant
from toolkit.seal.manifest import (
    ENVELOPE,
    KIND,
    MAX_ENVELOPE,
    MODEL_SIGNATURE,
    Listed,
    Manifest,
    read_manifest,
)
from toolkit.seal.papers import NO_PAPERS, Papers, check_papers
from toolkit.seal.tree import list_files, open_tree, read_file, read_pieces
from toolkit.seal.trust import TrustRoot

Receive = Callable[[str, bytes | memoryview], object]
"""Called with (path in the bundle, next piece of the file); the piece is valid only during the call."""


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle that is as it was sealed: its manifest, the exact bytes of bundle.dsse, its grants, and its papers where
    those were asked for."""

    manifest: Manifest
    envelope: bytes = field(repr=False)
    grants: tuple[Grant, ...] = ()
    papers: Papers = NO_PAPERS


def verify_bundle(path: Path, trust: TrustRoot) -> Manifest:
    """The manifest of the bundle in the folder `path`, once every file of it has been checked.

    Raises:
        IntegrityError: not as it was sealed; `.part` names the file.
        UsageError: there is no such folder.
    """
    return read_bundle(path, trust).manifest


def read_bundle(path: Path, trust: TrustRoot) -> CheckedBundle:
    """Check a whole bundle: envelope, listing, grants, every listed file, and what the papers say."""
    with open_tree(path) as root:
        manifest, envelope = read_envelope(root, trust)
        grants = check_listing(root, manifest, trust)
        check_files(root, manifest)
        papers = check_papers(root, manifest, envelope, trust)
    return CheckedBundle(manifest, envelope, grants, papers)


def read_head(path: Path, trust: TrustRoot) -> CheckedBundle:
    """Check envelope, listing and grants, not the listed files: whoever opens one checks it then, on what it read."""
    with open_tree(path) as root:
        manifest, envelope = read_envelope(root, trust)
        return CheckedBundle(manifest, envelope, check_listing(root, manifest, trust))


def read_envelope(root: int, trust: TrustRoot) -> tuple[Manifest, bytes]:
    """The manifest and the bytes of bundle.dsse, read first."""
    envelope = read_file(root, ENVELOPE, limit=MAX_ENVELOPE)
    manifest = read_manifest(
        open_document(
            envelope, kind=KIND, signers=trust.publishers, part=ENVELOPE, limit=MAX_ENVELOPE, revoked=trust.revoked_ids
        )
    )
    trust.check_suite(manifest.suite, manifest.signer, part=ENVELOPE)
    trust.check_revoked(manifest.bundle_id, part=ENVELOPE)
    return manifest, envelope


def check_listing(root: int, manifest: Manifest, trust: TrustRoot) -> tuple[Grant, ...]:
    """Refuse a file that is not listed, and return the checked grants; those of a revoked issuer are passed over."""
    expected = {listed.path for listed in manifest.listed()} | {ENVELOPE}
    # No manifest can list the signature over itself; it says whether there is one.
    missing = {MODEL_SIGNATURE} if manifest.model_signer else set()
    expected |= missing
    grants = []
    for path in list_files(root):
        missing.discard(path)
        if path.startswith("grants/"):
            try:
                found = read_grant(read_file(root, path, limit=MAX_GRANT), trust, part=path)
            except RevokedSigner:
                continue  # it opens nothing any more, and one by another issuer may lie beside it
            check_grant(found, manifest, part=path)
            if grant_path(found.grant_id) != path:
                raise IntegrityError(f"{path} holds a grant of another name", part=path)
            grants.append(found)
        elif path not in expected:
            raise IntegrityError(
                f"{path} is in the bundle and not in its manifest", part=path,
                hint="Fetch the bundle again from whoever made it.",
            )  # fmt: skip
    if missing:
        raise IntegrityError(
            f"{MODEL_SIGNATURE} is missing", part=MODEL_SIGNATURE, hint="Fetch the bundle again from whoever made it."
        )
    return tuple(sorted(grants, key=lambda one: one.serial))


def check_files(root: int, manifest: Manifest, receive: Receive | None = None) -> None:
    """Check size and digest of every listed file; `receive` gets the very bytes that are checked."""
    for listed in manifest.listed():
        _check_file(root, listed, receive)


def _check_file(root: int, listed: Listed, receive: Receive | None) -> None:
    digest = hashlib.sha256()
    if receive is not None:
        receive(listed.path, b"")  # an empty file has no piece, and has to be made all the same
    for piece in read_pieces(root, listed.path, size=listed.size, label=listed.label):
        digest.update(piece)
        if receive is not None:
            receive(listed.path, piece)
    if digest.hexdigest() != listed.sha256:
        raise IntegrityError(
            f"{listed.label} is not what was signed", part=listed.label,
            hint="Fetch the bundle again from whoever made it.",
        )  # fmt: skip
