"""A shard: many samples back to back in one file that describes itself.

The file is a safetensors file, which any tool of the field opens: an array for each of the codec's fields over all
tokens, `offsets` int64 [samples + 1] saying where each sample's tokens begin, and under `__metadata__` the header as
canonical JSON with its SHA-256. The header says what is in it, of what quality, from which teacher, and the SHA-256 of
all arrays. Reading maps the file to memory. Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.distil.cache.codecs import Arrays, Codec, Field, Quality, codec_of
from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.workspace import canonical_json, write_file

FORMAT = "toolkit-token-cache-1"
OFFSETS = Field("offsets", np.dtype(np.int64))
NAMES = re.compile(r"shard-(\d{5,})\.safetensors")

_TYPES = {"float16": "F16", "uint16": "U16", "uint32": "U32", "int64": "I64"}
_HINT = "Run again: the samples of a damaged shard are labelled again."


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself. `cache` is the digest of what made it, `origin` that in words."""

    cache: str
    number: int
    origin: Mapping[str, Any]
    codec: Codec
    ids: Sequence[str]
    quality: Quality
    payload_sha256: str

    def as_record(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "cache": self.cache, "number": self.number, "origin": dict(self.origin),
            "codec": self.codec.as_record(), "samples": len(self.ids), "tokens": self.quality.tokens,
            "mass_at_k": self.quality.mass, "error": {
                "mean": self.quality.error_mean, "max": self.quality.error_max, "measured": self.quality.measured,
            },
            "payload_sha256": self.payload_sha256, "ids": list(self.ids),
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ShardHeader:
        """KeyError, TypeError or ValueError where the record is of something else."""
        if record["format"] != FORMAT or record["samples"] != len(record["ids"]):
            raise ValueError("no header of a shard")
        error = record["error"]
        quality = Quality(
            int(record["tokens"]), float(record["mass_at_k"]), int(error["measured"]), float(error["mean"]),
            float(error["max"]),
        )  # fmt: skip
        return cls(
            record["cache"], record["number"], record["origin"], codec_of(record["codec"]), record["ids"], quality,
            record["payload_sha256"],
        )  # fmt: skip


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def write_shard(
    folder: Path,
    number: int,
    cache: str,
    origin: Mapping[str, Any],
    codec: Codec,
    samples: Sequence[tuple[str, Arrays, Quality]],
) -> ShardHeader:
    """Write encoded samples as one shard, whole or not at all.

    Raises:
        EnvironmentUnfit: the disk is full, or the folder may not be written to.
    """
    quality = Quality.over([one for _, _, one in samples])
    lengths = [one.tokens for _, _, one in samples]
    columns = [np.asarray([0, *accumulate(lengths)], OFFSETS.dtype)]
    columns += [np.concatenate([arrays[one.name] for _, arrays, _ in samples]) for one in codec.fields]
    payload = b"".join(column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes() for column in columns)
    ids = [identity for identity, _, _ in samples]
    header = ShardHeader(cache, number, origin, codec, ids, quality, hashlib.sha256(payload).hexdigest())
    write_file(folder / shard_name(number), _head(header) + payload)
    return header


def read_header(path: Path) -> ShardHeader:
    """A shard's header, where it is whole and the file is as long as it says. The arrays are not looked at.

    Raises:
        IntegrityError: it is not.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            length = int.from_bytes(stream.read(8), "little")
            if length > size:
                raise ValueError("the file ends before its header")
            text = stream.read(length)
        metadata = json.loads(text)["__metadata__"]
        record = metadata["header"].encode()
        header = ShardHeader.from_record(json.loads(record))
        whole = hashlib.sha256(record).hexdigest() == metadata["sha256"] and shard_name(header.number) == path.name
        if not whole or _head(header) != length.to_bytes(8, "little") + text:
            raise ValueError("the header is not what was written")
        if size != 8 + length + sum(rows * one.bytes_per_token for one, rows in _columns(header)):
            raise ValueError("the file is not as long as its header says")
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Mend its rights.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path} is damaged", part=path.name, hint=_HINT) from error
    return header


def is_whole(path: Path) -> bool:
    """Whether header and arrays are what was written."""
    try:
        header = read_header(path)
    except IntegrityError:
        return False
    with path.open("rb") as stream:
        stream.seek(len(_head(header)))
        return hashlib.file_digest(stream, "sha256").hexdigest() == header.payload_sha256


class Mapped:
    """A shard's arrays, by memory map: what is not read takes no memory."""

    def __init__(self, path: Path, header: ShardHeader) -> None:
        place = len(_head(header))
        raw = np.memmap(path, np.uint8, mode="r")
        self._arrays: dict[str, np.ndarray] = {}
        for one, rows in _columns(header):
            end = place + rows * one.bytes_per_token
            column = raw[place:end].view(np.ndarray).view(one.dtype.newbyteorder("<"))
            self._arrays[one.name] = column.reshape(rows, *one.shape)
            place = end
        self._offsets = self._arrays.pop(OFFSETS.name)

    def sample(self, row: int) -> Arrays:
        """The arrays of one sample [n, ...]; read-only views."""
        begin, end = self._offsets[row], self._offsets[row + 1]
        return {name: array[begin:end] for name, array in self._arrays.items()}


def _columns(header: ShardHeader) -> Sequence[tuple[Field, int]]:
    """The arrays as they follow one another, and how many rows each has. The widest type comes first, so that each
    begins where its type may."""
    return [(OFFSETS, len(header.ids) + 1), *((one, header.quality.tokens) for one in header.codec.fields)]


def _head(header: ShardHeader) -> bytes:
    """The length and the JSON that a safetensors file begins with, filled up to a multiple of 8 bytes."""
    record = canonical_json(header.as_record())
    table: dict[str, Any] = {"__metadata__": {"header": record.decode(), "sha256": hashlib.sha256(record).hexdigest()}}
    place = 0
    for one, rows in _columns(header):
        end = place + rows * one.bytes_per_token
        table[one.name] = {
            "dtype": _TYPES[one.dtype.name], "shape": [rows, *one.shape], "data_offsets": [place, end]
        }  # fmt: skip
        place = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
