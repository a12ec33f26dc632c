"""Cases 1 to 9 of the bundle design: what may be done to ciphertext, in core's suite and in the plugin's, `gm`.

Each twice where it can be: as a courier does it, whom the digests catch, and as a publisher who lists the altered blob
and an issuer who grants it, whom only the encryption itself can catch.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from case_parts import (
    CANARY,
    MODEL,
    case_home,
    content_keys,
    installed,
    not_installed,
    put_blob,
    refusal,
    refused,
    regrant,
    republish,
    run,
)
from seal_parts import Home, blob_of, files_of, flipped, overwrite

from toolkit.protocols import CipherSuite
from toolkit.seal.bundle import SealedBundle
from toolkit.seal.cipher import CHUNK, HEADER, TAG, encrypt_file, file_context, new_content_key
from toolkit.seal.custody import Access
from toolkit.seal.keys import load_keys
from toolkit.seal.rotation import rotate
from toolkit.site.current import open_current

SEALED = CHUNK + TAG
"""Of cob256. In gm, which has no chunks, the same places are altered, cut and swapped, and one tag is over all."""
Alter = Callable[[bytes], bytes]


@pytest.fixture(params=["cob256", "gm"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that seals in a suite; its root allows both."""
    made = case_home(tmp_path, monkeypatch)
    if request.param == "cob256":
        return made
    gm = pytest.importorskip("toolkit_suite_gm.cipher", reason="the plugin suite-gm is not installed").Gm()
    rotate(made.path / "keys", "publisher", Access(ciphers=lambda: {gm.name: gm}), suite="gm+xwing+ed25519")
    return Home(made.path, load_keys(made.path / "keys", None), gm)


@pytest.fixture
def unlock(home: Home) -> Access:
    return Access(ciphers=lambda: {home.cipher.name: home.cipher})


def by_courier_and_by_publisher(alter: Alter, home: Home, sealed: SealedBundle) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    data = blob.read_bytes()
    blob.write_bytes(alter(data))
    assert "role model" in refused(sealed.path, home).part
    republish(home, sealed, put_blob(sealed, "model", alter(data)))
    assert "role model" in not_installed(sealed.path, home).part


def encrypted(data: bytes, key: bytes, context: bytes, cipher: CipherSuite) -> bytes:
    pieces: list[bytes] = []
    encrypt_file(data, key, context, lambda piece: pieces.append(bytes(piece)), cipher=cipher)
    return b"".join(pieces)


def test_case_00_as_it_was_sealed_it_installs_and_opens(home: Home, sealed: SealedBundle, unlock: Access) -> None:
    installed(sealed.path, home)
    with open_current(home.site().path, unlock) as opened:
        assert opened.read("model") == MODEL


@pytest.mark.parametrize(
    "position", [3, 30, HEADER + 7, HEADER + SEALED - 1, HEADER + 2 * SEALED, -1],
    ids=["salt", "commitment", "chunk", "tag", "a later chunk", "the last tag"],
)  # fmt: skip
def test_case_01_a_bit_flipped_in_a_blob(position: int, home: Home, sealed: SealedBundle) -> None:
    by_courier_and_by_publisher(lambda data: flipped(data, 8 * (position % len(data)) + 5), home, sealed)


def test_case_01_a_bit_flipped_in_manifest_signature_wrap_or_any_other_file(home: Home, sealed: SealedBundle) -> None:
    choose = random.Random(2)
    for path in files_of(sealed.path):
        data = path.read_bytes()
        for _ in range(3):
            path.write_bytes(flipped(data, choose.randrange(8 * len(data))))
            refused(sealed.path, home)
        path.write_bytes(data)
    installed(sealed.path, home)


@pytest.mark.parametrize(
    "end", [0, 10, HEADER, *(HEADER + n * SEALED for n in (1, 2, 3)), -1, -TAG, -TAG - 1, -TAG - len(MODEL) % CHUNK]
)
def test_case_02_cut_at_a_chunk_edge_or_by_one_byte(end: int, home: Home, sealed: SealedBundle) -> None:
    by_courier_and_by_publisher(lambda data: data[:end], home, sealed)


@pytest.mark.parametrize("more", [b"\0", b"x" * TAG, b"x" * SEALED, None], ids=["byte", "tag", "chunk", "own chunk"])
def test_case_03_something_appended(more: bytes | None, home: Home, sealed: SealedBundle) -> None:
    by_courier_and_by_publisher(
        lambda data: data + (data[HEADER : HEADER + SEALED] if more is None else more), home, sealed
    )


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 2), (0, 2, 1), (2, 1, 0), (0, 1, 1)])
def test_case_04_chunks_swapped_or_repeated(order: tuple[int, ...], home: Home, sealed: SealedBundle) -> None:
    def alter(data: bytes) -> bytes:
        chunks = [data[HEADER + n * SEALED :][:SEALED] for n in range(3)]
        return data[:HEADER] + b"".join(chunks[n] for n in order) + data[HEADER + 3 * SEALED :]

    by_courier_and_by_publisher(alter, home, sealed)


def test_case_05_two_blobs_of_equal_size_swapped(home: Home) -> None:
    sealed = home.granted(home.site(), CANARY + b"A", plan=CANARY + b"B")
    one, two = blob_of(sealed.path, sealed.manifest, "model"), blob_of(sealed.path, sealed.manifest, "plan")
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    refused(sealed.path, home)
    one.write_bytes(first)
    two.write_bytes(second)

    def swap(body: dict[str, Any]) -> None:
        files = body["variants"][0]["files"]
        for name in ("cipher_sha256", "mac"):
            files[0][name], files[1][name] = files[1][name], files[0][name]

    republish(home, sealed, swap)
    not_installed(sealed.path, home)


def test_case_05_another_file_by_somebody_who_has_the_key(home: Home, sealed: SealedBundle) -> None:
    """Another customer with a grant, say, who can write to the site's disk: his file opens, and is not what was signed.

    A load does not compare the digest of the ciphertext (decision 33); the keyed hash of the plaintext says the same.
    """
    site = home.site()
    installed(sealed.path, home)
    key = content_keys(home, sealed.manifest.bundle_id)["cpu"]
    names = {"product": "industry", "bundle_id": sealed.manifest.bundle_id, "variant": "cpu", "path": "model"}
    forged = encrypted(MODEL[:-1] + b"X", key, file_context(**names), home.cipher)
    place = blob_of(site.versions / sealed.manifest.bundle_id, sealed.manifest, "model")
    assert len(forged) == place.stat().st_size
    overwrite(place, forged)
    assert "role model" in refusal(run("serve", "--site", site.path, "--port", "0", "--json"), 4).part
    refusal(run("verify", site.path, "--json"), 4)


def test_case_06_a_blob_of_an_older_bundle(home: Home, sealed: SealedBundle) -> None:
    newer = home.granted(home.site(), MODEL)
    older = blob_of(sealed.path, sealed.manifest, "model").read_bytes()
    blob_of(newer.path, newer.manifest, "model").write_bytes(older)
    refused(newer.path, home)
    old_key = content_keys(home, sealed.manifest.bundle_id)
    republish(home, newer, put_blob(newer, "model", older))
    not_installed(newer.path, home)
    # With the older key in grant and manifest, the blob is still bound to the other bundle.
    key_id = sealed.manifest.variants[0].files[0].key_id

    def old_keys(body: dict[str, Any]) -> None:
        body["variants"][0]["files"][0].update(key_id=key_id, mac=sealed.manifest.variants[0].files[0].mac)

    republish(home, newer, old_keys, old_key)
    assert "role model" in not_installed(newer.path, home).part


@pytest.mark.parametrize("changed", ["product", "bundle_id", "variant", "path"])
def test_case_07_wrong_context(changed: str, home: Home, sealed: SealedBundle) -> None:
    names = {"product": "industry", "bundle_id": sealed.manifest.bundle_id, "variant": "cpu", "path": "model"}
    key = content_keys(home, sealed.manifest.bundle_id)["cpu"]
    right = encrypted(MODEL, key, file_context(**names), home.cipher)
    wrong = encrypted(MODEL, key, file_context(**names | {changed: "x"}), home.cipher)
    blob_of(sealed.path, sealed.manifest, "model").write_bytes(wrong)
    refused(sealed.path, home)
    republish(home, sealed, put_blob(sealed, "model", wrong))
    assert "role model" in not_installed(sealed.path, home).part
    blob_name = next(path for path in files_of(sealed.path / "blobs") if path.read_bytes() == wrong)
    blob_name.rename(blob_of(sealed.path, sealed.manifest, "model"))
    republish(home, sealed, put_blob(sealed, "model", right))
    installed(sealed.path, home)


def test_case_08_wrong_key(home: Home, sealed: SealedBundle) -> None:
    other = new_content_key()
    context = file_context(product="industry", bundle_id=sealed.manifest.bundle_id, variant="cpu", path="model")
    listed = put_blob(sealed, "model", encrypted(MODEL, other, context, home.cipher))
    republish(home, sealed, listed)
    assert "role model" in not_installed(sealed.path, home).part
    # A grant that brings another key than the manifest names, and one that says it brings the right one.
    regrant(home, sealed.path, {"cpu": other})
    assert not_installed(sealed.path, home).part.startswith("grants/")


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 1 << 20, (1 << 20) + 1])
def test_case_09_round_trip(size: int, home: Home, unlock: Access) -> None:
    model = (CANARY * (size // len(CANARY) + 1))[:size]
    sealed = home.granted(home.site(), model)
    installed(sealed.path, home)
    with open_current(home.site().path, unlock) as opened:
        assert opened.read("model") == model
