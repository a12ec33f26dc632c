"""The words that carry a problem's arithmetic: more, fewer, twice, each, left, how many, in English and Chinese.

A text is read as a row of anchors: its placeholders, numbers, units, relation words (each as one class, so that
"altogether" and "in all" are the same) and the ends of its sentences. The words are relations.toml; what a text is
about is of no interest here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from toolkit.errors import DataError
from toolkit_education.numerals import LANGUAGES
from toolkit_education.templates import PLACEHOLDER
from toolkit_education.units import unit_named, unit_pattern
from toolkit_education.wording import mentions

_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)[.!?](?=\s|$)|[。！？]")


_SIZES = frozenset({"long", "wide", "high"})
"""Classes of words that are parts of names too: long boats."""


@dataclass(frozen=True)
class Lexicon:
    """The relation words of a language: `classes` and the `verbs` of gaining and losing, name and pattern by turns."""

    classes: tuple[str, ...]
    pattern: re.Pattern[str]
    verbs: tuple[str, ...]
    verb_pattern: re.Pattern[str]


@dataclass(frozen=True)
class Anchor:
    """A place in a text that carries arithmetic; `kind` is `{name}`, `number:3`, `unit:minute`, `end`
    or a relation class."""

    kind: str
    start: int
    end: int


def anchors(text: str, language: str) -> tuple[Anchor, ...]:
    """The anchors of a text with placeholders, from left to right.

    Raises:
        DataError: a language that is not known.
    """
    lexicon = _lexicon(language)
    taken = sorted(
        [*_exact(text, language), *_classed(text, lexicon.pattern, lexicon.classes)],
        key=lambda one: (one.start, -one.end),
    )
    found: list[Anchor] = []
    for anchor in taken:
        if not found or anchor.start >= found[-1].end:
            found.append(anchor)
    return tuple(anchor for anchor in found if anchor.kind != "none")


def carried(word: str, language: str) -> tuple[str, ...]:
    """The kinds of anchors that a word or few bring into any problem that they are put in: "half as many pens" is no
    name of a thing. A Chinese character that says more or less by itself says nothing within a noun, as in 长颈鹿."""
    return tuple(
        found.kind
        for found in anchors(word, language)
        if ":" in found.kind
        or (found.kind not in _SIZES and not (language == "zh" and found.end - found.start == 1 < len(word)))
    )


def direction_verbs(text: str, language: str) -> tuple[Anchor, ...]:
    """Where someone gains or loses something: `gain` and `loss`."""
    lexicon = _lexicon(language)
    return tuple(_classed(text, lexicon.verb_pattern, lexicon.verbs))


def opposed(one: str, other: str) -> bool:
    """Whether two classes say the contrary."""
    return frozenset((one, other)) in _opposites()


def names_nothing() -> frozenset[str]:
    """English words by which nobody and nothing is recognised: articles, pronouns, prepositions."""
    return frozenset(_table()["names"]["none"])


def _exact(text: str, language: str) -> Iterator[Anchor]:
    for match in PLACEHOLDER.finditer(text):
        yield Anchor(f"{{{match[1]}}}", match.start(), match.end())
    for mention in mentions(PLACEHOLDER.sub(lambda match: "□" * len(match.group()), text), language):
        if mention.shape != "words" or mention.value != 1:  # "one of them" is no number
            yield Anchor(f"number:{mention.value}", mention.start, mention.end)
    for match in _SENTENCE_END.finditer(text):
        yield Anchor("end", match.start(), match.end())
    for match in unit_pattern(language).finditer(text):
        unit = unit_named(match.group().strip(" -"), language)
        if unit is not None and (language == "en" or _after_number(text, match.start())):
            yield Anchor(f"unit:{unit.code}", match.start(), match.end())


def _after_number(text: str, place: int) -> bool:
    """A Chinese unit follows a number or a question word: 3米, 多少米, 每分钟; 米饭 is none."""
    before = text[:place]
    return bool(re.search(r"[\d}一二三四五六七八九十百千几半两]\s?$|多少$|每$", before))


def _classed(text: str, pattern: re.Pattern[str], classes: tuple[str, ...]) -> Iterator[Anchor]:
    for match in pattern.finditer(text):
        if match.lastgroup:
            yield Anchor(classes[int(match.lastgroup[1:])], match.start(), match.end())


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return tomllib.loads(resources.files("toolkit_education").joinpath("relations.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _opposites() -> frozenset[frozenset[str]]:
    return frozenset(map(frozenset, _table()["opposites"]["pairs"]))


@lru_cache(maxsize=2)
def _lexicon(language: str) -> Lexicon:
    if language not in LANGUAGES:
        raise DataError(f"no language {language!r}", hint=f"Known: {', '.join(LANGUAGES)}.")
    table, verbs = _table()[language], _table()["verbs"][language]
    return Lexicon(
        tuple(table), _alternatives(table.values(), language), tuple(verbs), _alternatives(verbs.values(), language)
    )


def _alternatives(patterns: Iterable[str], language: str) -> re.Pattern[str]:
    groups = "|".join(f"(?P<c{place}>{words})" for place, words in enumerate(patterns))
    return re.compile(groups if language == "zh" else rf"(?<![A-Za-z])(?:{groups})(?![A-Za-z])", re.IGNORECASE)
