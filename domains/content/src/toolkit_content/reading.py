"""A text as a reader hears it, with the way back: forms that only look different are made one, place by place.

Width and compatibility forms (NFKD), case, accents, invisible characters, traditional characters, letters of other
scripts, numerals; and what is put between the letters of a word to hide it. Knows no words that are looked for.
"""

from __future__ import annotations

import functools
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

INVISIBLE = frozenset({"Cf", "Cc", "Mn", "Me", "Cs", "Co", "Cn"})
"""Kinds of characters that nobody sees: format marks such as the zero-width space, combining marks and the like."""

_LOOKALIKES = tomllib.loads((resources.files("toolkit_content") / "lookalikes.toml").read_text(encoding="utf-8"))
_CHARACTERS: Mapping[str, str] = {one: plain for plain, several in _LOOKALIKES["characters"].items() for one in several}
_DIGITS: Mapping[str, str] = _LOOKALIKES["digits"]
_WORDING = [(re.compile(pattern), plain) for pattern, plain in _LOOKALIKES["wording"].items()]
_BETWEEN = re.compile(r"(?<=[\u3400-\u9fff])[a-z0-9](?=[\u3400-\u9fff])")


@dataclass(frozen=True)
class Reading:
    """Characters, and for each the place in the text that it was read at."""

    characters: str
    places: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters from `start` to before `end` stand in the text."""
        return self.places[start], self.places[end - 1] + 1


def read(text: str) -> Reading:
    """As it is read: without case, width, accents, what is invisible, and in simplified characters."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for plain in _plain(character):
            characters.append(plain)
            places.append(place)
    reading = Reading("".join(characters), tuple(places))
    for pattern, plain in _WORDING:
        reading = _reworded(reading, pattern, plain)
    return reading


def _reworded(reading: Reading, pattern: re.Pattern[str], plain: str) -> Reading:
    """With other wording, whose characters stand where the wording began, and the last where it ended."""
    for hit in reversed(list(pattern.finditer(reading.characters))):
        start, end = hit.span()
        places = [*[reading.places[start]] * (len(plain) - 1), reading.places[end - 1]]
        reading = Reading(
            reading.characters[:start] + plain + reading.characters[end:],
            (*reading.places[:start], *places, *reading.places[end:]),
        )
    return reading


def squeezed(reading: Reading) -> Reading:
    """Only letters and digits: what is left of 国-家 级, and of a term with dots between its characters."""
    kept = [place for place, character in enumerate(reading.characters) if character.isalnum()]
    return Reading("".join(reading.characters[place] for place in kept), tuple(reading.places[place] for place in kept))


def skeleton(letters: Reading) -> Reading:
    """As it looks from afar: a digit is the letter that it resembles, and i is an l."""
    alike = {**_DIGITS, "i": "l"}
    return Reading("".join(alike.get(one, one) for one in letters.characters), letters.places)


def unmixed(letters: Reading) -> Reading:
    """Without a single letter or digit between two Chinese characters: 国x家级."""
    kept = sorted(set(range(len(letters.characters))) - {hit.start() for hit in _BETWEEN.finditer(letters.characters)})
    return Reading("".join(letters.characters[at] for at in kept), tuple(letters.places[at] for at in kept))


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
    folded = unicodedata.normalize("NFKD", _unboxed(character)).casefold()
    visible = (_CHARACTERS.get(one, one) for one in folded if unicodedata.category(one) not in INVISIBLE)
    return "".join(_simplified(one) if is_han(one) else one for one in visible)


def _unboxed(character: str) -> str:
    """Of a letter in a dark circle or square, which NFKD leaves as it is, the letter."""
    number = ord(character)
    dark = 0x1F150 <= number <= 0x1F169 or 0x1F170 <= number <= 0x1F189
    return chr(ord("a") + (number - 0x1F150) % 0x20) if dark else character


@functools.lru_cache(maxsize=65536)
def _simplified(character: str) -> str:
    return str(_converter().convert(character))


@functools.cache
def _converter():  # type: ignore[no-untyped-def]  # opencc has no types
    import opencc

    return opencc.OpenCC("t2s")
