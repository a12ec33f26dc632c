"""A learner's answer and working, marked: equivalent forms and units count, and the first wrong line is named.

It compares with an item that was verified before; it never guesses what a learner may have meant, and says so where an
answer cannot be read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.expressions import ExpressionError, evaluate, literals_of
from toolkit_education.items import Item
from toolkit_education.numerals import LANGUAGES, Reading, parse_number, show
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

MOST_CHARACTERS = 400
MOST_WORKING = 4000
_LEAD = re.compile(
    r"^\s*(?:(?:so |thus |therefore,? )?(?:the )?(?:final )?(?:answer|result)(?: is|:|：)?"
    r"|答案?(?:是|为|：|:)?|[A-Za-z] ?=|=)\s*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-−]?[$¥￥€£]?[-−]?(?:\d|\.\d|[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")


@dataclass(frozen=True)
class Marking:
    """The verdict on an answer, `value` as it was read in the answer's unit (None when unreadable), and why."""

    verdict: str
    value: Fraction | None
    reason: str


def mark(item: Item, answer: str) -> Marking:
    """Mark a learner's answer to an item.

    Right are all forms of the same number: 0.5, 1/2, 50% (where the answer has no unit), 1,200, 1 1/2, 3小时20分,
    150 cm for 1.5 m. Where the answer has a unit that the question does not name, a bare number is
    `right_unit_missing`. A skill about the simplest form takes no other. The reason is a sentence in the item's
    language.
    """
    try:
        parts = tuple(_parts(answer, item.language))
    except DataError as error:
        return Marking(
            UNREADABLE, None, _say(item, f"I cannot read this: {error.message}", "无法读出这个答案，请只写一个数。")
        )
    unit = units().get(item.unit)
    if len(parts) > 1:
        return _compound(item, parts, unit)
    reading = parts[0]
    given = _unit_of(reading.unit, item.language)
    value = reading.value
    if given is not None and given.code == "%" and item.unit != "%":
        value, given = value / 100, None
    if unit is None or given is None:
        return _plain(item, reading, value, unit)
    converted = value if SAID_AS.get(unit.code) == given.code else convert(value, given, unit)
    if converted is None:
        return Marking(WRONG, value, _say(item, f"The answer is no {_name(given)}.", f"答案的单位不是{_name(given)}。"))
    return _compared(item, reading, converted)


def _plain(item: Item, reading: Reading, value: Fraction, unit: Unit | None) -> Marking:
    """An answer without a unit of measure."""
    marked = _compared(item, reading, value)
    if marked.verdict == RIGHT and unit is not None and not _named_in_question(item, unit):
        name = unit.name(item.language)
        return Marking(
            UNIT_MISSING, value, _say(item, f"The number is right; its unit is {name}.", f"数对了，单位是{name}。")
        )
    return marked


def _compared(item: Item, reading: Reading, value: Fraction) -> Marking:
    if value != item.answer:
        return Marking(WRONG, value, _say(item, "The number is not right.", "数不对。"))
    if item.skill in SIMPLEST and not _is_simplest(reading):
        return Marking(WRONG, value, _say(item, "It is equal, but not in its simplest form.", "相等，但不是最简分数。"))
    return Marking(RIGHT, value, _say(item, "Right.", "正确。"))


def _compound(item: Item, parts: tuple[Reading, ...], unit: Unit | None) -> Marking:
    """An answer in several units, 3 hours 20 minutes."""
    total = Fraction(0)
    for reading in parts:
        given = _unit_of(reading.unit, item.language)
        converted = convert(reading.value, given, unit) if given is not None and unit is not None else None
        if converted is None:
            return Marking(UNREADABLE, None, _say(item, "There is more than one number.", "答案里有不止一个数。"))
        total += converted
    return _compared(item, parts[0], total)


def _parts(answer: str, language: str) -> Iterator[Reading]:
    """The numbers of an answer with the unit after each.

    Raises:
        DataError: there is none, or one that cannot be read.
    """
    if len(answer) > MOST_CHARACTERS:
        raise DataError("it is too long", hint=f"At most {MOST_CHARACTERS} characters.")
    text = re.sub(r"(?<=\d)[，](?=\d{3})", ",", answer.strip())
    text = _LEAD.sub("", text.rpartition("=")[2] if "=" in text else text)
    text = _LEAD.sub("", text)
    starts = [match.start() for match in _NUMBER.finditer(text)]
    if not starts:
        words = [mention for mention in mentions(text, language) if mention.shape == "words"]
        if len(words) != 1:
            raise DataError("there is no number", hint="Write a number.")
        yield Reading(words[0].value, text[words[0].end :].strip(" .。"), "whole")
        return
    first = [starts[0]]
    place = _end(text, starts[0])
    for start in starts[1:]:
        if start >= place:
            first.append(start)
            place = _end(text, start)
    for start, end in zip(first, [*first[1:], len(text)], strict=True):
        yield parse_number(text[start:end].rstrip(" ,，和") or text[start:end])


def _end(text: str, start: int) -> int:
    """Where the number ends that begins at `start`: `1 1/2` is one number, `3 小时 20 分` are two."""
    match = re.compile(r"[-−]?[$¥￥€£]?[-−]?[\d.,]*(?: ?\d+/\d+|/\d+)?[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]?").match(text, start)
    return match.end() if match and match.end() > start else start + 1


def _unit_of(text: str, language: str) -> Unit | None:
    """The unit that begins a text, in the item's language or another; `hours long` is hours."""
    words = unicodedata.normalize("NFKC", text).replace("m2", "m²").strip(" .。")
    for one in (language, *(other for other in LANGUAGES if other != language)):
        candidates = [words[:end] for end in range(len(words), 0, -1)] if one == "zh" else _prefixes(words)
        for candidate in candidates:
            unit = unit_named(candidate, one)
            if unit is not None:
                return unit
    return None


def _prefixes(words: str) -> list[str]:
    parts = words.split()
    return [" ".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _named_in_question(item: Item, unit: Unit) -> bool:
    """Whether the question asks in that unit: `how many minutes`, 多少分钟."""
    sentences = re.split(r"(?<=[.!?。！？])\s*", item.problem.strip())
    question = next((part for part in reversed(sentences) if part), "")
    for match in unit_pattern(item.language).finditer(question):
        named = unit_named(match.group().strip(" -"), item.language)
        before = question[: match.start()].lower()
        if named in (unit, units().get(SAID_AS.get(unit.code, ""))) and re.search(
            r"how many (?:\w+ ){0,3}$|多少$|几$|in $", before
        ):
            return True
    return False


def _is_simplest(reading: Reading) -> bool:
    if reading.shape != "fraction":
        return reading.value.denominator == 1
    return reading.lowest


def _name(unit: Unit) -> str:
    return unit.names["en"][0] if unit.names["en"] else unit.code


def _say(item: Item, english: str, chinese: str) -> str:
    return chinese if item.language == "zh" else english


@dataclass(frozen=True)
class WrongStep:
    """The first wrong line of a learner's working: its number from 1, its text, what is wrong, and a sentence for them.

    `kind` is `arithmetic` (the line's own sum is wrong; `expected` is what is right) or `number` (it uses a number that
    neither the problem nor an earlier line gives).
    """

    line: int
    text: str
    kind: str
    expected: Fraction | None
    explanation: str


def first_wrong_step(item: Item, working: str) -> WrongStep | None:
    """The first line of a learner's working that is wrong; None where none is, or where nothing can be recomputed.

    Lines hold equations such as `12*3=36`, `12 apples x 3 = 36 apples` or `x = 100 - 36 = 64`; others are passed over.
    """
    known = _given_numbers(item)
    for number, line in enumerate(re.split(r"[\n;；]", working[:MOST_WORKING]), start=1):
        sides = [side for side in map(_expression, line.split("=")) if side is not None]
        if len(sides) < 2:
            continue
        for (left, value), (right, other) in pairwise(sides):
            if value != other:
                return WrongStep(number, line.strip(), "arithmetic", value, _arithmetic(item, left, value, right))
        for left, value in sides[:-1]:
            strange = next((one for one in literals_of(left) if one not in known), None)
            if strange is not None:
                return WrongStep(number, line.strip(), "number", None, _strange(item, strange))
            known.add(value)
        known.add(sides[-1][1])
    return None


def _given_numbers(item: Item) -> set[Fraction]:
    """What a working may use: the problem's numbers, the model solution's, and what percent they are of one."""
    known = {Fraction(1), Fraction(100), *item.values.values()}
    for text in (item.problem, *item.steps):
        for mention in mentions(text, item.language):
            known.add(mention.value)
            known |= {Fraction(digits) for digits in re.findall(r"\d+", mention.text)}
    return known | {value / 100 for value in known} | {1 - value / 100 for value in known if value < 100}


def _expression(side: str) -> tuple[str, Fraction] | None:
    """One side of an equation without its words and units, and its value; None where it cannot be computed."""
    text = unicodedata.normalize("NFKC", side.replace("½", "1/2").replace("¼", "1/4").replace("¾", "3/4"))
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.replace("⁄", "/"))
    text = re.sub(r"(?<=[\d)%a-z]) ?[xX] ?(?=[\d($])", "*", text)
    text = re.sub(r"[A-Za-z²³°$¥€£\u4e00-\u9fff]+", " ", text).strip(" .,:。，：")
    if not re.search(r"\d", text):
        return None
    try:
        return text, evaluate(text)
    except ExpressionError:
        return None


def _arithmetic(item: Item, left: str, value: Fraction, right: str) -> str:
    correct, wrong = show(value, item.language), right.strip()
    return _say(item, f"{left.strip()} is {correct}, not {wrong}.", f"{left.strip()}等于{correct}，不是{wrong}。")


def _strange(item: Item, value: Fraction) -> str:
    number = show(value, item.language)
    return _say(
        item,
        f"{number} is neither in the problem nor found in an earlier line.",
        f"{number}既不是题目给出的数，也不是前面算出的数。",
    )
