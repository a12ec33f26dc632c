"""A text as a reader hears it, with the way back: forms that only look different are made one, place by place.

Width and compatibility forms (NFKC), case, invisible characters, traditional characters; and what is put between the
letters of a word to hide it. Knows no words.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

INVISIBLE = frozenset({"Cf", "Cc", "Mn", "Me", "Cs", "Co", "Cn"})
"""Kinds of characters that nobody sees: format marks such as the zero-width space, combining marks and the like."""


@dataclass(frozen=True)
class Reading:
    """Characters, and for each the place in the text that it was read at."""

    characters: str
    places: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters from `start` to before `end` stand in the text."""
        return self.places[start], self.places[end - 1] + 1


def read(text: str) -> Reading:
    """As it is read: without case, width, what is invisible, and in simplified characters."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for plain in _plain(character):
            characters.append(plain)
            places.append(place)
    return Reading("".join(characters), tuple(places))


def squeezed(reading: Reading) -> Reading:
    """Only letters and digits: what is left of 国-家 级, and of a term with dots between its characters."""
    kept = [place for place, character in enumerate(reading.characters) if character.isalnum()]
    return Reading("".join(reading.characters[place] for place in kept), tuple(reading.places[place] for place in kept))


def is_han(character: str) -> bool:
    """Whether it is a Chinese character."""
    return (
        "\u3400" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


@functools.lru_cache(maxsize=65536)
def _plain(character: str) -> str:
    if character in "\n\t\r":
        return " "
    if unicodedata.category(character) in INVISIBLE:
        return ""
    folded = unicodedata.normalize("NFKC", character).casefold()
    visible = "".join(one for one in folded if unicodedata.category(one) not in INVISIBLE)
    return "".join(_simplified(one) if is_han(one) else one for one in visible)


@functools.lru_cache(maxsize=65536)
def _simplified(character: str) -> str:
    return str(_converter().convert(character))


@functools.cache
def _converter():  # type: ignore[no-untyped-def]  # opencc has no types
    import opencc

    return opencc.OpenCC("t2s")
