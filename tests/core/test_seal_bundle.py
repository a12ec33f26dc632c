"""Sealing and checking; the numbered cases of the bundle design are in test_cases_*.py."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from case_parts import case_home, refused
from seal_parts import (
    HEADER,
    LICENCE,
    Home,
    blob_of,
    canonical,
    files_of,
    flipped,
    resign,
)

from toolkit.artifacts import BundleFile
from toolkit.errors import IntegrityError, PlanError, Refused, ToolkitError, UsageError
from toolkit.seal.bundle import SealedBundle, seal_bundle
from toolkit.seal.manifest import LicenceRecord
from toolkit.seal.verify import verify_bundle


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return case_home(tmp_path, monkeypatch)


@pytest.fixture
def sealed(home: Home) -> SealedBundle:
    return home.granted(home.site(), plan=b"the plan", empty=b"")


def test_a_bundle_is_what_the_format_says(home: Home, sealed: SealedBundle) -> None:
    manifest = verify_bundle(sealed.path, home.keys.trust)
    assert manifest == sealed.manifest
    blobs = {f"blobs/sha256/{file.cipher_sha256}" for file in manifest.variants[0].files}
    found = {str(path.relative_to(sealed.path)) for path in files_of(sealed.path)}
    grants = {name for name in found if name.startswith("grants/")}
    papers = {"sbom.cdx.json", "provenance.dsse", "model.sig"}
    assert found == {"bundle.dsse", "LICENSES/teacher.txt"} | papers | blobs | grants
    assert len(grants) == 1
    for path in (sealed.path / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_the_manifest_says_what_it_was_sealed_from(sealed: SealedBundle) -> None:
    manifest = sealed.manifest
    assert (manifest.product, manifest.counter, manifest.epoch) == ("industry", 1, 1)
    assert manifest.development_keys
    assert (manifest.teacher, manifest.data, manifest.domain) == (HEADER.teacher, HEADER.data, HEADER.domain)
    assert [file.role for file in manifest.variants[0].files] == ["model", "plan", "empty"]
    assert [file.size for file in manifest.variants[0].files] == [11, 8, 0]


def test_the_counter_rises_by_itself_for_each_product(home: Home) -> None:
    other = replace(HEADER, product="other")
    counters = [home.seal(header=header).manifest.counter for header in (HEADER, HEADER, other, HEADER, other)]
    assert counters == [1, 2, 1, 3, 2]
    (home.bundles / ".counters" / "industry").unlink()
    assert home.seal().manifest.counter == 4


def test_two_bundles_of_the_same_files_share_no_ciphertext(home: Home) -> None:
    one, two = home.seal(), home.seal()
    assert one.manifest.bundle_id != two.manifest.bundle_id
    blobs = [{file.cipher_sha256 for file in sealed.manifest.variants[0].files} for sealed in (one, two)]
    assert not blobs[0] & blobs[1]
    macs = [{file.mac for file in sealed.manifest.variants[0].files} for sealed in (one, two)]
    assert not macs[0] & macs[1]


def test_a_stale_half_of_a_killed_seal_is_cleared(home: Home) -> None:
    stale = home.bundles / ".sealing-industry-9-000000000000"
    (stale / "blobs").mkdir(parents=True)
    home.seal()
    assert not stale.exists()


def test_case_01_a_flipped_bit_in_any_file_is_found(home: Home, sealed: SealedBundle) -> None:
    # Every byte of the small files, every fifth of the envelopes, whose every bit test_seal_envelope goes through.
    choose = random.Random(1)
    for path in files_of(sealed.path):
        data = path.read_bytes()
        name = str(path.relative_to(sealed.path))
        for position in range(0, len(data), 1 if len(data) < 200 else 5):
            path.write_bytes(flipped(data, 8 * position + choose.randrange(8)))
            with pytest.raises(IntegrityError) as error:
                verify_bundle(sealed.path, home.keys.trust)
            assert error.value.part.split("…")[0] in name
        path.write_bytes(data)
    assert verify_bundle(sealed.path, home.keys.trust) == sealed.manifest


def test_the_part_that_failed_is_named_with_its_role(home: Home, sealed: SealedBundle) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    blob.write_bytes(flipped(blob.read_bytes(), 300))
    assert refused(sealed.path, home).part == f"blobs/sha256/{blob.name[:12]}… (role model)"


def test_case_06_a_blob_of_an_older_bundle_that_a_malicious_publisher_listed_does_not_open(home: Home) -> None:
    old, new = home.seal(b"weights A"), home.seal(b"weights B")
    theirs = old.manifest.variants[0].files[0]
    name = theirs.cipher_sha256
    (new.path / "blobs" / "sha256" / name).write_bytes((old.path / "blobs" / "sha256" / name).read_bytes())
    blob_of(new.path, new.manifest, "model").unlink()
    resign(
        new.path, home.keys, lambda body: body["variants"][0]["files"][0].update(cipher_sha256=name, mac=theirs.mac)
    )  # fmt: skip
    verify_bundle(new.path, home.keys.trust)
    # The escrow grant was issued for the manifest as it was sealed; the altered one is granted nothing.
    with pytest.raises(IntegrityError, match="another bundle"):
        home.grant(new.path, home.site())


def test_a_field_the_version_does_not_know_is_ignored_where_it_is_not_critical(
    home: Home, sealed: SealedBundle
) -> None:
    resign(sealed.path, home.keys, lambda body: body.update(remark="for people"))
    with pytest.raises(IntegrityError, match=r"grants/.* another bundle"):
        verify_bundle(sealed.path, home.keys.trust)
    for grant in (sealed.path / "grants").iterdir():
        grant.unlink()
    (sealed.path / "grants").rmdir()
    assert verify_bundle(sealed.path, home.keys.trust).product == "industry"


def test_not_a_bundle(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"bundle\.dsse is missing"):
        verify_bundle(tmp_path / "empty", home.keys.trust)
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(UsageError):
            verify_bundle(path, home.keys.trust)


def test_case_38_a_forbidden_or_unknown_teacher_is_not_sealed(home: Home) -> None:
    def header(distillation: str, *overrides: str) -> Any:
        return replace(HEADER, teacher=LicenceRecord("t", "x", "", distillation), overrides=overrides)

    with pytest.raises(Refused, match="forbids") as error:
        home.seal(header=header("forbidden", "I want it"))
    assert error.value.exit_code == 3
    with pytest.raises(Refused, match="nobody recorded"):
        home.seal(header=header("unknown"))
    assert not list(home.bundles.glob("industry*"))
    assert home.seal(header=header("unknown", "asked the author on 1 May")).manifest.overrides


def test_a_licence_text_that_is_named_travels_with_the_bundle(home: Home) -> None:
    with pytest.raises(Refused, match="has to travel"):
        seal_bundle(
            home.bundles, header=HEADER, files=[BundleFile("model", b"")], keys=home.keys, escrow=home.escrow
        )  # fmt: skip


@pytest.mark.parametrize("field", ["product", "variant", "profile"])
def test_a_name_that_the_format_does_not_have(field: str, home: Home) -> None:
    for name in ("", "../x", "Größe", "a b", "x" * 41):
        with pytest.raises(PlanError):
            home.seal(header=replace(HEADER, **{field: name}))


@pytest.mark.parametrize("text", ["x" * 5000, "a\x1b[31m", "\ud800", "\x9b"])
def test_a_text_that_the_manifest_cannot_hold_is_the_plans_fault(text: str, home: Home) -> None:
    with pytest.raises(PlanError, match="cannot say this"):
        home.seal(header=replace(HEADER, runtime=text))
    assert not list(home.bundles.glob("[!.]*"))
    assert not list(home.bundles.glob(".sealing-*"))


def test_sealing_needs_no_network_and_no_torch(home: Home) -> None:
    code = (
        "import sys, toolkit.seal.bundle, toolkit.seal.open, toolkit.site.install, toolkit.site.current;"
        "heavy = {'torch', 'onnx', 'cyclonedx', 'onnxruntime', 'transformers', 'urllib3', 'http.client'};"
        "heavy &= set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_plaintext_file_is_listed_and_checked(home: Home) -> None:
    files = [BundleFile("model", b"m"), BundleFile("notes", b"for everybody", secret=False), LICENCE]
    sealed = seal_bundle(home.bundles, header=HEADER, files=files, keys=home.keys, escrow=home.escrow)
    home.grant(sealed.path, home.site())
    path = sealed.path / "blobs" / "sha256" / hashlib.sha256(b"for everybody").hexdigest()
    assert path.read_bytes() == b"for everybody"
    path.write_bytes(b"for Everybody")
    assert "notes" in refused(sealed.path, home).part


def test_an_error_is_always_one_of_ours(home: Home, sealed: SealedBundle) -> None:
    envelope = json.loads((sealed.path / "bundle.dsse").read_bytes())
    for payload in (b"", b"{}", b"[]", b"null", b'"x"', b"{" * 5000):
        envelope["payload"] = base64.b64encode(payload).decode()
        (sealed.path / "bundle.dsse").write_bytes(canonical(envelope))
        with pytest.raises(ToolkitError):
            verify_bundle(sealed.path, home.keys.trust)
