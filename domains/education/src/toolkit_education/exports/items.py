"""What every export needs of an item: its fields, text that no format chokes on, and the forms of its answer.

It refuses to know any format: escaping is each export's own business, done where the text is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol, TypeVar

from toolkit.errors import DataError
from toolkit_education.marking import SIMPLEST
from toolkit_education.numerals import decimal_places, fixed
from toolkit_education.units import unit_name, units


class Item(Protocol):
    """The fields of toolkit_education.items.Item that an export looks at."""

    @property
    def id(self) -> str: ...
    @property
    def skill(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def language(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def steps(self) -> tuple[str, ...]: ...
    @property
    def answer(self) -> Fraction: ...
    @property
    def unit(self) -> str: ...


AnyItem = TypeVar("AnyItem", bound=Item)

PLACES = 4
"""A decimal is a form of an answer where so many places write it exactly."""

LARGEST = 100
"""A fraction is also right when it is not in lowest terms: those up to this denominator are listed."""

MOST_FORMS = 40

MONEY = frozenset({"$", "元"})
"""Units that are written with two decimals."""


def checked(items: Sequence[AnyItem]) -> Sequence[AnyItem]:
    """The same items.

    Raises:
        DataError: there are none, or two have the same id.
    """
    if not items:
        raise DataError("there are no items to export", hint="Choose at least one.")
    ids = [item.id for item in items]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise DataError(f"{len(twice)} items come twice, the first is {twice[0]!r}", hint="Export each item once.")
    return items


def clean(text: str) -> str:
    """Text without what XML 1.0 forbids or what would turn the order of characters round, in NFC; every line break is
    one newline."""
    text = re.sub("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]", "\n", text)
    kept = (char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs", "Cn"))
    return unicodedata.normalize("NFC", re.sub("[\u202a-\u202e\u2066-\u2069]", "", "".join(kept)))


def one_line(text: str) -> str:
    """`clean` text with every run of white space as one space: for titles and tags."""
    return " ".join(clean(text).split())


def lines(text: str) -> list[str]:
    """The lines of `clean` text, none of them empty."""
    return [line.strip() for line in clean(text).split("\n") if line.strip()]


def unit(item: Item) -> str:
    """The unit of an answer as people read it, one line; nothing where there is none."""
    return one_line(unit_name(item.unit, item.language))


def decimal(value: Fraction) -> str | None:
    """The decimal that writes it exactly, without separators; None where PLACES are too few."""
    places = decimal_places(value)
    if places is None or places > PLACES:
        return None
    digits = str(abs(value) * 10**places).rjust(places + 1, "0")
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return "-" * (value < 0) + whole + "." * bool(part) + part


def forms(value: Fraction) -> tuple[str, ...]:
    """How a learner may write a value, the usual form first: 1200, 1200.0, 1,200; 0.75, .75, 3/4, 6/8; 7/2 and 3 1/2.

    All are exactly the value. At most MOST_FORMS: the list is for programs that compare text.
    """
    sign, size = "-" * (value < 0), abs(value)
    whole, rest = divmod(size, 1)
    if not rest:
        found = [f"{value}", f"{value}.0", f"{value}.00"] + [f"{int(value):,}"] * (whole >= 1000)
        return tuple(found + [f"+{one}" for one in found] * (value > 0))
    found = [one for one in (decimal(value),) if one is not None]
    found += [one.replace("0.", ".", 1) for one in found if one.removeprefix("-").startswith("0.")]
    found.append(f"{sign}{size.numerator}/{size.denominator}")
    if whole:
        found.append(f"{sign}{whole} {rest.numerator}/{rest.denominator}")
    multiples = range(2, LARGEST // size.denominator + 1)
    found += [f"{sign}{size.numerator * by}/{size.denominator * by}" for by in multiples]
    return tuple(dict.fromkeys(found))[:MOST_FORMS]


def keys(item: Item) -> tuple[str, ...]:
    """What counts as right where a program compares text, the usual form first: 10.60, 10.6 and $10.60 for an amount of
    money, 1.5 and 1.5 m for a length; of a skill about the simplest form that one alone."""
    value, known = item.answer, units().get(item.unit)
    if item.skill in SIMPLEST:
        return _simplest(value)
    found = list(forms(value))
    usual = [form for form in found[:4] if form.removeprefix("-").replace("/", "").replace(".", "").isdigit()]
    if item.unit in MONEY and (places := decimal_places(value)) is not None and places <= 2:
        usual.insert(0, fixed(value, 2))
    said = []
    if known is not None:
        names = dict.fromkeys((known.name(item.language), *known.names[item.language][:3]))
        said = [f"{form}{gap}{name}" for form in usual for name in names for gap in (" ", "")]
        said = [f"{item.unit}{form}" for form in usual if item.unit == "$" and value > 0] + said
    return tuple(dict.fromkeys([*usual, *said[: MOST_FORMS // 2], *found]))[:MOST_FORMS]


def _simplest(value: Fraction) -> tuple[str, ...]:
    whole, rest = divmod(abs(value), 1)
    mixed = [f"{'-' * (value < 0)}{whole} {rest}"] if whole and rest else []
    return (str(value), *mixed)
