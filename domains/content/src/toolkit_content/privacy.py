"""Personal data in copy: telephone numbers, mail addresses, messenger names, numbers of cards, accounts and identities.
Found, never kept.

Looked for in a text as it is read, so in any width. A row of digits alone is a part's number as often as a telephone's:
it counts where it is written as one, or beside a word that says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from toolkit_content.reading import read

_CALL = r"(?:\b(?:call|ring|dial|tel|phone|telephone|mobile|fax|hotline|whatsapp)\b|电话|致电|手机|热线|座机|拨打|联系)"
_FEWEST, _MOST = 8, 15
"""Digits of an international telephone number (ITU-T E.164)."""


def _luhn(number: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812)."""
    digits = [int(one) for one in number if one.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _iban(number: str) -> bool:
    """The check digits of an account (ISO 13616): the rest by 97 is 1."""
    plain = "".join(number.split())
    return int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1


def _e164(number: str) -> bool:
    return _FEWEST <= sum(map(str.isdigit, number)) <= _MOST


def _always(_: str) -> bool:
    return True


_KINDS: Sequence[tuple[str, str, Callable[[str], bool]]] = (
    ("mail address", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _always),
    (
        "identity number",
        r"(?<!\d)[1-9]\d{5}[ -]?(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])[ -]?\d{3}[\dx](?!\d)",
        _always,
    ),
    ("account number", r"(?<![a-z0-9])[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){2,7}(?: ?[a-z0-9]{1,3})?(?![a-z0-9])", _iban),
    ("messenger name", r"(?:微信|wechat|vx)号?\s*:?\s*(?P<at>(?=[a-z_-]*\d)[a-z0-9_-]{6,20})", _always),
    ("messenger name", r"qq号?\s*:?\s*(?P<at>\d{5,11})", _always),
    ("telephone number", r"\+\d{1,3}(?:[ .-]?\(?\d{1,11}\)?){1,6}", _e164),
    ("card number", r"(?<![\d+])(?:\d[ -]?){13,18}\d(?!\d)", _luhn),
    ("telephone number", r"(?<![\d.])(?:86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d|\.\d)", _always),
    ("telephone number", r"(?<![\d.])\(?0\d{1,4}\)?[ -]\d{3,4}[ -]?\d{3,4}(?!\d|\.\d|[ -]\d)", _always),
    ("telephone number", r"(?<![\d.])0\d(?:[ .-]\d{2}){4}(?!\d)", _always),
    ("telephone number", r"(?<![\d.])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])\d{3}[.-]\d{4}(?!\d|\.\d)", _always),
    ("telephone number", _CALL + r"[^\d\n]{0,8}?(?P<at>\(?\d(?:[ .()-]{0,2}\d){6,13})(?!\d)", _always),
)  # fmt: skip
_PATTERNS = [(kind, re.compile(pattern), checks) for kind, pattern, checks in _KINDS]


def personal_data(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """What kind, and where; of what overlaps, the first."""
    reading = read(text)
    taken: list[tuple[int, int]] = []
    for kind, pattern, checks in _PATTERNS:
        for hit in pattern.finditer(reading.characters):
            start, end = hit.span(hit.lastgroup or 0)
            if not checks(reading.characters[start:end]):
                continue
            if not any(start < other and before < end for before, other in taken):
                taken.append((start, end))
                yield kind, reading.span(start, end)
