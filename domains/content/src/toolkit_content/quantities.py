"""Numbers and their units, as texts write them: in figures or in words, in English and Chinese.

It refuses to know whether they are true; `slots` asks that. A number in words counts with a unit only: nobody is
promised anything by one of a kind.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

_TABLE = tomllib.loads((resources.files("toolkit_content") / "quantities.toml").read_text(encoding="utf-8"))
_UNITS: Mapping[str, str] = {name: unit for unit, names in _TABLE["units"].items() for name in names}
_WORDS: Mapping[str, int] = _TABLE["words"]
_DIGITS: Mapping[str, int] = {one: value for value, several in enumerate(_TABLE["digits"]) for one in several}
_TENFOLD: Mapping[str, int] = _TABLE["tenfold"]


def _any(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_LATIN, _HAN = _any(filter(str.isascii, _UNITS)), _any(name for name in _UNITS if not name.isascii())
_UNIT = rf"(?:(?:{_LATIN})(?![A-Za-z])|{_HAN})"
_WORD = f"(?:{_any(_WORDS)})"
_QUANTITY = re.compile(
    rf"(?<![A-Za-z0-9.,])(?P<figures>\d+(?:[.,]\d+)*)(?:\s?-?\s?个?(?P<unit>{_UNIT}))?"
    rf"|(?<![\w.])(?P<english>{_WORD}(?:(?:[\s-]|\sand\s){_WORD})*)[\s-](?P<english_unit>{_UNIT})"
    rf"|(?<![\d.])(?P<chinese>[{_any(_DIGITS)}十半][{_any(_DIGITS)}{_any(_TENFOLD)}]*)\s?个?(?P<chinese_unit>{_UNIT})",
    re.IGNORECASE,
)
_IDIOMS = re.compile("|".join(_TABLE["idioms"]), re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """A number in plain digits, its unit (empty where none is known), and where it stands."""

    number: str
    unit: str
    span: tuple[int, int]


def quantities(text: str) -> Iterator[Quantity]:
    """All that a text states, in its order."""
    idioms = [hit.span() for hit in _IDIOMS.finditer(text)]
    for hit in _QUANTITY.finditer(text):
        if any(start <= hit.start() < end for start, end in idioms):
            continue
        if hit["figures"]:
            number, unit = plain(hit["figures"]), hit["unit"] or ""
        elif hit["english"]:
            number, unit = _in_english(hit["english"]), hit["english_unit"]
        else:
            number, unit = _in_chinese(hit["chinese"]), hit["chinese_unit"]
        yield Quantity(number, _UNITS.get(unit) or _UNITS.get(unit.lower(), ""), hit.span())


def plain(figures: str) -> str:
    """12,000 and 12000 are one; 1.70 and 1.7 too."""
    figures = re.sub(r",(?=\d{3}(?:\D|$))", "", unicodedata.normalize("NFKC", figures)).replace(",", ".")
    return figures.rstrip("0").rstrip(".") if "." in figures else figures


def _in_english(words: str) -> str:
    total = part = 0
    for word in re.split(r"[\s-]+", words.lower()):
        value = _WORDS.get(word, 0)
        if value in (100, 1000):
            part = max(part, 1) * value
            total, part = (total + part, 0) if value == 1000 else (total, part)
        else:
            part += value
    return "0.5" if words.lower().startswith("half") else str(total + part)


def _in_chinese(characters: str) -> str:
    if characters.startswith("半"):
        return "0.5"
    total = part = digit = 0
    for one in characters:
        if one not in _TENFOLD:
            digit = 10 * digit + _DIGITS[one]
        elif _TENFOLD[one] == 10_000:
            total, part, digit = (total + part + digit) * 10_000, 0, 0
        else:
            part, digit = part + (digit or 1) * _TENFOLD[one], 0
    return str(total + part + digit)
