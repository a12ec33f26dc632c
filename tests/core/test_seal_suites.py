"""Signers of one key and of two, and what may not be taken away from them. Cases 12 and 15 of the bundle design."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seal_parts import Home, body_of, canonical, flipped, forge, make_home, put

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.keyfile import SigningKey, create_signing_key, load_signing_key
from toolkit.seal.keys import init_keys, load_keys
from toolkit.seal.suites import DUAL_SUITE, SUITE, keys_of, suite_of
from toolkit.seal.trust import parse_trust, root_payload, sign_root
from toolkit.seal.verify import verify_bundle

PASSPHRASE = "a long enough passphrase"


@pytest.fixture(scope="module")
def dual_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dual") / "keys"
    init_keys(folder, PASSPHRASE, suite=DUAL_SUITE)
    return folder


@pytest.fixture
def home(tmp_path: Path, dual_keys: Path) -> Home:
    return Home(tmp_path / "home", load_keys(dual_keys, PASSPHRASE))


def envelope_of(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    assert isinstance(found, dict)
    return found


def test_a_bundle_and_a_grant_of_the_dual_suite_bear_both_signatures(home: Home) -> None:
    site = home.site()
    sealed = home.granted(site, b"weights")
    assert sealed.manifest.suite == DUAL_SUITE
    grant = next((sealed.path / "grants").iterdir())
    for path in (sealed.path / "bundle.dsse", grant):
        assert sorted(len(one["keyid"]) for one in envelope_of(path)["signatures"]) == [64, 3904]
    assert len(home.keys.trust.keys) == 2, "root.json too"
    assert put(sealed.path, site).changed


@pytest.mark.parametrize("kept", [64, 3904])
@pytest.mark.parametrize("what", ["bundle.dsse", "grant"])
def test_case_12_a_stripped_signature_is_refused(kept: int, what: str, home: Home) -> None:
    site = home.site()
    sealed = home.granted(site)
    path = sealed.path / "bundle.dsse" if what == "bundle.dsse" else next((sealed.path / "grants").iterdir())
    envelope = envelope_of(path)
    envelope["signatures"] = [one for one in envelope["signatures"] if len(one["keyid"]) == kept]
    path.write_bytes(canonical(envelope))
    with pytest.raises(IntegrityError, match="both keys"):
        verify_bundle(sealed.path, home.keys.trust)
    with pytest.raises(IntegrityError):
        put(sealed.path, site)
    assert not list(site.versions.iterdir())


def test_case_12_a_key_counted_twice_is_refused(home: Home, tmp_path: Path) -> None:
    sealed = home.seal()
    path = sealed.path / "bundle.dsse"
    envelope = envelope_of(path)
    for copies in ([0, 0], [1, 1], [0, 0, 1], [1, 0] if len(envelope["signatures"][0]["keyid"]) else []):
        path.write_bytes(canonical(envelope | {"signatures": [envelope["signatures"][n] for n in copies]}))
        with pytest.raises(IntegrityError, match="twice, or out of order"):
            verify_bundle(sealed.path, home.keys.trust)
    root = create_signing_key(tmp_path / "r", "root", None)
    body = root_payload(
        version=1, roots=[root.key_id] * 2, threshold=2, publishers=[], issuers=[], revokers=[], development=True
    )
    with pytest.raises(IntegrityError, match="names a key twice"):
        parse_trust(forge(canonical(body), "root", root))


def test_case_01_any_flipped_bit_of_either_signature_is_refused(home: Home) -> None:
    sealed = home.seal()
    path = sealed.path / "bundle.dsse"
    envelope = envelope_of(path)
    for number, one in enumerate(envelope["signatures"]):
        signature = base64.b64decode(one["sig"])
        for bit in range(0, len(signature) * 8, max(1, len(signature) * 8 // 40)):
            changed = dict(one, sig=base64.b64encode(flipped(signature, bit)).decode())
            signatures = list(envelope["signatures"])
            signatures[number] = changed
            path.write_bytes(canonical(envelope | {"signatures": signatures}))
            with pytest.raises(IntegrityError):
                verify_bundle(sealed.path, home.keys.trust)


def test_case_15_a_downgrade_is_refused(home: Home) -> None:
    # Whoever could forge Ed25519 alone, one day: the manifest says the plain suite and bears a plain signature.
    sealed = home.seal()
    path = sealed.path / "bundle.dsse"
    plain = replace(home.keys.publisher, key_id=home.keys.publisher.key_id[:64], second=None)
    path.write_bytes(forge(canonical(body_of(path) | {"suite": SUITE}), "bundle", plain))
    with pytest.raises(IntegrityError, match="both keys"):
        verify_bundle(sealed.path, home.keys.trust)


def test_case_15_another_suite_than_the_signers_is_refused(home: Home, tmp_path: Path) -> None:
    plain = make_home(tmp_path / "plain")
    sealed = plain.seal()
    path = sealed.path / "bundle.dsse"
    body = body_of(path)
    for suite in (DUAL_SUITE, "none", "cob256+xwing+ed25519 ", "gm"):
        path.write_bytes(forge(canonical(body | {"suite": suite}), "bundle", plain.keys.publisher))
        with pytest.raises(IntegrityError, match="suite"):
            verify_bundle(sealed.path, plain.keys.trust)


def test_case_15_a_root_that_allows_more_suites_than_it_has_is_refused(tmp_path: Path) -> None:
    root = create_signing_key(tmp_path / "r", "root", None)
    body = root_payload(
        version=1, roots=[root.key_id], threshold=1, publishers=[], issuers=[], revokers=[], development=True
    )
    for suites in ([], [SUITE, DUAL_SUITE], [DUAL_SUITE]):
        with pytest.raises(IntegrityError, match="other suites"):
            parse_trust(forge(canonical(body | {"suites": suites}), "root", root))


def test_the_two_keys_of_a_signer_cannot_be_mixed_with_anothers(home: Home, tmp_path: Path) -> None:
    mine, other = home.keys.publisher, create_signing_key(tmp_path / "o", "publisher", None, DUAL_SUITE)
    mixed = SigningKey(
        "publisher", f"{mine.key_id[:64]}+{other.key_id[65:]}", "development", mine.private, other.second
    )
    sealed = home.seal()
    path = sealed.path / "bundle.dsse"
    name = envelope_of(path)["payloadType"].encode()
    body = base64.b64decode(envelope_of(path)["payload"])
    signatures = mixed.signatures(b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body))
    rows = [{"keyid": key, "sig": base64.b64encode(signatures[key]).decode()} for key in sorted(signatures)]
    path.write_bytes(canonical(envelope_of(path) | {"signatures": rows}))
    with pytest.raises(IntegrityError, match="both keys"):
        verify_bundle(sealed.path, home.keys.trust)


def test_a_dual_key_file_opens_to_the_same_keys(tmp_path: Path) -> None:
    key = create_signing_key(tmp_path / "k", "issuer", PASSPHRASE, DUAL_SUITE)
    again = load_signing_key(tmp_path / "k", "issuer", PASSPHRASE)
    assert (again, suite_of(again.key_id)) == (key, DUAL_SUITE)
    assert set(again.signatures(b"x")) == keys_of(key.key_id)
    assert parse_trust(
        sign_root(
            root_payload(
                version=1, roots=[key.key_id], threshold=1, publishers=[], issuers=[], revokers=[], development=True
            ),
            [again],
        )
    ).suites == (DUAL_SUITE,)


def test_an_unknown_suite_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no suite is named"):
        init_keys(tmp_path / "keys", PASSPHRASE, suite="gm")
