"""How long copy may be on a channel, in the channel's own unit of counting; a dated pack of rules that can be replaced.

It counts and compares; it never cuts a text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from toolkit.errors import DataError, unknown_name

SPEECH = {"zh": 4.5, "en": 2.5}
"""Characters of Chinese and words of English that are spoken in a second."""


@dataclass(frozen=True)
class Limit:
    """The most of a form on a channel; `count` is how many pieces of it there may be. `verified` says whether the
    source is the channel's own."""

    most: int
    unit: str
    source: str
    checked_on: str
    verified: bool
    count: int = 1


@dataclass(frozen=True)
class Channel:
    """A place where copy is published."""

    name: str
    languages: tuple[str, ...]
    limits: Mapping[str, Limit]


def load_channels(path: Path | None = None) -> Mapping[str, Channel]:
    """The built-in channels, and those of a TOML file over them.

    Raises:
        DataError: the file holds none.
    """
    built_in = (resources.files("toolkit_content") / "channels.toml").read_text(encoding="utf-8")
    found = dict(channels_of(built_in))
    if path is not None:
        try:
            found |= channels_of(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read", hint="Name a TOML file of channels.") from error
    return found


def channels_of(text: str) -> Mapping[str, Channel]:
    """Raises DataError where the text holds no channels."""
    try:
        table: Mapping[str, Any] = tomllib.loads(text)["channels"]
        found = {
            name: Channel(
                name,
                tuple(channel["language"]),
                {form: Limit(**limit) for form, limit in channel["limits"].items()},
            )
            for name, channel in table.items()
        }
        units = {limit.unit for channel in found.values() for limit in channel.limits.values()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"channels cannot be read: {error}", hint="Compare them with channels.toml.") from error
    if strange := units - set(UNITS) - {"second"}:
        raise DataError(f"no unit is named {', '.join(sorted(strange))}", hint=f"Units: {', '.join(UNITS)}, second.")
    return found


def channel_named(channels: Mapping[str, Channel], name: str) -> Channel:
    """Raises PlanError where there is none."""
    if name not in channels:
        raise unknown_name("channel", name, sorted(channels))
    return channels[name]


def length(text: str, unit: str, *, language: str = "en") -> float:
    """How long a text is in a unit; of `second`, how long it takes to say."""
    if unit == "second":
        return _spoken(text, language)
    return UNITS[unit](text)


def _graphemes(text: str) -> int:
    import regex  # \X, the extended grapheme clusters of Unicode UAX 29

    return len(regex.findall(r"\X", text))


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _gbk_bytes(text: str) -> int:
    """A character that GBK lacks counts as two, as one that it has."""
    return sum(len(found) if (found := one.encode("gbk", "ignore")) else 2 for one in text)


def _words(text: str) -> int:
    return len(text.split())


def _x_weight(text: str) -> int:
    """X's own count: light characters weigh one, all others two, a link 23 (twitter-text, configuration v3)."""
    links = re.findall(r"https?://\S+", text)
    rest = re.sub(r"https?://\S+", "", text)
    light = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))
    import regex

    weighed = [
        1 if len(cluster) == 1 and any(low <= ord(cluster) <= high for low, high in light) else 2
        for cluster in regex.findall(r"\X", rest)
    ]
    return 23 * len(links) + sum(weighed)


UNITS: Mapping[str, Callable[[str], int]] = {
    "grapheme": _graphemes, "utf16": _utf16, "gbk_byte": _gbk_bytes, "word": _words, "x_weight": _x_weight,
}  # fmt: skip


def _spoken(text: str, language: str) -> float:
    from toolkit_content.reading import is_han

    if language == "zh":
        characters = sum(is_han(one) for one in text)
        others = len(re.findall(r"[A-Za-z0-9]+", text))
        return (characters + 2 * others) / SPEECH["zh"]
    return _words(text) / SPEECH["en"]
