"""Numbers in words within what a learner writes, put into digits: minus five, two thirds, 三分之二, 9块五.

It knows the words, in English and Chinese; what an answer means is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fractions import Fraction
from types import MappingProxyType

from toolkit_education.numerals import exact, show
from toolkit_education.wording import in_words, mentions, read_words

_PARTS: Mapping[str, int] = MappingProxyType(
    {
        "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
        "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "fifteenth": 15, "sixteenth": 16, "twentieth": 20,
        "fiftieth": 50, "hundredth": 100, "thousandth": 1000,
    }
)  # fmt: skip
_SCALES: Mapping[str, int] = MappingProxyType(
    {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
    | {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
)
_ONES = "|".join(in_words(Fraction(digit), "en") for digit in range(10))
_N = r"\d+(?:\.\d+)?"
_HAN = "零〇一二两三四五六七八九十百千万"
_HAN_NUMBER = re.compile(rf"(?!一[共起样定直些下])(?<!\d)(?:(?!千[克米瓦])[{_HAN}])+(?:点[零〇一二三四五六七八九]+)?")


def in_digits(text: str, nouns: Collection[str] = ()) -> str:
    """The text with its numbers in digits. Words of parts among `nouns` name things here, and stay."""
    return _english(_chinese(text), nouns)


def _english(text: str, nouns: Collection[str]) -> str:
    text = re.sub(r"\b(?:minus|negative) (?=\S)", "-", text, flags=re.IGNORECASE)
    text = re.sub(rf"(?:\b(\w+(?:-\w+)?) )?\bpoint ((?:(?:{_ONES})\b ?)+)", _point, text, flags=re.IGNORECASE)
    scales = "|".join(name for name in _SCALES if name.isascii() and name not in nouns)
    text = re.sub(rf"({_N}) (?:({scales})s?)\b", _scaled, text, flags=re.IGNORECASE)
    for mention in reversed(mentions(text, "en")):
        if mention.shape == "words":
            text = f"{text[: mention.start]}{mention.value}{text[mention.end :]}"
    parts = "|".join(name for name in _PARTS if name not in nouns)
    text = re.sub(rf"(?<![\d.,/])(?:(\d+)[ -]|\ban? )?\b({parts})s?\b", _part, text, flags=re.IGNORECASE)
    text = re.sub(r"(?<![\d.,/])(\d+) (?:and|&) (?=\d+/\d)", r"\1 ", text, flags=re.IGNORECASE)
    return re.sub(r"(?<![\d.,/])(\d+) (?:out of|in) (?=\d+\.?$)", r"\1/", text, flags=re.IGNORECASE)


def _point(match: re.Match[str]) -> str:
    whole = read_words(match[1], "en") if match[1] and re.fullmatch(r"[a-z-]+", match[1], re.IGNORECASE) else None
    digits = "".join(str(read_words(word, "en")) for word in match[2].split())
    before = f"{match[1]} " if match[1] and whole is None else f"{whole}" if whole is not None else ""
    return f"{before}.{digits} "


def _part(match: re.Match[str]) -> str:
    return f"{match[1] or 1}/{_PARTS[match[2].lower()]}"


def _scaled(match: re.Match[str]) -> str:
    return show(exact(match[1]) * _SCALES[match[2].lower()], "zh")


def _chinese(text: str) -> str:
    text = re.sub(r"[负負](?=\S)", "-", text)
    text = text.replace("百分之", "％之")
    text = re.sub(rf"[一1]半|(?<![{_HAN}\d个])半(?=个|小时|天|米|千克|公斤|升|块)", "1/2", text)
    text = re.sub(rf"({_N})([百千万亿])(?![克米瓦\d])", _scaled, text)
    text = _HAN_NUMBER.sub(_han, text)
    text = re.sub(r"(\d+)个?半", r"\1 1/2", text)
    text = re.sub(rf"％之({_N})", r"\1%", text)
    text = re.sub(r"(\d+)分之(\d+)", r"\2/\1", text)
    text = re.sub(r"(\d+)又(?=\d+/\d)", r"\1 ", text)
    return re.sub(r"(?<=\d[块元])(\d)$", r"\1角", text)  # 9块5 is short for 9块5角


def _han(match: re.Match[str]) -> str:
    whole, point, places = match[0].replace("〇", "零").partition("点")
    value = read_words(whole, "zh")
    if value is None:
        return match[0]
    return f"{value}" + (f".{''.join(str('零一二三四五六七八九'.index(sign)) for sign in places)}" if point else "")
