"""Numbers as a reader wants them: percent with one decimal, milliseconds, KB and MB, "1 in 40".

Knows units only, never what was measured. Its rounding never claims what was not measured: a share below one is not
printed as 100.0%, nor one above zero as 0.0%.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

DASH = "–"
RARE = 0.2  # above this share, "1 in N" says less than a percentage


def percent(share: float | None) -> str:
    """0.978 -> "97.8%"."""
    if share is None:
        return DASH
    text = f"{share:.1%}"
    if share < 1 and text == "100.0%":
        return "> 99.9%"
    return "< 0.1%" if share > 0 and text == "0.0%" else text


def milliseconds(value: float | None) -> str:
    """0.284 -> "0.284 ms", 12.34 -> "12.3 ms", 1500 -> "1.50 s"."""
    if value is None:
        return DASH
    return f"{significant(value / 1000)} s" if value >= 999.5 else f"{significant(value)} ms"


def size(value: float | None) -> str:
    """Bytes: 13_180_000 -> "13.2 MB" (10^6 bytes), 812 -> "812 bytes"."""
    if value is None:
        return DASH
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= factor * 0.9995:
            return f"{significant(value / factor)} {unit}"
    return f"{value:,.0f} bytes"


def times(value: float | None) -> str:
    """13.24 -> "13.2×"."""
    if value is None:
        return DASH
    return f"{value:,.0f}×" if value >= 99.95 else f"{value:.1f}×" if value >= 0.95 else f"{significant(value)}×"


def points(value: float | None) -> str:
    """-0.83 -> "-0.83 points", with a true minus sign."""
    return DASH if value is None else f"{value:+.2f} points".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """1080 -> "1,080"."""
    return DASH if value is None else f"{value:,.0f}"


def counted(value: int, what: str) -> str:
    """(1, "picture") -> "1 picture"; (360, "picture") -> "360 pictures"."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


def parameters(value: float | None) -> str:
    """81_030 -> "81 thousand", 3_382_000 -> "3.38 million"."""
    if value is None:
        return DASH
    if value >= 999_500:
        return f"{significant(value / 1e6)} million"
    return f"{value / 1e3:,.0f} thousand" if value >= 1000 else count(value)


def duration(seconds: float | None) -> str:
    """0.42 -> "0.4 s", 190 -> "3 min 10 s", 7500 -> "2 h 5 min"."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def one_in(share: float | None) -> str:
    """A rare share as a frequency: 0.025 -> "1 in 40". "none" for zero, a percentage above one in five."""
    if share is None:
        return DASH
    if share <= 0:
        return "none"
    return percent(share) if share > RARE else f"1 in {1 / share:,.0f}"


def decimal(value: float | None, places: int = 3) -> str:
    """0.0312 -> "0.031"; what rounds to nothing is shown as smaller than the last place."""
    if value is None:
        return DASH
    text = f"{value:.{places}f}"
    return f"< {10**-places:.{places}f}" if value > 0 and float(text) == 0 else text


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent: 13.2, 0.284, 314, 0.0000213."""
    if not value:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # after rounding: 999.9 has three digits before the dot
    return f"{round(value, digits - 1 - exponent):,.{max(0, digits - 1 - exponent)}f}"


def money(value: float | None, currency: str) -> str:
    """(0.000213, "EUR") -> "EUR 0.000213"."""
    return DASH if value is None else f"{currency} {significant(value)}".strip()


def buys(value: float | None, currency: str) -> str:
    """What one unit of money pays for at such a cost of 1,000 requests: (0.0000822, "EUR") -> "EUR 1 pays for 12.2
    million requests"; empty where 1,000 cost that much or more."""
    if not value or value >= 1:
        return ""
    requests = 1000 / value
    many = f"{significant(requests / 1e9)} billion" if requests >= 1e9 else parameters(requests)
    return f"{currency} 1 pays for {many} requests".strip()


def day(moment: str) -> str:
    """2026-07-24T10:12:00+00:00 -> "24 July 2026"; what is no ISO date stays as it is."""
    try:
        date = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{date.day} {date:%B %Y}"


def figure(metric: Mapping[str, Any] | None) -> str:
    """A metric's value in its own unit."""
    return DASH if not metric else _in_unit(metric["value"], metric.get("unit", "share"))


def amount(value: Mapping[str, Any] | float | None, unit: str) -> str:
    """A plain number in `unit`, or a metric in its own."""
    return figure(value) if isinstance(value, Mapping) else _in_unit(value, unit)


def interval(metric: Mapping[str, Any] | None) -> str:
    """A metric's interval, "95.7% to 98.9%"; empty where the figure is exact."""
    if not metric or metric["low"] is None or metric["high"] is None or metric["low"] == metric["high"]:
        return ""
    unit = metric.get("unit", "share")
    low, high = _in_unit(metric["low"], unit), _in_unit(metric["high"], unit)
    word = low.split()[-1]
    shared = word.isalpha() and high.endswith(f" {word}")
    return f"{low.removesuffix(word).rstrip() if shared else low} to {high}"


def _in_unit(value: float | None, unit: str) -> str:
    if value is None:
        return DASH
    known = {"share": percent, "ms": milliseconds, "bytes": size, "times": times, "points": points}
    if unit in known:
        return known[unit](value)
    return f"{significant(value)} {'J' if unit == 'joule' else unit}"
