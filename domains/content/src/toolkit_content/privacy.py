"""Personal data in copy: telephone numbers, addresses of mail, numbers of cards and identities. Found, never kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "identity number": re.compile(
        r"(?<!\d)[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])\d{3}[\dXx](?!\d)"
    ),
    "card number": re.compile(r"(?<!\d)(?:\d[ -]?){13,19}(?!\d)"),
    "telephone number": re.compile(
        r"(?<![\d.])(?:\+\d{1,3}[ -]?)?"
        r"(?:1[3-9]\d{9}|\(?0\d{2,4}\)?[ -]?\d{3,4}[ -]?\d{3,4}|\d{3}[ -]\d{3,4}[ -]\d{4})(?!\d|\.\d)"
    ),
}


def personal_data(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """What kind, and where; of what overlaps, the first."""
    taken: list[tuple[int, int]] = []
    for kind, pattern in _PATTERNS.items():
        for hit in pattern.finditer(text):
            if kind == "card number" and not _luhn(hit[0]):
                continue
            if not any(hit.start() < end and start < hit.end() for start, end in taken):
                taken.append(hit.span())
                yield kind, hit.span()


def _luhn(number: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812)."""
    digits = [int(one) for one in number if one.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
