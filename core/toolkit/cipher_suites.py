"""How a bundle's files are encrypted, as a plugin offers it; seen through `protocols`. Types only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class Encryptor(Protocol):
    """One file on its way to ciphertext, piece by piece."""

    def update_into(self, data: bytes | memoryview, buffer: memoryview, /) -> int:
        """Ciphertext of the next piece into `buffer`, which has room for `ciphertext_size` of it; how many bytes."""
        ...

    def finalize(self) -> bytes:
        """What comes last."""
        ...


class Decryptor(Protocol):
    """One file on its way back. What it gives before `finalize` has returned is not verified."""

    def update_into(self, data: bytes | memoryview, buffer: memoryview, /) -> int:
        """Plaintext of the next piece into `buffer`, which has room for the rest of the ciphertext; how many bytes.

        Raises:
            InvalidTag or ValueError: altered, another key, another context.
        """
        ...

    def finalize(self) -> bytes:
        """The rest of the plaintext, once all of it is verified. Errors as before; a file cut short or extended too."""
        ...


class KeyedHash(Protocol):
    """A hash under a key, as `hmac` has it."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        ...


class CipherSuite(Protocol):
    """How files are encrypted under a content key of 32 bytes, which is for the files of one variant of one bundle.

    `name` is the first part of a suite's name, which the trust root must allow: `cob256` is core's own. Each file is
    bound to its `context`. Nothing may be cut off, appended, moved or altered; a suite that brings no scheme of chunks
    seals a file (at most 2 GiB) as one message.
    """

    @property
    def name(self) -> str: ...

    def ciphertext_size(self, size: int) -> int:
        """Bytes of ciphertext for a file of `size` bytes."""
        ...

    def encryptor(self, key: bytes, context: bytes) -> Encryptor: ...
    def decryptor(self, key: bytes, context: bytes) -> Decryptor: ...
    def keyed_hash(self, key: bytes) -> KeyedHash:
        """Of a plaintext, under a key that follows from `key`; it commits to the key and to the plaintext."""
        ...


Ciphers = Callable[[], Mapping[str, CipherSuite]]
"""What plugins offer, by name; asked for only where something bears such a name."""
