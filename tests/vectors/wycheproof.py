"""Runs the C2SP chunked-encryption vectors of Wycheproof through the toolkit's own reader of blobs.

    python tests/vectors/wycheproof.py c2sp_chunked_encryption_aes_256_gcm_test.json

The file is in github.com/C2SP/wycheproof (testvectors_v1). Vectors of Cobblestone-128 are left out: no suite uses it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import IntegrityError
from toolkit.seal.cipher import decrypt_into
from toolkit.seal.memory import SecretBuffer

AEAD = "AEAD_AES_256_GCM"
SIZES = (1, 7, 16_384, 1 << 20)
"""Pieces as a reader may get them: a message may not open otherwise for how it was cut."""


@dataclass(frozen=True)
class Vector:
    """One case: `digest` is SHA-512 of the message where it must open, None where it must not."""

    name: str
    key: bytes
    context: bytes
    ciphertext: bytes
    length: int
    digest: str | None


def read_vectors(path: Path) -> Iterator[Vector]:
    """The AES-256 cases of a file."""
    record = json.loads(path.read_text())
    for group in record["testGroups"]:
        if group["aead"] != AEAD or group["sha"] != "SHA-512":
            continue
        for one in group["tests"]:
            valid = one["result"] == "valid"
            yield Vector(
                f"{one['tcId']}: {one['comment']}", bytes.fromhex(one["key"]), bytes.fromhex(one["ctx"]),
                zlib.decompress(bytes.fromhex(one["ct"])), one["msgLength"] if valid else 0,
                one["msgSha512"] if valid else None,
            )  # fmt: skip


def problem_of(vector: Vector, size: int) -> str:
    """What went otherwise than the vector says, '' where nothing did. `size` is that of the pieces read."""
    buffer = SecretBuffer(len(vector.ciphertext) + 16_400)
    seen = buffer.view
    pieces = (vector.ciphertext[start : start + size] for start in range(0, len(vector.ciphertext), size))
    try:
        length, _mac = decrypt_into(pieces, buffer, vector.key, vector.context, part="vector")
    except IntegrityError:
        if vector.digest is not None:
            return "does not open"
        return "leaves plaintext behind" if any(seen) else ""
    message = bytes(seen[:length])
    hashed = hashlib.sha512(message).hexdigest()
    if vector.digest is None:
        return "opens, and must not"
    return "" if (length, hashed) == (vector.length, vector.digest) else "opens to something else"


def run(path: Path) -> tuple[int, list[str]]:
    """(how many cases, what went wrong)."""
    vectors = list(read_vectors(path))
    wrong = []
    for vector in vectors:
        for size in SIZES if len(vector.ciphertext) < 200_000 else SIZES[2:]:
            problem = problem_of(vector, size)
            if problem:
                wrong.append(f"{vector.name}: {problem} (read by {size})")
    return len(vectors), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    count, wrong = run(parser.parse_args().file)
    print("\n".join([*wrong, f"{count - len({line.split(':')[0] for line in wrong})}/{count} as expected"]))
    sys.exit(1 if wrong or not count else 0)


if __name__ == "__main__":
    main()
