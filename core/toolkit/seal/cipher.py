"""One logical file as ciphertext: C2SP chunked encryption as `cryptography.cobblestone` does it, and nothing of ours.

The context binds product, bundle, variant and path, so a blob opens in its own place only. The keyed plaintext hash
is HMAC-SHA-256 under a key derived from the content key: a bare hash would confirm a guess.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
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
    return hmac.new(_derive(content_key, b"distil-toolkit plaintext hash"), data, sha256).hexdigest()


def encrypt_file(data: bytes, content_key: bytes, context: bytes, write: Callable[[memoryview], object]) -> None:
    """Hand the ciphertext of `data` to `write`, piece by piece; each piece is valid only during the call."""
    encryptor = Cobblestone256Encryptor(content_key, context)
    buffer = bytearray(ciphertext_size(STEP))
    source, room = memoryview(data), memoryview(buffer)
    for start in range(0, len(data), STEP):
        written = encryptor.update_into(source[start : start + STEP], buffer)
        write(room[:written])
    write(memoryview(encryptor.finalize()))


def decrypt_into(ciphertext: bytes, buffer: SecretBuffer, content_key: bytes, context: bytes, *, part: str) -> int:
    """Decrypt into `buffer`, which needs room for the ciphertext, and return the plaintext's size.

    On failure the buffer is zeroed before the error leaves: what was decrypted up to there is not verified.

    Raises:
        IntegrityError: altered, cut, extended, another key, or another context.
    """
    decryptor = Cobblestone256Decryptor(content_key, context)
    view = buffer.view
    try:
        size = decryptor.update_into(ciphertext, view)
        rest = decryptor.finalize()
        view[size : size + len(rest)] = rest
    except (InvalidTag, ValueError) as error:
        view.release()
        buffer.wipe()
        raise IntegrityError(f"{part} does not open: it was altered, or belongs elsewhere", part=part) from error
    view.release()
    return size + len(rest)


def _derive(content_key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(content_key)
