"""One byte string for one value, and the strict way back (RFC 8785).

A signed document that has two encodings has bits nobody signed. So what is read must be the canonical form of itself,
byte for byte, and what JSON leaves open (duplicate names, NaN, floats, depth) is refused. Knows no document's meaning.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import rfc8785

from toolkit.errors import IntegrityError

MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1
HEX_DIGEST = r"[0-9a-f]{64}"
NAME = r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
TEXT = r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]{0,4096}"

Record = TypeVar("Record")


def encode(value: Any) -> bytes:
    """The canonical JSON of `value` (RFC 8785, UTF-8)."""
    return rfc8785.dumps(value)


def decode(data: bytes, *, part: str, limit: int, canonical: bool = True) -> dict[str, Any]:
    """Read a canonical JSON object.

    Args:
        canonical: False for what nobody of ours wrote or signed, which may be spaced and ordered as it likes.

    Raises:
        IntegrityError: `data` is longer than `limit`, no JSON object, or not the canonical form of itself.
    """
    if len(data) > limit:
        raise IntegrityError(f"{part} is longer than {limit:,} bytes", part=part)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_refuse, parse_int=_integer,
        )  # fmt: skip
        _check_depth(value)
        same = not canonical or encode(value) == data
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{part} is not strict JSON: {_short(error)}", part=part) from error
    if not same:
        raise IntegrityError(f"{part} is not in canonical form", part=part)
    if not isinstance(value, dict):
        raise IntegrityError(f"{part} is not a JSON object", part=part)
    return value


def to_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, *, part: str) -> bytes:
    """The bytes behind `text`; base64 that is not canonical (stray bits, white space) is refused."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise IntegrityError(f"{part} holds broken base64", part=part) from error
    if to_base64(data) != text:
        raise IntegrityError(f"{part} holds base64 that is not canonical", part=part)
    return data


def utc_now() -> str:
    """The time as documents write it: `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def length_prefixed(*parts: bytes) -> bytes:
    """The parts one after another, each behind its length in 8 bytes: no two lists give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


@dataclass(frozen=True)
class Fields:
    """A decoded object, read field by field with the checks that belong to each. `part` names the file in errors."""

    values: Mapping[str, Any]
    part: str

    def text(self, name: str, pattern: str = TEXT) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise self.wrong(name)
        return value

    def integer(self, name: str, *, low: int = 0, high: int = MAX_INTEGER) -> int:
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(name)
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name)
        return value

    def base64(self, name: str) -> bytes:
        return from_base64(self.text(name, r"[A-Za-z0-9+/=]*"), part=self.part)

    def record(self, name: str, read: Callable[[Fields], Record]) -> Record:
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name)
        return read(Fields(value, self.part))

    def records(self, name: str, read: Callable[[Fields], Record], *, most: int = 4096) -> tuple[Record, ...]:
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) > most or not all(isinstance(one, dict) for one in value):
            raise self.wrong(name)
        return tuple(read(Fields(one, self.part)) for one in value)

    def texts(self, name: str, pattern: str = TEXT, *, most: int = 4096) -> tuple[str, ...]:
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(name)
        if not all(isinstance(one, str) and re.fullmatch(pattern, one) for one in value):
            raise self.wrong(name)
        return tuple(value)

    def header(self, kind: str) -> None:
        """Check `format` and that nothing is `critical` which this version does not know (it knows no extension)."""
        if self.values.get("format") != kind:
            raise IntegrityError(
                f"{self.part} is not a {kind} document", part=self.part, hint="It may need a newer toolkit."
            )
        critical = self.texts("critical", NAME, most=64)
        if critical:
            raise IntegrityError(
                f"{self.part} demands {', '.join(critical)}, which this version does not know",
                part=self.part, hint="Install a newer toolkit.",
            )  # fmt: skip

    def wrong(self, name: str) -> IntegrityError:
        return IntegrityError(f"{self.part}: field {name!r} is missing or not as the format says", part=self.part)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"the number {text[:20]} is not an integer")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise ValueError("an integer beyond 2^53")
    return int(text)


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for child in _children(level) if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _children(level: Sequence[Any]) -> Iterator[Any]:
    for value in level:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value


def _short(error: BaseException) -> str:
    return str(error)[:120]
