"""Themes: the people, things and places that a generated problem is about, in English and Chinese.

The vocabulary is themes.toml. Which theme a learner likes is not known here.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from toolkit.errors import DataError


@dataclass(frozen=True)
class Theme:
    """A theme: `words` by language and slot, such as `things` in English and `m`, its measure word, in Chinese."""

    id: str
    words: Mapping[str, Mapping[str, str]]


@lru_cache(maxsize=1)
def themes() -> Mapping[str, Theme]:
    """The built-in themes by id."""
    table = tomllib.loads(resources.files("toolkit_education").joinpath("themes.toml").read_text(encoding="utf-8"))
    return MappingProxyType(
        {
            identifier: Theme(
                identifier, MappingProxyType({name: MappingProxyType(row) for name, row in words.items()})
            )
            for identifier, words in table.items()
        }
    )


def begins_sentence(text: str, place: int) -> bool:
    """Whether an English sentence begins at this place."""
    return text[:place].rstrip()[-1:] in ("", ".", "?", "!")


def theme(identifier: str) -> Theme:
    """A theme by its id.

    Raises:
        DataError: none has this id.
    """
    known = themes()
    if identifier not in known:
        near = difflib.get_close_matches(identifier, known, n=1)
        suggestion = f"Did you mean {near[0]}? " if near else ""
        raise DataError(f"no theme is named {identifier}", hint=f"{suggestion}Offered: {', '.join(known)}.")
    return known[identifier]
