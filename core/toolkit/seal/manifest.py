"""The manifest: what a bundle is, and every file in it with size and digest. Read only behind its signature.

Names in it are matched by pattern and never used as paths beyond the fixed names of the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.errors import IntegrityError, Refused
from toolkit.seal.canonical import HEX_DIGEST, NAME, Fields
from toolkit.seal.envelope import Document
from toolkit.seal.suites import MODEL_SIGNER
from toolkit.seal.validity import as_text, read_time

FORMAT = "distil-bundle/1"
KIND = "bundle"
ENVELOPE = "bundle.dsse"
MAX_ENVELOPE = 4 * 1024 * 1024
MAX_BLOB = 2 * 1024**3
MAX_FILES = 4096
SBOM, PROVENANCE = "sbom.cdx.json", "provenance.dsse"
PAPERS = (SBOM, PROVENANCE)
"""Plain files that lie under their own name, as licence texts do."""
MODEL_SIGNATURE = "model.sig"
"""Over the whole tree, bundle.dsse too: so no manifest can list it, and says who signs it instead."""
LICENCE_PATH = r"LICENSES/[A-Za-z0-9][A-Za-z0-9._-]{0,62}[A-Za-z0-9]"
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


@dataclass(frozen=True)
class DomainRef:
    """The domain a bundle needs on its site: name, PEP 440 version range, SHA-256 of the wheel or ''."""

    name: str
    versions: str
    wheel_sha256: str = ""


@dataclass(frozen=True)
class LicenceRecord:
    """What may be done with a teacher or a data set. `distillation` is allowed, conditional, forbidden or unknown
    (`not-applicable` for data)."""

    id: str
    licence: str
    text_sha256: str = ""
    distillation: str = "unknown"
    obligations: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginRef:
    """A plugin that the model needs where it is served."""

    name: str
    version: str
    sha256: str = ""


@dataclass(frozen=True)
class Listed:
    """A file as it lies in the bundle. `label` is how errors name it."""

    path: str
    size: int
    sha256: str
    label: str


@dataclass(frozen=True)
class PlainFile:
    """A signed file that everybody may read. `role` is what the site asks for."""

    role: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class SecretFile:
    """An encrypted file. `path` is its name in the variant, to which it is bound; `cipher_sha256` names its blob."""

    role: str
    path: str
    size: int
    cipher_size: int
    cipher_sha256: str
    mac: str
    key_id: str


@dataclass(frozen=True)
class Variant:
    """One form of the model for one kind of hardware, under one content key."""

    name: str
    profile: str
    runtime: str
    opset: int
    ir: int
    rung: str
    files: tuple[SecretFile, ...]


@dataclass(frozen=True)
class Manifest:
    """A manifest whose signature held. `digest` is SHA-256 of its bytes, `signer` the publisher's key id.
    `model_signer` is the key that signed model.sig, '' where the bundle has none."""

    bundle_id: str
    product: str
    epoch: int
    counter: int
    suite: str
    min_tool: str
    created: str
    development_keys: bool
    domain: DomainRef
    variants: tuple[Variant, ...]
    files: tuple[PlainFile, ...]
    report_sha256: str
    teacher: LicenceRecord
    data: LicenceRecord
    plugins: tuple[PluginRef, ...]
    overrides: tuple[str, ...]
    model_signer: str = ""
    digest: str = ""
    signer: str = ""

    @property
    def number(self) -> str:
        """The version, as people and clients name it."""
        return f"{self.epoch}.{self.counter}"

    def as_record(self) -> dict[str, Any]:
        """The payload that is signed."""
        record = asdict(self)
        del record["digest"], record["signer"]
        return {"format": FORMAT, "critical": []} | record

    def listed(self) -> Iterator[Listed]:
        """Every file that must lie in the bundle beside bundle.dsse and grants/; nothing else may."""
        seen: set[str] = set()
        for plain in self.files:
            if plain.path not in seen:  # two that say the same share a blob
                seen.add(plain.path)
                label = plain.path if plain.path == plain.role else blob_label(plain.sha256, plain.role)
                yield Listed(plain.path, plain.size, plain.sha256, label)
        for variant in self.variants:
            for file in variant.files:
                path = blob_path(file.cipher_sha256)
                if path not in seen:
                    seen.add(path)
                    yield Listed(path, file.cipher_size, file.cipher_sha256, blob_label(file.cipher_sha256, file.role))


def blob_path(sha256: str) -> str:
    """Where a blob of this digest lies in a bundle."""
    return f"blobs/sha256/{sha256}"


def blob_label(sha256: str, role: str) -> str:
    """How an error names a blob."""
    return f"blobs/sha256/{sha256[:12]}… (role {role})"


def plain_path(role: str, sha256: str) -> str:
    """Where a file that everybody may read lies: papers and licence texts under their role, others as a blob."""
    return role if role in PAPERS or role.startswith("LICENSES/") else blob_path(sha256)


def check_role(role: str) -> bool:
    """True where `role` may name a file of a bundle: a lower-case name, or LICENSES/NAME for a licence text."""
    stem = role.removeprefix("LICENSES/").split(".", 1)[0].lower()
    return re.fullmatch(f"{NAME}|{LICENCE_PATH}", role) is not None and stem not in WINDOWS_DEVICES


def check_teacher(teacher: LicenceRecord, overrides: tuple[str, ...]) -> None:
    """Refuse a model of a teacher whose licence forbids it, or about which nobody knows and nobody took it upon him."""
    if teacher.distillation == "forbidden":
        raise Refused(
            f"the licence of {teacher.id} ({teacher.licence}) forbids training a model on its output",
            hint="Choose another teacher: no override lifts this.",
        )
    if teacher.distillation == "unknown" and not overrides:
        raise Refused(
            f"nobody recorded whether the licence of {teacher.id} allows training a model on its output",
            hint="Find out, or take it upon you with --override REASON, which is signed into the bundle.",
        )


def read_manifest(document: Document) -> Manifest:
    """The manifest behind a signature that held.

    Raises:
        IntegrityError: a field is missing or out of range, a role or name stands twice, an unknown critical field.
    """
    fields = document.fields
    fields.header(FORMAT)
    manifest = Manifest(
        bundle_id=fields.text("bundle_id", NAME),
        product=fields.text("product", NAME),
        epoch=fields.integer("epoch", low=1),
        counter=fields.integer("counter", low=1),
        suite=fields.text("suite"),
        min_tool=fields.text("min_tool"),
        created=as_text(read_time(fields, "created")),
        development_keys=fields.flag("development_keys"),
        domain=fields.record("domain", _domain),
        variants=fields.records("variants", _variant, most=64),
        files=fields.records("files", _plain, most=MAX_FILES),
        report_sha256=fields.text("report_sha256", f"({HEX_DIGEST})?"),
        teacher=fields.record("teacher", _licence),
        data=fields.record("data", _licence),
        plugins=fields.records("plugins", _plugin, most=256),
        overrides=fields.texts("overrides", most=64),
        # Bundles that were sealed before there was a model.sig say nothing of one.
        model_signer=fields.text("model_signer", f"({MODEL_SIGNER})?") if "model_signer" in fields.values else "",
        digest=document.digest,
        signer=document.signer,
    )
    _check_names(manifest)
    return manifest


def _check_names(manifest: Manifest) -> None:
    plain = [file.role.casefold() for file in manifest.files]
    names = [variant.name for variant in manifest.variants]
    groups = [names, *([*plain, *(file.role for file in variant.files)] for variant in manifest.variants)]
    groups += [[file.path for file in variant.files] for variant in manifest.variants]
    files = len(plain) + sum(len(variant.files) for variant in manifest.variants)
    if not manifest.variants or files > MAX_FILES or any(len(set(group)) != len(group) for group in groups):
        raise IntegrityError("the manifest names a file twice, or none, or too many", part=ENVELOPE)


def _domain(fields: Fields) -> DomainRef:
    wheel = fields.text("wheel_sha256", f"({HEX_DIGEST})?")
    return DomainRef(fields.text("name", NAME), fields.text("versions"), wheel)


def _licence(fields: Fields) -> LicenceRecord:
    return LicenceRecord(
        id=fields.text("id"),
        licence=fields.text("licence"),
        text_sha256=fields.text("text_sha256", f"({HEX_DIGEST})?"),
        distillation=fields.text("distillation", "allowed|conditional|forbidden|unknown|not-applicable"),
        obligations=fields.texts("obligations", most=64),
    )


def _plugin(fields: Fields) -> PluginRef:
    return PluginRef(fields.text("name"), fields.text("version"), fields.text("sha256", f"({HEX_DIGEST})?"))


def _plain(fields: Fields) -> PlainFile:
    file = PlainFile(
        role=fields.text("role"),
        path=fields.text("path"),
        size=fields.integer("size", high=MAX_BLOB),
        sha256=fields.text("sha256", HEX_DIGEST),
    )
    if not check_role(file.role) or file.path != plain_path(file.role, file.sha256):
        raise fields.wrong("files")
    return file


def _variant(fields: Fields) -> Variant:
    return Variant(
        name=fields.text("name", NAME),
        profile=fields.text("profile", NAME),
        runtime=fields.text("runtime"),
        opset=fields.integer("opset"),
        ir=fields.integer("ir"),
        rung=fields.text("rung"),
        files=fields.records("files", _secret, most=MAX_FILES),
    )


def _secret(fields: Fields) -> SecretFile:
    if not check_role(fields.text("role", NAME)):
        raise fields.wrong("role")
    return SecretFile(
        role=fields.text("role", NAME),
        path=fields.text("path", NAME),
        size=fields.integer("size", high=MAX_BLOB),
        cipher_size=fields.integer("cipher_size", high=MAX_BLOB + MAX_BLOB // 512),
        cipher_sha256=fields.text("cipher_sha256", HEX_DIGEST),
        mac=fields.text("mac", HEX_DIGEST),
        key_id=fields.text("key_id", HEX_DIGEST),
    )
