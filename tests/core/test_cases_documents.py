"""Cases 10 to 15 of the bundle design, and a pickle of 40: who signed, and what exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from case_parts import installed, refused, signed_again
from seal_parts import Home, body_of, canonical, forge, make_home, resign

from toolkit.errors import IntegrityError
from toolkit.seal.bundle import SealedBundle
from toolkit.seal.keyfile import load_signing_key
from toolkit.seal.trust import parse_trust
from toolkit.site.layout import init_site


def test_case_10_another_publisher(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    stranger = make_home(tmp_path / "stranger")
    (sealed.path / "bundle.dsse").write_bytes(
        forge(canonical(body_of(sealed.path / "bundle.dsse")), "bundle", stranger.keys.publisher)
    )
    assert refused(sealed.path, home).part == "bundle.dsse"


def test_case_11_the_issuer_is_no_publisher_and_the_publisher_no_issuer(home: Home, sealed: SealedBundle) -> None:
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
def test_case_15_a_signed_manifest_that_is_not_as_the_format_says(
    change: dict[str, Any], home: Home, sealed: SealedBundle
) -> None:
    resign(sealed.path, home.keys, lambda body: body.update(change))
    assert refused(sealed.path, home).part == "bundle.dsse"


def test_case_40_a_pickle_in_place_of_a_manifest(home: Home, sealed: SealedBundle) -> None:
    # Nothing in this format is unpickled, and no path in it is followed: such a file is one that nobody signed.
    (sealed.path / "bundle.dsse").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused(sealed.path, home)


def test_case_12_a_stripped_signature_and_one_key_id_counted_twice(home: Home, sealed: SealedBundle) -> None:
    for path, kind in ((sealed.path / "bundle.dsse", "bundle"), (next((sealed.path / "grants").iterdir()), "grant")):
        data = path.read_bytes()
        one = json.loads(data)["signatures"][0]
        for signatures in ([], [one, one], [{"keyid": one["keyid"], "sig": ""}], [one | {"keyid": ""}]):
            signed_again(path, kind, home, signatures=signatures)
            refused(sealed.path, home)
        path.write_bytes(data)
    installed(sealed.path, home)


@pytest.mark.parametrize(
    "kind", ["application/vnd.distil-toolkit.grant+json", "application/vnd.distil-toolkit.root+json",
             "application/vnd.in-toto+json", "text/plain", "", None],
)  # fmt: skip
def test_case_13_the_payload_type_changed(kind: str | None, home: Home, sealed: SealedBundle) -> None:
    path = sealed.path / "bundle.dsse"
    signed_again(path, "bundle", home, payloadType=kind)  # a signature over the right type
    refused(sealed.path, home)
    other = forge(canonical(body_of(path)), "grant", home.keys.publisher)  # a signature over the other type
    path.write_bytes(other)
    refused(sealed.path, home)
    path.write_bytes(other.replace(b"toolkit.grant", b"toolkit.bundle"))
    refused(sealed.path, home)


STRANGE = {
    "duplicate key": b'{"a":1,"a":2}', "NaN": b'{"a":NaN}', "infinity": b'{"a":Infinity}', "float": b'{"a":1.5}',
    "2^60": b'{"a":1152921504606846976}', "minus zero": b'{"a":-0}', "huge": b'{"a":' + b"9" * 40_000 + b"}",
    "BOM": b'\xef\xbb\xbf{"a":1}', "bad UTF-8": b'{"a":"\xff"}', "lone surrogate": b'{"a":"\\ud800"}',
    "white space": b'{"a": 1}', "order": b'{"b":1,"a":2}', "17 deep": b'{"a":' + b"[" * 16 + b"]" * 16 + b"}",
    "deep": b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "very deep": b"[" * 1_000_000, "list": b"[]",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
def test_case_14_json_that_is_not_strict(what: str, home: Home, sealed: SealedBundle) -> None:
    for path, kind in ((next((sealed.path / "grants").iterdir()), "grant"), (sealed.path / "bundle.dsse", "bundle")):
        data = path.read_bytes()
        path.write_bytes(STRANGE[what])
        refused(sealed.path, home)
        signed_again(path, kind, home, STRANGE[what])
        refused(sealed.path, home)
        path.write_bytes(data)


def test_case_14_a_huge_envelope_is_not_read(home: Home, sealed: SealedBundle) -> None:
    path = sealed.path / "bundle.dsse"
    path.write_bytes(path.read_bytes() + b" " * 5_000_000)
    assert "longer than" in refused(sealed.path, home).message


@pytest.mark.parametrize("suites", [[], ["none"], ["cob128+x25519+ed25519"]])
def test_case_15_a_root_that_allows_what_its_signers_have_not_makes_no_site(
    suites: list[str], home: Home, tmp_path: Path
) -> None:
    root = load_signing_key(home.path / "keys" / "root.key.json", "root", None)
    body = body_of(home.path / "keys" / "root.json") | {"suites": suites}
    with pytest.raises(IntegrityError) as refusal:
        init_site(tmp_path / "strict", parse_trust(forge(canonical(body), "root", root)))
    assert refusal.value.part == "root.json"
    assert not (tmp_path / "strict").exists()
