"""What the tests of seal and site share: small real bundles, and envelopes forged by hand.

Envelopes are written here from the DSSE specification, not with the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.artifacts import BundleFile
from toolkit.protocols import CipherSuite
from toolkit.seal.bundle import BundleHeader, SealedBundle, seal_bundle
from toolkit.seal.cipher import COB256
from toolkit.seal.grant import grant
from toolkit.seal.keyfile import SigningKey
from toolkit.seal.keys import KeyRing, ensure_development_keys
from toolkit.seal.manifest import DomainRef, LicenceRecord, Manifest
from toolkit.seal.recipient import load_recipient
from toolkit.seal.validity import Validity
from toolkit.site.fit import InstalledDomain
from toolkit.site.install import InstalledVersion, install
from toolkit.site.layout import Site, init_site
from toolkit.site.state import ALL

DOMAINS = {"industry": InstalledDomain("0.1.0")}
LICENCE_TEXT = b"Apache License, Version 2.0\n"
HEADER = BundleHeader(
    product="industry", domain=DomainRef("industry", ">=0.1,<0.2"), variant="cpu", profile="cpu",
    runtime="onnxruntime 1.23.2", opset=17, ir=10, rung="measured", report_sha256="",
    teacher=LicenceRecord("efficientnet", "Apache-2.0", hashlib.sha256(LICENCE_TEXT).hexdigest(), "allowed"),
    data=LicenceRecord("sample", "CC0-1.0", "", "not-applicable"),
)  # fmt: skip
LICENCE = BundleFile("LICENSES/teacher.txt", LICENCE_TEXT, secret=False)


@dataclass(frozen=True)
class Home:
    """A toolkit home in a temporary folder, with development keys."""

    path: Path
    keys: KeyRing
    cipher: CipherSuite = COB256

    @property
    def bundles(self) -> Path:
        return self.path / "bundles"

    @property
    def escrow(self) -> Path:
        return self.path / "escrow"

    def seal(self, model: bytes = b"the weights", header: BundleHeader = HEADER, **more: bytes) -> SealedBundle:
        files = [BundleFile("model", model), LICENCE, *(BundleFile(role, data) for role, data in more.items())]
        return seal_bundle(
            self.bundles, header=header, files=files, keys=self.keys, escrow=self.escrow, cipher=self.cipher
        )

    def site(self, name: str = "site") -> Site:
        return init_site(self.path / name, self.keys.trust)

    def grant(self, bundle: Path, site: Site, *, renew: bool = False, validity: Validity | None = None) -> Path:
        recipient = load_recipient(site.recipient_json)
        return grant(bundle, recipient, self.keys, self.escrow, renew=renew, validity=validity)

    def granted(self, site: Site, model: bytes = b"the weights", **more: bytes) -> SealedBundle:
        sealed = self.seal(model, **more)
        self.grant(sealed.path, site)
        return sealed


def make_home(path: Path) -> Home:
    return Home(path, ensure_development_keys(path / "keys"))


def put(bundle: Path, site: Site, *, permille: int = ALL) -> InstalledVersion:
    """Install where the domain is present and no plugin has anything against it."""
    return install(bundle, site, check=lambda manifest: (), domains=DOMAINS, permille=permille)


def forge(body: bytes, kind: str, key: SigningKey, **changes: Any) -> bytes:
    """A validly signed envelope over any bytes whatever (DSSE: PAE, then Ed25519); `changes` replace its members."""
    name = "application/vnd.in-toto+json" if kind == "in-toto" else f"application/vnd.distil-toolkit.{kind}+json"
    signed = b"DSSEv1 " + str(len(name)).encode() + b" " + name.encode()
    signed += b" " + str(len(body)).encode() + b" " + body
    envelope: dict[str, Any] = {
        "payload": base64.b64encode(body).decode(),
        "payloadType": name,
        "signatures": [{"keyid": key.key_id, "sig": base64.b64encode(key.sign(signed)).decode()}],
    }
    return json.dumps(envelope | changes, sort_keys=True, separators=(",", ":")).encode()


def body_of(path: Path) -> dict[str, Any]:
    """The payload of an envelope."""
    found = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    assert isinstance(found, dict)
    return found


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


PAPERS = ("sbom.cdx.json", "provenance.dsse", "model.sig")


def resign(bundle: Path, keys: KeyRing, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter a manifest and sign it again, as a malicious publisher could. He leaves the papers out, as bundles from
    before there were any have none: what is wrong must be found all the same."""
    body = body_of(bundle / "bundle.dsse")
    body.pop("model_signer", None)
    body["files"] = [file for file in body["files"] if file["path"] not in PAPERS]
    for name in PAPERS:
        (bundle / name).unlink(missing_ok=True)
    change(body)
    (bundle / "bundle.dsse").write_bytes(forge(canonical(body), "bundle", keys.publisher))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def blob_of(bundle: Path, manifest: Manifest, role: str) -> Path:
    file = next(file for file in manifest.variants[0].files if file.role == role)
    return bundle / "blobs" / "sha256" / file.cipher_sha256


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in files_of(folder)}


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, symlinks=True)
    return to


def overwrite(path: Path, data: bytes) -> None:
    """Write into a file whatever its mode, as an attacker with the disk in his hands does."""
    os.chmod(path, 0o600)
    path.write_bytes(data)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def contains(folders: list[Path], canary: bytes) -> Iterator[Path]:
    """Files below `folders` in which `canary` can be read."""
    for folder in folders:
        yield from (path for path in files_of(folder) if canary in path.read_bytes())
