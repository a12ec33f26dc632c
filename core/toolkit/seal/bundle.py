"""Sealing: from a model's files to a bundle folder of ciphertext, signatures, papers and licence texts.

Built aside, flushed, bundle.dsse and what signs it last, renamed into place: a bundle is there whole or not at all. The
content key leaves this module only wrapped to the issuer's escrow.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.artifacts import BundleFile
from toolkit.errors import EnvironmentUnfit, IntegrityError, PlanError, Refused, Unsupported
from toolkit.protocols import CipherSuite
from toolkit.seal.canonical import NAME, Fields, decode, encode, utc_now
from toolkit.seal.cipher import (
    COB256,
    content_key_id,
    encrypt_file,
    file_context,
    new_content_key,
)
from toolkit.seal.envelope import Document, sign_document
from toolkit.seal.grant import escrow_path, next_serial
from toolkit.seal.grantfile import make_grant
from toolkit.seal.keys import KeyRing
from toolkit.seal.making import NOTHING_SAID, Making
from toolkit.seal.manifest import (
    ENVELOPE,
    KIND,
    MAX_BLOB,
    MAX_ENVELOPE,
    MODEL_SIGNATURE,
    PAPERS,
    PROVENANCE,
    SBOM,
    DomainRef,
    LicenceRecord,
    Manifest,
    PlainFile,
    PluginRef,
    SecretFile,
    Variant,
    blob_path,
    check_role,
    check_teacher,
    plain_path,
    read_manifest,
)
from toolkit.seal.model_signature import sign_model
from toolkit.seal.provenance import sign_provenance
from toolkit.seal.recipient import Recipient
from toolkit.seal.suites import suite_of
from toolkit.seal.verify import verify_bundle
from toolkit.workspace import flush_folder, folder_lock, write_file

LOCK_WAIT = 600.0
MIN_TOOL = "0.1.0"
"""The first version that reads this format."""


@dataclass(frozen=True)
class BundleHeader:
    """What the manifest says beside the files.

    `profile` is the hardware profile, `rung` how far it was verified, `runtime` e.g. `onnxruntime 1.23.2`, `opset` and
    `ir` the ONNX versions (0 where there are none). `report_sha256` is the digest of the report or ''. `overrides`
    are reasons given with --override, which the signature makes the publisher's own. `making` is for the papers alone.
    """

    product: str
    domain: DomainRef
    variant: str
    profile: str
    runtime: str
    opset: int
    ir: int
    rung: str
    report_sha256: str
    teacher: LicenceRecord
    data: LicenceRecord
    epoch: int = 1
    min_tool: str = MIN_TOOL
    plugins: tuple[PluginRef, ...] = ()
    overrides: tuple[str, ...] = ()
    making: Making = NOTHING_SAID


@dataclass(frozen=True)
class SealedBundle:
    """A finished bundle: its folder and its manifest."""

    path: Path
    manifest: Manifest


def seal_bundle(
    folder: Path, *, header: BundleHeader, files: Sequence[BundleFile], keys: KeyRing, escrow: Path,
    cipher: CipherSuite = COB256,
) -> SealedBundle:  # fmt: skip
    """Seal `files` into a new bundle below `folder`, with the next counter of its product.

    Args:
        folder: where bundles lie; it also remembers the counters.
        escrow: where the escrow grant is kept, outside every bundle.
        cipher: how files are encrypted; the trust root must allow it.

    Raises:
        Refused: the teacher's licence forbids distilling, or is unknown and nobody overrode that.
        PlanError: a name or role that the format does not have, or one that stands twice; a suite that the trust root
            does not allow.
        EnvironmentUnfit: no space, no right to write.
    """
    _check_header(header)
    _check_suite(keys, cipher)
    _check_files(files)
    _check_licences(header, files)
    try:
        with folder_lock(folder, purpose="seal a bundle", wait=LOCK_WAIT):
            for stale in folder.glob(".sealing-*"):
                shutil.rmtree(stale)
            counter = _next_counter(folder, header.product)
            bundle_id = f"{header.product}-{counter}-{secrets.token_hex(6)}"
            aside = folder / f".sealing-{bundle_id}"
            try:
                manifest = _build(aside, bundle_id, counter, header, files, keys, escrow, cipher)
                os.rename(aside, folder / bundle_id)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            flush_folder(folder)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot seal into {folder}: {error.strerror}", hint="Check free space and rights."
        ) from error
    return SealedBundle(folder / bundle_id, manifest)


def _build(
    aside: Path, bundle_id: str, counter: int, header: BundleHeader, files: Sequence[BundleFile], keys: KeyRing,
    escrow: Path, cipher: CipherSuite,
) -> Manifest:  # fmt: skip
    blobs = aside / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    content_key = new_content_key()
    plain = tuple(_store_plain(aside, file) for file in files if not file.secret)
    secret = tuple(_store_secret(aside, file, content_key, bundle_id, header, cipher) for file in files if file.secret)
    variant = Variant(
        header.variant, header.profile, header.runtime, header.opset, header.ir, header.rung, secret
    )  # fmt: skip
    manifest = Manifest(
        bundle_id=bundle_id, product=header.product, epoch=header.epoch, counter=counter,
        suite=suite_of(keys.publisher.key_id, cipher.name), min_tool=header.min_tool, created=utc_now(),
        development_keys=keys.development, domain=header.domain,
        variants=(variant,), files=plain, report_sha256=header.report_sha256, teacher=header.teacher,
        data=header.data, plugins=header.plugins, overrides=header.overrides,
    )  # fmt: skip
    _check_fits(manifest)
    manifest = _with_papers(aside, manifest, header.making, keys)
    envelope = sign_document(manifest.as_record(), kind=KIND, signer=keys.publisher)
    for inner in (blobs, blobs.parent, *(path for path in (aside / "LICENSES",) if path.exists())):
        flush_folder(inner)
    write_file(aside / ENVELOPE, envelope)
    if keys.model is not None:
        write_file(aside / MODEL_SIGNATURE, sign_model(manifest, envelope, keys.model))
    manifest = verify_bundle(aside, keys.trust)
    _keep_escrow(escrow, manifest, {header.variant: content_key}, keys)
    return manifest


def _with_papers(aside: Path, manifest: Manifest, making: Making, keys: KeyRing) -> Manifest:
    """The manifest that lists the papers too. The provenance comes second: it is about the bill of materials too."""
    from toolkit.seal.sbom import make_sbom  # here: `toolkit plan` goes without cyclonedx-python-lib

    sbom = _store_plain(aside, BundleFile(SBOM, make_sbom(manifest, making), secret=False))
    manifest = replace(manifest, files=(*manifest.files, sbom))
    statement = sign_provenance(manifest, making, keys.publisher)
    provenance = _store_plain(aside, BundleFile(PROVENANCE, statement, secret=False))
    return replace(manifest, files=(*manifest.files, provenance), model_signer=keys.model.key_id if keys.model else "")


def _store_plain(aside: Path, file: BundleFile) -> PlainFile:
    digest = hashlib.sha256(file.data).hexdigest()
    path = plain_path(file.role, digest)
    write_file(aside / path, file.data)
    return PlainFile(file.role, path, len(file.data), digest)


def _store_secret(
    aside: Path, file: BundleFile, content_key: bytes, bundle_id: str, header: BundleHeader, cipher: CipherSuite
) -> SecretFile:
    context = file_context(product=header.product, bundle_id=bundle_id, variant=header.variant, path=file.role)
    digest = hashlib.sha256()
    unnamed = aside / "blobs" / "sha256" / ".blob"
    with unnamed.open("xb") as stream:
        mac = encrypt_file(file.data, content_key, context, digest.update, stream.write, cipher=cipher)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(unnamed, aside / blob_path(digest.hexdigest()))
    return SecretFile(
        role=file.role, path=file.role, size=len(file.data), cipher_size=cipher.ciphertext_size(len(file.data)),
        cipher_sha256=digest.hexdigest(), mac=mac, key_id=content_key_id(content_key),
    )  # fmt: skip


def _keep_escrow(escrow: Path, manifest: Manifest, content_keys: dict[str, bytes], keys: KeyRing) -> None:
    escrow.mkdir(mode=0o700, parents=True, exist_ok=True)
    with folder_lock(escrow, purpose="keep an escrow grant", wait=LOCK_WAIT):
        _, data = make_grant(
            bundle_id=manifest.bundle_id, manifest_sha256=manifest.digest, serial=next_serial(escrow),
            recipient=Recipient.of(keys.escrow, "escrow"), issuer=keys.issuer, content_keys=content_keys,
        )  # fmt: skip
        write_file(escrow_path(escrow, manifest.bundle_id), data, mode=0o600)


def _next_counter(folder: Path, product: str) -> int:
    """One more than any counter given away before; written down before it is used, so a crash never repeats one."""
    path = folder / ".counters" / product
    text = path.read_text().strip() if path.exists() else "0"
    sealed = [re.fullmatch(rf"{re.escape(product)}-([0-9]+)-[0-9a-f]{{12}}", one.name) for one in folder.iterdir()]
    counter = max([int(text) if text.isdecimal() else 0, *(int(match[1]) for match in sealed if match)]) + 1
    write_file(path, b"%d\n" % counter)
    return counter


def _check_fits(manifest: Manifest) -> None:
    """Whatever is signed must be readable again; a text that the format does not have is the plan's fault."""
    try:
        record = decode(encode(manifest.as_record()), part=ENVELOPE, limit=MAX_ENVELOPE)
        read_manifest(Document(Fields(record, ENVELOPE), "", ""))
    except (IntegrityError, ValueError) as error:
        raise PlanError(
            f"the bundle cannot say this in its manifest: {error}",
            hint="Look for control characters and for texts over 4,096 letters.",
        ) from error


def _check_header(header: BundleHeader) -> None:
    named = {
        "product": header.product, "domain": header.domain.name, "variant": header.variant, "profile": header.profile
    }  # fmt: skip
    for what, name in named.items():
        if re.fullmatch(NAME, name) is None or len(name) > 40:
            raise PlanError(
                f"{what} {name!r} cannot be a name in a bundle",
                hint="Use lower-case letters, digits, dots and dashes, at most 40.",
            )


def _check_suite(keys: KeyRing, cipher: CipherSuite) -> None:
    suite = suite_of(keys.publisher.key_id, cipher.name)
    if suite not in keys.trust.suites:
        raise PlanError(
            f"the trust root does not allow the suite {suite}",
            hint=f"It allows {', '.join(keys.trust.suites)}. `toolkit keys rotate publisher --suite {suite}` adds",
        )


def _check_files(files: Sequence[BundleFile]) -> None:
    roles = [file.role.casefold() for file in files]
    for file in files:
        if not check_role(file.role) or (file.secret and "/" in file.role) or roles.count(file.role.casefold()) > 1:
            raise PlanError(
                f"the role {file.role!r} cannot stand in a bundle, or stands twice",
                hint="A role is a lower-case name; a licence text is LICENSES/NAME and not secret.",
            )
        if file.role in (ENVELOPE, MODEL_SIGNATURE, *PAPERS):
            raise PlanError(f"the role {file.role!r} is sealing's own", hint="Give the file another name.")
        if len(file.data) > MAX_BLOB:
            raise Unsupported(f"the file {file.role} is larger than 2 GiB", hint="Split it into shards.")


def _check_licences(header: BundleHeader, files: Sequence[BundleFile]) -> None:
    check_teacher(header.teacher, header.overrides)
    teacher = header.teacher
    texts = {hashlib.sha256(file.data).hexdigest() for file in files if file.role.startswith("LICENSES/")}
    if teacher.text_sha256 and teacher.text_sha256 not in texts:
        raise Refused(
            f"the licence text of {teacher.id} has to travel with the bundle and is not among its files",
            hint="Add it as a file with the role LICENSES/NAME.",
        )
