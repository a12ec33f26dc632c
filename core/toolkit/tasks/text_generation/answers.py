"""The answer that a text ends with, and whether two answers are the same: what an exact match is made of.

A final answer stands after `####` (GSM8K, arXiv 2110.14168) or in `\\boxed{}` (MATH, arXiv 2103.03874); else it is the
last number of the text, and where there is none, the text itself. Nothing here is run as code.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")
_AROUND = " \t\n.,;:!?$€£¥\"'`*()[]"


def final_answer(text: str) -> str:
    """What the text gives as its answer; empty where it says nothing."""
    text = unicodedata.normalize("NFKC", text)
    if "####" in text:
        return text.rpartition("####")[2].strip().partition("\n")[0].strip()
    if "\\boxed{" in text:
        return _braced(text.rpartition("\\boxed{")[2])
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else text.strip()


def same_answer(one: str, other: str) -> bool:
    """Whether two final answers are equal: as numbers where both are (1,200 = 1200.0, 1/2 = 0.5), else as text without
    case, white space and punctuation around it."""
    one, other = (unicodedata.normalize("NFKC", text).strip(_AROUND) for text in (one, other))
    values = _value(one), _value(other)
    if None not in values:
        return values[0] == values[1]
    return bool(one) and " ".join(one.casefold().split()) == " ".join(other.casefold().split())


def answers_right(text: str, answer: str) -> bool:
    """Whether a text ends with this answer."""
    return same_answer(final_answer(text), answer)


def _braced(text: str) -> str:
    """Up to the brace that closes."""
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return text[:place].strip()
    return text.strip()


def _value(text: str) -> Decimal | None:
    """A number of any usual writing, a percentage as its share."""
    text = text.replace("−", "-").replace(",", "")
    percent, text = text.endswith("%"), text.removesuffix("%").strip()
    above, slash, below = text.partition("/")
    try:
        value = Decimal(above) / Decimal(below) if slash else Decimal(above)
    except (InvalidOperation, ZeroDivisionError):
        return None
    if not value.is_finite():
        return None
    return value / 100 if percent else value
