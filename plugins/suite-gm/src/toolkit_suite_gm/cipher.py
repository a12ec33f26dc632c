"""A file as one message of SM4-GCM (GB/T 32907, GB/T 36624), under a key of its own by HKDF (RFC 5869) over SM3 (GB/T
32905).

No chunks, so no framing of ours: one tag at the end is over all of the file and its context, and nothing that comes
before it is handed on. A file has at most 2 GiB, GCM's limit for a message is 64. GCM alone does not commit to its key;
the keyed hash that the manifest signs does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SALT, TAG = 32, 16
KEY, NONCE = 16, 12


@dataclass(frozen=True)
class Gm:
    """`gm`: 32 bytes of salt, the ciphertext, 16 bytes of tag."""

    name: str = "gm"

    def ciphertext_size(self, size: int) -> int:
        return SALT + size + TAG

    def encryptor(self, key: bytes, context: bytes) -> Encryptor:
        return Encryptor(key, context)

    def decryptor(self, key: bytes, context: bytes) -> Decryptor:
        return Decryptor(key, context)

    def keyed_hash(self, key: bytes) -> KeyedHash:
        return KeyedHash(key)


class Encryptor:
    """One file on its way to ciphertext; a fresh salt makes key and nonce its own."""

    def __init__(self, key: bytes, context: bytes) -> None:
        self._salt = os.urandom(SALT)
        self._gcm = _cipher(key, self._salt).encryptor()
        self._gcm.authenticate_additional_data(context)

    def update_into(self, data: bytes | memoryview, buffer: memoryview, /) -> int:
        head = self._head()
        buffer[: len(head)] = head
        return len(head) + self._gcm.update_into(data, buffer[len(head) :])

    def finalize(self) -> bytes:
        return self._head() + self._gcm.finalize() + self._gcm.tag

    def _head(self) -> bytes:
        head, self._salt = self._salt, b""
        return head


class Decryptor:
    """One file on its way back. The last 16 bytes that came are held: they may be the tag."""

    def __init__(self, key: bytes, context: bytes) -> None:
        self._key, self._context = key, context
        self._held = bytearray()
        self._gcm = None

    def update_into(self, data: bytes | memoryview, buffer: memoryview, /) -> int:
        self._held += data
        if self._gcm is None:
            if len(self._held) < SALT:
                return 0
            self._gcm = _cipher(self._key, bytes(self._held[:SALT])).decryptor()
            self._gcm.authenticate_additional_data(self._context)
            del self._held[:SALT]
        ready = max(0, len(self._held) - TAG)
        count = self._gcm.update_into(memoryview(self._held)[:ready].toreadonly(), buffer)
        self._held = self._held[ready:]
        return int(count)

    def finalize(self) -> bytes:
        if self._gcm is None or len(self._held) != TAG:
            raise InvalidTag
        return bytes(self._gcm.finalize_with_tag(bytes(self._held)))


class KeyedHash:
    """HMAC-SM3 of a plaintext."""

    def __init__(self, key: bytes) -> None:
        self._hmac = HMAC(_derive(key, None, b"distil-toolkit gm plaintext hash", 32), SM3())

    def update(self, data: bytes | memoryview, /) -> None:
        self._hmac.update(data)

    def hexdigest(self) -> str:
        """As `hmac` has it, what went in so far."""
        return self._hmac.copy().finalize().hex()


def _cipher(key: bytes, salt: bytes) -> Cipher[modes.GCM]:
    made = _derive(key, salt, b"distil-toolkit gm file", KEY + NONCE)
    return Cipher(algorithms.SM4(made[:KEY]), modes.GCM(made[KEY:]))


def _derive(key: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SM3(), length=length, salt=salt, info=info).derive(key)
