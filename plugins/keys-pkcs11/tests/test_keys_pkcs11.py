"""Keys in a real token of SoftHSM 2: made there, used there, and never seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")

from seal_parts import HEADER, LICENCE, put

from toolkit.artifacts import BundleFile
from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.custody import Access
from toolkit.seal.grant import grant
from toolkit.seal.keyfile import create_signing_key, load_signing_key
from toolkit.seal.keys import custody_of, init_keys, load_keys
from toolkit.seal.recipient import load_recipient
from toolkit.seal.rotation import rotate
from toolkit.seal.suites import DUAL_SUITE
from toolkit.site.current import open_current
from toolkit.site.layout import init_site, open_site
from toolkit.site.trust import accept_root, rotate_recipient
from toolkit.site.verify import verify_site
from toolkit.testing.key_providers import check_key_provider
from toolkit_keys_pkcs11 import register_key_providers
from toolkit_keys_pkcs11.provider import TokenKeys

PIN = "73911846"
PLACES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib64/libsofthsm2.so")
MODULE = next((path for path in PLACES if Path(path).exists()), "")
pytestmark = pytest.mark.skipif(
    not MODULE or shutil.which("softhsm2-util") is None, reason="softhsm2 is not installed"
)  # fmt: skip


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A fresh token named `plant`; a process loads SoftHSM once, so it is one for all tests."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    before = dict(os.environ)
    os.environ |= {
        "SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "TOOLKIT_PKCS11_MODULE": MODULE, "TOOLKIT_PKCS11_TOKEN": "plant"
    }  # fmt: skip
    made = ["softhsm2-util", "--init-token", "--free", "--label", "plant", "--pin", PIN, "--so-pin", "987654321"]
    subprocess.run(made, check=True, capture_output=True)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def by(token: None) -> Access:
    return Access(PIN, providers, "pkcs11")


def providers() -> Mapping[str, TokenKeys]:
    return {one.name: one for one in register_key_providers()}


def test_the_conformance_suite(token: None, tmp_path: Path) -> None:
    check_key_provider(TokenKeys(), tmp_path, passphrase=PIN, wrong="00000000")


def test_a_key_file_holds_no_key_and_the_token_gives_none_away(by: Access, tmp_path: Path) -> None:
    key = create_signing_key(tmp_path / "k", "publisher", by)
    record = json.loads((tmp_path / "k").read_bytes())
    assert set(record) == {"format", "critical", "role", "public_id", "custody", "sign_token", "sign_key"}
    assert (key.custody, record["sign_token"]) == ("pkcs11", "plant")
    with pkcs11.lib(MODULE).get_token(token_label="plant").open(user_pin=PIN) as session:
        private = session.get_key(
            object_class=pkcs11.ObjectClass.PRIVATE_KEY, id=bytes.fromhex(record["sign_key"])
        )  # fmt: skip
        assert private[pkcs11.Attribute.NEVER_EXTRACTABLE]
        assert private[pkcs11.Attribute.ALWAYS_SENSITIVE]
        with pytest.raises(pkcs11.exceptions.PKCS11Error):
            private[pkcs11.Attribute.VALUE]


@pytest.mark.parametrize("suite", ["cob256+xwing+ed25519", DUAL_SUITE])
def test_a_home_and_a_site_whose_keys_are_in_the_token(suite: str, by: Access, tmp_path: Path) -> None:
    keys = init_keys(tmp_path / "keys", by, suite=suite)
    assert not keys.development
    assert custody_of(tmp_path / "keys") == "pkcs11"
    site = init_site(tmp_path / "site", keys.trust, passphrase=by)
    assert site.custody == "pkcs11"
    keys = load_keys(tmp_path / "keys", Access(PIN, providers))
    sealed = seal_bundle(
        tmp_path / "bundles", header=HEADER, files=[BundleFile("model", b"weights"), LICENCE], keys=keys,
        escrow=tmp_path / "escrow",
    )  # fmt: skip
    assert not sealed.manifest.development_keys
    grant(sealed.path, load_recipient(site.recipient_json), keys, tmp_path / "escrow")
    put(sealed.path, open_site(site.path, Access(PIN, providers)))
    with open_current(site.path, Access(PIN, providers)) as opened:
        assert opened.read("model") == b"weights"
    made = rotate(tmp_path / "keys", "publisher", Access(PIN, providers))
    accept_root(site, made.trust.data)
    rotate_recipient(site)
    assert verify_site(site.path).site.trust.version == 2
    assert custody_of(tmp_path / "keys") == "pkcs11", "what takes a key's place is guarded alike"
    with pytest.raises(UsageError, match="nothing here offers that"):
        load_keys(tmp_path / "keys", PIN)


def test_a_wrong_pin_a_missing_token_and_a_missing_module(
    by: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_signing_key(tmp_path / "k", "issuer", by)
    with pytest.raises(IntegrityError, match="the PIN does not open") as refused:
        load_signing_key(tmp_path / "k", "issuer", Access("00000000", providers))
    assert "00000000" not in str(refused.value)
    with pytest.raises(UsageError, match="needs its PIN"):
        load_signing_key(tmp_path / "k", "issuer", Access(None, providers))
    record = json.loads((tmp_path / "k").read_bytes())
    for change, kind in (({"sign_token": "elsewhere"}, EnvironmentUnfit), ({"sign_key": "0" * 32}, IntegrityError),
                         ({"sign_key": "../x"}, IntegrityError), ({"sign_token": "\x00"}, IntegrityError)):  # fmt: skip
        (tmp_path / "k").write_bytes(json.dumps(record | change, sort_keys=True, separators=(",", ":")).encode())
        with pytest.raises(kind):
            load_signing_key(tmp_path / "k", "issuer", by)
    monkeypatch.setenv("TOOLKIT_PKCS11_MODULE", str(tmp_path / "none.so"))
    with pytest.raises(EnvironmentUnfit, match="cannot load the PKCS#11 module"):
        create_signing_key(tmp_path / "l", "issuer", by)
    monkeypatch.delenv("TOOLKIT_PKCS11_MODULE")
    with pytest.raises(EnvironmentUnfit, match="no PKCS#11 module is named"):
        create_signing_key(tmp_path / "l", "issuer", by)
    monkeypatch.delenv("TOOLKIT_PKCS11_TOKEN")
    with pytest.raises(EnvironmentUnfit, match="no token is named"):
        create_signing_key(tmp_path / "l", "issuer", by)
    assert not (tmp_path / "l").exists()
