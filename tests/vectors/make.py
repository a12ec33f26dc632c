"""Makes the sets of vectors that are not there: small sealed bundles, each named by the failure that it must cause.

    python tests/vectors/make.py

`expected.json` of a set says for each how `toolkit verify` and `toolkit install` end. The keys of a set were made for
it, guard nothing and are not kept, so a set is never added to: what is new becomes a set of its own. Those that are
there are kept for ever; the bundles of `sealed` are from before there were papers.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from case_parts import content_keys, put_blob, regrant, relist, republish, signed_again
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from seal_parts import HEADER, Home, blob_of, body_of, canonical, flipped, forge, make_home

from toolkit.seal.bundle import SealedBundle
from toolkit.seal.cipher import CHUNK, TAG, encrypt_file, file_context, new_content_key
from toolkit.seal.cipher import HEADER as BLOB_HEADER
from toolkit.seal.model_signature import ORDER, sign_model
from toolkit.seal.tree import open_tree
from toolkit.seal.verify import read_envelope

HERE = Path(__file__).resolve().parent
SEALED = CHUNK + TAG
Change = Callable[[Home, SealedBundle], object]
"""Alters a bundle in place."""
VECTORS: dict[str, tuple[int, int, Change]] = {"good": (0, 0, lambda home, sealed: None)}
"""Name: (exit code of verify, of install, what is done to it)."""
PAPERS: dict[str, tuple[int, int, Change]] = {"good": (0, 0, lambda home, sealed: None)}
"""The same, of the bundle's papers."""


def vector(name: str, verify: int, install: int) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        VECTORS[name] = verify, install, change
        return change

    return keep


def manifest(name: str, change: Callable[[dict[str, Any]], object], verify: int = 4, install: int = 4) -> None:
    """A manifest that its publisher changed and signed, and grants for it."""

    def altered(home: Home, sealed: SealedBundle) -> None:
        keys = content_keys(home, sealed.manifest.bundle_id)
        if verify:
            body = body_of(sealed.path / "bundle.dsse")
            change(body)
            signed_again(sealed.path / "bundle.dsse", "bundle", home, canonical(body))
        else:
            republish(home, sealed, change, keys)

    VECTORS[name] = verify, install, altered


def blob(name: str, alter: Callable[[bytes], bytes]) -> None:
    """A blob altered by a courier, and the same listed and granted by publisher and issuer."""

    def by_courier(home: Home, sealed: SealedBundle) -> None:
        path = blob_of(sealed.path, sealed.manifest, "model")
        path.write_bytes(alter(path.read_bytes()))

    def listed(home: Home, sealed: SealedBundle) -> None:
        data = blob_of(sealed.path, sealed.manifest, "model").read_bytes()
        republish(home, sealed, put_blob(sealed, "model", alter(data)))

    VECTORS[name] = 4, 4, by_courier
    VECTORS[f"{name}-and-listed"] = 0, 4, listed


def one_bit(place: int) -> Callable[[bytes], bytes]:
    return lambda data: flipped(data, 8 * place + 3)


for part, place in (("salt", 5), ("commitment", 30), ("chunk", BLOB_HEADER + 9), ("tag", BLOB_HEADER + SEALED - 2)):
    blob(f"01-bit-in-{part}", one_bit(place))
blob("02-cut-at-a-chunk", lambda data: data[: BLOB_HEADER + SEALED])
blob("02-cut-by-a-byte", lambda data: data[:-1])
blob("03-byte-appended", lambda data: data + b"\0")
blob("03-chunk-appended", lambda data: data + data[BLOB_HEADER:][:SEALED])


def chunks_in_order(*order: int) -> Callable[[bytes], bytes]:
    def alter(data: bytes) -> bytes:
        chunks = [data[BLOB_HEADER + n * SEALED :][:SEALED] for n in order]
        return data[:BLOB_HEADER] + b"".join(chunks) + data[BLOB_HEADER + 2 * SEALED :]

    return alter


blob("04-chunks-swapped", chunks_in_order(1, 0))
blob("04-chunk-repeated", chunks_in_order(0, 0))


def grant_of(sealed: SealedBundle) -> Path:
    return next((sealed.path / "grants").iterdir())


def flip_in(place: Callable[[SealedBundle], Path], byte: int) -> Change:
    def change(home: Home, sealed: SealedBundle) -> None:
        place(sealed).write_bytes(flipped(place(sealed).read_bytes(), 8 * byte + 1))

    return change


VECTORS["01-bit-in-manifest"] = 4, 4, flip_in(lambda sealed: sealed.path / "bundle.dsse", 200)
VECTORS["01-bit-in-signature"] = 4, 4, flip_in(lambda sealed: sealed.path / "bundle.dsse", -12)
VECTORS["01-bit-in-grant"] = 4, 4, flip_in(grant_of, 400)
VECTORS["01-bit-in-licence"] = 4, 4, flip_in(lambda sealed: sealed.path / "LICENSES" / "teacher.txt", 3)


@vector("01-bit-in-wrap-and-signed", 0, 4)
def wrap(home: Home, sealed: SealedBundle) -> None:
    body = body_of(grant_of(sealed))
    text = body["keys"][0]["wrapped"]
    body["keys"][0]["wrapped"] = ("B" if text[0] == "A" else "A") + text[1:]
    signed_again(grant_of(sealed), "grant", home, canonical(body))


@vector("05-blobs-swapped", 4, 4)
def swapped(home: Home, sealed: SealedBundle) -> None:
    one, two = (blob_of(sealed.path, sealed.manifest, role) for role in ("one", "two"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


@vector("06-blob-of-another-bundle", 4, 4)
def another(home: Home, sealed: SealedBundle) -> None:
    other = home.seal(b"w" * (2 * CHUNK + 1), one=b"1", two=b"2")
    theirs = blob_of(other.path, other.manifest, "model").read_bytes()
    blob_of(sealed.path, sealed.manifest, "model").write_bytes(theirs)


def encrypted_otherwise(**other: Any) -> Change:
    def change(home: Home, sealed: SealedBundle) -> None:
        key = other.get("key") or content_keys(home, sealed.manifest.bundle_id)["cpu"]
        path = other.get("path", "one")
        context = file_context(product="industry", bundle_id=sealed.manifest.bundle_id, variant="cpu", path=path)
        pieces: list[bytes] = []
        encrypt_file(b"1", key, context, lambda piece: pieces.append(bytes(piece)))
        republish(home, sealed, put_blob(sealed, "one", b"".join(pieces)))

    return change


VECTORS["07-wrong-context-and-listed"] = 0, 4, encrypted_otherwise(path="two")
VECTORS["08-wrong-key-and-listed"] = 0, 4, encrypted_otherwise(key=new_content_key())


@vector("10-unknown-signer", 4, 4)
def stranger(home: Home, sealed: SealedBundle) -> None:
    other = make_home(home.path.parent / "stranger")
    path = sealed.path / "bundle.dsse"
    path.write_bytes(forge(canonical(body_of(path)), "bundle", other.keys.publisher))


@vector("11-issuer-as-publisher", 4, 4)
def issuer(home: Home, sealed: SealedBundle) -> None:
    path = sealed.path / "bundle.dsse"
    path.write_bytes(forge(canonical(body_of(path)), "bundle", home.keys.issuer))


def envelope(name: str, **changes: Any) -> None:
    VECTORS[name] = 4, 4, lambda home, sealed: signed_again(sealed.path / "bundle.dsse", "bundle", home, **changes)


envelope("12-signature-stripped", signatures=[])
envelope("13-payload-type-changed", payloadType="application/vnd.distil-toolkit.grant+json")
for what, text in {
    "duplicate-key": b'{"a":1,"a":2}', "nan": b'{"a":NaN}', "2-to-the-60": b'{"a":1152921504606846976}',
    "deep": b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "byte-order-mark": b'\xef\xbb\xbf{"a":1}',
    "bad-utf-8": b'{"a":"\xff"}', "white-space": b'{"a": 1}',
}.items():  # fmt: skip
    envelope(f"14-{what}", body=text)


@vector("12-one-key-counted-twice", 4, 4)
def twice(home: Home, sealed: SealedBundle) -> None:
    one = json.loads((sealed.path / "bundle.dsse").read_bytes())["signatures"][0]
    signed_again(sealed.path / "bundle.dsse", "bundle", home, signatures=[one, one])


manifest("15-unknown-critical-field", lambda body: body.update(critical=["expiry-of-everything"]))
manifest("15-unknown-suite", lambda body: body.update(suite="cob128+x25519+ed25519"))
manifest("38-forbidden-teacher", lambda body: body["teacher"].update(distillation="forbidden"), 0, 3)
manifest("22-lying-size", lambda body: body["variants"][0]["files"][0].update(cipher_size=5))
for what, path in {"up": "../x", "absolute": "/x", "windows": "LICENSES/CON", "git": ".git/x", "nul": "x\0y"}.items():
    manifest(f"20-path-{what}", lambda body, path=path: body["files"][0].update(role=path, path=path))


@vector("16-grant-for-another-recipient", 0, 4)
def other_recipient(home: Home, sealed: SealedBundle) -> None:
    regrant(home, sealed.path, content_keys(home, sealed.manifest.bundle_id), home.site("other"))


@vector("16-grant-for-another-bundle", 4, 4)
def other_bundle(home: Home, sealed: SealedBundle) -> None:
    other = home.granted(home.site(), b"other")
    shutil.rmtree(sealed.path / "grants")
    shutil.copytree(other.path / "grants", sealed.path / "grants")


@vector("26-file-that-nobody-listed", 4, 4)
def extra(home: Home, sealed: SealedBundle) -> None:
    (sealed.path / ".github").mkdir()
    (sealed.path / ".github" / "x").write_bytes(b"x")


@vector("26-file-missing", 4, 4)
def missing(home: Home, sealed: SealedBundle) -> None:
    blob_of(sealed.path, sealed.manifest, "two").unlink()


def paper(name: str) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        PAPERS[name] = 4, 4, change
        return change

    return keep


def other_paper(name: str, role: str, data: Callable[[Home, SealedBundle], bytes]) -> None:
    """Another paper in the place of one, listed and granted by publisher and issuer."""

    def change(home: Home, sealed: SealedBundle) -> None:
        (sealed.path / role).write_bytes(data(home, sealed))
        relist(home, sealed)

    PAPERS[name] = 4, 4, change


def of_another(role: str) -> Callable[[Home, SealedBundle], bytes]:
    return lambda home, sealed: (home.seal(b"other").path / role).read_bytes()


def statement(sealed: SealedBundle) -> bytes:
    return canonical(body_of(sealed.path / "provenance.dsse"))


SBOM, PROVENANCE, SIGNATURE = "sbom.cdx.json", "provenance.dsse", "model.sig"
for what, role in {"sbom": SBOM, "provenance": PROVENANCE, "model-signature": SIGNATURE}.items():
    PAPERS[f"01-bit-in-{what}"] = 4, 4, flip_in(lambda sealed, role=role: sealed.path / role, 100)
    PAPERS[f"12-{what}-stripped"] = 4, 4, lambda home, sealed, role=role: (sealed.path / role).unlink()
other_paper("06-sbom-of-another-bundle-and-listed", SBOM, of_another(SBOM))
other_paper("06-provenance-of-another-bundle-and-listed", PROVENANCE, of_another(PROVENANCE))
other_paper(
    "14-sbom-of-another-format-and-listed", SBOM, lambda home, sealed: b'{"bomFormat":"SPDX","specVersion":"1.7"}'
)
other_paper("14-sbom-deep-and-listed", SBOM, lambda home, sealed: b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}")
other_paper(
    "10-provenance-by-another-and-listed", PROVENANCE,
    lambda home, sealed: forge(statement(sealed), "in-toto", make_home(home.path.parent / "stranger").keys.publisher),
)  # fmt: skip
other_paper(
    "11-provenance-by-the-issuer-and-listed", PROVENANCE,
    lambda home, sealed: forge(statement(sealed), "in-toto", home.keys.issuer),
)  # fmt: skip
other_paper(
    "13-provenance-of-another-payload-type-and-listed", PROVENANCE,
    lambda home, sealed: forge(statement(sealed), "bundle", home.keys.publisher),
)  # fmt: skip


@paper("06-model-signature-of-another-bundle")
def signature_of_another(home: Home, sealed: SealedBundle) -> None:
    (sealed.path / SIGNATURE).write_bytes(of_another(SIGNATURE)(home, sealed))


@paper("10-model-signature-by-another-and-listed")
def signature_by_another(home: Home, sealed: SealedBundle) -> None:
    key = make_home(home.path.parent / "stranger").keys.model
    relist(home, sealed, lambda body: body.update(model_signer=key.key_id))
    with open_tree(sealed.path) as root:
        signed = sign_model(*read_envelope(root, home.keys.trust), key)
    (sealed.path / SIGNATURE).write_bytes(signed)


@paper("12-model-signature-with-minus-s")
def minus_s(home: Home, sealed: SealedBundle) -> None:
    path = sealed.path / SIGNATURE
    found = json.loads(path.read_bytes())
    (signed,) = found["dsseEnvelope"]["signatures"]
    r, s = decode_dss_signature(base64.b64decode(signed["sig"]))
    signed["sig"] = base64.b64encode(encode_dss_signature(r, ORDER - s)).decode()
    path.write_bytes(canonical(found))


@paper("26-model-signature-that-nobody-listed")
def unlisted(home: Home, sealed: SealedBundle) -> None:
    relist(home, sealed, lambda body: body.update(model_signer=""))


def make(target: Path, vectors: dict[str, tuple[int, int, Change]]) -> None:
    target.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home")
        site = home.site()
        for name, (_, _, change) in vectors.items():
            small = not name.startswith(("01-bit-in-", "02", "03", "04", "06")) or "licence" in name
            header = replace(HEADER, product="industry")
            sealed = home.seal(b"w" * (5 if small else 2 * CHUNK + 1), header, one=b"1", two=b"2")
            home.grant(sealed.path, site)
            change(home, sealed)
            shutil.copytree(sealed.path, target / name)
        shutil.copy(home.path / "keys" / "root.json", target)
        shutil.copy(site.path / "keys" / "recipient.key.json", target)
    expected = {name: {"verify": verify, "install": install} for name, (verify, install, _) in vectors.items()}
    (target / "expected.json").write_text(json.dumps(dict(sorted(expected.items())), indent=2) + "\n")


if __name__ == "__main__":
    for folder, vectors in {"sealed": VECTORS, "papers": PAPERS}.items():
        if not (HERE / folder).exists():
            make(HERE / folder, vectors)
