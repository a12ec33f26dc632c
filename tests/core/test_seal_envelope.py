"""Signed documents: what must not open, each named by what it must cause. Cases 10-15 of the bundle design."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from seal_parts import canonical, flipped, forge

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import decode, encode, length_prefixed
from toolkit.seal.envelope import open_document, sign_document
from toolkit.seal.keyfile import SigningKey, create_signing_key

BODY = {"critical": [], "format": "test/1", "list": [1, 2], "text": "größer"}


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return create_signing_key(tmp_path / "publisher.key.json", "publisher", None)


def opened(data: bytes, *key_ids: str, kind: str = "bundle") -> dict[str, object]:
    return dict(open_document(data, kind=kind, signers=key_ids, part="it", limit=100_000).fields.values)


def test_a_signed_document_opens_for_its_signer(key: SigningKey) -> None:
    assert opened(sign_document(BODY, kind="bundle", signer=key), key.key_id) == BODY


def test_an_envelope_is_the_one_that_dsse_specifies(key: SigningKey) -> None:
    assert sign_document(BODY, kind="bundle", signer=key) == forge(canonical(BODY), "bundle", key)


def test_a_key_id_is_the_public_key(key: SigningKey) -> None:
    assert bytes.fromhex(key.key_id) == key.private.public_key().public_bytes_raw()


def test_every_single_bit_of_an_envelope_is_covered(key: SigningKey) -> None:
    data = sign_document({"a": 1}, kind="bundle", signer=key)
    for bit in range(len(data) * 8):
        with pytest.raises(IntegrityError):
            opened(flipped(data, bit), key.key_id)


def test_an_unknown_signer_is_refused_by_name(key: SigningKey) -> None:
    with pytest.raises(IntegrityError, match="trust root does not name"):
        opened(sign_document(BODY, kind="bundle", signer=key), "0" * 64)


def test_a_stripped_signature_is_refused(key: SigningKey) -> None:
    with pytest.raises(IntegrityError, match="no signature"):
        opened(forge(canonical(BODY), "bundle", key, signatures=[]), key.key_id)


def test_one_key_counted_twice_is_refused(key: SigningKey) -> None:
    one = json.loads(sign_document(BODY, kind="bundle", signer=key))["signatures"][0]
    with pytest.raises(IntegrityError):
        opened(forge(canonical(BODY), "bundle", key, signatures=[one, one]), key.key_id)


def test_a_changed_payload_type_is_refused(key: SigningKey) -> None:
    data = forge(canonical(BODY), "grant", key)
    with pytest.raises(IntegrityError, match="does not hold a bundle"):
        opened(data, key.key_id)
    with pytest.raises(IntegrityError, match="does not hold: it was altered"):
        opened(data.replace(b"toolkit.grant", b"toolkit.bundle"), key.key_id)


def test_a_signature_by_another_key_under_this_key_id_is_refused(key: SigningKey) -> None:
    other = SigningKey("publisher", key.key_id, "development", Ed25519PrivateKey.generate())
    with pytest.raises(IntegrityError, match="altered"):
        opened(forge(canonical(BODY), "bundle", other), key.key_id)


def test_an_additional_member_is_refused(key: SigningKey) -> None:
    with pytest.raises(IntegrityError, match="not a DSSE envelope"):
        opened(forge(canonical(BODY), "bundle", key, extra=1), key.key_id)


def test_base64_with_stray_bits_is_refused(key: SigningKey) -> None:
    data = json.loads(sign_document(BODY, kind="bundle", signer=key))
    signature = data["signatures"][0]["sig"]
    # 64 bytes leave four unused bits in the last character before the padding.
    assert signature.endswith("==")
    data["signatures"][0]["sig"] = signature[:-3] + chr(ord(signature[-3]) + 1) + "=="
    assert base64.b64decode(data["signatures"][0]["sig"]) == base64.b64decode(signature)
    with pytest.raises(IntegrityError, match="base64 that is not canonical"):
        opened(canonical(data), key.key_id)


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("duplicate key", b'{"a":1,"a":2}'),
        ("NaN", b'{"a":NaN}'),
        ("infinity", b'{"a":Infinity}'),
        ("float", b'{"a":1.5}'),
        ("float that is an integer", b'{"a":1e3}'),
        ("huge exponent", b'{"a":1e999}'),
        ("2^60", b'{"a":1152921504606846976}'),
        ("minus zero", b'{"a":-0}'),
        ("a million digits", b'{"a":' + b"9" * 40_000 + b"}"),
        ("byte order mark", b'\xef\xbb\xbf{"a":1}'),
        ("bad UTF-8", b'{"a":"\xff"}'),
        ("lone surrogate", b'{"a":"\\ud800"}'),
        ("an escape that is not needed", b'{"a":"\\u0041"}'),
        ("white space", b'{"a": 1}'),
        ("a line break at the end", b'{"a":1}\n'),
        ("keys out of order", b'{"b":1,"a":2}'),
        ("nested 17 deep", b'{"a":' + b"[" * 16 + b"]" * 16 + b"}"),
        ("nested 20,000 deep", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        ("a list", b"[1]"),
        ("nothing", b""),
        ("a second document", b'{"a":1}{"a":1}'),
    ],
)
def test_a_signed_body_that_is_not_strict_canonical_json_is_refused(what: str, body: bytes, key: SigningKey) -> None:
    with pytest.raises(IntegrityError):
        opened(forge(body, "bundle", key), key.key_id)
    with pytest.raises(IntegrityError):
        decode(body, part="it", limit=100_000)


def test_a_document_over_the_limit_is_refused_before_it_is_parsed(key: SigningKey) -> None:
    with pytest.raises(IntegrityError, match="longer than"):
        opened(b"[" * 100_001, key.key_id)


def test_nesting_up_to_the_limit_is_accepted() -> None:
    data = b'{"a":' + b"[" * 15 + b"]" * 15 + b"}"
    assert encode(decode(data, part="it", limit=1000)) == data


def test_no_two_lists_have_the_same_prefixed_form() -> None:
    assert length_prefixed(b"ab", b"c") != length_prefixed(b"a", b"bc")
    assert length_prefixed(b"ab") == b"\0\0\0\0\0\0\0\2ab"
