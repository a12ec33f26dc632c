"""Cases 20, 22 and 26 of the bundle design: names, sizes and numbers of files."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from case_parts import installed, refusal, refused, run, signed_again
from seal_parts import HEADER, LICENCE, Home, copy_of, files_of, resign

from toolkit.artifacts import BundleFile
from toolkit.errors import PlanError
from toolkit.seal.bundle import SealedBundle, seal_bundle

HOSTILE = [
    "../x", "/x", "C:\\x", "CON", "con.txt", "nul", "x\0y", "x.", "x/y", "", ".", "..", ".git/x", "n" * 300, "model\n",
    "Model", "LICENSES/../x", "LICENSES/CON", "LICENSES/nul.txt", "LICENSES/x.", "LICENSES/.x", "LICENSES/",
    "LICENSES/x/y", "LICENSES/\u00e9", "LICENSES/e\u0301", "LICENSES/" + "n" * 300, "licenses/x",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_case_20_a_hostile_name(name: str, home: Home, sealed: SealedBundle) -> None:
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


def test_case_20_a_plain_file_is_never_written_where_its_path_says(home: Home, sealed: SealedBundle) -> None:
    resign(sealed.path, home.keys, lambda body: body["files"][0].update(path="grants/x"))
    refused(sealed.path, home)


def test_case_20_names_that_differ_in_case_alone_clash(home: Home, sealed: SealedBundle) -> None:
    resign(
        sealed.path, home.keys,
        lambda body: body["files"].append(body["files"][0] | dict.fromkeys(("role", "path"), "LICENSES/TEACHER.txt")),
    )  # fmt: skip
    refused(sealed.path, home)


def test_case_20_a_role_that_stands_twice(home: Home, sealed: SealedBundle) -> None:
    resign(sealed.path, home.keys, lambda body: body["variants"][0]["files"][1].update(role="model"))
    refused(sealed.path, home)
    with pytest.raises(PlanError, match="twice"):
        seal_bundle(
            home.bundles, header=HEADER, files=[BundleFile("model", b"a"), BundleFile("model", b"b"), LICENCE],
            keys=home.keys, escrow=home.escrow,
        )  # fmt: skip


@pytest.mark.parametrize("change", [-1, 1, 10**9])
def test_case_22_a_lying_size(change: int, home: Home, sealed: SealedBundle) -> None:
    def lie(body: dict[str, Any]) -> None:
        body["variants"][0]["files"][0]["cipher_size"] += change

    resign(sealed.path, home.keys, lie)
    shutil.rmtree(sealed.path / "grants")
    assert "were signed" in refusal(run("verify", sealed.path, "--json"), 4).message


def test_case_22_a_sparse_file_of_a_terabyte_is_not_read(home: Home, sealed: SealedBundle) -> None:
    for path in files_of(sealed.path):
        data = path.read_bytes()
        os.truncate(path, 2**40)
        refused(sealed.path, home)
        path.write_bytes(data)


def test_case_22_a_folder_with_very_many_files_is_left_at_the_first(home: Home, sealed: SealedBundle) -> None:
    for number in range(300):
        (sealed.path / "grants" / f"{number:032x}.dsse").touch()
    refused(sealed.path, home)


def test_case_22_too_many_files_in_a_signed_manifest(home: Home, sealed: SealedBundle) -> None:
    def many(body: dict[str, Any]) -> None:
        file = body["variants"][0]["files"][0]
        body["variants"][0]["files"] = [file | {"role": f"r{n}", "path": f"r{n}"} for n in range(5000)]

    resign(sealed.path, home.keys, many)
    refused(sealed.path, home)


@pytest.mark.parametrize(
    "extra",
    ["x", ".github/x", ".git/HEAD", "blobs/x", "blobs/sha256/" + "0" * 64, "grants/x", "LICENSES/more.txt", "sbom"],
)
def test_case_26_a_file_that_is_not_listed(extra: str, home: Home, sealed: SealedBundle) -> None:
    (sealed.path / extra).parent.mkdir(exist_ok=True)
    (sealed.path / extra).write_bytes(b"x")
    assert refused(sealed.path, home).part in (extra, extra.split("/")[0])


@pytest.mark.parametrize("folder", ["empty", "blobs/more", "LICENSES/more", "grants/more", "blobs/sha256/" + "0" * 64])
def test_case_26_an_empty_folder(folder: str, home: Home, sealed: SealedBundle) -> None:
    (sealed.path / folder).mkdir()
    refused(sealed.path, home)


def test_case_26_an_empty_grants_folder(home: Home) -> None:
    sealed = home.seal()
    (sealed.path / "grants").mkdir()
    refused(sealed.path, home)


def test_case_26_a_missing_file(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    for path in files_of(sealed.path):
        if path.parent.name != "grants":
            bundle = copy_of(sealed.path, tmp_path / path.name)
            (bundle / path.relative_to(sealed.path)).unlink()
            refused(bundle, home)


def test_case_22_a_million_members_are_left_at_the_first_too_many(home: Home, sealed: SealedBundle) -> None:
    # One file with a million names would be refused for that: names cost nothing else, so 20,000 stand for them.
    for folder in ("grants", "LICENSES", "blobs/sha256"):
        many = sealed.path / folder
        for number in range(20_000):
            (many / (f"{number:032x}.dsse" if folder == "grants" else f"{number:064x}")).touch()
        began = time.monotonic()
        refused(sealed.path, home)
        assert time.monotonic() - began < 5
        for path in many.iterdir():
            if path.stat().st_size == 0 and path.name.startswith("0" * 20):
                path.unlink()
    installed(sealed.path, home)


@pytest.mark.parametrize("body", [b'{"files":[],"files":[]}', b'{"variants":[],"variants":[],"files":[]}'])
def test_case_22_duplicate_members(body: bytes, home: Home, sealed: SealedBundle) -> None:
    signed_again(sealed.path / "bundle.dsse", "bundle", home, body)
    refused(sealed.path, home)
