"""The conformance suite of cipher suites: the cases of the bundle's design that are about ciphertext, each by its
number. What is altered, cut, lengthened, moved or put elsewhere does not open, and leaves nothing in the buffer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from toolkit.errors import IntegrityError
from toolkit.protocols import CipherSuite
from toolkit.seal.cipher import STEP, decrypt_into, encrypt_file, file_context, new_content_key
from toolkit.seal.memory import SecretBuffer

SIZES = (0, 1, 15, 16, 17, 16_383, 16_384, 16_385, 50_000, STEP - 1, STEP, STEP + 1, 2 * STEP)
BLOCK = 16 * 1024
CONTEXT = file_context(product="p", bundle_id="p-1", variant="v", path="model")


def check_cipher_suite(suite: CipherSuite) -> None:
    """Run the conformance suite of cipher suites.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", suite.name), f"{suite.name!r} is no name for a suite"
    key, data = new_content_key(), random.Random(7).randbytes(50_000)
    for size in SIZES:
        _check_round_trip(suite, key, random.Random(size).randbytes(size))
    assert _sealed(suite, key, data) != _sealed(suite, key, data), "no two ciphertexts of a file are alike"
    sealed = _sealed(suite, key, data)
    for case, altered in _altered(sealed, _sealed(suite, key, data)):
        _check_refused(suite, key, altered, CONTEXT, case)
    for changed in ("product", "bundle_id", "variant", "path"):
        names = {"product": "p", "bundle_id": "p-1", "variant": "v", "path": "model"} | {changed: "x"}
        _check_refused(suite, key, sealed, file_context(**names), f"case 7: another {changed} opens it")
    _check_refused(suite, new_content_key(), sealed, CONTEXT, "case 8: another key opens it")
    _check_hash(suite, key, data)


def _altered(sealed: bytes, other: bytes) -> Iterator[tuple[str, bytes]]:
    """The same file altered, with the case; `other` is another ciphertext of the same plaintext."""
    choose = random.Random(3)
    for bit in (*range(0, 96 * 8, 37), *(choose.randrange(8 * len(sealed)) for _ in range(64)), 8 * len(sealed) - 1):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"case 1: bit {bit} can be flipped", bytes(changed)
    for end in (0, 1, 31, 32, 55, 56, 72, BLOCK, -1, -15, -16, -17, -BLOCK):
        yield f"case 2: it can be cut at {end}", sealed[:end]
    for more in (b"\0", bytes(16), sealed[-16:], sealed[-BLOCK:], sealed):
        yield f"case 3: {len(more)} bytes can be appended", sealed + more
    for start in (0, 56):
        pieces = [sealed[place : place + BLOCK + 16] for place in range(start, len(sealed), BLOCK + 16)]
        for order in ((1, 0, 2, 3), (0, 0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 1, 3)):
            moved = b"".join(pieces[n] for n in order if n < len(pieces))
            yield f"case 4: pieces can stand as {order}", sealed[:start] + moved
    yield "case 5: pieces of two ciphertexts can be mixed", sealed[:BLOCK] + other[BLOCK:]


def _check_round_trip(suite: CipherSuite, key: bytes, data: bytes) -> None:
    """Case 9, however the pieces fall."""
    sealed = _sealed(suite, key, data)
    assert len(sealed) == suite.ciphertext_size(len(data)), f"a file of {len(data)} bytes has the size that is stated"
    assert len(data) < 64 or data[:64] not in sealed, "the plaintext shows"
    for step in (1 << 20, 70_001, *((1, 7) if len(data) < 100 else ())):
        buffer = SecretBuffer(len(sealed))
        pieces = [sealed[start : start + step] for start in range(0, len(sealed), step)]
        size, mac = decrypt_into(pieces, buffer, key, CONTEXT, part="it", cipher=suite)
        assert bytes(buffer.view[:size]) == data, f"case 9: {len(data)} bytes come back as they were"
        assert mac == _mac(suite, key, data), "the keyed hash is the same on both ways"


def _check_refused(suite: CipherSuite, key: bytes, sealed: bytes, context: bytes, case: str) -> None:
    buffer = SecretBuffer(max(len(sealed), 1))
    seen = buffer.view  # case 28: whoever held a view must see zeros, not what nobody verified
    try:
        decrypt_into([sealed[:70_000], sealed[70_000:]], buffer, key, context, part="it", cipher=suite)
    except IntegrityError:
        assert bytes(seen) == bytes(len(seen)), f"{case}, and shows in the buffer"
        return
    raise AssertionError(case)


def _check_hash(suite: CipherSuite, key: bytes, data: bytes) -> None:
    """64 digits that commit to the key and to the plaintext: this is what a manifest signs."""
    found = _mac(suite, key, data)
    assert re.fullmatch("[0-9a-f]{64}", found), "the keyed hash is 64 hexadecimal digits"
    assert found == _mac(suite, key, data), "the keyed hash is the same each time"
    others = [_mac(suite, key, data[:-1]), _mac(suite, new_content_key(), data), _mac(suite, key, data + b"\0")]
    assert found not in others, "another key or another plaintext has another hash"


def _sealed(suite: CipherSuite, key: bytes, data: bytes) -> bytes:
    pieces: list[bytes] = []
    keep: Callable[[memoryview], object] = lambda piece: pieces.append(bytes(piece))  # noqa: E731
    mac = encrypt_file(data, key, CONTEXT, keep, cipher=suite)
    assert mac == _mac(suite, key, data), "the keyed hash is that of the plaintext"
    return b"".join(pieces)


def _mac(suite: CipherSuite, key: bytes, data: bytes) -> str:
    found = suite.keyed_hash(key)
    found.update(data)
    return found.hexdigest()
