"""Whether a text suits a child: how long it is, how hard to read, and whether a word does not belong there.

It reads text; what the problem asks and whether it is right are checked elsewhere.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

MOST_WORDS = 150  # English words in a problem
MOST_CHARACTERS = 200  # Chinese characters in a problem
MOST_WORDS_A_SENTENCE = 45
MOST_CHARACTERS_A_SENTENCE = 60
# Flesch-Kincaid grade by level 1 to 5; a word problem's numbers and names make the formula read high.
HARDEST: Mapping[int, float] = MappingProxyType({1: 9.0, 2: 10.0, 3: 11.0, 4: 12.0, 5: 13.0})

_SENTENCE = re.compile(r"[.!?](?:\s|$)|[\n;:]")
_CHINESE_SENTENCE = re.compile("[。！？；\n]")
_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
_VOWELS = re.compile(r"[aeiouy]+")
_CHINESE = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Reading:
    """How hard a text is: words (English) or characters (Chinese), the longest sentence, and the reading grade."""

    length: int
    longest: int
    grade: float


def reading(text: str, language: str) -> Reading:
    """Measure a text.

    The grade is Flesch-Kincaid's, 0.39 words a sentence + 11.8 syllables a word - 15.59 (Kincaid et al., 1975), with
    syllables counted by groups of vowels; for Chinese it is 0.
    """
    if language == "zh":
        sentences = [len(_CHINESE.findall(part)) for part in _CHINESE_SENTENCE.split(text)]
        return Reading(sum(sentences), max(sentences), 0.0)
    counts = [len(_WORD.findall(part)) for part in _SENTENCE.split(text)]
    words = _WORD.findall(text)
    sentences_with_words = sum(count > 0 for count in counts)
    if not words:
        return Reading(0, 0, 0.0)
    syllables = sum(map(_syllables, words))
    grade = 0.39 * len(words) / sentences_with_words + 11.8 * syllables / len(words) - 15.59
    return Reading(len(words), max(counts), grade)


def too_hard(text: str, language: str, level: int) -> str:
    """Why a text is too long or too hard for a level, or nothing."""
    measured = reading(text, language)
    unit, most, most_a_sentence = (
        ("characters", MOST_CHARACTERS, MOST_CHARACTERS_A_SENTENCE)
        if language == "zh"
        else ("words", MOST_WORDS, MOST_WORDS_A_SENTENCE)
    )
    if measured.length > most:
        return f"{measured.length} {unit}, at most {most}"
    if measured.longest > most_a_sentence:
        return f"a sentence of {measured.longest} {unit}, at most {most_a_sentence}"
    if measured.grade > HARDEST[level]:
        return f"reading grade {measured.grade:.1f}, at most {HARDEST[level]:.0f} at level {level}"
    return ""


def banned_in(text: str, language: str, more: Collection[str] = ()) -> tuple[str, ...]:
    """The words in a text that do not belong there, the package's own and `more` of a site, as they stand in it."""
    found = [match.group() for match in _banned(language).finditer(text)]
    found += [match.group() for match in _banned(language).finditer(_bare(text))] if not found else []
    lowered = text.lower()
    return (*found, *(word for word in more if word.lower() in lowered))


def _bare(text: str) -> str:
    """The text without what hides a word: marks on letters, signs and spaces between single ones, letters drawn out."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if unicodedata.category(one) not in ("Mn", "Cf"))
    plain = re.sub(r"(?<![^\W\d_])[^\W\d_](?:[ ._*'’-]+[^\W\d_](?![^\W\d_])){2,}", _joined, plain)
    return re.sub(r"([^\W\d_])\1{2,}", r"\1", plain)


def _joined(match: re.Match[str]) -> str:
    return "".join(one for one in match[0] if one.isalpha())


def _syllables(word: str) -> int:
    lowered = word.lower()
    count = len(_VOWELS.findall(lowered))
    if lowered.endswith("e") and not lowered.endswith(("le", "ee")) and count > 1:
        count -= 1
    return max(count, 1)


@lru_cache(maxsize=2)
def _banned(language: str) -> re.Pattern[str]:
    table = tomllib.loads(
        resources.files("toolkit_education").joinpath("banned_words.toml").read_text(encoding="utf-8")
    )
    words = [word for row in table.values() for word in row[language]]
    joined = "|".join(sorted(words, key=len, reverse=True))
    return re.compile(joined if language == "zh" else rf"\b(?:{joined})(?:e?s)?\b", re.IGNORECASE)
