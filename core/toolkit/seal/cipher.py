"""One logical file as ciphertext: C2SP chunked encryption as `cryptography.cobblestone` does it, and nothing of ours.

The context binds product, bundle, variant and path, so a blob opens in its own place only. The keyed plaintext hash
is HMAC-SHA-256 under a key derived from the content key: a bare hash would confirm a guess.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import length_prefixed
from toolkit.seal.memory import SecretBuffer

CHUNK = 16 * 1024
TAG = 16
HEADER = 24 + 32
STEP = 64 * CHUNK


def new_content_key() -> bytes:
    """32 random bytes."""
    return Cobblestone256Encryptor.generate_key()


def content_key_id(content_key: bytes) -> str:
    """A public name for a content key, that does not give it away."""
    return _derive(content_key, b"distil-toolkit content key id").hex()


def file_context(*, product: str, bundle_id: str, variant: str, path: str) -> bytes:
    """What a blob is bound to."""
    parts = ("distil-toolkit file", product, bundle_id, variant, path)
    return length_prefixed(*(part.encode() for part in parts))


def ciphertext_size(size: int) -> int:
    """Bytes of ciphertext for `size` bytes: salt, key commitment, and a tag for each chunk, the last one partial."""
    return HEADER + size + TAG * (size // CHUNK + 1)


def plaintext_mac(content_key: bytes, data: bytes | memoryview) -> str:
    """The keyed hash of a plaintext, in hexadecimal."""
    return _mac(content_key, data).hexdigest()


def encrypt_file(data: bytes, content_key: bytes, context: bytes, write: Callable[[memoryview], object]) -> str:
    """Hand the ciphertext of `data` to `write`, piece by piece, and return the keyed hash of `data`.

    Each piece is valid only during the call. Threads of their own hash, and write a piece while the next is encrypted.
    """
    encryptor = Cobblestone256Encryptor(content_key, context)
    source, rooms = memoryview(data), [memoryview(bytearray(ciphertext_size(min(STEP, len(data))))) for _ in range(2)]
    writing: Future[object] | None = None
    with ThreadPoolExecutor(2) as helpers:
        mac = helpers.submit(plaintext_mac, content_key, data)
        for start in range(0, len(data), STEP):
            written = encryptor.update_into(source[start : start + STEP], rooms[0])
            if writing is not None:
                writing.result()
            writing = helpers.submit(write, rooms[0][:written])
            rooms.reverse()
        if writing is not None:
            writing.result()
        write(memoryview(encryptor.finalize()))
        return mac.result()


def decrypt_into(
    pieces: Iterable[bytes | memoryview], buffer: SecretBuffer, content_key: bytes, context: bytes, *, part: str
) -> tuple[int, str]:
    """Decrypt into `buffer`, which needs room for the ciphertext; the plaintext's size and its keyed hash.

    Whatever fails, be it in `pieces`, the buffer is zeroed before the error leaves: what was decrypted up to there is
    not verified.

    Raises:
        IntegrityError: altered, cut, extended, another key, or another context.
    """
    whole = False
    try:
        found = _decrypt(pieces, buffer, content_key, context)
        whole = True
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(f"{part} does not open: it was altered, or belongs elsewhere", part=part) from error
    finally:
        if not whole:
            buffer.wipe()
    return found


def _decrypt(
    pieces: Iterable[bytes | memoryview], buffer: SecretBuffer, content_key: bytes, context: bytes
) -> tuple[int, str]:
    """A thread of its own hashes one piece while the next is decrypted: the two cost alike."""
    decryptor = Cobblestone256Decryptor(content_key, context)
    mac = _mac(content_key, b"")
    size = 0
    hashing: Future[None] | None = None
    with ThreadPoolExecutor(1) as helper, buffer.view as view:
        for piece in pieces:
            count = decryptor.update_into(piece, view[size:])
            if hashing is not None:
                hashing.result()
            hashing = helper.submit(mac.update, view[size : size + count])
            size += count
        rest = decryptor.finalize()
        view[size : size + len(rest)] = rest
        if hashing is not None:
            hashing.result()
        mac.update(rest)
    return size + len(rest), mac.hexdigest()


def _mac(content_key: bytes, data: bytes | memoryview) -> hmac.HMAC:
    return hmac.new(_derive(content_key, b"distil-toolkit plaintext hash"), data, sha256)


def _derive(content_key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(content_key)
