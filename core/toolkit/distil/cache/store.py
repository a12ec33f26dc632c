"""The token cache: a folder of shards, named by the digest of what made it, so that whoever asks the same of the same
teacher finds it there.

What is finished is never written again: labelling that was killed goes on with the samples that are missing, and of a
damaged shard its own samples, and no others, become missing. One process writes at a time; any number read. The cache
never asks a teacher anything: who fills it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.distil.cache.codecs import Arrays, Codec, Quality, TopKCodec, bytes_per_token, codec_of
from toolkit.distil.cache.mass import ENOUGH, LowMass
from toolkit.distil.cache.shards import (
    NAMES,
    Mapped,
    ShardHeader,
    is_whole,
    read_header,
    shard_name,
    write_shard,
)
from toolkit.errors import DataError, IntegrityError
from toolkit.workspace import canonical_json, digest_of, folder_lock, write_file

ABOUT, INDEX = "cache.json", "index.json"

SHARD_SAMPLES = 64
"""Samples of a shard at most: what is asked again of the teacher after a crash."""

SHARD_BYTES = 16 * 1024**2
"""Bytes of a shard at most, but for one longer sample: what is held in memory before it is written."""

MAPPED = 64
"""Shards that are mapped at once at most: each map holds a file open."""


@dataclass(frozen=True)
class Origin:
    """What made a cache: the same of all of it, the same entries.

    `teacher` is its name; the digests are SHA-256 of its weights, of its tokenizer, of how prompts are put (template
    and system prompt), and of the data the samples come from; `sampling` is how completions were drawn, and by whom.
    """

    teacher: str
    teacher_sha256: str
    tokenizer_sha256: str
    prompts_sha256: str = ""
    data_sha256: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One completion: its id, and what the teacher says of each of its n tokens, as the codec's `encode` wants it."""

    id: str
    arrays: Arrays


class TokenCache:
    """A cache that is open. From `TokenCache.open`, or `TokenCache.at` where one is known to lie."""

    def __init__(self, folder: Path, origin: Mapping[str, Any], codec: Codec) -> None:
        self.folder, self.origin, self.codec = folder, origin, codec
        self.digest = digest_of({"origin": origin, "codec": codec.as_record()})
        self._maps: dict[str, Mapped] = {}
        self._scan()

    @classmethod
    def open(cls, root: Path, origin: Origin, codec: Codec) -> TokenCache:
        """The cache of this origin and codec in a folder of its own under `root`, made where there is none."""
        made = asdict(origin)
        digest = digest_of({"origin": made, "codec": codec.as_record()})
        folder = root / digest[:32]
        about = canonical_json({"cache": digest, "origin": made, "codec": codec.as_record()})
        if not (folder / ABOUT).is_file() or (folder / ABOUT).read_bytes() != about:
            write_file(folder / ABOUT, about)
        return cls(folder, made, codec)

    @classmethod
    def at(cls, folder: Path) -> TokenCache:
        """The cache that lies in `folder`.

        Raises:
            IntegrityError: what it says of itself is damaged.
        """
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            cache = cls(folder, about["origin"], codec_of(about["codec"]))
            if cache.digest != about["cache"]:
                raise ValueError("the digest is another one's")
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{folder / ABOUT} is damaged", part=ABOUT, hint="Run again: it is written anew, the shards stay."
            ) from error
        return cache

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, identity: str) -> bool:
        return identity in self._places

    @property
    def tokens(self) -> int:
        return self.quality.tokens

    @property
    def quality(self) -> Quality:
        """Mass at k and error over all shards."""
        return Quality.over([header.quality for header in self._headers.values()])

    @property
    def size_bytes(self) -> int:
        """On disk."""
        return sum((self.folder / name).stat().st_size for name in self._headers)

    @property
    def complete(self) -> bool:
        """Whether `finish` was called, and every shard is still there."""
        listed = self._listed()
        return listed is not None and set(listed) <= set(self._headers)

    def missing(self, ids: Iterable[str]) -> Sequence[str]:
        """Those that are to be labelled, in their order."""
        return [identity for identity in ids if identity not in self._places]

    def read(self, identity: str) -> Arrays:
        """What was said of a sample: an array [n, ...] a field, read-only and mapped to memory.

        Raises:
            DataError: it is not here.
        """
        try:
            name, row = self._places[identity]
        except KeyError as error:
            raise DataError(
                f"the teacher cache {self.folder} has no sample {identity}", hint="Label what is missing first."
            ) from error
        return self._mapped(name).sample(row)

    def read_many(self, ids: Sequence[str]) -> Arrays:
        """Of several samples, one after the other, in arrays of their own."""
        parts = [self.read(identity) for identity in ids]
        empty = {one.name: np.zeros((0, *one.shape), one.dtype) for one in self.codec.fields}
        return {name: np.concatenate([none, *(part[name] for part in parts)]) for name, none in empty.items()}

    def write(
        self,
        samples: Iterable[Sample],
        *,
        shard_samples: int = SHARD_SAMPLES,
        shard_bytes: int = SHARD_BYTES,
        enough: float = ENOUGH,
    ) -> int:
        """Add samples, a shard at a time; how many.

        `samples` may label as it is read: never more than a shard is held, and where it stops early, what it gave is
        kept. Only this process may write meanwhile.

        Args:
            enough: the mass that the k best tokens must have on average, looked at after every shard; 0 takes any.

        Raises:
            LowMass: they have less; what was written stays.
            DataError: a sample is here already, or its id is not text.
            IntegrityError: what the teacher says cannot be kept.
            EnvironmentUnfit: another process writes, or the disk is full.
        """
        with folder_lock(self.folder, purpose="write into the teacher cache"):
            self._scan()
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
            (self.folder / INDEX).unlink(missing_ok=True)
            batch = _Batch(self)
            try:
                for sample in samples:
                    batch.add(sample)
                    if len(batch.samples) >= shard_samples or batch.size >= shard_bytes:
                        batch.flush()
                        self._check_mass(enough)
            finally:
                batch.flush()
            self._check_mass(enough)
            return batch.written

    def finish(self, ids: Iterable[str]) -> None:
        """Note that every one of `ids` is here, in which shards: from now on one that is gone is missed.

        Raises:
            DataError: some are missing.
        """
        if missing := self.missing(ids):
            raise DataError(
                f"{len(missing)} samples are not labelled, {missing[0]} is the first", hint="Label what is missing."
            )
        shards = {name: header.payload_sha256 for name, header in self._headers.items()}
        write_file(self.folder / INDEX, json.dumps({"samples": len(self), "shards": shards}).encode())

    def verify(self) -> Sequence[str]:
        """Every shard hashed again: the names of those that are not what was written, or are gone."""
        names = {path.name for path in self.folder.iterdir() if NAMES.fullmatch(path.name)}
        listed = self._listed()
        damaged = {name for name in names if name not in self._headers or not is_whole(self.folder / name)}
        damaged |= {
            name for name, digest in (listed or {}).items()
            if name not in names or (name in self._headers and self._headers[name].payload_sha256 != digest)
        }  # fmt: skip
        index = [] if listed is not None or not (self.folder / INDEX).exists() else [INDEX]
        return [*index, *sorted(damaged)]

    def drop(self, names: Iterable[str]) -> None:
        """Remove damaged shards: their samples become missing, and no others."""
        with folder_lock(self.folder, purpose="mend the teacher cache"):
            (self.folder / INDEX).unlink(missing_ok=True)
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
            self._scan()

    def _scan(self) -> None:
        """Read every shard's header. A shard whose header is damaged counts for nothing, `verify` names it."""
        self._headers: dict[str, ShardHeader] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._maps = {}
        self._next = 0
        for path in sorted(self.folder.iterdir()):
            if not (found := NAMES.fullmatch(path.name)):
                continue
            self._next = max(self._next, int(found[1]) + 1)
            try:
                header = read_header(path)
            except IntegrityError:
                continue
            if header.cache == self.digest:
                self._take(header)

    def _take(self, header: ShardHeader) -> None:
        name = shard_name(header.number)
        self._headers[name] = header
        self._next = max(self._next, header.number + 1)
        for row, identity in enumerate(header.ids):
            self._places.setdefault(identity, (name, row))

    def _mapped(self, name: str) -> Mapped:
        mapped = self._maps.get(name)
        if mapped is None:
            if len(self._maps) >= MAPPED:
                self._maps = {}  # views that are still read keep their own map
            mapped = self._maps[name] = Mapped(self.folder / name, self._headers[name])
        return mapped

    def _check_mass(self, enough: float) -> None:
        if isinstance(self.codec, TopKCodec) and self.quality.mass < enough:
            raise LowMass(self.quality.mass, self.codec.k, self.codec.vocabulary)

    def _listed(self) -> Mapping[str, str] | None:
        """The shards of a finished cache and their digests."""
        try:
            return dict(json.loads((self.folder / INDEX).read_bytes())["shards"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


class _Batch:
    """Encoded samples that wait for their shard to be full."""

    def __init__(self, cache: TokenCache) -> None:
        self._cache, self.samples, self.size, self.written = cache, dict[str, tuple[Arrays, Quality]](), 0, 0

    def add(self, sample: Sample) -> None:
        if sample.id in self._cache or sample.id in self.samples:
            raise DataError(f"the sample {sample.id} is in the cache already", hint="Label only what is missing.")
        if not sample.id.isprintable():
            raise DataError(f"{sample.id!r} cannot be the id of a sample", hint="Use text, such as a digest.")
        arrays, quality = self._cache.codec.encode(sample.arrays)
        self.samples[sample.id] = (arrays, quality)
        self.size += quality.tokens * bytes_per_token(self._cache.codec)

    def flush(self) -> None:
        if not self.samples:
            return
        cache, samples = self._cache, [(identity, *kept) for identity, kept in self.samples.items()]
        self.samples, self.size = {}, 0
        cache._take(write_shard(cache.folder, cache._next, cache.digest, cache.origin, cache.codec, samples))
        self.written += len(samples)
