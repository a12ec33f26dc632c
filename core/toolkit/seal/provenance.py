"""provenance.dsse: how a bundle was made, as an in-toto statement (v1) with a SLSA provenance (v1), by the publisher.

Its subjects are the files of the bundle as they lie there, ciphertext included, and never a plaintext's digest. Of the
plan it says what `Making` allows; the whole of it is the bundle's encrypted file `plan`, named by its ciphertext.
"""

from __future__ import annotations

from typing import Any

from toolkit import __version__
from toolkit.errors import IntegrityError
from toolkit.seal.envelope import IN_TOTO, Signer, open_document, sign_document
from toolkit.seal.making import Making, Package
from toolkit.seal.manifest import PROVENANCE, Manifest
from toolkit.seal.trust import TrustRoot

MAX_PROVENANCE = 4 * 1024 * 1024
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:distil-toolkit:line:1"
"""docs/bundle-format.md says what its parameters mean."""
BUILDER = "pkg:pypi/distil-toolkit"


def sign_provenance(manifest: Manifest, making: Making, publisher: Signer) -> bytes:
    """The bytes of provenance.dsse for a bundle whose manifest lists all of its files but this one."""
    return sign_document(_statement(manifest, making), kind=IN_TOTO, signer=publisher)


def check_provenance(data: bytes, manifest: Manifest, trust: TrustRoot) -> None:
    """Refuse a provenance that is not this bundle's, or not by the publisher who signed its manifest.

    Raises:
        IntegrityError: signed by another, or about other files.
    """
    statement = open_document(
        data, kind=IN_TOTO, signers=(manifest.signer,), part=PROVENANCE, limit=MAX_PROVENANCE,
        revoked=trust.revoked_ids,
    ).fields.values  # fmt: skip
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, PREDICATE):
        raise _unfit("is not a SLSA provenance")
    if statement.get("subject") != _subjects(manifest):
        raise _unfit("is about other files than those of this bundle")


def _subjects(manifest: Manifest) -> list[dict[str, Any]]:
    found = {listed.path: listed.sha256 for listed in manifest.listed() if listed.path != PROVENANCE}
    return [{"name": path, "digest": {"sha256": digest}} for path, digest in sorted(found.items())]


def _statement(manifest: Manifest, making: Making) -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": _subjects(manifest),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "domain": manifest.domain.name, "product": manifest.product,
                    "target": manifest.variants[0].profile, **making.parameters,
                },
                "internalParameters": {"form": making.form} if making.form else {},
                "resolvedDependencies": _dependencies(manifest, making),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"distil-toolkit": __version__}},
                "metadata": {"invocationId": making.run or manifest.bundle_id, "finishedOn": manifest.created},
            },
        },
    }  # fmt: skip


def _dependencies(manifest: Manifest, making: Making) -> list[dict[str, Any]]:
    """What the bundle was made from: data, teacher, the encrypted plan, and the distributions that made it."""
    digests = {"data": making.data_sha256, "teacher": making.teacher_sha256}
    digests |= {file.role: file.cipher_sha256 for file in manifest.variants[0].files if file.role == "plan"}
    named = {"data": manifest.data.id, "teacher": manifest.teacher.id, "plan": "the encrypted file plan"}
    return [
        *(
            {"name": name, "digest": {"sha256": digest}, "annotations": {"what": named[name]}}
            for name, digest in digests.items()
            if digest
        ),
        *({"name": one.name, "uri": package_url(one)} for one in making.line),
    ]


def package_url(package: Package) -> str:
    """As purl-spec has it for the Python package index."""
    return f"pkg:pypi/{package.name.lower().replace('_', '-')}@{package.version}"


def _unfit(problem: str) -> IntegrityError:
    return IntegrityError(f"{PROVENANCE} {problem}", part=PROVENANCE, hint="Fetch it again from whoever made it.")
