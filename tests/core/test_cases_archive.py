"""Cases 2, 20, 21, 22 and 26 of the bundle design once more, for a bundle that arrives as one file: every tar that
somebody hostile may make is refused by `toolkit install`, and by `toolkit bundle import`, which leaves nothing."""

from __future__ import annotations

import json
import os
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from carriage_parts import BLOCK, header, member, members_of, sha256, tar, with_image
from case_parts import Refusal, not_installed, plaintext, refusal, run
from seal_parts import Home, snapshot

from toolkit.carriage.archive import MAX_MEMBERS
from toolkit.seal.bundle import SealedBundle

Members = dict[str, bytes]
TITLE = "org.opencontainers.image.title"


@pytest.fixture
def archive(home: Home, sealed: SealedBundle, tmp_path: Path) -> Path:
    """The bundle of the cases as one file."""
    file = tmp_path / "bundle.tar"
    assert run("bundle", "export", sealed.path, file, "--json").code == 0
    return file


@pytest.fixture
def members(archive: Path) -> Members:
    return members_of(archive)


def refused(file: Path, home: Home) -> str:
    """By both verbs, for the same part; nothing is left where it came from, nor where it should have gone."""
    found = not_imported(file)
    assert not_installed(file, home).part == found.part
    assert not plaintext(file.parent)
    return found.message


def not_imported(file: Path) -> Refusal:
    before = sorted(os.listdir(file.parent))
    found = refusal(run("bundle", "import", file, file.parent / "arrived", "--json"), 4)
    assert sorted(os.listdir(file.parent)) == before
    return found


def blob(members: Members) -> str:
    """The largest member: the weights."""
    return max(members, key=lambda name: len(members[name]))


def layers(members: Members, title: str) -> list[str]:
    """The digests of the files whose paths begin with `title`."""
    image = json.loads(members["blobs/sha256/" + json.loads(members["index.json"])["manifests"][0]["digest"][7:]])
    return [one["digest"][7:] for one in image["layers"] if one["annotations"][TITLE].startswith(title)]


def test_case_00_a_bundle_goes_into_a_file_and_out_of_it_byte_for_byte(
    home: Home, sealed: SealedBundle, archive: Path, tmp_path: Path
) -> None:
    said = run("bundle", "import", archive, tmp_path / "arrived", "--json")
    assert said.code == 0, said
    assert snapshot(tmp_path / "arrived") == snapshot(sealed.path)
    assert run("install", archive, "--json").code == 0
    assert not list(home.site().staging.iterdir())


@pytest.mark.parametrize("end", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7, -1, -2 * BLOCK, -10_240, -20_000])
def test_case_02_an_archive_that_is_cut(end: int, home: Home, archive: Path, members: Members) -> None:
    whole = tar(members)
    archive.write_bytes(whole[: end if end >= 0 else len(whole) + end])
    if end == -1:  # one zero less of the padding: two blocks of it are custom, one is enough to end
        archive.write_bytes(whole[: -2 * BLOCK])
    refused(archive, home)


@pytest.mark.parametrize("more", [b"x", bytes(BLOCK) + b"x", member("index.json", b"{}"), bytes(2 << 20)])
def test_case_03_something_behind_the_end(more: bytes, home: Home, archive: Path, members: Members) -> None:
    archive.write_bytes(tar(members) + more)
    assert "behind the end" in refused(archive, home)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "blobs/sha256/../../x", "blobs/sha256/" + "0" * 63, "blobs/sha256/" + "G" * 64, "C:\\x", "CON",
     "index.json/", "blobs/sha512/" + "0" * 128, "././index.json", "oci-layout.", "Index.json", "x" * 100, ""],
)  # fmt: skip
def test_case_20_a_hostile_member_name(name: str, home: Home, archive: Path, members: Members) -> None:
    archive.write_bytes(tar(members, member(name, b"x")))
    refused(archive, home)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"index.json\xc3", "ｉndex.json".encode(), b"a\nb\x1b[31m"])
def test_case_20_a_member_name_of_odd_bytes(name: bytes, home: Home, archive: Path, members: Members) -> None:
    archive.write_bytes(tar(members, header(name, 0)))
    assert "\x1b" not in refused(archive, home)


@pytest.mark.parametrize("path", ["../x", "/x", "grants/x.dsse", "LICENSES/../x", ".github/x", "bundle.dsse/x", "con"])
def test_case_20_a_hostile_path_in_the_image(path: str, home: Home, archive: Path, members: Members) -> None:
    def rename(image: dict[str, Any]) -> None:
        image["layers"][-1]["annotations"][TITLE] = path

    archive.write_bytes(tar(with_image(members, rename)))
    assert "does not belong in a bundle" in refused(archive, home)


@pytest.mark.parametrize(
    ("kind", "link"),
    [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "index.json"), (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""),
     (tarfile.FIFOTYPE, ""), (tarfile.DIRTYPE, ""), (tarfile.CONTTYPE, ""), (b"Z", "")],
    ids=["symlink", "hard link", "character device", "block device", "fifo", "folder", "contiguous", "unknown"],
)  # fmt: skip
def test_case_21_a_member_that_is_no_regular_file(
    kind: bytes, link: str, home: Home, archive: Path, members: Members
) -> None:
    name = blob(members)
    body = members.pop(name)
    archive.write_bytes(tar(members, header(name, 0, kind, link)))
    refused(archive, home)
    archive.write_bytes(tar(members, member(name, body), header("blobs/sha256/" + "0" * 64, 0, kind, link)))
    refused(archive, home)


def test_case_21_an_archive_that_is_a_link_or_a_pipe(home: Home, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(archive)
    not_installed(tmp_path / "link", home)
    os.mkfifo(tmp_path / "pipe")
    said = run("bundle", "import", tmp_path / "pipe", tmp_path / "arrived", "--json")
    assert (said.code, said.record["error"]["code"]) == (2, "usage")


def test_case_22_duplicate_members_of_an_archive(home: Home, archive: Path, members: Members) -> None:
    for name in ("index.json", "oci-layout", blob(members)):
        archive.write_bytes(tar([*members.items(), (name, members[name])]))
        assert "stands twice" in refused(archive, home)
        archive.write_bytes(tar([*members.items(), (f"./{name}", members[name])]))
        assert "stands twice" in refused(archive, home)


@pytest.mark.parametrize(
    "size",
    [b"00000000001\0", b"77777777777\0", b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7, b"\xff" * 12, b"-0000000001\0",
     b"0000000000x\0", b"\x80" + bytes(10) + b"\x01"],
    ids=["one", "8 GiB", "2^63", "minus one", "signed", "no number", "one, in binary"],
)  # fmt: skip
def test_case_22_a_member_that_lies_about_its_size(size: bytes, home: Home, archive: Path, members: Members) -> None:
    name = blob(members)
    body = members.pop(name)
    archive.write_bytes(tar(members, header(name, 0, size=size) + body + bytes(-len(body) % BLOCK)))
    refused(archive, home)


@pytest.mark.parametrize("change", [-1, 1, 10**6, 2**40])
def test_case_22_an_image_that_lies_about_a_size(change: int, home: Home, archive: Path, members: Members) -> None:
    def lie(image: dict[str, Any]) -> None:
        image["layers"][-1]["size"] += change

    archive.write_bytes(tar(with_image(members, lie)))
    refused(archive, home)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
                                  tarfile.GNUTYPE_LONGLINK, tarfile.SOLARIS_XHDTYPE])  # fmt: skip
def test_case_22_sparse_members_and_extensions(kind: bytes, home: Home, archive: Path, members: Members) -> None:
    name = blob(members)
    body = members.pop(name)
    # An extension could give the next member another size and name; GNU's sparse ones are told as regular files.
    extension = member("blobs/sha256/" + "1" * 64, b"20 size=1000000000\n", kind=kind)
    archive.write_bytes(tar({}, extension)[: -2 * BLOCK] + tar({**members, name: body}))
    refused(archive, home)


def test_case_22_a_sparse_archive_of_a_terabyte_is_not_read(home: Home, archive: Path) -> None:
    with archive.open("wb") as stream:
        stream.write(header("index.json", 0, size=b"\x80" + (2**40).to_bytes(11, "big")))
        stream.truncate(2**40 + 3 * BLOCK)
    before = time.monotonic()
    refused(archive, home)
    assert time.monotonic() - before < 5


def many(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield header(f"blobs/sha256/{number:064x}", 0)


def test_case_22_a_million_members_of_an_archive(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar"
    with file.open("wb") as stream:
        # A million headers that the layout allows, each of its own name: half a gigabyte, most of it a hole.
        for block in many(MAX_MEMBERS + 1):
            stream.write(block)
        stream.truncate(1_000_000 * BLOCK)
    tracemalloc.start()
    assert "more than" in refused(file, home)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
    with file.open("r+b") as stream:
        stream.truncate(0)
        for _ in range(1000):  # the same million, all of one name, written out in full
            stream.write(header("index.json", 0) * 1000)
    assert "stands twice" in refused(file, home)


def test_case_22_an_index_or_image_that_is_huge_or_names_no_image_or_two(archive: Path, members: Members) -> None:
    index = json.loads(members["index.json"])
    one = index["manifests"][0]
    changes: tuple[dict[str, Any], ...] = (
        {"size": 2**33}, {"size": 5_000_000}, {"digest": "sha256:x"},
        {"mediaType": "application/vnd.oci.image.index.v1+json"},
    )  # fmt: skip
    for manifests in ([], [one, one], {}, None, *([one | change] for change in changes)):
        archive.write_bytes(tar(members | {"index.json": json.dumps(index | {"manifests": manifests}).encode()}))
        not_imported(archive)
    for body in (b"", b"[]", b"{", b'{"a":1,"a":2}', b'{"a":1e400}', b"[" * 100_000, b" " * (5 << 20), b"\xff"):
        archive.write_bytes(tar(members | {"index.json": body}))
        not_imported(archive)
        archive.write_bytes(tar(members | {"oci-layout": body}))
        not_imported(archive)


def test_case_22_an_image_that_lists_a_file_twice(home: Home, archive: Path, members: Members) -> None:
    archive.write_bytes(tar(with_image(members, lambda image: image["layers"].append(image["layers"][-1]))))
    assert "twice" in refused(archive, home)
    many_layers = {"layers": [{}] * 10_000}
    archive.write_bytes(tar(with_image(members, lambda image: image.update(many_layers))))
    refused(archive, home)


def test_case_26_a_member_that_nobody_listed(home: Home, archive: Path, members: Members) -> None:
    body = b"not listed"
    archive.write_bytes(tar(members | {f"blobs/sha256/{sha256(body)}": body}))
    assert "not in its image" in refused(archive, home)


@pytest.mark.parametrize("path", ["blobs/sha256/{}", "LICENSES/more.txt", "grants/" + "0" * 32 + ".dsse"])
def test_case_26_a_file_that_the_image_lists_and_the_manifest_does_not(
    path: str, home: Home, archive: Path, members: Members
) -> None:
    body = b"not listed"

    def add(image: dict[str, Any]) -> None:
        title = {TITLE: path.format(sha256(body))}
        image["layers"].append({"digest": f"sha256:{sha256(body)}", "size": len(body), "annotations": title})

    archive.write_bytes(tar(with_image(members | {f"blobs/sha256/{sha256(body)}": body}, add)))
    refused(archive, home)


def test_case_26_a_member_or_a_layer_that_is_missing(archive: Path, members: Members) -> None:
    for name in members:
        if members[name] != b"{}":  # the empty configuration, which nobody reads
            archive.write_bytes(tar({other: body for other, body in members.items() if other != name}))
            not_imported(archive)

    def without(image: dict[str, Any], title: str) -> None:
        image["layers"] = [one for one in image["layers"] if not one["annotations"][TITLE].startswith(title)]

    for title in ("bundle.dsse", "blobs/", "LICENSES/"):
        digests = {f"blobs/sha256/{one}" for one in layers(members, title)}
        rest = {name: body for name, body in members.items() if name not in digests}
        archive.write_bytes(tar(with_image(rest, lambda image, title=title: without(image, title))))  # type: ignore[misc]
        assert "missing" in not_imported(archive).message


@pytest.mark.parametrize("file", ["bundle.dsse", "grants/", "blobs/"])
def test_case_01_an_altered_file_in_an_archive(file: str, home: Home, archive: Path, members: Members) -> None:
    """With every digest of the carriage made right again, so that what was signed has to catch it."""
    digest = layers(members, file)[0]
    body = bytearray(members.pop(f"blobs/sha256/{digest}"))
    body[len(body) // 2] ^= 1

    def follow(image: dict[str, Any]) -> None:
        for one in image["layers"]:
            if one["digest"] == f"sha256:{digest}":
                one["digest"] = f"sha256:{sha256(bytes(body))}"

    archive.write_bytes(tar(with_image(members | {f"blobs/sha256/{sha256(bytes(body))}": bytes(body)}, follow)))
    refused(archive, home)
