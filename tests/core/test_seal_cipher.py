"""Ciphertext of one file. Cases 2-4, 7-9 and 28 of the bundle design."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from toolkit.errors import IntegrityError
from toolkit.seal.cipher import (
    CHUNK,
    COB256,
    HEADER,
    STEP,
    TAG,
    Cobblestone,
    content_key_id,
    decrypt_into,
    encrypt_file,
    file_context,
    new_content_key,
    plaintext_mac,
)
from toolkit.seal.memory import SecretBuffer
from toolkit.testing.cipher_suites import check_cipher_suite

KEY = bytes(range(32))
CONTEXT = file_context(product="p", bundle_id="p-1-0", variant="cpu", path="model")
PLAIN = bytes(range(256)) * 200  # three whole chunks and a part
SEALED_CHUNK = CHUNK + TAG


def encrypted(data: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    pieces: list[bytes] = []
    encrypt_file(data, key, context, lambda piece: pieces.append(bytes(piece)))
    return b"".join(pieces)


def decrypted(data: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    buffer = SecretBuffer(len(data))
    size, mac = decrypt_into([data[:70_000], data[70_000:]], buffer, key, context, part="it")
    plain = bytes(buffer.view[:size])
    assert mac == plaintext_mac(key, plain)
    buffer.wipe()
    return plain


class Careless(Cobblestone):
    """A suite that does not bind a file to its place."""

    def encryptor(self, key: bytes, context: bytes) -> Cobblestone256Encryptor:
        return super().encryptor(key, b"")

    def decryptor(self, key: bytes, context: bytes) -> Cobblestone256Decryptor:
        return super().decryptor(key, b"")


def test_the_conformance_suite_and_that_it_finds_a_suite_that_forgets_the_context() -> None:
    check_cipher_suite(COB256)
    with pytest.raises(AssertionError, match="case 7"):
        check_cipher_suite(Careless())


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, STEP - 1, STEP, STEP + 1, 3 * STEP])
def test_case_09_round_trip(size: int) -> None:
    plain = os.urandom(size)
    sealed = encrypted(plain)
    assert len(sealed) == COB256.ciphertext_size(size)
    assert decrypted(sealed) == plain
    reader = Cobblestone256Decryptor(KEY, CONTEXT)
    assert reader.update(sealed) + reader.finalize() == plain


def test_the_same_file_twice_gives_two_ciphertexts() -> None:
    assert encrypted(PLAIN) != encrypted(PLAIN)


def test_case_01_a_flipped_bit_anywhere_is_refused() -> None:
    sealed = encrypted(b"0123456789" * 10)
    for position in range(len(sealed)):
        with pytest.raises(IntegrityError):
            decrypted(sealed[:position] + bytes([sealed[position] ^ 0x10]) + sealed[position + 1 :])


@pytest.mark.parametrize("position", [3, 24 + 5, HEADER + 7, HEADER + SEALED_CHUNK - 1, HEADER + 2 * SEALED_CHUNK, -1])
def test_case_01_a_flipped_bit_in_salt_commitment_chunk_or_tag_is_refused(position: int) -> None:
    sealed = bytearray(encrypted(PLAIN))
    sealed[position] ^= 1
    with pytest.raises(IntegrityError):
        decrypted(bytes(sealed))


@pytest.mark.parametrize("end", [0, 10, HEADER, *(HEADER + n * SEALED_CHUNK for n in (1, 2, 3)), -1, -TAG, -TAG - 1])
def test_case_02_a_cut_at_a_chunk_edge_or_by_one_byte_is_refused(end: int) -> None:
    with pytest.raises(IntegrityError):
        decrypted(encrypted(PLAIN)[:end])


def test_case_02_a_cut_that_leaves_only_whole_chunks_is_refused() -> None:
    with pytest.raises(IntegrityError):
        decrypted(encrypted(PLAIN[: 2 * CHUNK])[:-TAG])


@pytest.mark.parametrize("more", [b"\0", b"x" * TAG, b"x" * SEALED_CHUNK])
def test_case_03_appended_bytes_are_refused(more: bytes) -> None:
    with pytest.raises(IntegrityError):
        decrypted(encrypted(PLAIN) + more)


def test_case_03_an_appended_chunk_of_the_same_file_is_refused() -> None:
    sealed = encrypted(PLAIN)
    with pytest.raises(IntegrityError):
        decrypted(sealed + sealed[HEADER : HEADER + SEALED_CHUNK])


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_case_04_swapped_or_repeated_chunks_are_refused(order: tuple[int, ...]) -> None:
    sealed = encrypted(PLAIN)
    chunks = [sealed[HEADER + n * SEALED_CHUNK :][:SEALED_CHUNK] for n in range(3)]
    rest = sealed[HEADER + 3 * SEALED_CHUNK :]
    with pytest.raises(IntegrityError):
        decrypted(sealed[:HEADER] + b"".join(chunks[n] for n in order) + rest)


@pytest.mark.parametrize("changed", ["product", "bundle_id", "variant", "path"])
def test_case_07_another_context_is_refused(changed: str) -> None:
    names = {"product": "p", "bundle_id": "p-1-0", "variant": "cpu", "path": "model"} | {changed: "x"}
    with pytest.raises(IntegrityError):
        decrypted(encrypted(PLAIN), context=file_context(**names))


def test_case_07_names_that_run_into_each_other_give_another_context() -> None:
    one = file_context(product="ab", bundle_id="c", variant="d", path="e")
    assert one != file_context(product="a", bundle_id="bc", variant="d", path="e")


def test_case_08_another_key_is_refused() -> None:
    with pytest.raises(IntegrityError):
        decrypted(encrypted(PLAIN), key=new_content_key())


def test_case_28_the_buffer_is_zero_after_a_failed_tag() -> None:
    sealed = bytearray(encrypted(PLAIN))
    sealed[-1] ^= 1
    buffer = SecretBuffer(len(sealed))
    seen = buffer.view  # keeps the memory: whoever held a view must see zeros, not unverified plaintext
    with pytest.raises(IntegrityError):
        decrypt_into([sealed], buffer, KEY, CONTEXT, part="it")
    assert bytes(seen) == bytes(len(sealed))


def test_the_plaintext_hash_is_keyed() -> None:
    other = new_content_key()
    assert plaintext_mac(KEY, PLAIN) != plaintext_mac(other, PLAIN)
    assert plaintext_mac(KEY, PLAIN) != hashlib.sha256(PLAIN).hexdigest()
    # RFC 5869 and RFC 2104 by hand: extract with an empty salt, expand one block, then HMAC.
    extracted = hmac.digest(bytes(32), KEY, "sha256")
    derived = hmac.digest(extracted, b"distil-toolkit plaintext hash\x01", "sha256")
    assert plaintext_mac(KEY, PLAIN) == hmac.digest(derived, PLAIN, "sha256").hex()


def test_a_key_id_does_not_hold_the_key() -> None:
    assert KEY.hex() not in content_key_id(KEY)
    assert content_key_id(KEY) != content_key_id(new_content_key())
