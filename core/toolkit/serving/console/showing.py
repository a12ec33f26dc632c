"""What was measured before release, as Home shows it: the student's figures beside the teacher's, with intervals.

Numbers become words and places on a scale here; drawing is the template's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.serving.console.catalogue import Catalogue
from toolkit.serving.models import BundleFacts

FIRST = 5
"""Rows that are shown at once; the others are unfolded."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """One figure: in words, and where it lies on its row's scale, in shares of its width."""

    value: str
    interval: str
    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """A row of the table: what the student reached, and its teacher where that is known. `left` and `right` are the
    ends of the scale, in words."""

    name: str
    rows: int
    student: Mark
    teacher: Mark | None
    left: str
    right: str


@dataclass(frozen=True)
class Gate:
    """`outcome` is empty where a bundle does not tell; `judged` is the figure by which the gate decided."""

    outcome: str
    teacher: str
    first: Sequence[Figure]
    more: Sequence[Figure]
    kept: str


def gate_of(facts: BundleFacts, texts: Catalogue) -> Gate:
    """What a bundle tells of its release."""
    gate, theirs = facts.gate, facts.gate.get("teacher", {}).get("metrics", {})
    judged = gate.get("judged", "")
    names = sorted(facts.metrics, key=lambda name: (name != judged, "/" in name, name not in theirs))
    found = [_figure(metric_name(name, texts), facts.metrics[name], theirs.get(name)) for name in names]
    kept = ""
    if judged in facts.metrics and theirs.get(judged, {}).get("value"):
        kept = f"{facts.metrics[judged]['value'] / theirs[judged]['value']:.1%}"
    return Gate(
        str(gate.get("outcome", "")), str(gate.get("teacher", {}).get("name", "")), found[:FIRST], found[FIRST:], kept
    )  # fmt: skip


def metric_name(name: str, texts: Catalogue) -> str:
    """`recall/scratch` as a person reads it."""
    family, _, part = name.partition("/")
    known = f"metric.{family}"
    said = texts(known) if texts.says(known) else family.replace("_", " ")
    return f"{said}: {part}" if part else said


def figure_text(value: float, unit: str) -> str:
    """0.978 share -> "97.8%"; a share below one is never "100.0%", nor one above zero "0.0%"."""
    if unit == "share":
        text = f"{value:.1%}"
        return "> 99.9%" if value < 1 and text == "100.0%" else "< 0.1%" if value > 0 and text == "0.0%" else text
    return f"{value:,.3g}" + (f" {unit}" if unit not in ("", "points") else "")


def _figure(name: str, student: Record, teacher: Record | None) -> Figure:
    both = [one for one in (student, teacher) if one]
    low, high = min(one["low"] for one in both), max(one["high"] for one in both)
    unit = str(student.get("unit", ""))
    if unit == "share":
        low, high = max(0.0, low - 0.02) // 0.1 * 0.1, 1.0 if high > 0.5 else (high + 0.02) // 0.1 * 0.1 + 0.1
    elif high == low:
        low, high = min(0.0, low), high or 1.0
    mine = _mark(student, low, high, unit)
    return Figure(
        name, int(student.get("n", 0)), mine, _mark(teacher, low, high, unit) if teacher else None,
        figure_text(low, unit), figure_text(high, unit),
    )  # fmt: skip


def _mark(record: Record, low: float, high: float, unit: str) -> Mark:
    value, least, most = (float(record[name]) for name in ("value", "low", "high"))
    exact = least == value == most
    interval = "" if exact else f"{figure_text(least, unit)} – {figure_text(most, unit)}"
    at, start, end = (min(max((x - low) / (high - low), 0.0), 1.0) for x in (value, least, most))
    return Mark(figure_text(value, unit), interval, round(at, 4), round(start, 4), round(end, 4))
