"""The curriculum graph: whole, without circles, and refused where it is not."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from toolkit.errors import DataError
from toolkit_education.curriculum import STAGES, curriculum, read_curriculum, skill
from toolkit_education.units import convert, unit_named, unit_pattern, units

ONE = """
[{id}]
en = "A"
zh = "甲"
strand = "s"
stage = "{stage}"
prerequisites = [{needs}]
ccss = []
china = []
ranges = {ranges}
most = ["1", "2", "3", "4", "5"]
"""
RANGES = '[["1", "2"], ["1", "2"], ["1", "2"], ["1", "2"], ["1", "2"]]'


def made(identifier: str, needs: str = "", stage: str = "primary-1", ranges: str = RANGES) -> str:
    return ONE.format(id=identifier, needs=needs, stage=stage, ranges=ranges)


def test_prerequisites_come_before_what_needs_them() -> None:
    seen: set[str] = set()
    for one in curriculum().values():
        assert set(one.prerequisites) <= seen
        seen.add(one.id)
    assert len(seen) >= 24


def test_every_skill_is_named_and_placed() -> None:
    strands = {one.strand for one in curriculum().values()}
    wanted = ("arithmetic", "fractions", "percentages", "ratio", "measures", "equations", "geometry", "data")
    assert strands >= set(wanted)
    for one in curriculum().values():
        assert one.names["en"]
        assert re.search("[\u4e00-\u9fff]", one.names["zh"])
        assert one.stage in STAGES
        assert all(re.fullmatch(r"\d\.[A-Z]{1,3}\.[A-Z]\.\d+[a-d]?", code) for code in one.ccss), one.ccss


def test_numbers_do_not_shrink_from_level_to_level_and_prerequisites_are_not_later() -> None:
    for one in curriculum().values():
        highs = [level.high for level in one.levels]
        assert highs == sorted(highs), one.id
        assert all(STAGES.index(skill(needed).stage) <= STAGES.index(one.stage) for needed in one.prerequisites), one.id


def test_a_circle_is_named() -> None:
    with pytest.raises(DataError, match=r"a -> b -> a|b -> a -> b"):
        read_curriculum(made("a", '"b"') + made("b", '"a"'))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (made("a", '"nowhere"'), "prerequisite nowhere is not known"),
        (made("a", stage="university"), "stage university"),
        (made("a", ranges='[["2", "1"], ["1", "2"], ["1", "2"], ["1", "2"], ["1", "2"]]'), "not from low to high"),
        (made("a", ranges='[["1", "2"]]'), "skill a"),
        ("[a]\nen = 'A'", "skill a"),
        ("a = 1", "skill a"),
        ("[a", "not TOML"),
    ],
)
def test_what_is_no_curriculum_is_refused(text: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        read_curriculum(text)


def test_unknown_skills_and_levels_are_refused() -> None:
    with pytest.raises(DataError, match="no skill is named"):
        skill("juggling")
    with pytest.raises(DataError, match="no level 6"):
        skill("addition").range(6)


@pytest.mark.parametrize(
    ("value", "unit", "into", "expected"),
    [
        ("3/2", "m", "cm", 150),
        (3, "hour", "minute", 180),
        (2, "kg", "g", 2000),
        (1, "mile", "foot", 5280),
        (1, "pound", "ounce", 16),
        (1, "gallon", "quart", 4),
        (1, "yard", "inch", 36),
        (1, "ton", "pound", 2000),
        (1, "m3", "l", 1000),
        (36, "km_per_hour", "m_per_second", 10),
        (1, "元", "分", 100),
        (2, "year", "month", 24),
    ],
)
def test_units_convert_exactly(value: str | int, unit: str, into: str, expected: int) -> None:
    assert convert(Fraction(value), units()[unit], units()[into]) == expected


def test_units_of_other_kinds_do_not_convert() -> None:
    assert convert(Fraction(1), units()["m"], units()["kg"]) is None
    assert convert(Fraction(1), units()["$"], units()["元"]) is None
    assert convert(Fraction(1), units()["month"], units()["day"]) is None


def test_units_are_found_by_name() -> None:
    found = {text: unit_named(text, "en") for text in ("Minutes", "sq cm", "mL", "parsec")}
    assert [unit.code if unit else None for unit in found.values()] == ["minute", "cm2", "ml", None]
    assert unit_pattern("en").findall("5 m of rope, {a} cm, 7 pounds and my ton") == [" m", "cm", "pounds", "ton"]
