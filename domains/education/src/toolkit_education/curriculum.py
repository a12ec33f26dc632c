"""The curriculum: skills as a graph, each with its prerequisites, stage and the size of its numbers by level.

The graph is curriculum.toml. It knows no problem and no learner: what is practised next is decided elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from types import MappingProxyType

from toolkit.errors import DataError

STAGES = (*(f"primary-{grade}" for grade in range(1, 7)), "lower-secondary")


@dataclass(frozen=True)
class NumberRange:
    """The size of the numbers of a level: given ones lie in [low, high], results are at most `most`."""

    low: Fraction
    high: Fraction
    most: Fraction


@dataclass(frozen=True)
class Skill:
    """What is learned. `names` by language; `levels` holds the number range of levels 1 to 5.

    `ccss` are codes of the Common Core State Standards, `china` topics of the Chinese standard of 2022.
    """

    id: str
    names: Mapping[str, str]
    strand: str
    stage: str
    prerequisites: tuple[str, ...]
    levels: tuple[NumberRange, ...]
    ccss: tuple[str, ...]
    china: tuple[str, ...]

    def range(self, level: int) -> NumberRange:
        """The number range of a level, 1 to 5.

        Raises:
            DataError: another level.
        """
        if not 1 <= level <= len(self.levels):
            raise DataError(f"skill {self.id} has no level {level}", hint=f"Levels are 1 to {len(self.levels)}.")
        return self.levels[level - 1]


@lru_cache(maxsize=1)
def curriculum() -> Mapping[str, Skill]:
    """The built-in curriculum by skill id, prerequisites before what needs them."""
    return read_curriculum(resources.files("toolkit_education").joinpath("curriculum.toml").read_text(encoding="utf-8"))


def skill(identifier: str) -> Skill:
    """A skill of the built-in curriculum.

    Raises:
        DataError: no skill has this id.
    """
    known = curriculum()
    if identifier not in known:
        raise DataError(f"no skill is named {identifier}", hint=f"Known: {', '.join(known)}.")
    return known[identifier]


def read_curriculum(text: str) -> Mapping[str, Skill]:
    """The curriculum of a TOML text, checked and in an order in which it can be learned.

    Raises:
        DataError: not TOML, a field that is missing or wrong, an unknown prerequisite, or a circle of them.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the curriculum is not TOML: {error}", hint="See curriculum.toml of the package.") from error
    found = {identifier: _skill(identifier, row) for identifier, row in table.items()}
    for one in found.values():
        for needed in one.prerequisites:
            if needed not in found:
                raise DataError(f"skill {one.id}: prerequisite {needed} is not known", hint="Correct the id.")
    try:
        order = tuple(TopologicalSorter({one.id: one.prerequisites for one in found.values()}).static_order())
    except CycleError as error:
        circle = " -> ".join(str(identifier) for identifier in error.args[1])
        raise DataError(f"prerequisites go in a circle: {circle}", hint="Remove one of them.") from error
    return MappingProxyType({identifier: found[identifier] for identifier in order})


def _skill(identifier: str, row: object) -> Skill:
    try:
        if not isinstance(row, dict):
            raise TypeError("it is not a table")
        ranges, most = row["ranges"], row["most"]
        levels = tuple(
            NumberRange(Fraction(low), Fraction(high), Fraction(top))
            for (low, high), top in zip(ranges, most, strict=True)
        )
        one = Skill(
            identifier,
            MappingProxyType({language: str(row[language]) for language in ("en", "zh")}),
            str(row["strand"]),
            str(row["stage"]),
            tuple(map(str, row["prerequisites"])),
            levels,
            tuple(map(str, row["ccss"])),
            tuple(map(str, row["china"])),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"skill {identifier}: {error!r}", hint="See curriculum.toml of the package.") from error
    if one.stage not in STAGES:
        raise DataError(f"skill {identifier}: stage {one.stage}", hint=f"Stages: {', '.join(STAGES)}.")
    if len(levels) != 5 or any(not 0 < level.low <= level.high for level in levels):
        raise DataError(f"skill {identifier}: its five ranges are not from low to high", hint="Correct `ranges`.")
    return one
