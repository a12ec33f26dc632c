"""The trust root: who may publish, who may issue grants, which suites are allowed. Signed by the root key.

A site pins one root.json when it is made and judges every bundle by it; a bundle never says whom to trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.canonical import HEX_DIGEST, TEXT
from toolkit.seal.envelope import Signer, open_document, sign_document

FORMAT = "distil-root/1"
KIND = "root"
SUITE = "cob256+xwing+ed25519"
SUITES = (SUITE,)
"""The suites this version can check and open."""
MAX_ROOT = 256 * 1024


@dataclass(frozen=True)
class TrustRoot:
    """What a root.json says. `fingerprint` is the root's key id, to be compared over another channel."""

    fingerprint: str
    version: int
    publishers: tuple[str, ...]
    issuers: tuple[str, ...]
    suites: tuple[str, ...]
    development: bool
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of root.json, which a site's first audit entry holds."""
        return hashlib.sha256(self.data).hexdigest()

    def check_suite(self, suite: str, *, part: str) -> None:
        """Refuse a suite that the root does not allow or this version does not know: a bundle negotiates nothing."""
        if suite not in self.suites or suite not in SUITES:
            raise IntegrityError(f"{part} uses the suite {suite!r}, which the trust root does not allow", part=part)


def sign_root(root: Signer, *, publishers: Sequence[str], issuers: Sequence[str], development: bool) -> bytes:
    """The bytes of root.json for these key ids."""
    roles = {"root": [root.key_id], "publisher": sorted(publishers), "issuer": sorted(issuers)}
    payload = {
        "format": FORMAT, "critical": [], "version": 1, "roles": roles,
        "suites": list(SUITES), "development_keys": development,
    }  # fmt: skip
    return sign_document(payload, kind=KIND, signer=root)


def parse_trust(data: bytes) -> TrustRoot:
    """Check the bytes of a root.json; it must be signed by the root key that it names."""
    document = open_document(data, kind=KIND, signers=None, part="root.json", limit=MAX_ROOT)
    fields = document.fields
    fields.header(FORMAT)
    roots, publishers, issuers = fields.record(
        "roles", lambda roles: tuple(roles.texts(role, HEX_DIGEST, most=64) for role in ("root", "publisher", "issuer"))
    )
    if document.signer not in roots:
        raise IntegrityError("root.json is not signed by the root key that it names", part="root.json")
    return TrustRoot(
        fingerprint=document.signer,
        version=fields.integer("version", low=1),
        publishers=publishers,
        issuers=issuers,
        suites=fields.texts("suites", TEXT, most=16),
        development=fields.flag("development_keys"),
        data=data,
    )


def load_trust(path: Path) -> TrustRoot:
    """Read and check a root.json file."""
    data = read_small(path, MAX_ROOT, what="trust root", hint="Name the publisher's root.json, e.g. with --trust.")
    return parse_trust(data)


def read_small(path: Path, limit: int, *, what: str, hint: str = "Check the path.") -> bytes:
    """At most `limit` + 1 bytes of a file that a user named, with errors that say what it was for."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"there is no {what} {path}", hint=hint) from error
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Check who may read it.") from error
