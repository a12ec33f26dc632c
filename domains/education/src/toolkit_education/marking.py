"""A learner's answer, marked: equivalent forms and units count.

It compares with an item that was verified before; it never guesses what a learner may have meant, and says so where an
answer cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.answers import read
from toolkit_education.items import Item
from toolkit_education.numerals import Reading
from toolkit_education.units import Unit, convert, unit_named, unit_pattern, units
from toolkit_education.wording import mentions

RIGHT, UNIT_MISSING, WRONG, UNREADABLE = "right", "right_unit_missing", "wrong", "unreadable"
SIMPLEST = frozenset({"fraction_simplification"})  # skills whose answer must be in its simplest form

# What people write for a unit where the question says the rest: 12 years for an age, 60 km where it asks per hour.
SAID_AS: Mapping[str, str] = MappingProxyType(
    {
        "year_old": "year",
        "year": "year_old",
        "km_per_hour": "km",
        "m_per_second": "m",
        "m_per_minute": "m",
        "mile_per_hour": "mile",
    }
)

_TWO_WAYS = re.compile(r"\d,\d{1,2}(?!\d)|\d\.\d{3}(?!\d)")  # the comma may part decimals, the point thousands
_HOW_MANY = re.compile(r"how many (?:\w+ ){0,3}$|多少个?$|几个?$|in $")
_SWAPPED = str.maketrans(",.", ".,")


@dataclass(frozen=True)
class Marking:
    """The verdict on an answer, `value` as it was read in the answer's unit (None when unreadable), and why."""

    verdict: str
    value: Fraction | None
    reason: str


def mark(item: Item, answer: str) -> Marking:
    """Mark a learner's answer to an item.

    Right are all forms of the same number: 0.5, 1/2, 50% (where the answer is no whole number and has no unit), 1,200,
    1 1/2, 3小时20分, 150 cm for 1.5 m, two thirds, 三分之二. Where the answer has a unit that the question does not
    name, a bare number is `right_unit_missing`; another measure, money or a percentage is wrong. A skill about the
    simplest form takes no other. The reason is a sentence in the item's language.
    """
    found = _marked(item, answer)
    if found.verdict in (WRONG, UNREADABLE) and _TWO_WAYS.search(answer):
        other = _marked(item, answer.translate(_SWAPPED))
        if other.verdict in (RIGHT, UNIT_MISSING):  # 15,50 is read in no other way; 7.705 may be 7705 or be less than 8
            return other if found.verdict == UNREADABLE else _unreadable(item)
    return found


def _marked(item: Item, answer: str) -> Marking:
    try:
        parts = read(answer, item)
    except DataError:
        return _unreadable(item)
    wanted, (first, *rest) = units().get(item.unit), parts
    if rest and wanted is None:
        return _unreadable(item)
    if first.unit is None:
        return _bare(item, first.reading, wanted)
    if wanted is None:
        return _unasked(item, first.reading, first.unit)
    total = Fraction(0)
    for part in parts:
        value = part.reading.value
        same = part.unit is None or (not rest and SAID_AS.get(wanted.code) == part.unit.code)
        converted = value if same or part.unit is None else convert(value, part.unit, wanted)
        if converted is None:
            return _other_unit(item, first.reading.value, first.unit)
        total += converted
    return _compared(item, first.reading, total)


def _bare(item: Item, reading: Reading, wanted: Unit | None) -> Marking:
    """A number without a unit of measure."""
    marked = _compared(item, reading, reading.value)
    if marked.verdict == RIGHT and wanted is not None and wanted.code not in _asked(item):
        name = wanted.name(item.language)
        reason = _say(item, f"The number is right; its unit is {name}.", f"数对了，单位是{name}。")
        return Marking(UNIT_MISSING, reading.value, reason)
    return marked


def _unasked(item: Item, reading: Reading, given: Unit) -> Marking:
    """A measure, money or a percentage where the item has no unit: a share may be a percentage, and what the question
    or the solution itself gives the number counts with it."""
    if given.code == "%" and item.answer.denominator != 1:
        return _compared(item, reading, reading.value / 100)
    if given.code in _asked(item):
        return _compared(item, reading, reading.value)
    return _other_unit(item, reading.value, given)


def _other_unit(item: Item, value: Fraction, given: Unit) -> Marking:
    name = given.name(item.language) if given.names[item.language] else given.code
    return Marking(WRONG, value, _say(item, f"The answer is not in {name}.", f"答案的单位不是{name}。"))


def _unreadable(item: Item) -> Marking:
    english = "I cannot read this. Write one number, and its unit where it has one."
    return Marking(UNREADABLE, None, _say(item, english, "无法读出这个答案，请只写一个数和它的单位。"))


def _compared(item: Item, reading: Reading, value: Fraction) -> Marking:
    if value != item.answer:
        return Marking(WRONG, value, _say(item, "The number is not right.", "数不对。"))
    if item.skill in SIMPLEST and not _is_simplest(reading):
        return Marking(WRONG, value, _say(item, "It is equal, but not in its simplest form.", "相等，但不是最简分数。"))
    return Marking(RIGHT, value, _say(item, "Right.", "正确。"))


def _asked(item: Item) -> frozenset[str]:
    """The codes of the units that the question asks in (`how many minutes`, 多少分钟) or that the solution's last line
    gives the answer."""
    sentences = re.split(r"(?<=[.!?。！？])\s*", item.problem.strip())
    question = next((part for part in reversed(sentences) if part), "")
    places = [
        (match.start(), question[: match.start()].lower()) for match in unit_pattern(item.language).finditer(question)
    ]
    starts = [(question, start) for start, before in places if _HOW_MANY.search(before)]
    last = item.steps[-1] if item.steps else ""
    starts += [(last, one.end) for one in mentions(last, item.language)[-1:] if one.value == item.answer]
    named = set()
    for text, start in starts:
        match = unit_pattern(item.language).match(text, start + len(text[start:]) - len(text[start:].lstrip()))
        unit = unit_named(match.group().strip(" -"), item.language) if match else None
        if unit is not None:
            named.add(unit.code)
    return frozenset(named | {code for code, said in SAID_AS.items() if said in named})


def _is_simplest(reading: Reading) -> bool:
    if reading.shape in ("fraction", "mixed"):
        return reading.lowest
    return reading.value.denominator == 1


def _say(item: Item, english: str, chinese: str) -> str:
    return chinese if item.language == "zh" else english
