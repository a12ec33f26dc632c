"""Units of measure: their kinds, exact sizes and names in English and Chinese.

The table is units.toml. What is counted (apples, friends) is no unit of measure, and no problem is known here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

_POWERS = (  # kind, exponent, base units in a power of the meter, and how it is written
    ("area", 2, 1, re.compile(r"(?:square|sq\.?) ?(.+)|(.+?) ?(?:squared?|sq|\^?2)", re.IGNORECASE)),
    ("volume", 3, 1000, re.compile(r"(?:cubic|cu\.?) ?(.+)|(.+?) ?(?:cubed|\^?3)", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Unit:
    """A unit: `size` in the base unit of its `kind`, and its names by language, the shortest to write first.

    `also` are names by language that mean something else too (块, a piece and a yuan): they count only where a unit of
    this kind is looked for.
    """

    code: str
    kind: str
    size: Fraction
    names: Mapping[str, tuple[str, ...]]
    also: Mapping[str, tuple[str, ...]]

    def name(self, language: str, *, plural: bool = True) -> str:
        """How a learner reads it: `minutes`, `minute`, `cm`, 分钟."""
        known = self.names[language]
        if language != "en" or len(known[0]) <= 3 or "/" in known[0]:
            return known[0]
        return known[1] if plural and len(known) > 1 else known[0]


@lru_cache(maxsize=1)
def units() -> Mapping[str, Unit]:
    """Every unit by its code."""
    table = tomllib.loads(resources.files("toolkit_education").joinpath("units.toml").read_text(encoding="utf-8"))
    found = {}
    for kind, rows in table.items():
        for code, row in rows.items():
            names = {language: tuple(row[language]) for language in ("en", "zh")}
            also = {language: tuple(names) for language, names in row.get("also", {}).items()}
            found[code] = Unit(code, kind, Fraction(row["size"]), MappingProxyType(names), MappingProxyType(also))
    return MappingProxyType(found)


def unit_name(code: str, language: str) -> str:
    """How a learner reads the unit of an item: its name, or the code itself where it is no unit of measure."""
    unit = units().get(code)
    return code if unit is None else unit.name(language)


def unit_named(text: str, language: str) -> Unit | None:
    """The unit that `text` names in `language`, by its code or any of its names; None when it names none."""
    wanted = text.strip()
    return _by_name(language).get(wanted) or _by_name(language).get(wanted.lower())


def unit_written(text: str, language: str, kind: str) -> Unit | None:
    """The unit that a learner writes where one of `kind` is looked for: any name counts, and m^2, sq. m, m squared."""
    wanted = text.strip()
    for unit in units().values():
        names = [name for several in (*unit.names.values(), *unit.also.values()) for name in several]
        if unit.kind == kind and (wanted in names or wanted.lower() in names):
            return unit
    return unit_named(wanted, language) or _power(wanted, language)


def _power(text: str, language: str) -> Unit | None:
    """The area or volume that a length names by its power."""
    for kind, power, factor, pattern in _POWERS:
        match = pattern.fullmatch(text)
        length = unit_named(match[1] or match[2], language) if match else None
        if length is not None and length.kind == "length":
            size = factor * length.size**power
            return next((unit for unit in units().values() if (unit.kind, unit.size) == (kind, size)), None)
    return None


def convert(value: Fraction, unit: Unit, into: Unit) -> Fraction | None:
    """`value` in another unit, exactly; None when they are of different kinds."""
    return value * unit.size / into.size if unit.kind == into.kind else None


@lru_cache(maxsize=2)
def unit_pattern(language: str) -> re.Pattern[str]:
    """Finds the names of units in running text, the longest first; letters such as `m` only after a number."""
    every = sorted(_by_name(language), key=len)
    short = [name for name in every if (len(name) == 1 and name.isascii() and name.isalpha()) or name == "ha"]
    names = [name for name in every if name not in short]
    if language == "zh":
        return re.compile("|".join(map(re.escape, reversed([*short, *names]))))
    spelt = "|".join(map(re.escape, reversed([name for name in names if name[0].isalpha()])))
    signs = "|".join(map(re.escape, (name for name in names if not name[0].isalpha())))
    brief = "|".join(map(re.escape, reversed(short)))
    return re.compile(rf"(?<![A-Za-z])(?:{spelt})(?![A-Za-z])|{signs}|(?<=[\d}}])[ -]?(?:{brief})(?![A-Za-z'’])")


@lru_cache(maxsize=2)
def _by_name(language: str) -> Mapping[str, Unit]:
    found: dict[str, Unit] = {}
    for unit in units().values():
        for name in (unit.code, *unit.names[language]):
            found.setdefault(name, unit)
    return MappingProxyType(found)
