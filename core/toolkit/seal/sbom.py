"""sbom.cdx.json: the bill of materials, CycloneDX 1.7 (ECMA-424), of the student, its teacher, data, files and runtime.

Made by cyclonedx-python-lib and written as canonical JSON, so the same facts give the same bytes. The library has no
model cards yet (11.12): the card is put beside what it wrote, by the standard's schema. Only sealing needs this module.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot7
from packageurl import PackageURL

from toolkit import __version__
from toolkit.artifacts import Metric
from toolkit.seal.canonical import encode
from toolkit.seal.making import Making, Package
from toolkit.seal.manifest import LicenceRecord, Listed, Manifest
from toolkit.seal.provenance import package_url

MINE = "distil-toolkit:"
"""Before the names of our own properties."""


def make_sbom(manifest: Manifest, making: Making) -> bytes:
    """The bytes of sbom.cdx.json for a bundle whose manifest lists all of its files but the papers."""
    student, teacher, data = _student(manifest, making), _teacher(manifest, making), _data(manifest, making)
    files = _files(manifest)
    runtime = [_package(one) for one in _unique([*making.line, *making.runtime])]
    bill = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:distil-toolkit:bundle:{manifest.bundle_id}"),
        metadata=BomMetaData(
            timestamp=datetime.fromisoformat(manifest.created), component=student,
            tools=ToolRepository(components=[_package(Package("distil-toolkit", __version__, "Apache-2.0"), "tool")]),
        ),
        components=[teacher, data, *files, *runtime],
    )  # fmt: skip
    bill.register_dependency(student, [teacher, data, *files, *runtime])
    record = json.loads(JsonV1Dot7(bill).output_as_string())
    record["metadata"]["component"]["modelCard"] = _model_card(data, making)
    return encode(record)


def _student(manifest: Manifest, making: Making) -> Component:
    variant = manifest.variants[0]
    said = {
        "profile": variant.profile, "runtime": variant.runtime, "form": making.form, "rung": variant.rung,
        "suite": manifest.suite, "gate": making.gate, "development_keys": str(manifest.development_keys).lower(),
    }  # fmt: skip
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=manifest.bundle_id, name=manifest.product,
        version=manifest.number,
        properties=[*_properties(said), *(Property(name=f"{MINE}override", value=one) for one in manifest.overrides)],
    )  # fmt: skip


def _teacher(manifest: Manifest, making: Making) -> Component:
    return _licensed(manifest, manifest.teacher, "teacher", ComponentType.MACHINE_LEARNING_MODEL, making.teacher_sha256)


def _data(manifest: Manifest, making: Making) -> Component:
    return _licensed(manifest, manifest.data, "data", ComponentType.DATA, making.data_sha256)


def _licensed(manifest: Manifest, record: LicenceRecord, ref: str, kind: ComponentType, sha256: str) -> Component:
    """What the student was made from. The digest is a property: it is of what was read, not of a file to be had."""
    texts = [file for file in manifest.files if record.text_sha256 and file.sha256 == record.text_sha256]
    said = {"distillation": record.distillation, "sha256": sha256}
    return Component(
        type=kind, bom_ref=ref, name=record.id, licenses=_licences(record.licence),
        external_references=[
            ExternalReference(type=ExternalReferenceType.LICENSE, url=XsUri(one.path), hashes=[_sha256(one.sha256)])
            for one in texts
        ],
        properties=[
            *_properties(said), *(Property(name=f"{MINE}obligation", value=one) for one in record.obligations)
        ],
    )  # fmt: skip


def _files(manifest: Manifest) -> list[Component]:
    """The files as they lie in the bundle: of an encrypted one size and digest are its ciphertext's."""
    roles = {file.path: file.role for file in manifest.files}
    return [
        Component(
            type=ComponentType.FILE, bom_ref=listed.path, name=roles.get(listed.path) or _secret_role(manifest, listed),
            hashes=[_sha256(listed.sha256)],
            properties=_properties({
                "path": listed.path, "size": str(listed.size), "encrypted": str(listed.path not in roles).lower(),
            }),
        )
        for listed in manifest.listed()
    ]  # fmt: skip


def _secret_role(manifest: Manifest, listed: Listed) -> str:
    files = (file for variant in manifest.variants for file in variant.files)
    return next(file.role for file in files if file.cipher_sha256 == listed.sha256)


def _package(package: Package, ref: str = "") -> Component:
    url = PackageURL.from_string(package_url(package))
    return Component(
        type=ComponentType.LIBRARY, bom_ref=ref or str(url), name=package.name, version=package.version, purl=url,
        licenses=_licences(package.licence),
    )  # fmt: skip


def _licences(stated: str) -> list[License]:
    """An SPDX id or expression where it is one, else what is stated, as a name."""
    return [LicenseFactory().make_from_string(stated)] if stated.strip() else []


def _unique(packages: Iterable[Package]) -> list[Package]:
    return list({package_url(one): one for one in packages}.values())


def _properties(said: Mapping[str, str]) -> list[Property]:
    return [Property(name=f"{MINE}{name}", value=value) for name, value in said.items() if value]


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _model_card(data: Component, making: Making) -> dict[str, Any]:
    """By the definition `modelCard` of the schema: the task, the data, and what the gate decided by."""
    parameters: dict[str, Any] = {"datasets": [{"ref": str(data.bom_ref)}]}
    if making.task:
        parameters["task"] = making.task
    card: dict[str, Any] = {"modelParameters": parameters}
    if making.figures:
        figures = [_figure(name, metric) for name, metric in sorted(making.figures.items())]
        card["quantitativeAnalysis"] = {"performanceMetrics": figures}
    return card


def _figure(name: str, metric: Metric) -> dict[str, Any]:
    unit = "" if metric.unit == "share" else f" ({metric.unit})"
    return {
        "type": f"{name}{unit}", "value": f"{metric.value:.6g}", "slice": "held-out rows",
        "confidenceInterval": {"lowerBound": f"{metric.low:.6g}", "upperBound": f"{metric.high:.6g}"},
    }  # fmt: skip
