"""Sealing and checking. Cases 1, 5, 6, 10, 11, 15, 20-22, 26, 38 and 40 of the bundle design."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seal_parts import (
    HEADER,
    LICENCE,
    Home,
    blob_of,
    body_of,
    canonical,
    copy_of,
    files_of,
    flipped,
    forge,
    make_home,
    put,
    resign,
    snapshot,
)

from toolkit.artifacts import BundleFile
from toolkit.errors import IntegrityError, PlanError, Refused, ToolkitError, UsageError
from toolkit.seal.bundle import SealedBundle, seal_bundle
from toolkit.seal.manifest import LicenceRecord
from toolkit.seal.verify import verify_bundle


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def sealed(home: Home) -> SealedBundle:
    return home.granted(home.site(), plan=b"the plan", empty=b"")


def refused(bundle: Path, home: Home) -> IntegrityError:
    """The bundle is refused by verify and by install alike, which name the same part; nothing is installed."""
    with pytest.raises(IntegrityError) as by_verify:
        verify_bundle(bundle, home.keys.trust)
    site = home.site()
    before = snapshot(site.versions), site.current.read_bytes()
    with pytest.raises(IntegrityError) as by_install:
        put(bundle, site)
    assert by_install.value.part == by_verify.value.part
    assert (snapshot(site.versions), site.current.read_bytes()) == before
    assert list(site.audit.entries())[-1].event == "install.refused"
    return by_verify.value


def test_a_bundle_is_what_the_format_says(home: Home, sealed: SealedBundle) -> None:
    manifest = verify_bundle(sealed.path, home.keys.trust)
    assert manifest == sealed.manifest
    blobs = {f"blobs/sha256/{file.cipher_sha256}" for file in manifest.variants[0].files}
    found = {str(path.relative_to(sealed.path)) for path in files_of(sealed.path)}
    grants = {name for name in found if name.startswith("grants/")}
    assert found == {"bundle.dsse", "LICENSES/teacher.txt"} | blobs | grants
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


def test_a_flipped_bit_in_any_file_is_found(home: Home, sealed: SealedBundle) -> None:
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


def test_a_flipped_bit_in_any_file_keeps_a_bundle_from_being_installed(home: Home, sealed: SealedBundle) -> None:
    choose = random.Random(2)
    for path in files_of(sealed.path):
        data = path.read_bytes()
        for _ in range(3):
            path.write_bytes(flipped(data, choose.randrange(8 * len(data))))
            assert refused(sealed.path, home).exit_code == 4
        path.write_bytes(data)


def test_the_part_that_failed_is_named_with_its_role(home: Home, sealed: SealedBundle) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    blob.write_bytes(flipped(blob.read_bytes(), 300))
    assert refused(sealed.path, home).part == f"blobs/sha256/{blob.name[:12]}… (role model)"


def test_two_blobs_of_equal_size_swapped(home: Home) -> None:
    sealed = home.granted(home.site(), b"weights A", plan=b"weights B")
    one, two = blob_of(sealed.path, sealed.manifest, "model"), blob_of(sealed.path, sealed.manifest, "plan")
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    refused(sealed.path, home)


def test_a_blob_of_an_older_bundle(home: Home, sealed: SealedBundle) -> None:
    newer = home.granted(home.site())
    older = blob_of(sealed.path, sealed.manifest, "model").read_bytes()
    blob_of(newer.path, newer.manifest, "model").write_bytes(older)
    refused(newer.path, home)


def test_a_blob_of_an_older_bundle_that_a_malicious_publisher_listed_does_not_open(home: Home) -> None:
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


def test_another_publisher(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    stranger = make_home(tmp_path / "stranger")
    (sealed.path / "bundle.dsse").write_bytes(
        forge(canonical(body_of(sealed.path / "bundle.dsse")), "bundle", stranger.keys.publisher)
    )
    assert refused(sealed.path, home).part == "bundle.dsse"


def test_the_issuer_is_no_publisher_and_the_publisher_no_issuer(home: Home, sealed: SealedBundle) -> None:
    manifest, grant = sealed.path / "bundle.dsse", next((sealed.path / "grants").iterdir())
    original = manifest.read_bytes()
    manifest.write_bytes(forge(canonical(body_of(manifest)), "bundle", home.keys.issuer))
    assert refused(sealed.path, home).part == "bundle.dsse"
    manifest.write_bytes(original)
    grant.write_bytes(forge(canonical(body_of(grant)), "grant", home.keys.publisher))
    assert refused(sealed.path, home).part == f"grants/{grant.name}"


@pytest.mark.parametrize(
    "change",
    [
        {"critical": ["expiry"]},
        {"critical": [1]},
        {"format": "distil-bundle/2"},
        {"suite": "cob128+x25519+ed25519"},
        {"suite": "cob256+xwing+ed25519+mldsa65"},
        {"suite": "none"},
        {"counter": 0},
        {"counter": -1},
        {"counter": True},
        {"epoch": "1"},
        {"bundle_id": "../industry"},
        {"bundle_id": "industry\0"},
        {"product": "Industry"},
        {"product": "é"},
        {"created": "yesterday"},
        {"variants": []},
        {"files": None},
        {"domain": []},
    ],
)
def test_a_signed_manifest_that_is_not_as_the_format_says(
    change: dict[str, Any], home: Home, sealed: SealedBundle
) -> None:
    resign(sealed.path, home.keys, lambda body: body.update(change))
    assert refused(sealed.path, home).part == "bundle.dsse"


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


HOSTILE = [
    "../x", "/x", "C:\\x", "CON", "con.txt", "nul", "x\0y", "x.", "x/y", "", ".", "..", ".git/x", "n" * 300, "model\n",
    "Model", "LICENSES/../x", "LICENSES/CON", "LICENSES/nul.txt", "LICENSES/x.", "LICENSES/.x", "LICENSES/",
    "LICENSES/x/y", "LICENSES/\u00e9", "LICENSES/e\u0301", "LICENSES/" + "n" * 300, "licenses/x",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(name: str, home: Home, sealed: SealedBundle) -> None:
    original = (sealed.path / "bundle.dsse").read_bytes()
    resign(sealed.path, home.keys, lambda body: body["files"][0].update(role=name, path=name))
    refused(sealed.path, home)
    (sealed.path / "bundle.dsse").write_bytes(original)
    resign(sealed.path, home.keys, lambda body: body["variants"][0]["files"][0].update(role=name, path=name))
    refused(sealed.path, home)
    for secret in (True, False):
        with pytest.raises(PlanError):
            seal_bundle(
                home.bundles, header=HEADER, files=[BundleFile(name, b"", secret), LICENCE],
                keys=home.keys, escrow=home.escrow,
            )  # fmt: skip


def test_a_plain_file_is_never_written_where_its_path_says(home: Home, sealed: SealedBundle) -> None:
    resign(sealed.path, home.keys, lambda body: body["files"][0].update(path="grants/x"))
    refused(sealed.path, home)


def test_names_that_differ_in_case_alone_clash(home: Home, sealed: SealedBundle) -> None:
    resign(
        sealed.path, home.keys,
        lambda body: body["files"].append(body["files"][0] | dict.fromkeys(("role", "path"), "LICENSES/TEACHER.txt")),
    )  # fmt: skip
    refused(sealed.path, home)


def test_a_role_that_stands_twice(home: Home, sealed: SealedBundle) -> None:
    resign(sealed.path, home.keys, lambda body: body["variants"][0]["files"][1].update(role="model"))
    refused(sealed.path, home)
    with pytest.raises(PlanError, match="twice"):
        seal_bundle(
            home.bundles, header=HEADER, files=[BundleFile("model", b"a"), BundleFile("model", b"b"), LICENCE],
            keys=home.keys, escrow=home.escrow,
        )  # fmt: skip


@pytest.mark.parametrize(
    "extra",
    ["x", ".github/x", ".git/HEAD", "blobs/x", "blobs/sha256/" + "0" * 64, "grants/x", "LICENSES/more.txt", "sbom"],
)
def test_a_file_that_is_not_listed(extra: str, home: Home, sealed: SealedBundle) -> None:
    (sealed.path / extra).parent.mkdir(exist_ok=True)
    (sealed.path / extra).write_bytes(b"x")
    assert refused(sealed.path, home).part in (extra, extra.split("/")[0])


@pytest.mark.parametrize("folder", ["empty", "blobs/more", "LICENSES/more", "grants/more", "blobs/sha256/" + "0" * 64])
def test_an_empty_folder(folder: str, home: Home, sealed: SealedBundle) -> None:
    (sealed.path / folder).mkdir()
    refused(sealed.path, home)


def test_an_empty_grants_folder(home: Home) -> None:
    sealed = home.seal()
    (sealed.path / "grants").mkdir()
    refused(sealed.path, home)


def test_a_missing_file(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    for path in files_of(sealed.path):
        if path.parent.name != "grants":
            bundle = copy_of(sealed.path, tmp_path / path.name)
            (bundle / path.relative_to(sealed.path)).unlink()
            refused(bundle, home)


def test_links_pipes_sockets_and_setuid_files(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    data, aside = blob.read_bytes(), tmp_path / "aside"
    aside.write_bytes(data)

    def with_socket() -> None:
        # A socket's path may be 107 characters long; the folder is entered to stay below that.
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(blob.parent)
            try:
                made.bind(blob.name)
            finally:
                os.chdir(here)

    hostile = {
        "symlink": lambda: blob.symlink_to(aside),
        "hard link": lambda: blob.hardlink_to(aside),
        "pipe": lambda: os.mkfifo(blob),
        "socket": with_socket,
        "setuid": lambda: (blob.write_bytes(data), blob.chmod(0o4600)),
        "folder": lambda: (blob.mkdir(), (blob / "x").write_bytes(b"")),
    }
    for make in hostile.values():
        blob.unlink()
        make()
        refused(sealed.path, home)
        if blob.is_dir():
            (blob / "x").unlink()
            blob.rmdir()
            blob.write_bytes(data)


def test_a_linked_folder_inside_and_a_linked_bundle(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sealed.path)
    refused(link, home)
    (sealed.path / "blobs").rename(tmp_path / "blobs")
    (sealed.path / "blobs").symlink_to(tmp_path / "blobs")
    refused(sealed.path, home)


@pytest.mark.parametrize("change", [-1, 1, 10**9])
def test_a_lying_size(change: int, home: Home, sealed: SealedBundle) -> None:
    def lie(body: dict[str, Any]) -> None:
        body["variants"][0]["files"][0]["cipher_size"] += change

    resign(sealed.path, home.keys, lie)
    for grant in (sealed.path / "grants").iterdir():
        grant.unlink()
    (sealed.path / "grants").rmdir()
    with pytest.raises(IntegrityError, match="were signed"):
        verify_bundle(sealed.path, home.keys.trust)


def test_a_sparse_file_of_a_terabyte_is_not_read(home: Home, sealed: SealedBundle) -> None:
    for path in files_of(sealed.path):
        data = path.read_bytes()
        os.truncate(path, 2**40)
        refused(sealed.path, home)
        path.write_bytes(data)


def test_a_folder_with_very_many_files_is_left_at_the_first(home: Home, sealed: SealedBundle) -> None:
    for number in range(300):
        (sealed.path / "grants" / f"{number:032x}.dsse").touch()
    refused(sealed.path, home)


def test_too_many_files_in_a_signed_manifest(home: Home, sealed: SealedBundle) -> None:
    def many(body: dict[str, Any]) -> None:
        file = body["variants"][0]["files"][0]
        body["variants"][0]["files"] = [file | {"role": f"r{n}", "path": f"r{n}"} for n in range(5000)]

    resign(sealed.path, home.keys, many)
    refused(sealed.path, home)


def test_not_a_bundle(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"bundle\.dsse is missing"):
        verify_bundle(tmp_path / "empty", home.keys.trust)
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(UsageError):
            verify_bundle(path, home.keys.trust)


def test_a_pickle_or_an_onnx_path_in_place_of_a_manifest(home: Home, sealed: SealedBundle) -> None:
    # Nothing in this format is unpickled, and no path in it is followed: such a file is one that nobody signed.
    (sealed.path / "bundle.dsse").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused(sealed.path, home)


def test_a_forbidden_or_unknown_teacher(home: Home) -> None:
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
        "heavy = {'torch', 'onnx', 'onnxruntime', 'transformers', 'urllib3', 'http.client'} & set(sys.modules);"
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
