"""How a number is written and read: digits, decimals, fractions and percentages, by learners and data sets.

Nothing is rounded, ever. It knows nothing of expressions, problems or what a unit means.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from toolkit.errors import DataError

LANGUAGES = ("en", "zh")

MOST_CHARACTERS = 400
MOST_BITS = 200  # of a numerator or a denominator, some 60 digits
MOST_PLACES = 6  # decimals beyond this are written as a fraction

SIGNS = str.maketrans("×⋅·∗＊÷／−–—＋－（）％．，", "****" + "*//---+-()%.,")
_GLYPH = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<money>[$¥€£]?)(?P<minus>-?)"
    r"(?:(?P<whole>\d+) +(?P<part>\d+)/(?P<of>\d+)|(?P<top>\d+)/(?P<bottom>\d+)"
    r"|(?P<plain>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))(?![\d.,/]*\d)",
    re.ASCII,
)


@dataclass(frozen=True)
class Reading:
    """A number as someone wrote it: `50%` is 50 with unit `%`; `shape` is whole, decimal, fraction or mixed.

    `lowest` is False where a fraction could be simplified, as in 2/4.
    """

    value: Fraction
    unit: str
    shape: str
    lowest: bool = True


def exact(text: str) -> Fraction:
    """A number such as 3, -1.5 or 3/4, as records and data sets write it. No power of ten: 1e999999999 is ten letters,
    and a number that no memory holds.

    Raises:
        ValueError: it is none. ZeroDivisionError: a fraction over zero.
    """
    if len(text) > MOST_CHARACTERS or "e" in text.lower():
        raise ValueError(f"no plain number: {text[:40]}")
    return Fraction(text)


def decimal_places(value: Fraction) -> int | None:
    """How many decimals write `value` exactly; None when no number of them does."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def show(value: Fraction, language: str = "en") -> str:
    """A number as a learner of `language` reads it: 1234, 12,345 (in Chinese 12345), 0.25, 1/3.

    Decimals are written when at most MOST_PLACES of them are exact, and a fraction in lowest terms otherwise.
    """
    if language not in LANGUAGES:
        raise DataError(f"no language {language!r}", hint=f"Known: {', '.join(LANGUAGES)}.")
    places = decimal_places(value)
    if places is None or places > MOST_PLACES:
        return f"{value.numerator}/{value.denominator}"
    return fixed(value, places, separators=language == "en" and abs(value) >= 10000)


def fixed(value: Fraction, places: int, *, separators: bool = False) -> str:
    """`value` with exactly `places` decimals.

    Raises:
        DataError: so few decimals would round it.
    """
    scaled = value * 10**places
    if scaled.denominator != 1:
        raise DataError(f"{value} has more than {places} decimals", hint="Nothing is rounded here.")
    whole, part = divmod(abs(scaled.numerator), 10**places)
    sign = "-" if value < 0 else ""
    return (
        f"{sign}{whole:,}" * separators
        + f"{sign}{whole}" * (not separators)
        + (f".{part:0{places}d}" if places else "")
    )


def parse_number(text: str) -> Reading:
    """The one number at the beginning of `text` and, apart from it, the unit written before or after it.

    Reads 1,200, $12.50, 3/4, 1 1/2, 50%, .5, ½, full-width digits, -3, `1200 元`; the unit is what is left ("元", "$").

    Raises:
        DataError: no number, a fraction over 0, or one that can be read in two ways (1,5 or 12,00 or 2 3).
    """
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"a number of {len(text)} characters", hint=f"At most {MOST_CHARACTERS}.")
    plain = _GLYPH.sub(_glyph, text)
    plain = unicodedata.normalize("NFKC", plain).translate(SIGNS).replace("\u2044", "/").strip()
    plain = re.sub(r"(?<=\d)\s*/\s*(?=\d)", "/", plain)
    match = _NUMBER.match(plain)
    if match is None or (match["sign"] and match["minus"]):
        raise DataError(f"{text!r} does not begin with a number", hint="Write it as 12, 1.5, 3/4, 1 1/2 or 50%.")
    lowest = True
    if match["plain"]:
        value = Fraction(match["plain"].replace(",", ""))
        shape = "decimal" if "." in match["plain"] else "whole"
    else:
        whole, top, bottom = int(match["whole"] or 0), match["part"] or match["top"], match["of"] or match["bottom"]
        if int(bottom) == 0:
            raise DataError(f"{text!r} is a fraction over zero", hint="Write another denominator.")
        value, shape = whole + Fraction(int(top), int(bottom)), "mixed" if match["whole"] else "fraction"
        lowest = math.gcd(int(top), int(bottom)) == 1
    if value.numerator.bit_length() > MOST_BITS or value.denominator.bit_length() > MOST_BITS:
        raise DataError("a number too large", hint=f"At most {MOST_BITS} bits.")
    after = plain[match.end() :].strip().rstrip(".。!！").strip()
    if after[:1].isdigit():
        raise DataError(f"{text!r} holds two numbers", hint="Write one.")
    signed = -value if "-" in (match["sign"], match["minus"]) else value
    return Reading(signed, match["money"] or after, shape, lowest)


def _glyph(match: re.Match[str]) -> str:
    before = match.string[match.start() - 1] if match.start() else ""
    value = Fraction(unicodedata.numeric(match.group())).limit_denominator(8)
    return f"{' ' if before.isdigit() else ''}{value.numerator}/{value.denominator}"
