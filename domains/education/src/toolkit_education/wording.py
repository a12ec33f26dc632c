"""Numbers in running text, in digits and in words, English and Chinese.

It says which numbers a sentence holds, where and how they are written; what they count, it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from toolkit.errors import DataError

_ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL: Mapping[str, int] = MappingProxyType(
    {word: value for value, word in enumerate(_ONES)} | {word: 10 * value for value, word in enumerate(_TENS, start=2)}
)
_LARGE: Mapping[str, int] = MappingProxyType({"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9})
_CHINESE: Mapping[str, int] = MappingProxyType(
    {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"两": 2}
)
_PLACES: Mapping[str, int] = MappingProxyType({"十": 10, "百": 100, "千": 1000})

_WORD = "|".join(sorted((*_SMALL, *_LARGE), key=len, reverse=True))
_ENGLISH_WORDS = rf"(?P<words>\b(?:{_WORD})(?:(?:-| and | |-)(?:{_WORD}))*\b)"
_CHINESE_WORDS = r"(?P<words>(?!千[克米瓦]|百分|十分)[二两三四五六七八九十百千万][一二两三四五六七八九十百千万零]*)"
_DIGITS = (
    r"(?P<time>(?<!\d)\d{1,2}:\d{2}(?!\d))"
    r"|(?P<mixed>(?<![\d.,/])\d+ \d+/\d+(?![\d/]))"
    r"|(?P<fraction>(?<![\d.,/])\d+/\d+(?![\d/]))"
    r"|(?P<decimal>(?<![\d.])(?:\d{1,3}(?:,\d{3})+|\d+)?\.\d+(?!\d))"
    r"|(?P<whole>(?:(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d)|\d+))(?P<ordinal>(?:st|nd|rd|th)\b)?"
)
_PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "en": re.compile(f"{_DIGITS}|{_ENGLISH_WORDS}", re.ASCII | re.IGNORECASE),
        "zh": re.compile(f"{_DIGITS}|{_CHINESE_WORDS}"),
    }
)
_MOST_DIGITS = 30


@dataclass(frozen=True)
class Mention:
    """A number that `text[start:end]` writes: `shape` is whole, decimal, fraction, mixed, ordinal, time or words.

    A time of day such as 7:30 has its minutes since midnight as value.
    """

    value: Fraction
    start: int
    end: int
    shape: str
    text: str


def mentions(text: str, language: str) -> tuple[Mention, ...]:
    """Every number in `text`, from left to right.

    Raises:
        DataError: a language that is not known.
    """
    if language not in _PATTERNS:
        raise DataError(f"no language {language!r}", hint=f"Known: {', '.join(_PATTERNS)}.")
    return tuple(_found(text, language))


def in_words(value: Fraction, language: str, *, capital: bool = False) -> str:
    """A whole number from 0 to 999,999 in words: `twenty-five`, `two hundred`, 二十五.

    Raises:
        DataError: a number that is not written in words here.
    """
    if value.denominator != 1 or not 0 <= value < 10**6:
        raise DataError(f"{value} is not written in words", hint="Whole numbers below a million are.")
    if language == "zh":
        return _chinese(value.numerator)
    words = _english(value.numerator)
    return words[0].upper() + words[1:] if capital else words


def read_words(text: str, language: str) -> Fraction | None:
    """The number that words write, or None where they write none: `two hundred`, 二十五."""
    value = _from_chinese(text) if language == "zh" else _from_english(re.split(r"[ -]+", text.lower()))
    return None if value is None else Fraction(value)


def _found(text: str, language: str) -> Iterator[Mention]:
    for match in _PATTERNS[language].finditer(text):
        shape = "ordinal" if match["ordinal"] else match.lastgroup or ""
        written = match.group()
        if len(written) > _MOST_DIGITS + 30 and shape != "words":
            raise DataError(f"a number of {len(written)} characters", hint="Shorten it.")
        value: Fraction | None
        if shape == "words":
            value = read_words(written, language)
        elif shape == "time":
            hours, minutes = written.split(":")
            value = Fraction(60 * int(hours) + int(minutes))
        elif shape in ("mixed", "fraction"):
            *whole, part = written.split(" ")
            top, bottom = part.split("/")
            value = Fraction(int(top), int(bottom)) + int(whole[0] if whole else 0) if int(bottom) else None
        else:
            value = Fraction((match["decimal"] or match["whole"]).replace(",", ""))
        if value is not None:
            yield Mention(value, match.start(), match.end(), shape, written)


def _english(value: int) -> str:
    if value < 20:
        return _ONES[value]
    if value < 100:
        return _TENS[value // 10 - 2] + (f"-{_ONES[value % 10]}" if value % 10 else "")
    base, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" {_english(value % base)}" if value % base else ""
    return f"{_english(value // base)} {name}{rest}"


def _from_english(words: list[str]) -> int | None:
    total, group, last = 0, 0, 0
    for word in words:
        if word == "and":
            continue
        if word in _SMALL:
            small = _SMALL[word]
            if last and not ((last >= 20 > 9 >= small > 0 and last < 100) or last >= 100 > small):
                return None  # "two three" is no number
            group, last = group + small, small
        elif word == "hundred":
            group, last = max(group, 1) * 100, 100
        else:
            total, group, last = total + max(group, 1) * _LARGE[word], 0, 1000
    return total + group


def _chinese(value: int) -> str:
    if value >= 10000:
        rest = value % 10000
        gap = "零" if 0 < rest < 1000 else ""
        return f"{_chinese(value // 10000)}万{gap}{_chinese(rest) if rest else ''}"
    digits = "零一二三四五六七八九"
    if value < 10:
        return digits[value]
    written, skipped = "", False
    for place, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // place % 10
        if digit:
            written += ("零" if skipped else "") + digits[digit] + name
        skipped = bool(written) and not digit
    return written.removeprefix("一") if 10 <= value < 20 else written


def _from_chinese(text: str) -> int | None:
    total, group, digit = 0, 0, 0
    for sign in text:
        if sign in _CHINESE:
            if digit:
                return None  # 二三 is no number here
            digit = _CHINESE[sign]
        elif sign in _PLACES:
            group, digit = group + (digit or 1) * _PLACES[sign], 0
        elif sign == "万":
            total, group, digit = total + (group + digit or 1) * 10000, 0, 0
        else:
            return None
    return total + group + digit
