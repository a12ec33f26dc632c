"""The answer that a text ends with, and whether two answers are the same: what an exact match is made of.

A final answer stands after `####` (GSM8K, arXiv 2110.14168) or in `\\boxed{}` (MATH, arXiv 2103.03874), whichever comes
last; else it is the last number of the text, and where there is none, the text itself. What a reasoning model thought
first, up to `</think>`, is no answer. Nothing here is run as code.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, DecimalException

_PLAIN = r"(?:(?:\d{1,3}(?:,\d{2,3}){0,8},\d{3}(?!,?\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,4})?"
_NUMBER = re.compile(
    rf"(?P<sign>[-+])? ?(?:(?P<whole>\d+) (?=\d+/))?(?P<above>{_PLAIN})(?:/(?P<below>{_PLAIN}))? ?(?P<percent>%)?"
)
_MEASURED = re.compile(rf"(?P<number>{_NUMBER.pattern})[\s-]*(?:[^\W\d_]|°)(?:\D|\^\d)*")
# A date, a time or a version is one thing and no number; a sign after a digit or a bracket is an operator; no number
# begins inside a word or an exponent, and what is raised to a power is none either.
_IN_TEXT = re.compile(
    r"(?<![\w^.])(?:\d+(?P<mark>[/:.-])\d+(?:(?P=mark)\d+)+|\d+:\d+"
    rf"|(?:(?<![\d)])[-+])?(?:\d+ (?=\d+/\d))?{_PLAIN}(?:/{_PLAIN})?%?)(?!\^|\d|\.\d)"
)
_HUNDREDTH = Decimal("0.01")
_AROUND = " \t\n,;:!?\"'`*()[]"
_LATEX = (
    (re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\{,\}|\\,(?=\d{3})"), ","),
    (re.compile(r"\\[!,;: ]|\\(?=[%\d.])"), ""),
)
_SUPERSCRIPTS = str.maketrans({digit: f"^{number}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
_SIGNS = str.maketrans({"−": "-", "–": "-", "⁄": "/", "$": "", "€": "", "£": "", "¥": ""})


def final_answer(text: str) -> str:
    """What the text gives as its answer; empty where it says nothing."""
    text = _normal(text).rpartition("</think>")[2]
    marked, boxed = text.rfind("####"), text.rfind("\\boxed{")
    if marked > boxed:
        return text[marked:].lstrip("#").strip().partition("\n")[0].strip()
    if boxed >= 0:
        return _braced(text[boxed + len("\\boxed{") :])
    numbers = [found[0] for found in _IN_TEXT.finditer(text)]
    return numbers[-1] if numbers else text.strip()


def same_answer(one: str, other: str) -> bool:
    """Whether two final answers are equal.

    As numbers where both are: 1,200 = 1200.0, 1e3 = 1000, 1/2 = 0.5 = \\frac{1}{2}, $5 = 5. A percentage is its figure
    and its share: 50% = 50, 50% = 0.5. A number before a unit is the number alone (72 clips = 72); of two units each
    says its own (72 cm is not 72 m). What holds several numbers, a list or a date, is text. Text is the same without
    case, white space and punctuation around it.
    """
    one, other = _bare(one), _bare(other)
    values = _value(one), _value(other)
    if values[0] is None and values[1] is None:
        return _same_text(one, other)
    mine, theirs = (found or _measured(text) for found, text in zip(values, (one, other), strict=True))
    return mine is not None and theirs is not None and _equal(mine, theirs)


def answers_right(text: str, answer: str) -> bool:
    """Whether a text ends with this answer, or is it."""
    return same_answer(final_answer(text), answer) or _same_text(_bare(text), _bare(answer))


def _normal(text: str) -> str:
    """Compatibility forms made plain; 10² stays apart from 102, and 2½ from 21/2."""
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text.translate(_SUPERSCRIPTS))
    return unicodedata.normalize("NFKC", text).translate(_SIGNS)


def _bare(text: str) -> str:
    """For comparing: what stands around an answer taken away, and what LaTeX puts into it."""
    text = _normal(text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    name, _, value = text.rpartition("=")
    if name.replace(" ", "").isalpha():  # x = 72
        text = value
    return " ".join(text.strip(_AROUND).rstrip("." + _AROUND).split())


def _braced(text: str) -> str:
    """Up to the brace that closes."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return text[:place].strip()
    return text.strip()


def _value(text: str) -> tuple[Decimal, Decimal | None] | None:
    """A number of any usual writing, and its share where it is a percentage."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    try:
        value = Decimal(found["above"].replace(",", ""))
        if found["below"]:
            value /= Decimal(found["below"].replace(",", ""))
        if found["whole"]:
            value += Decimal(found["whole"])
        value = value.copy_negate() if found["sign"] == "-" else value
        return value, (value * _HUNDREDTH if found["percent"] else None)
    except DecimalException:  # divided by zero, or beyond all bounds
        return None


def _measured(text: str) -> tuple[Decimal, Decimal | None] | None:
    """The number before a unit."""
    found = _MEASURED.fullmatch(text)
    return None if found is None else _value(found["number"].strip())


def _equal(one: tuple[Decimal, Decimal | None], other: tuple[Decimal, Decimal | None]) -> bool:
    if (one[1] is None) == (other[1] is None):
        return one[0] == other[0]
    return other[0] in one if other[1] is None else one[0] in other


def _same_text(one: str, other: str) -> bool:
    one, other = (re.sub(r"\s*,\s*", ",", text.casefold()) for text in (one, other))
    return bool(one) and one == other
