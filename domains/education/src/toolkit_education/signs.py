"""A problem with signs (P1, S2, W3, ...) for all words that it is about: what the curriculum's own templates say stays.

So a student need not spell what it never met: "P1 has {a} S2" is alike for all that anyone can have. The letter tells
what a word shows by itself: P that it is somebody's name, S that it is of several; W all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from functools import lru_cache
from types import MappingProxyType

from toolkit_education.generators import templates
from toolkit_education.generators.themes import themes

MARK, SIGN = re.compile(r"\[(\w+)\]"), re.compile(r"[PSW]\d+")
MEASURES = {"m": "thing", "om": "other", "bm": "box", "gm": "group"}
"""Chinese measure words by slot, and the slot of the noun that each counts."""

PLURALS = {"thing": "things", "other": "others", "box": "boxes"}
"""English slots of one, and the slots of several of the same."""

COUNTERS, LONGEST_PIECE = "少几每一二两半", 8

_SEVERAL = frozenset({"children", "people", "men", "women", "feet", "teeth", "mice", "geese", "sheep", "fish"})
_NAME = re.compile("[小阿老].{1,2}")

_WORD = re.compile(r"(?<!['’])[^\W\d_]+(?:-[^\W\d_]+)*")
_PLACEHOLDER = re.compile(r"(\{[^{}]*\})")


@lru_cache(maxsize=4096)
def signed(text: str, language: str) -> tuple[str, Mapping[str, str]]:
    """The text with signs, numbered as they come, and what each stands for."""
    signs, words = dict[str, str](), dict[str, str]()

    common = {word for word in _WORD.findall(_PLACEHOLDER.sub(" ", text)) if word[0].islower()}

    def sign(word: str) -> str:
        found = signs.setdefault(key(word), f"{_letter(word, common, language)}{len(signs) + 1}")
        words.setdefault(found, word)
        return found

    pieces = _PLACEHOLDER.split(text)
    if language == "en":
        pieces[::2] = [_WORD.sub(lambda word: _english(word[0], sign), piece) for piece in pieces[::2]]
    else:
        known: Set[str] = set()
        for _ in range(2):  # a word that stands alone somewhere is the same word where it does not
            parted = [list(_parted(piece, known, counted=n > 0)) for n, piece in enumerate(pieces[::2])]
            known = {part for parts in parted for part, new in parts if new and len(part) > 1}
        pieces[::2] = ["".join(sign(part) if new else part for part, new in parts) for parts in parted]
    return "".join(pieces), MappingProxyType(words)


def _letter(word: str, common: Set[str], language: str) -> str:
    if language == "zh":
        return "P" if _NAME.fullmatch(word) else "W"
    if word[0].isupper() and key(word) not in common:
        return "P"
    return "S" if plural(word) else "W"


def plural(word: str) -> bool:
    """Whether an English noun is of several, by its end."""
    last = word.rpartition(" ")[2].lower()
    return last in _SEVERAL or (last.endswith("s") and not last.endswith(("ss", "us")))


def key(word: str) -> str:
    """A word at the beginning of a sentence is the same word."""
    return word[:1].lower() + word[1:]


def _english(word: str, sign: Callable[[str], str]) -> str:
    return word if word.lower() in _story("en") else sign(word)


def _parted(text: str, known: Set[str], *, counted: bool) -> Iterator[tuple[str, bool]]:
    """Chinese text in parts, and whether each is new: known words, what the templates say, the longest first, and
    what they do not; measure words, which stay, apart. `counted`: a number stands before the text."""
    place, new = 0, ""
    while place < len(text):
        word, said = _longest(text, place, known), _longest(text, place, _story("zh"))
        after_number = text[place - 1] in COUNTERS if place else counted
        measure = text[place] if after_number and text[place] in measure_words() and len(said) <= 1 else ""
        part = word or measure or said or ("" if text[place].isalpha() else text[place])
        if part and new:
            yield new, True
            new = ""
        if part:
            yield part, bool(word)
        else:
            new += text[place]
        place += len(part) or 1
    if new:
        yield new, True


def _longest(text: str, place: int, words: Set[str]) -> str:
    """The longest of the words that stands there; empty where none does."""
    found = (text[place : place + length] for length in range(LONGEST_PIECE, 0, -1))
    return next((part for part in found if part in words), "")


@lru_cache(maxsize=2)
def _story(language: str) -> Set[str]:
    """What is said whatever a problem is about: the words of all templates between their marks. Of Chinese, which
    nothing parts, every piece of two characters or more, and what stands alone."""
    lines = [line for several in templates().values() for one in several for line in getattr(one, language)]
    pieces = {piece for line in lines for piece in re.split(r"\[\w+\]|\{[^{}]*\}", line)}
    words = {word for piece in pieces for word in _WORD.findall(piece)}
    if language == "en":
        return {word.lower() for word in words}
    return words | {
        word[start : start + length]
        for word in words for length in range(2, LONGEST_PIECE + 1) for start in range(len(word) - length + 1)
    }  # fmt: skip


@lru_cache(maxsize=1)
def measure_words() -> Set[str]:
    """The Chinese measure words of all themes, and common ones."""
    return {theme.words["zh"][slot] for theme in themes().values() for slot in MEASURES} | set(
        "个只张本支块颗枚件份位名辆"
    )
