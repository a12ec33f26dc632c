"""A row of GSM8K taken apart: the numbers of the question, and the lines of the answer with their `<<a=b>>` marks.

It reads what stands there and computes whether each mark is exact. What a number refers to, it does not know.

Source: Cobbe et al., Training Verifiers to Solve Math Word Problems, 2021 (calculation annotations).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from toolkit_education.expressions import ExpressionError, Token, evaluate, tokens
from toolkit_education.numerals import exact
from toolkit_education.wording import Mention, mentions, read_words

NO_MARKS = "no mark"
BRACES = "braces in the text"
NO_FINAL = "no final number"
INEXACT = "a mark is rounded or wrong"
UNREADABLE = "a mark cannot be read"
OTHER_FINAL = "the last mark is not the answer"

_MARK = re.compile(r"<<([^<>]*?)=([^<>=]*)>>")
_NUMBER = r"\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)%?"
_TERM = rf"\(*{_NUMBER}\)*(?: [a-z]{{2,}})?"
_EQUATION = rf"(?<![\w.,$/*+)-]){_TERM}(?: ?[-+*/x×÷−–] ?{_TERM})+ ?= ?\$?"
_UNMARKED = re.compile(rf"{_EQUATION}(?={_NUMBER})", re.ASCII)
_SPELT = re.compile(rf"{_EQUATION}$", re.ASCII)  # what is shown before a mark that only says <<8=8>>
_LONE = re.compile(r"\s*[\d.,]+\s*", re.ASCII)
_VALUE = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?![\d<])", re.ASCII)
_WRITTEN = re.compile(
    r"(?P<ordinal>\d+(?:st|nd|rd|th)\b)|(?P<number>(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?<=\d))"
    r"|(?P<words>\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen|eighteen|nineteen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty(?:-(?:one|two|three|four|five|six|seven"
    r"|eight|nine))?)\b)",
    re.ASCII | re.IGNORECASE,
)


class LeftOut(Exception):
    """A row that is not converted; the message is one of a few reasons that are counted."""


@dataclass(frozen=True)
class Mark:
    """A computation of the answer: `terms` are its tokens, `result` its exact value, `end` where its line shows it."""

    terms: tuple[Token, ...]
    expression: str
    result: Fraction
    end: int

    def literals(self) -> tuple[Fraction, ...]:
        """The numbers in the expression from left to right."""
        return tuple(Fraction(term.text.rstrip(".")) for term in self.terms if term.kind == "number")


@dataclass(frozen=True)
class Line:
    """A line of the answer without its marks' brackets, and the marks in the order of their places in it."""

    text: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Written:
    """A number in a line of the answer, in digits or words."""

    value: Fraction
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Row:
    """A row that reads: `numbers` of the question, `lines` of the answer up to its `####`."""

    question: str
    numbers: tuple[Mention, ...]
    lines: tuple[Line, ...]

    def marks(self) -> tuple[Mark, ...]:
        """All marks in the order of the solution."""
        return tuple(mark for line in self.lines for mark in line.marks)


def read_row(question: str, answer: str) -> Row:
    """Take a row apart.

    Raises:
        LeftOut: it has no marks, one that is not exact, or another final number than the last mark's.
    """
    if any(brace in question + answer for brace in "{}"):
        raise LeftOut(BRACES)
    body, found, final = answer.rpartition("####")
    try:
        wanted = exact(final.strip().replace(",", "").replace("$", ""))
    except (ValueError, ZeroDivisionError):
        raise LeftOut(NO_FINAL) from None
    if not found:
        raise LeftOut(NO_FINAL)
    lines = tuple(_line(text) for text in body.rstrip().split("\n"))
    marks = [mark for line in lines for mark in line.marks]
    if not marks:
        raise LeftOut(NO_MARKS)
    if marks[-1].result != wanted:
        raise LeftOut(OTHER_FINAL)
    return Row(question, mentions(question, "en"), lines)


def written_numbers(text: str) -> tuple[Written, ...]:
    """The numbers of a line of the answer; `48/2` is two of them, and ordinals are none."""
    found = []
    for match in _WRITTEN.finditer(text):
        if match["number"]:
            found.append(Written(Fraction(match["number"].replace(",", "")), match.start(), match.end(), match.group()))
        elif match["words"] and (value := read_words(match["words"], "en")) is not None:
            found.append(Written(value, match.start(), match.end(), match.group()))
    return tuple(found)


def _line(text: str) -> Line:
    plain, place = "", 0
    marks: list[Mark] = []
    for match in _MARK.finditer(text):
        before = text[place : match.start()]
        spelt = _SPELT.search(before) if _LONE.fullmatch(match[1]) else None
        _unmarked(before[: spelt.start()] if spelt else before, len(plain), marks)
        plain += before
        marks.append(_mark(_bare(spelt.group(), match[2]) if spelt else match[1], match[2], len(plain)))
        place = match.end()
    _unmarked(text[place:], len(plain), marks)
    return Line(plain + text[place:], tuple(marks))


def _mark(expression: str, result: str, end: int) -> Mark:
    try:
        terms, value = tokens(expression), evaluate(expression)
        wanted = exact(result.replace(",", "").strip() or "0")
    except (ExpressionError, ValueError, ZeroDivisionError):
        raise LeftOut(UNREADABLE) from None
    if value != wanted:
        raise LeftOut(INEXACT)
    return Mark(terms, expression, value, end)


def _bare(shown: str, result: str) -> str:
    """The expression of what is shown: `100% - 25% =` before `75%` counts percents, so the signs go."""
    signs = "[$,=%]" if result.endswith("%") else "[$,=]"
    return re.sub(rf"{signs}| [a-z]{{2,}}", "", shown).replace("x", "*").strip()


def _unmarked(text: str, offset: int, marks: list[Mark]) -> None:
    """Equations that the writer forgot to mark and that are exact: `5 days - 2 days = 3 days`."""
    for match in _UNMARKED.finditer(text):
        shown = _VALUE.match(text, match.end())
        if shown is None or not shown.group():
            continue
        expression = _bare(match.group(), text[match.end() : shown.end() + 1])
        try:
            terms, value = tokens(expression), evaluate(expression)
        except ExpressionError:
            continue
        if value == Fraction(shown.group().replace(",", "")):
            marks.append(Mark(terms, expression, value, offset + match.end()))
