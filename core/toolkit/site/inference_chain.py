"""Reading the trail of inferences: what lies there, whether it is whole, and its newest lines.

`inferences` writes it. Checking takes the site's own signed trail, which says what every chain must reach.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.site.audit import START, AuditEntry

FOLDER = "inferences"
BEGUN, SEALED, REMOVED = "inferences.begun", "inferences.sealed", "inferences.removed"

_NAME = re.compile(r"([0-9a-f]{16})-([0-9]{12})\.jsonl")
_BLOCK = 256 * 1024


@dataclass(frozen=True)
class Segment:
    """A file of a stream, whose first line has the number `first`."""

    path: Path
    stream: str
    first: int


@dataclass
class Known:
    """What the signed trail says of a stream: digests by sequence, and up to where it was removed."""

    heads: dict[int, str] = field(default_factory=dict)
    removed: tuple[int, str] = (0, START)

    @property
    def last(self) -> int:
        return max(self.heads, default=0)


@dataclass(frozen=True)
class Checked:
    """What `verify` found: whole lines, of them those not signed for yet, and those removed by age or size."""

    streams: int
    lines: int
    unsealed: int
    removed: int


def segments(folder: Path) -> dict[str, list[Segment]]:
    """The files of each stream in order."""
    found: dict[str, list[Segment]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        name = _NAME.fullmatch(path.name)
        if name:
            found.setdefault(name[1], []).append(Segment(path, name[1], int(name[2])))
    return found


def verify(folder: Path, trail: Iterable[AuditEntry]) -> Checked:
    """Every line against the one before it, and against what the signed trail says.

    Args:
        trail: the entries of the site's trail, whose own chain was checked.

    Raises:
        IntegrityError: a line was edited, removed, added or moved, or the end of a stream cut off.
    """
    known, found = known_streams(trail), segments(folder)
    if strange := sorted(set(found) - set(known)):
        raise _broken(strange[0], "the trail does not know it")
    lines = unsealed = removed = 0
    for stream, facts in known.items():
        last, _ = Walk(stream, facts).over(found.get(stream, []))
        lines += last - facts.removed[0]
        unsealed += last - max(facts.last, facts.removed[0])
        removed += facts.removed[0]
    return Checked(len(known), lines, unsealed, removed)


def latest(folder: Path) -> Iterator[dict[str, Any]]:
    """All lines of all streams, each with its `stream`, newest first; read as they are asked for, and not checked."""
    streams = [_backwards(parts) for parts in segments(folder).values()]
    return heapq.merge(*streams, key=place_of, reverse=True)


def place_of(record: Mapping[str, Any]) -> tuple[str, str, int]:
    """Where a line that `latest` gives stands among all: of one microsecond there may be several."""
    return str(record["time"]), str(record["stream"]), int(record["sequence"])


def find(folder: Path, request_id: str, *, within: int) -> dict[str, Any] | None:
    """The newest line of this request among the last `within` lines."""
    for number, record in enumerate(latest(folder)):
        if record.get("request_id") == request_id:
            return record
        if number >= within:
            break
    return None


@dataclass
class Walk:
    """Over a stream from where it was removed, line by line."""

    stream: str
    known: Known

    def over(self, parts: Iterable[Segment]) -> tuple[int, str]:
        """The last line's number and digest. Raises IntegrityError."""
        sequence, digest = self.known.removed
        for part in parts:
            if part.first <= self.known.removed[0]:
                continue  # it was signed that it goes, and it was not gone yet
            if part.first != sequence + 1:
                raise _broken(self.stream, f"lines {sequence + 1} to {part.first - 1} are missing")
            with part.path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # the writer was killed in it
                    self._check(line, sequence + 1, digest)
                    sequence, digest = sequence + 1, hashlib.sha256(line[:-1]).hexdigest()
                    if self.known.heads.get(sequence, digest) != digest:
                        raise _broken(self.stream, f"line {sequence} is not the one that was signed for")
        if sequence < self.known.last:
            raise _broken(self.stream, f"it ends after line {sequence}: {self.known.last} were signed for")
        return sequence, digest

    def _check(self, line: bytes, sequence: int, digest: str) -> None:
        try:
            record = json.loads(line)
            follows = (record["sequence"], record["previous"]) == (sequence, digest)
        except (ValueError, TypeError, KeyError) as error:
            raise _broken(self.stream, f"line {sequence} cannot be read") from error
        if not follows:
            raise _broken(self.stream, f"line {sequence} does not follow the one before it")


def known_streams(trail: Iterable[AuditEntry]) -> dict[str, Known]:
    known: dict[str, Known] = {}
    for entry in trail:
        if entry.event in (BEGUN, SEALED, REMOVED):
            facts = known.setdefault(str(entry.details["stream"]), Known())
            if entry.event == SEALED:
                facts.heads[int(entry.details["sequence"])] = str(entry.details["digest"])
            elif entry.event == REMOVED:
                facts.removed = (int(entry.details["sequence"]), str(entry.details["digest"]))
    return known


def _backwards(parts: Iterable[Segment]) -> Iterator[dict[str, Any]]:
    """The whole lines of a stream from its end; what cannot be read is passed over."""
    for part in reversed(list(parts)):
        with contextlib.suppress(FileNotFoundError), part.path.open("rb") as file:
            rest, place = b"", file.seek(0, os.SEEK_END)
            first = True
            while place:
                step = min(_BLOCK, place)
                place -= step
                file.seek(place)
                rest, *lines = (file.read(step) + rest).split(b"\n")
                if first:
                    lines, first = lines[:-1], False  # behind the last line break nothing was finished
                yield from _records(part.stream, lines)
            yield from _records(part.stream, [rest])


def _records(stream: str, lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "time" in record and isinstance(record.get("sequence"), int):
                yield record | {"stream": stream}


def last_line(part: Segment) -> tuple[int, str]:
    """Number and digest of a segment's last whole line."""
    sequence, digest = part.first - 1, START
    with part.path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                sequence, digest = sequence + 1, hashlib.sha256(line[:-1]).hexdigest()
    return sequence, digest


def _broken(stream: str, problem: str) -> IntegrityError:
    return IntegrityError(
        f"the trail of inferences was altered: {problem} (stream {stream})", part=f"{FOLDER}/{stream}",
        hint="Compare it with a backup; what was signed for is in `toolkit audit list`.",
    )  # fmt: skip
