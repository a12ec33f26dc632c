"""Which numbers of a GSM8K question may be drawn anew, and which stay as they are.

A number stays where another of the same value stands in the question, where a word of the question or answer says it
too ("half", "both", "week") or a list has as many members, where it is a part of a fraction, a date or a name, and
where it adds up with others of the question. What stays is always right; what is drawn must be sure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from toolkit_education.gsm8k_constants import is_harmless, says
from toolkit_education.gsm8k_reading import LeftOut, Row
from toolkit_education.wording import Mention

UNUSED = "a number of the question is not used"

_PERCENT = re.compile(r" ?%|[ -]percent", re.IGNORECASE)
_CENTS = re.compile(r" ?¢|[ -]cents?\b", re.IGNORECASE)
_CLOCK = re.compile(r" ?(?:[ap]\.?m\b|o'clock|[ap]\.m\.)", re.IGNORECASE)
_UNITS = re.compile(r"(?:cm|mm|km|kg|g|m|mph|lbs?|oz|ml|in|ft|gb|mb)\b|(?:th|st|nd|rd)\b", re.IGNORECASE)
_LIST = re.compile(r"((?:[^,.;:?!]{1,40}, )+)(,? ?[^,.;:?!]{0,40}?)\b(?:and|or)\b")
_PAIR = re.compile(r"\b[A-Z]\w+ and [A-Z]\w+")
_YEAR = re.compile(r"\b(?:in|since|of|year|by|until|from|to|and)\s$", re.IGNORECASE)
_MONTH = re.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December|Grade|Chapter|Room"
    r"|Route|Highway|Interstate|No\.|#)\s?$"
)


@dataclass(frozen=True)
class Given:
    """A number of the question that may be drawn anew; `part` is 100 where it counts hundredths (percent, cents)."""

    name: str
    mention: Mention
    part: int


@dataclass(frozen=True)
class Numbers:
    """What a question gives: the numbers to draw, and the values that stay."""

    given: tuple[Given, ...]
    constants: frozenset[Fraction]


def numbers_of(row: Row) -> Numbers:
    """Tell the numbers of a question apart.

    Raises:
        LeftOut: a number that stays in the question plays no part in the answer, so it may contradict what is drawn.
    """
    answer = "\n".join(line.text for line in row.lines)
    needed = {value for mark in row.marks() for value in mark.literals()}
    fixed = set(_fixed_values(row.numbers))
    fixed |= {value for value in needed if is_harmless(value, row.question)} | _listed(row.question)
    plain = [mention for mention in row.numbers if mention.shape in ("whole", "decimal")]
    counts = Counter(mention.value for mention in row.numbers)
    tied = _tied([mention.value for mention in row.numbers if mention.shape not in ("time", "ordinal")])
    given: list[Given] = []
    for mention in plain:
        value, part = mention.value, _part(row.question, mention)
        usable = value in needed or value / part in needed
        stays = (
            counts[value] > 1 or value in fixed or value in tied or value in (0, 1) or _is_name(row.question, mention)
        )
        stays = stays or says(value, row.question) or says(value, answer)
        stays = stays or (part == 100 and (value / part in fixed or value / part in counts))
        if stays or _is_year(row.question, mention):
            fixed |= {value, value / part}
        elif not usable:
            raise LeftOut(UNUSED)
        else:
            given.append(Given(f"q{len(given)}", mention, part))
    return Numbers(tuple(given), frozenset(fixed))


def _fixed_values(numbers: Sequence[Mention]) -> Iterator[Fraction]:
    for mention in numbers:
        if mention.shape in ("words", "fraction", "mixed"):
            yield mention.value
        if mention.shape in ("fraction", "mixed"):
            yield from (Fraction(part) for part in re.split("[ /]", mention.text))


def _listed(question: str) -> set[Fraction]:
    """How many things the question lists: of `3 fish: a trout, a pike and an eel` the 3 may not be drawn anew."""
    found = {Fraction(2)} if _PAIR.search(question) else set()
    for match in _LIST.finditer(question):
        commas = match[1].count(", ")
        found |= {Fraction(commas + 1), Fraction(commas + 2)}
    return found


def _part(question: str, mention: Mention) -> int:
    after = question[mention.end : mention.end + 10]
    return 100 if _PERCENT.match(after) or _CENTS.match(after) else 1


def _is_name(question: str, mention: Mention) -> bool:
    """Whether the number is a part of a name, a clock time or a range of numbers: `A4`, `5 pm`, `10-12`, `Room 7`."""
    before, after = question[: mention.start], question[mention.end : mention.end + 12]
    if before[-1:].isalpha() or (before[-1:] in ("-", "/", "#") and before[-2:-1].isalnum()):
        return True
    if after[:1].isalpha() and not _UNITS.match(after):
        return True
    return bool(_CLOCK.match(after) or _MONTH.search(before) or re.match(r"-\d|/|:\d", after))


def _is_year(question: str, mention: Mention) -> bool:
    return 1000 <= mention.value <= 2100 and bool(_YEAR.search(question[: mention.start]))


def _tied(values: Sequence[Fraction]) -> set[Fraction]:
    """Numbers that add up: 26 students, 12 boys and 14 girls say the same thing twice."""
    found: set[Fraction] = set()
    several = sorted(set(values))
    for n, one in enumerate(several):
        for other in several[n + 1 :]:
            if one + other in several and one + other >= 12:
                found |= {one, other, one + other}
            if one + other == 100:
                found |= {one, other}
    return found
