"""The trust root: who may publish, issue grants, revoke, and change the root itself; which suites are allowed.

Follows TUF (theupdateframework.io): roles apart, a version, and a new root signed by a threshold of the old root's keys
and of its own. A site pins one root.json when it is made; a bundle never says whom to trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.errors import IntegrityError, Refused
from toolkit.seal.canonical import Fields
from toolkit.seal.envelope import Signer, add_signatures, open_document, sign_document
from toolkit.seal.files import read_small
from toolkit.seal.revocation import RevokedList
from toolkit.seal.suites import CIPHER, MODEL_SIGNER, SIGNER, SUITE_NAME, cipher_of, keys_of, name_of, suite_of

FORMAT = "distil-root/2"
KIND = "root"
PART = "root.json"
MAX_ROOT = 1024 * 1024
MAX_SIGNERS = 15
"""Of one role: old and new root keys of the dual suite then fit into one envelope."""


@dataclass(frozen=True)
class TrustRoot:
    """What a root.json says, and what was revoked since. `keys` are the ids of all keys that signed it, `models` the
    P-256 keys that may sign a model.sig."""

    version: int
    roots: tuple[str, ...]
    threshold: int
    publishers: tuple[str, ...]
    issuers: tuple[str, ...]
    revokers: tuple[str, ...]
    suites: tuple[str, ...]
    development: bool
    keys: frozenset[str] = field(repr=False)
    data: bytes = field(repr=False)
    revoked: RevokedList | None = None
    models: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of root.json, which a site pins."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def fingerprint(self) -> str:
        """What people compare over another channel: the digest of this version."""
        return self.digest

    @property
    def ciphers(self) -> tuple[str, ...]:
        """How files may be encrypted."""
        return tuple(sorted({cipher_of(suite) for suite in self.suites}))

    @property
    def revoked_ids(self) -> frozenset[str]:
        return self.revoked.ids if self.revoked else frozenset()

    def unrevoked(self) -> TrustRoot:
        """The same root without the list: to read what is there, not to trust it."""
        return replace(self, revoked=None)

    def check_suite(self, suite: str, signer: str, *, part: str) -> None:
        """Refuse a suite that the root does not allow, or that is not its signer's: a bundle negotiates nothing."""
        if suite not in self.suites or suite != suite_of(signer, cipher_of(suite)):
            raise IntegrityError(
                f"{part} uses the suite {suite[:60]!r}, which the trust root does not allow", part=part,
                hint="Ask the publisher for a bundle in a suite of the root; a newer toolkit may know it.",
            )  # fmt: skip

    def check_revoked(self, *identities: str, part: str) -> None:
        """Refuse what the list revokes, be it a key's name, a fingerprint or a bundle's id."""
        for identity in identities:
            if self.revoked and (why := self.revoked.why(name_of(identity))):
                raise IntegrityError(
                    f"{part}: {name_of(identity)[:40]} was revoked: {why}", part=part,
                    hint="Use what took its place: ask the publisher for a bundle and a grant made since.",
                )  # fmt: skip

    def check_model_signer(self, key_id: str, *, part: str) -> None:
        """Refuse a key of model.sig that the root does not name for it, or that was revoked."""
        if key_id not in self.models:
            raise IntegrityError(
                f"{part} is signed by {key_id[:16]}…, whom the trust root does not name for it", part=part,
                hint="Take up the publisher's newer root.json: toolkit site trust SITE --root root.json.",
            )  # fmt: skip
        self.check_revoked(key_id, part=part)

    def check_successor(self, new: TrustRoot) -> None:
        """Refuse a root that may not follow this one.

        Raises:
            Refused: its version is lower.
            IntegrityError: the same version with another content, or too few of this root's keys signed it.
        """
        self.check_newer(new)
        count = signed_by(self.roots, new.keys)
        if count < self.threshold:
            raise IntegrityError(
                f"{PART} is signed by {count} of the old root's keys, and {self.threshold} are needed", part=PART,
                hint="Have it signed with `toolkit keys sign` where the old root keys are; take the roots one by one.",
            )  # fmt: skip

    def check_newer(self, new: TrustRoot) -> None:
        """Refuse a root that is older, or another one of the same version; errors as in `check_successor`."""
        if new.version < self.version:
            raise Refused(
                f"{PART} is version {new.version}, older than version {self.version} that is trusted here",
                hint="Ask the publisher for the newest one.",
            )
        if new.version == self.version:
            raise IntegrityError(
                f"{PART} has version {new.version} as the one trusted here, and other content", part=PART,
                hint="Two roots must not share a version: ask the publisher which one is real.",
            )  # fmt: skip


def root_payload(
    *, version: int, roots: Sequence[str], threshold: int, publishers: Sequence[str], issuers: Sequence[str],
    revokers: Sequence[str], models: Sequence[str] = (), development: bool, ciphers: Iterable[str] = (CIPHER,),
) -> dict[str, object]:  # fmt: skip
    """What a root.json of these signers says; the suites follow from them, though not from `models`, and from the
    ciphers that it allows."""
    everybody = [*roots, *publishers, *issuers, *revokers]
    return {
        "format": FORMAT, "critical": [], "version": version, "development_keys": development,
        "roles": {
            "root": {"signers": sorted(roots), "threshold": threshold}, "publisher": sorted(publishers),
            "issuer": sorted(issuers), "revocation": sorted(revokers), **({"model": sorted(models)} if models else {}),
        },
        "suites": sorted({suite_of(signer, cipher) for signer in everybody for cipher in ciphers}),
    }  # fmt: skip


def sign_root(payload: dict[str, object], signers: Iterable[Signer]) -> bytes:
    """The bytes of root.json, signed by all of `signers`."""
    first, *more = signers
    data = sign_document(payload, kind=KIND, signer=first)
    for signer in more:
        data = add_root_signature(data, signer)
    return data


def add_root_signature(data: bytes, signer: Signer) -> bytes:
    """The same root.json, signed by one more."""
    return add_signatures(data, kind=KIND, signer=signer, part=PART, limit=MAX_ROOT)


def parse_trust(data: bytes, *, complete: bool = True) -> TrustRoot:
    """Check the bytes of a root.json; a threshold of the root keys that it names must have signed it.

    Args:
        complete: False for a draft that still collects signatures; those it has must hold all the same.
    """
    document = open_document(data, kind=KIND, signers=None, part=PART, limit=MAX_ROOT)
    fields = document.fields
    fields.header(FORMAT)
    root = TrustRoot(
        version=fields.integer("version", low=1),
        **fields.record("roles", _roles),
        suites=fields.texts("suites", SUITE_NAME, most=16),
        development=fields.flag("development_keys"),
        keys=document.keys,
        data=data,
    )
    _check_signers(root)
    if complete and signed_by(root.roots, document.keys) < root.threshold:
        raise _unfit(f"is not signed by {root.threshold} of the root keys that it names")
    return root


def load_trust(path: Path) -> TrustRoot:
    """Read and check a root.json file."""
    data = read_small(path, MAX_ROOT, what="trust root", hint="Name the publisher's root.json, e.g. with --trust.")
    return parse_trust(data)


def missing_signatures(new: TrustRoot, old: TrustRoot) -> int:
    """How many root keys must still sign `new` before it may follow `old`."""
    lacking = (root.threshold - signed_by(root.roots, new.keys) for root in (old, new))
    return max(0, *lacking)


def _roles(fields: Fields) -> dict[str, Any]:
    roots, threshold = fields.record(
        "root", lambda root: (root.texts("signers", SIGNER, most=MAX_SIGNERS), root.integer("threshold", low=1))
    )
    publishers, issuers, revokers = (
        fields.texts(role, SIGNER, most=MAX_SIGNERS) for role in ("publisher", "issuer", "revocation")
    )
    # A root from before there was a model.sig names nobody for it.
    models = fields.texts("model", MODEL_SIGNER, most=MAX_SIGNERS) if "model" in fields.values else ()
    return {
        "roots": roots, "threshold": threshold, "publishers": publishers, "issuers": issuers, "revokers": revokers,
        "models": models,
    }  # fmt: skip


def _check_signers(root: TrustRoot) -> None:
    """A key stands for one signer of one role, in a suite that is allowed; a threshold can be reached."""
    signers = [*root.roots, *root.publishers, *root.issuers, *root.revokers]
    keys = [key for signer in signers for key in keys_of(signer)]
    if len(set(keys)) != len(keys) or len(set(root.models)) != len(root.models):
        raise _unfit("names a key twice")
    if root.threshold > len(root.roots):
        raise _unfit("demands more root signatures than it has root keys")
    expected = {suite_of(signer, cipher) for signer in signers for cipher in root.ciphers}
    if not expected or expected != set(root.suites):
        raise _unfit("allows other suites than its signers have")


def signed_by(signers: Sequence[str], keys: frozenset[str]) -> int:
    """How many of `signers` signed with all of their keys. A key counts once: it is in one signer only."""
    return sum(keys_of(signer) <= keys for signer in signers)


def _unfit(problem: str) -> IntegrityError:
    return IntegrityError(f"{PART} {problem}", part=PART, hint="Ask the publisher for a complete root.json.")
