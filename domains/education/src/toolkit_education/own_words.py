"""A learner's own words for a problem: which may be said in it, and the theme that they make with a built-in one's.

No problem is known here, only slots: who A is, what the things are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from itertools import combinations

from toolkit.errors import DataError
from toolkit_education.generators.themes import Theme, themes
from toolkit_education.retheming import LONGEST_WORD, PEOPLE, is_word
from toolkit_education.signs import MEASURES, PLURALS, plural
from toolkit_education.suitability import banned_in

OWN = "own"
TOGETHER = (("thing", "things", "m"), ("other", "others", "om"), ("box", "boxes", "bm"), ("group", "gm"))
"""Slots of one noun: who changes one changes all."""

SEVERAL = (*PLURALS.values(), "group")
"""English slots that are of several."""

_PRONOUNS = frozenset({"i", "me", "you", "we", "us", "they", "them", "he", "him", "she", "her", "it"})
_LETTERS = frozenset("ßæœøłđðþı")  # of Latin alphabets, and no others with a mark


def checked_words(words: Mapping[str, str], language: str) -> Mapping[str, str]:
    """A learner's own words by slot.

    Raises:
        DataError: a slot that no theme has; or a word that could carry arithmetic, marks or more than a word, that does
            not suit a child, of one where several are wanted, or that stands for two things.
    """
    known = next(iter(themes().values())).words[language]
    words = {slot: " ".join(word.split()) for slot, word in words.items()}
    for slot, word in words.items():
        if slot not in known:
            raise DataError(f"no slot is named {slot}", hint=f"Slots: {', '.join(known)}.")
        if not is_word(word) or not _of_language(word, language):
            raise DataError(f"{word!r} is no word for {slot}", hint=f"Letters and spaces only, at most {LONGEST_WORD}.")
        if banned_in(word, language):
            raise DataError(f"{word!r} does not belong in a problem for a child", hint="Choose another word.")
    if language == "en":
        _check_number(words)
    if clash := next(_clashes(words), None):
        raise DataError(f"{words[clash[0]]!r} is both {clash[0]} and {clash[1]}", hint="Choose two different words.")
    counted = {measure: "个" for measure, slot in MEASURES.items() if slot in words} if language == "zh" else {}
    return counted | words


def with_words(theme: Theme, words: Mapping[str, str], language: str, name: str = OWN) -> Theme:
    """The theme with a learner's words; where one of its own would say the same, that one is another theme's."""
    merged = {**theme.words[language], **words}
    for other in themes().values():
        for clash in list(_clashes(merged)):
            slot = next(slot for slot in reversed(clash) if slot not in words)
            merged |= {one: other.words[language][one] for one in _noun(slot) if one in merged}
    return Theme(name, {language: merged})


def _of_language(word: str, language: str) -> bool:
    """Whether a word is of letters that are written in a language: a look-alike of another script hides one."""
    plain = "".join(one for one in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(one))
    return all(
        one.isascii() or one in "’" or one in _LETTERS
        or (language == "zh" and unicodedata.name(one, "").startswith("CJK UNIFIED"))
        for one in plain
    )  # fmt: skip


def _check_number(words: Mapping[str, str]) -> None:
    """English verbs and nouns agree in number."""
    alone = [pair for pair in PLURALS.items() if (pair[0] in words) != (pair[1] in words)]
    if alone:
        one, other = alone[0]
        raise DataError(f"{one} and {other} belong together", hint="Give a word's one and its many.")
    for slot in SEVERAL:
        if slot in words and not plural(words[slot]):
            raise DataError(f"{words[slot]!r} is not of several", hint=f"Write {slot} as several are called: pens.")
    for slot in PEOPLE:
        word = words.get(slot, "")
        if word.lower() in _PRONOUNS or (word[:1].islower() and plural(word)):
            raise DataError(f"{word!r} is not one person's name", hint="Write a name: Zed, or my mum.")


def _clashes(words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Slots of two different nouns that say the same."""
    for one, other in combinations([slot for slot in words if slot not in MEASURES and slot != "name"], 2):
        if _noun(one) != _noun(other) and _key(words[one]) == _key(words[other]):
            yield one, other


def _noun(slot: str) -> tuple[str, ...]:
    return next((several for several in TOGETHER if slot in several), (slot,))


def _key(word: str) -> str:
    """What is alike for one and several, with and without its article."""
    word = word.lower().removeprefix("the ").removeprefix("my ")
    return word.removesuffix("es").removesuffix("s").removesuffix("e")
