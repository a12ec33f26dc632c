"""What a generator is written as: one program, its numbers by level, and its words in English and Chinese.

A template becomes an item model for a level, a language and a theme. Words in [brackets] come from the theme; the first
numbers are found by drawing until every step is what the program says: whole, decimal or a fraction.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.expressions import ExpressionError, evaluate
from toolkit_education.generators.themes import Theme, begins_sentence
from toolkit_education.items import LEVELS, POSITIVE, Constraint, ItemModel, Quantity, Step
from toolkit_education.numerals import decimal_places

SOURCE = "generator"
LICENCE = "Apache-2.0"

TRIES = 20_000
_MONEY: Mapping[str, str] = MappingProxyType({"en": "$", "zh": "元"})
_SLOT = re.compile(r"\[(\w+)\]")
_STEP = re.compile(r"(\w+) ([=~?]) (.+)")
_SPAN = re.compile(r"([\d.]+)\.\.([\d.]+)(?:/([\d.]+))?")


@dataclass(frozen=True)
class Template:
    """A problem in two languages.

    Attributes:
        key: skill and name, `addition/get`.
        numbers: each quantity's ranges as `low..high/step`, one for all levels or five for levels 1 to 5.
        program: steps `name = expression` (whole), `name ~ expression` (one or two decimals), `name ? expression` (a
            fraction that may not be a decimal); the last one is the answer.
        en, zh: the problem and one sentence a step; an empty sentence is said by a later one.
        units: by name of a quantity or step; `money` is dollars or yuan.
        must: constraints, `positive a - b` or `whole a / b`.
        levels: where the template is used.
    """

    key: str
    numbers: Mapping[str, str]
    program: tuple[str, ...]
    en: tuple[str, ...]
    zh: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)
    must: tuple[str, ...] = ()
    levels: tuple[int, ...] = LEVELS

    @property
    def skill(self) -> str:
        """The skill it practises."""
        return self.key.partition("/")[0]


@dataclass(frozen=True)
class Numbers:
    """A template's numbers at a level: every quantity's range, and a first draw that fits."""

    ranges: Mapping[str, tuple[Fraction, Fraction, Fraction]]
    first: Mapping[str, Fraction]


def build(template: Template, level: int, language: str, theme: Theme) -> ItemModel:
    """The item model of a template.

    Raises:
        DataError: a word that the theme lacks, or no first numbers.
    """
    numbers = _numbers(template.key, level, tuple(template.numbers.items()), template.program, template.must)
    text, *sentences = (_dressed(words, theme, language) for words in getattr(template, language))
    themed = any(_SLOT.search(words) for words in getattr(template, language))
    steps = []
    for line, words in zip(template.program, sentences, strict=True):
        name, _, expression = _parts(line)
        steps.append(Step(name, expression, words, _unit(template, name, language)))
    quantities = tuple(
        Quantity(name, numbers.first[name], _unit(template, name, language), *numbers.ranges[name])
        for name in template.numbers
    )
    return ItemModel(
        id=f"{template.key}/{level}/{language}" + (f"/{theme.id}" if themed else ""),
        skill=template.skill,
        level=level,
        language=language,
        theme=theme.id if themed else "",
        text=text,
        quantities=quantities,
        steps=tuple(steps),
        answer=steps[-1].name,
        constraints=tuple(Constraint(expression, must) for must, expression in map(_must, template.must)),
        source=SOURCE,
        licence=LICENCE,
    )


def _unit(template: Template, name: str, language: str) -> str:
    unit = template.units.get(name, "")
    return _MONEY[language] if unit == "money" else unit


def _dressed(words: str, theme: Theme, language: str) -> str:
    def word(match: re.Match[str]) -> str:
        known = theme.words[language]
        found = known.get(match[1]) or known.get(match[1].lower())
        if found is None:
            raise DataError(f"theme {theme.id} has no [{match[1]}] in {language}", hint="Add the word to themes.toml.")
        begins = match[1] not in known or (language == "en" and begins_sentence(words, match.start()))
        return found[0].upper() + found[1:] if begins else found

    return _SLOT.sub(word, words)


def _parts(line: str) -> tuple[str, str, str]:
    match = _STEP.fullmatch(line)
    if match is None:
        raise DataError(f"{line!r} is no step of a program", hint="Write name = expression, name ~ ... or name ? ...")
    return match[1], match[2], match[3]


def _must(line: str) -> tuple[str, str]:
    must, _, expression = line.partition(" ")
    return must, expression


def _span(text: str, level: int) -> tuple[Fraction, Fraction, Fraction]:
    spans = text.split()
    match = _SPAN.fullmatch(spans[0] if len(spans) == 1 else spans[level - 1])
    if match is None or len(spans) not in (1, 5):
        raise DataError(f"{text!r} is no range", hint="Write low..high or low..high/step, once or five times.")
    return Fraction(match[1]), Fraction(match[2]), Fraction(match[3] or 1)


@lru_cache(maxsize=4096)
def _numbers(
    key: str, level: int, spans: tuple[tuple[str, str], ...], program: tuple[str, ...], must: tuple[str, ...]
) -> Numbers:
    """The ranges, and the first numbers of a seeded search that make every step what the program says it is."""
    ranges = {name: _span(text, level) for name, text in spans}
    rng = random.Random(f"{key}/{level}")
    for _ in range(TRIES):
        drawn = {
            name: low + step * rng.randrange(int((high - low) / step) + 1) for name, (low, high, step) in ranges.items()
        }
        decimal = all(ranges[name][2].denominator == 1 or value.denominator != 1 for name, value in drawn.items())
        if decimal and 1 not in drawn.values() and _fits(drawn, program, must):
            return Numbers(MappingProxyType(ranges), MappingProxyType(drawn))
    raise DataError(f"generator {key}: no numbers at level {level}", hint="Widen its ranges.")


def _fits(drawn: Mapping[str, Fraction], program: tuple[str, ...], must: tuple[str, ...]) -> bool:
    values = dict(drawn)
    try:
        for name, kind, expression in map(_parts, program):
            values[name] = value = evaluate(expression, values)
            places = decimal_places(value)
            wanted = {"=": places == 0, "~": places in (1, 2), "?": places is None}[kind]
            if value <= 0 or value == 1 or not wanted:
                return False
        for kind, expression in map(_must, must):
            value = evaluate(expression, values)
            if value <= 0 if kind == POSITIVE else value.denominator != 1:
                return False
    except ExpressionError:
        return False
    return True
