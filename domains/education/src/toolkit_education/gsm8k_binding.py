"""What each number of a worked solution refers to: a quantity of the problem, an earlier result, or a constant.

Numbers are told apart by use: every quantity and every intermediate result is needed somewhere. Where several readings
are left that compute differently, the row is left out. It knows numbers, not words.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from toolkit_education.expressions import ExpressionError, evaluate
from toolkit_education.gsm8k_reading import LeftOut, Mark, Written

NOWHERE = "a number comes from nowhere"
TWO_READINGS = "two readings of equal numbers"
TWO_IN_WORDS = "two readings of equal numbers in the words"
TOO_MANY = "too many equal numbers"

MOST_READINGS = 3000


@dataclass(frozen=True)
class Source:
    """What a number may refer to. `text` stands for it in an expression, empty where the number stays as it is.

    `name` is the quantity or result behind it; `value` is what is written for it; it is known from mark `born` on;
    one that is `due` must be used somewhere. `share` is the part of the quantity that the text stands for, 1/100 of a
    percentage.
    """

    name: str
    text: str
    value: Fraction
    born: int
    due: bool
    share: Fraction = Fraction(1)


@dataclass(frozen=True)
class Bound:
    """A mark whose numbers are told apart: `sources` in the order of its numbers, `expression` over their names.

    `doubtful` are the places of numbers that might change places without another result: 4 + 4 of two different fours.
    """

    sources: tuple[Source, ...]
    expression: str
    doubtful: frozenset[int] = frozenset()


def constant(value: Fraction) -> Source:
    """A number that stays as it is."""
    return Source("", "", value, -1, False)


def bind(marks: Sequence[Mark], given: Sequence[Source], constants: Container[Fraction]) -> tuple[Bound, ...]:
    """What the numbers of all marks refer to.

    Args:
        given: the quantities that may be drawn anew; no two of equal value, none equal to a constant.
        constants: the numbers that stay as they are.

    Raises:
        LeftOut: a number comes from nowhere, or readings remain that compute differently.
    """
    results = [Source(f"r{n}", f"r{n}", mark.result, n, n < len(marks) - 1) for n, mark in enumerate(marks, start=0)]
    choices: list[list[Source]] = []
    for n, mark in enumerate(marks):
        for value in mark.literals():
            found = [source for source in given if source.value == value]
            found += [result for result in results[:n] if result.value == value]
            if value in constants:
                found.append(constant(value))
            if not found:
                raise LeftOut(NOWHERE)
            choices.append(found)
    return _told_apart(marks, choices, [*results, *given])


def _told_apart(
    marks: Sequence[Mark], choices: Sequence[Sequence[Source]], everything: Sequence[Source]
) -> tuple[Bound, ...]:
    size = 1
    for found in choices:
        size *= len(found)
        if size > MOST_READINGS:
            raise LeftOut(TOO_MANY)
    due = {source.name for source in everything if source.due}
    readings = [reading for reading in itertools.product(*choices) if due <= {source.name for source in reading}]
    if not readings:
        raise LeftOut("a quantity or a result is not used")
    bounds = [tuple(_bound(marks, reading)) for reading in readings]
    if len(bounds) == 1:
        return bounds[0]
    meaning = _meaning(marks, bounds[0], everything)
    if any(_meaning(marks, bound, everything) != meaning for bound in bounds[1:]):
        raise LeftOut(TWO_READINGS)
    return tuple(
        replace(bound, doubtful=frozenset(_differing([other[n] for other in bounds])))
        for n, bound in enumerate(bounds[0])
    )


def _differing(readings: Sequence[Bound]) -> Iterator[int]:
    for place in range(len(readings[0].sources)):
        if len({reading.sources[place].text for reading in readings}) > 1:
            yield place


def _bound(marks: Sequence[Mark], reading: Sequence[Source]) -> Iterator[Bound]:
    rest = iter(reading)
    for mark in marks:
        sources, text = [], ""
        for term in mark.terms:
            if term.kind == "number":
                sources.append(next(rest))
                text += sources[-1].text or term.text
            else:
                text += f" {term.text} " if term.text in "+-" and text and text[-1] not in "(*/" else term.text
        yield Bound(tuple(sources), text)


def _meaning(marks: Sequence[Mark], reading: Sequence[Bound], everything: Sequence[Source]) -> tuple[Fraction, ...]:
    """What the program computes at three points where no two quantities are equal."""
    found: list[Fraction] = []
    for seed in range(3):
        rng = random.Random(seed)
        given = [source for source in everything if source.born < 0]
        drawn = {source.name: Fraction(rng.randrange(10**4, 10**6)) for source in given}
        values = {source.text: drawn[source.name] * source.share for source in given}
        for n, bound in enumerate(reading):
            try:
                values[f"r{n}"] = evaluate(bound.expression, values)
            except ExpressionError:
                raise LeftOut(TWO_READINGS) from None
            found.append(values[f"r{n}"])
    return tuple(found)


def shown_sources(text: str, numbers: Sequence[Written], mark: Mark, bound: Bound) -> Mapping[int, Source]:
    """What the numbers of an expression refer to that is written out before its mark, by their place in the line.

    Args:
        numbers: the numbers that stand before the mark, from left to right.

    Raises:
        LeftOut: words stand at a number that might be another: 10 bottles * 10 cents.
    """
    values, count = mark.literals(), len(bound.sources)
    shown = numbers[-count:] if count else ()
    if tuple(number.value for number in shown) != values:
        if bound.doubtful:
            raise LeftOut(TWO_IN_WORDS)
        return {}
    ends = [*(number.start for number in shown[1:]), mark.end]
    for place in bound.doubtful:
        if re.search("[A-Za-z]{2}", text[shown[place].end : ends[place]]):
            raise LeftOut(TWO_IN_WORDS)
    return {number.start: source for number, source in zip(shown, bound.sources, strict=True)}


def word_source(value: Fraction, known: Sequence[Source], constants: Container[Fraction]) -> Source | None:
    """What a number in a sentence refers to; None where nothing known has its value.

    Args:
        known: quantities and results up to the end of the sentence.

    Raises:
        LeftOut: two things of this value are known.
    """
    found = {source.text: source for source in known if source.value == value}
    if value in constants:
        found[""] = constant(value)
    if len(found) > 1:
        raise LeftOut(TWO_IN_WORDS)
    return next(iter(found.values()), None)
