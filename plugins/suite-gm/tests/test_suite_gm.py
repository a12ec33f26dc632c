"""The suite gm: by the standards' own numbers, by the conformance suite, and only where the root allows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from case_parts import MODEL, case_home, run
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from seal_parts import Home

from toolkit.errors import EnvironmentUnfit, IntegrityError, PlanError, UsageError
from toolkit.protocols import CipherSuite
from toolkit.seal.custody import Access
from toolkit.seal.keys import init_keys, load_keys
from toolkit.seal.open import open_bundle
from toolkit.seal.rotation import rotate
from toolkit.seal.suites import DUAL_SUITE, SUITE
from toolkit.seal.verify import verify_bundle
from toolkit.site.layout import open_site
from toolkit.testing.cipher_suites import check_cipher_suite
from toolkit_suite_gm import register_cipher_suites
from toolkit_suite_gm.cipher import SALT, TAG, Gm, KeyedHash

GM = "gm+xwing+ed25519"


def ciphers() -> Mapping[str, CipherSuite]:
    return {one.name: one for one in register_cipher_suites()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose root allows gm beside core's own."""
    made = case_home(tmp_path, monkeypatch)
    rotate(made.path / "keys", "publisher", Access(ciphers=ciphers), suite=GM)
    return Home(made.path, load_keys(made.path / "keys", None), Gm())


def test_the_conformance_suite() -> None:
    check_cipher_suite(Gm())


def test_sm4_gcm_is_that_of_rfc_8998() -> None:
    """RFC 8998, appendix A.1."""
    key, nonce = bytes.fromhex("0123456789abcdeffedcba9876543210"), bytes.fromhex("00001234567800000000abcd")
    plain = bytes.fromhex("".join(two * 8 for two in ("aa", "bb", "cc", "dd", "ee", "ff", "ee", "aa")))
    gcm = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    gcm.authenticate_additional_data(bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"))
    sealed = gcm.update(plain) + gcm.finalize()
    assert sealed.hex() == (
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
    )
    assert gcm.tag.hex() == "83de3541e4c2b58177e065a9bf7b62ec"


def test_the_keyed_hash_is_hmac_sm3() -> None:
    if "sm3" not in hashlib.algorithms_available:
        pytest.skip("this Python's OpenSSL has no SM3")
    import hmac

    def sm3(data: bytes = b"") -> hashlib._Hash:
        return hashlib.new("sm3", data)

    def hkdf(key: bytes, info: bytes) -> bytes:
        """RFC 5869 for one block, without salt."""
        return hmac.digest(hmac.digest(bytes(32), key, sm3), info + b"\1", sm3)

    mine = KeyedHash(b"k" * 32)
    mine.update(b"plaintext")
    assert (
        mine.hexdigest()
        == hmac.new(hkdf(b"k" * 32, b"distil-toolkit gm plaintext hash"), b"plaintext", sm3).hexdigest()
    )


def test_a_bundle_is_sealed_installed_and_opened(home: Home) -> None:
    sealed = home.granted(home.site(), MODEL, empty=b"")
    assert sealed.manifest.suite == GM
    assert {file.cipher_size - file.size for file in sealed.manifest.variants[0].files} == {SALT + TAG}
    for words in (("verify", sealed.path), ("install", sealed.path), ("verify", home.site().path), ("status",)):
        assert run(*words, "--json").code == 0
    with open_bundle(
        sealed.path, home.keys.trust, home.site().recipient_key(), unlock=Access(ciphers=ciphers)
    ) as opened:
        assert (opened.read("model"), opened.read("empty")) == (MODEL, b"")


def test_without_the_plugin_it_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, site = home.granted(home.site(), MODEL), home.site()
    assert verify_bundle(sealed.path, home.keys.trust).suite == GM  # whoever carries it can still check it
    with pytest.raises(EnvironmentUnfit, match="needs the cipher gm"):
        open_bundle(sealed.path, home.keys.trust, site.recipient_key())
    monkeypatch.setattr("toolkit.cli.places._cipher_suites", dict)
    for words in (("verify", sealed.path), ("install", sealed.path)):
        said = run(*words, "--json")
        assert (said.code, said.record["error"]["hint"]) == (
            5,
            "Install its plugin: pip install distil-toolkit-suite-gm",
        )
    last = list(open_site(site.path).audit.entries())[-1]
    assert (last.event, last.details["code"]) == ("install.refused", "environment")
    assert not list(site.versions.iterdir())


def test_only_the_trust_root_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = case_home(tmp_path, monkeypatch)
    site = plain.site()  # pins a root without gm
    with pytest.raises(PlanError, match="does not allow the suite gm"):
        Home(plain.path, plain.keys, Gm()).seal(MODEL)
    rotate(plain.path / "keys", "publisher", Access(ciphers=ciphers), suite=GM)
    home = Home(plain.path, load_keys(plain.path / "keys", None), Gm())
    sealed = home.granted(site, MODEL)
    said = run("install", sealed.path, "--site", site.path, "--json")
    assert (said.code, said.record["error"]["part"]) == (4, "bundle.dsse")
    assert run("site", "trust", site.path, "--root", plain.path / "keys" / "root.json").code == 0
    assert run("install", sealed.path, "--site", site.path).code == 0
    assert run("install", Home(home.path, home.keys).granted(site, MODEL).path, "--site", site.path).code == 0


def test_a_root_may_allow_gm_alone_and_with_two_signatures(tmp_path: Path) -> None:
    for suite in (GM, f"{GM}+mldsa65"):
        keys = init_keys(tmp_path / suite, Access("passphrase", ciphers=ciphers), suite=suite)
        assert keys.trust.suites == (suite,)
        home = Home(tmp_path / f"home-{suite}", keys, Gm())
        assert home.seal(MODEL).manifest.suite == suite
        with pytest.raises(PlanError, match="does not allow the suite cob256"):
            Home(home.path, keys).seal(MODEL)
    both = rotate(tmp_path / GM, "publisher", Access("passphrase", ciphers=ciphers), suite=SUITE)
    assert both.trust.suites == (SUITE, GM)
    assert DUAL_SUITE not in both.trust.suites


def test_what_is_no_suite(tmp_path: Path) -> None:
    for suite in ("gm", "gm+xwing", "GM+xwing+ed25519", "gm+x25519+ed25519", "gm+xwing+sm2", "../gm+xwing+ed25519"):
        with pytest.raises(UsageError, match="no suite is named"):
            init_keys(tmp_path / "keys", Access("passphrase", ciphers=ciphers), suite=suite)
    with pytest.raises(EnvironmentUnfit, match="needs the cipher gm"):
        init_keys(tmp_path / "keys", "passphrase", suite=GM)
    assert not (tmp_path / "keys" / "root.json").exists()


def test_a_manifest_that_states_another_cipher_does_not_open(home: Home) -> None:
    """Core's ciphertext under a manifest that says gm, and the other way round, both signed by the publisher."""
    from case_parts import content_keys, regrant
    from seal_parts import resign

    for one, stated in ((home, SUITE), (Home(home.path, home.keys), GM)):
        sealed = one.granted(home.site(), MODEL)
        keys = content_keys(home, sealed.manifest.bundle_id)

        def state(body: dict[str, object], stated: str = stated) -> None:
            body["suite"] = stated

        resign(sealed.path, home.keys, state)
        regrant(home, sealed.path, keys)
        said = run("install", sealed.path, "--json")
        assert said.code == 4, said
        assert "role model" in json.loads(said.out)["error"]["part"]
    assert IntegrityError.exit_code == 4
