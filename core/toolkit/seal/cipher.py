"""One logical file as ciphertext: C2SP chunked encryption as `cryptography.cobblestone` does it and nothing of ours, or
what a plugin's cipher suite does in its place.

The context binds product, bundle, variant and path, so a blob opens in its own place only. The keyed plaintext hash
is HMAC-SHA-256 under a key derived from the content key: a bare hash would confirm a guess.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, cycle

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from toolkit.errors import IntegrityError
from toolkit.protocols import CipherSuite
from toolkit.seal.canonical import length_prefixed
from toolkit.seal.memory import SecretBuffer

CHUNK = 16 * 1024
TAG = 16
HEADER = 24 + 32
STEP = 64 * CHUNK
ROOMS = 4
"""Pieces that may wait for whoever takes them."""

Sink = Callable[[memoryview], object]
"""Takes the next piece of a ciphertext."""


@dataclass(frozen=True)
class Cobblestone:
    """`cob256`: chunks of 16 KiB under AES-256-GCM, a commitment to the key, HMAC-SHA-256."""

    name: str = "cob256"

    def ciphertext_size(self, size: int) -> int:
        """Salt, key commitment, and a tag for each chunk, the last one partial."""
        return HEADER + size + TAG * (size // CHUNK + 1)

    def encryptor(self, key: bytes, context: bytes) -> Cobblestone256Encryptor:
        return Cobblestone256Encryptor(key, context)

    def decryptor(self, key: bytes, context: bytes) -> Cobblestone256Decryptor:
        return Cobblestone256Decryptor(key, context)

    def keyed_hash(self, key: bytes) -> hmac.HMAC:
        return hmac.new(_derive(key, b"distil-toolkit plaintext hash"), None, sha256)


COB256 = Cobblestone()


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


def plaintext_mac(content_key: bytes, data: bytes | memoryview, cipher: CipherSuite = COB256) -> str:
    """The keyed hash of a plaintext, in hexadecimal."""
    mac = cipher.keyed_hash(content_key)
    mac.update(data)
    return mac.hexdigest()


def encrypt_file(
    data: bytes | memoryview, content_key: bytes, context: bytes, *sinks: Sink, cipher: CipherSuite = COB256
) -> str:
    """Hand the ciphertext of `data` to each of `sinks`, piece by piece, and return the keyed hash of `data`.

    Each piece is valid only during the call. Every sink has a thread of its own, and so has the hash, which costs more
    than the cipher does; what is one piece is done before a thread would have begun.
    """
    encryptor, room = cipher.encryptor(content_key, context), cipher.ciphertext_size(min(STEP, len(data)))
    if len(data) <= STEP:
        piece = memoryview(bytearray(room))
        for part in (piece[: encryptor.update_into(data, piece)], memoryview(encryptor.finalize())):
            for sink in sinks:
                sink(part)
        return plaintext_mac(content_key, data, cipher)
    with ExitStack() as stack:
        hashing, *threads = (stack.enter_context(ThreadPoolExecutor(1)) for _ in range(1 + len(sinks)))
        mac = hashing.submit(plaintext_mac, content_key, data, cipher)
        source, rooms = memoryview(data), cycle([memoryview(bytearray(room)) for _ in range(ROOMS)])
        taken: deque[list[Future[object]]] = deque()

        def hand(piece: memoryview) -> None:
            taken.append([thread.submit(sink, piece) for thread, sink in zip(threads, sinks, strict=True)])

        for start in range(0, len(data), STEP):
            if len(taken) == ROOMS:
                _wait(taken.popleft())
            piece = next(rooms)
            hand(piece[: encryptor.update_into(source[start : start + STEP], piece)])
        hand(memoryview(encryptor.finalize()))
        _wait(chain.from_iterable(taken))
        return mac.result()


def decrypt_into(
    pieces: Iterable[bytes | memoryview], buffer: SecretBuffer, content_key: bytes, context: bytes, *, part: str,
    cipher: CipherSuite = COB256,
) -> tuple[int, str]:  # fmt: skip
    """Decrypt into `buffer`, which needs room for the ciphertext; the plaintext's size and its keyed hash.

    Whatever fails, be it in `pieces`, the buffer is zeroed before the error leaves: what was decrypted up to there is
    not verified.

    Raises:
        IntegrityError: altered, cut, extended, another key, or another context.
    """
    whole = False
    try:
        found = _decrypt(pieces, buffer, content_key, context, cipher)
        whole = True
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(f"{part} does not open: it was altered, or belongs elsewhere", part=part) from error
    finally:
        if not whole:
            buffer.wipe()
    return found


def _decrypt(
    pieces: Iterable[bytes | memoryview], buffer: SecretBuffer, content_key: bytes, context: bytes, cipher: CipherSuite
) -> tuple[int, str]:
    """A thread of its own hashes what is decrypted; that takes longer, so nothing waits for it before the end."""
    decryptor, mac = cipher.decryptor(content_key, context), cipher.keyed_hash(content_key)
    size = 0
    hashed: list[Future[object]] = []
    with ThreadPoolExecutor(1) as helper, buffer.view as view:
        for piece in pieces:
            count = decryptor.update_into(piece, view[size:])
            hashed.append(helper.submit(mac.update, view[size : size + count]))
            size += count
        rest = decryptor.finalize()
        view[size : size + len(rest)] = rest
        _wait(hashed)
        mac.update(rest)
    return size + len(rest), mac.hexdigest()


def _wait(works: Iterable[Future[object]]) -> None:
    for work in works:
        work.result()


def _derive(content_key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(content_key)
