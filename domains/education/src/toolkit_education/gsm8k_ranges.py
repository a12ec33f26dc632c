"""Between which numbers a quantity of a converted problem may be drawn, so that the problem stays plausible.

A number stays within half and twice its size, as round as it was, and within what its neighbours allow: at most 7 days
a week, 100 percent. One and zero are never drawn, for the text was written for several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from toolkit_education.numerals import decimal_places

FEWEST = 9  # numbers to draw from, before the grid is made finer
_STEPS = tuple(step * Fraction(10) ** place for place in (5, 4, 3, 2, 1, 0, -1, -2) for step in (5, 1))
_CAPS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cap)
    for pattern, cap in (
        (r"^[ -]?(?:%|percent)", 95),
        (
            r"^[ -](?:school |work |working )?(?:days?|times|nights|mornings|evenings) "
            r"(?:a|per|each|every|in a|of the) week",
            7,
        ),
        (r"^[ -]hours? (?:\w+ ){0,2}(?:a|per|each|every|in a) (?:day|night)", 20),
        (r"^[ -]hours?[ -](?:day|shift|workday|work day|night)", 16),
        (r"^[ -]months? (?:\w+ )?(?:a|per|each|every|of the) year", 12),
        (r"^[ -]weeks? (?:\w+ )?(?:a|per|each|every|of the) year", 52),
        (r"^[ -]days? (?:\w+ )?(?:a|per|each|every|of the) month", 28),
        (r"^[ -]years?[ -]old", 90),
        (r"^[ -](?:mph|miles per hour|miles an hour)", 600),
    )
)


@dataclass(frozen=True)
class Range:
    """The numbers low, low + step, ... up to high."""

    low: Fraction
    high: Fraction
    step: Fraction


def free_range(value: Fraction, after: str) -> Range:
    """Where a number that was `value` may lie; `after` is the text that follows it.

    Both ends are on the grid of `step` through `value`, and value itself is among the numbers.
    """
    least, most = _ends(value)
    for pattern, cap in _CAPS:
        if pattern.match(after) and value <= cap:
            most = min(most, Fraction(cap))
    whole = value.denominator == 1
    steps = [step for step in _STEPS if (value / step).denominator == 1 and (step >= 1 or not whole)]
    finest = Fraction(1, 10 ** (decimal_places(value) or 0))
    step = next((step for step in steps if (most - least) / step >= FEWEST), finest)
    low = value - step * ((value - least) // step)
    high = value + step * ((most - value) // step)
    return Range(low, high, step)


def _ends(value: Fraction) -> tuple[Fraction, Fraction]:
    if value.denominator != 1:
        least = Fraction(1, 10 ** (decimal_places(value) or 1))
        return max(value / 2, least), value * 2
    return max(value / 2, Fraction(2)), max(value * 2, value + 3)
