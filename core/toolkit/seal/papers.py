"""A bundle's papers, checked where it is received: bill of materials, provenance, model signature, licences.

That each is the very file that the publisher signed is seen by its digest in the manifest, as of any file. This module
looks further: whether it is what its name says, and about this bundle and no other. It needs `cryptography` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import Fields, decode
from toolkit.seal.manifest import MODEL_SIGNATURE, PROVENANCE, SBOM, Manifest
from toolkit.seal.model_signature import MAX_MODEL_SIGNATURE, check_model_signature, public_pem
from toolkit.seal.provenance import MAX_PROVENANCE, check_provenance
from toolkit.seal.tree import read_file
from toolkit.seal.trust import TrustRoot

MAX_SBOM = 4 * 1024 * 1024
SPEC_VERSION = "1.7"


@dataclass(frozen=True)
class Papers:
    """What there is, all of which holds. `components` of the bill of materials, None without one; `provenance` tells
    whether there is one; `model_signer` is '' without a model.sig; `licences` are the names of the texts."""

    components: int | None = None
    provenance: bool = False
    model_signer: str = ""
    licences: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """For `toolkit verify --json`; None for what the bundle was sealed without."""
        return {
            "sbom": {"holds": True, "format": f"CycloneDX {SPEC_VERSION}", "components": self.components}
            if self.components is not None else None,
            "provenance": {"holds": True, "format": "SLSA provenance v1 in DSSE"} if self.provenance else None,
            "model_signature": {
                "holds": True, "format": "OpenSSF model-signing v1", "key": self.model_signer,
                "public_key": public_pem(self.model_signer),
            } if self.model_signer else None,
            "licences": list(self.licences),
        }  # fmt: skip


NO_PAPERS = Papers()


def check_papers(root: int, manifest: Manifest, envelope: bytes, trust: TrustRoot) -> Papers:
    """Check the papers of the bundle in the folder handle `root`.

    Args:
        envelope: the bytes of its bundle.dsse.

    Raises:
        IntegrityError: one is not what it should be, or about another bundle.
    """
    listed = {file.path for file in manifest.files}
    components = None
    if SBOM in listed:
        components = _check_sbom(read_file(root, SBOM, limit=MAX_SBOM), manifest)
    if PROVENANCE in listed:
        check_provenance(read_file(root, PROVENANCE, limit=MAX_PROVENANCE), manifest, trust)
    if manifest.model_signer:
        trust.check_model_signer(manifest.model_signer, part=MODEL_SIGNATURE)
        data = read_file(root, MODEL_SIGNATURE, limit=MAX_MODEL_SIGNATURE)
        check_model_signature(data, manifest, envelope)
    licences = tuple(sorted(file.path for file in manifest.files if file.path.startswith("LICENSES/")))
    return Papers(components, PROVENANCE in listed, manifest.model_signer, licences)


def _check_sbom(data: bytes, manifest: Manifest) -> int:
    """How many components it lists."""
    bill = Fields(decode(data, part=SBOM, limit=MAX_SBOM), SBOM)
    if (bill.values.get("bomFormat"), bill.values.get("specVersion")) != ("CycloneDX", SPEC_VERSION):
        raise _unfit(f"is not a CycloneDX {SPEC_VERSION} document")
    model = bill.record("metadata", lambda metadata: metadata.record("component", lambda component: component))
    if model.values.get("bom-ref") != manifest.bundle_id:
        raise _unfit("is about another bundle")
    return len(bill.records("components", lambda component: component, most=8192))


def _unfit(problem: str) -> IntegrityError:
    return IntegrityError(f"{SBOM} {problem}", part=SBOM, hint="Fetch the bundle again from whoever made it.")
