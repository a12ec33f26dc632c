"""What guards keys: core's own providers keep the suite's promises, and the suite finds those that do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.custody import Access, OpenFile, PassphraseFile, alike
from toolkit.seal.keyfile import create_recipient_key, create_signing_key, load_signing_key
from toolkit.testing.key_providers import check_key_provider

PASSPHRASE, WRONG = "a long enough passphrase", "a long enough passphrasf"


@pytest.mark.parametrize(
    ("provider", "passphrase", "wrong"), [(OpenFile(), None, None), (PassphraseFile(), PASSPHRASE, WRONG)]
)
def test_the_conformance_suite(
    provider: OpenFile | PassphraseFile, passphrase: str | None, wrong: str | None, tmp_path: Path
) -> None:
    check_key_provider(provider, tmp_path, passphrase=passphrase, wrong=wrong)


@dataclass(frozen=True)
class Careless(PassphraseFile):
    """Passphrase files with one promise broken."""

    how: str = ""

    def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
        if self.how == "shows":
            return {**super().wrap(secret, header, passphrase), "note": secret.hex()}
        if self.how == "unbound":
            return super().wrap(secret, {}, passphrase)
        if self.how == "overwrites":
            return {**super().wrap(secret, header, passphrase), "role": "root"}
        return super().wrap(secret, header, "fixed" if self.how == "any" else passphrase)

    def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
        if self.how == "shows":
            record = {name: value for name, value in record.items() if name != "note"}
        if self.how == "short":
            return super().unwrap(record, passphrase)[:-1]
        if self.how == "unbound":
            names = ("kdf", "salt", "nonce", "iterations", "lanes", "memory_kib", "sealed")
            record = {name: record[name] for name in names}
        return super().unwrap(record, "fixed" if self.how == "any" else passphrase)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shows", "a secret shows"), ("unbound", "bound to its file"), ("any", "another passphrase opens it"),
        ("short", "comes back as it was"), ("overwrites", "must not replace fields"),
    ],
)  # fmt: skip
def test_the_suite_finds_a_broken_promise(how: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_key_provider(Careless(how=how), tmp_path, passphrase=PASSPHRASE, wrong=WRONG)


@dataclass(frozen=True)
class Box(PassphraseFile):
    """Holds one signing key for all, as no token may."""

    name: str = "box"
    key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(bytes(32))  # noqa: RUF009

    def make_signing_key(self, label: str, passphrase: str | None) -> tuple[bytes, Mapping[str, Any]]:
        return self.key.public_key().public_bytes_raw(), {"box": "one"}

    def signer(self, record: Mapping[str, Any], passphrase: str | None) -> Callable[[bytes], bytes]:
        return self.key.sign


def test_the_suite_finds_a_token_with_one_key_for_all(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no two keys are alike"):
        check_key_provider(Box(), tmp_path, passphrase=PASSPHRASE, wrong=WRONG)


def test_a_held_key_signs_and_lies_in_no_file(tmp_path: Path) -> None:
    box = Box()
    by = Access(PASSPHRASE, lambda: {"box": box}, "box")
    made = create_signing_key(tmp_path / "k", "site", by)
    assert b"sealed" not in (tmp_path / "k").read_bytes()
    loaded = load_signing_key(tmp_path / "k", "site", replace(by, custody=""))
    assert loaded == made
    assert loaded.sign(b"x") == box.key.sign(b"x")
    assert create_recipient_key(tmp_path / "r", "recipient", by).custody == "box"


def test_a_guard_that_nobody_offers_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'tpm2', and nothing here offers that"):
        create_signing_key(tmp_path / "k", "site", Access(PASSPHRASE, custody="tpm2"))
    assert not (tmp_path / "k").exists()
    assert alike(PASSPHRASE, "pkcs11").custody == "pkcs11"
    assert alike(PASSPHRASE, "development").makes == "passphrase"


def test_a_key_file_whose_guard_was_changed_does_not_open(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "k", "site", PASSPHRASE)
    (tmp_path / "k").write_bytes((tmp_path / "k").read_bytes().replace(b'"passphrase"', b'"development"'))
    with pytest.raises(IntegrityError):
        load_signing_key(tmp_path / "k", "site", PASSPHRASE)
