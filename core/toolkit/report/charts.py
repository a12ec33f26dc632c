"""Pictures of numbers as inline SVG: dots with whiskers, bars, curves, a confusion matrix.

Pure functions from figures to one `<svg>` string; every text from outside is escaped here. Colours are left to the
page's style sheet, by class: what a mark stands for (`teacher`, `student`, `baseline`, `compiled`) shows in its shape
as well. Row charts place everything in percent of their width, so that they fit any column without being distorted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from unicodedata import east_asian_width

from toolkit.report.wording import figure, interval, percent, points

Series = Sequence[float | None]

SHAPES = {
    "teacher": "M0-6 6 0 0 6-6 0z",
    "student": "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0-8.4 0z",
    "baseline": "M-4.2-4.2h8.4v8.4h-8.4z",
    "compiled": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
}
ROW, LANE = 26, 14  # pixels: height of a row with one mark, and what each further mark adds

# A share axis ends at 100%; it starts at the first of these that shows every interval whole. (start, distance of ticks)
SHARE_AXES = ((0.95, 0.01), (0.9, 0.02), (0.8, 0.05), (0.5, 0.1), (0.0, 0.2))


@dataclass(frozen=True)
class Axis:
    """A horizontal axis and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a value lies, in percent of the width; what lies outside is drawn at the edge."""
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def share_axis(metrics: Sequence[Mapping[str, Any] | None]) -> Axis:
    """One axis for all these shares and their intervals, so that they can be compared by eye."""
    least = min((end for m in metrics if m for end in (m["low"], m["value"]) if end is not None), default=0.0)
    start, step = next(axis for axis in SHARE_AXES if axis[0] <= least or axis[0] == 0)
    return Axis(start, 1.0, tuple(round(start + step * k, 4) for k in range(round((1 - start) / step) + 1)))


def axis_labels(axis: Axis) -> str:
    """The figures of an axis, for the head of a column of `whiskers`."""
    texts = "".join(
        f'<text x="{axis.at(tick):.2f}%" y="12" text-anchor="middle">{tick:.0%}</text>' for tick in axis.ticks
    )
    return _row(texts, 16, f"axis from {axis.low:.0%} to {axis.high:.0%}", "axis")


def whiskers(marks: Sequence[tuple[str, Mapping[str, Any] | None]], axis: Axis) -> str:
    """One row of dots with their intervals. `marks` pairs what a mark stands for with its metric."""
    # The lines of the grid run over the row's edges; the page clips them at the cell's, so that they join up.
    known = [(kind, metric) for kind, metric in marks if metric and metric["value"] is not None]
    height = ROW + LANE * max(0, len(known) - 1)
    places = [axis.at(tick) for tick in axis.ticks]
    parts = [f'<line class="grid" x1="{place:.2f}%" x2="{place:.2f}%" y1="-99" y2="199"/>' for place in places]
    for lane, (kind, metric) in enumerate(known):
        y = ROW / 2 + LANE * lane
        parts.append(_whisker(kind, metric, axis, y))
    said = "; ".join(f"{kind} {figure(metric)}, {interval(metric) or 'exact'}" for kind, metric in known)
    return _row("".join(parts), height, said)


def legend_mark(kind: str) -> str:
    """The mark alone, for a legend or the head of a row."""
    return f'<svg class="legend" width="14" height="14" aria-hidden="true">{_mark(kind, "50%", 7)}</svg>'


def promise(value: float, bound: float) -> str:
    """The gate's figure (points) with its lower bound against zero: right of zero the promise is kept."""
    reach = max(abs(value), abs(bound), 1.0) * 1.25
    axis = Axis(-reach if min(value, bound) < 0 else -reach / 4, reach, (0.0,))
    zero, low, dot = axis.at(0.0), axis.at(bound), axis.at(value)
    state = "kept" if bound > 0 else "missed"
    parts = [
        f'<rect class="zone" x="{zero:.2f}%" y="22" width="{100 - zero:.2f}%" height="32" rx="4"/>',
        f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="16" y2="60"/>',
        f'<text x="{zero:.2f}%" dx="-8" y="42" text-anchor="end">missed</text>',
        '<text x="100%" dx="-8" y="42" text-anchor="end">kept</text>',
        f'<line class="range {state}" x1="{low:.2f}%" x2="{dot:.2f}%" y1="38" y2="38"/>',
        f'<line class="range {state}" x1="{low:.2f}%" x2="{low:.2f}%" y1="30" y2="46"/>',
        f'<svg class="mark {state}" x="{dot:.2f}%" y="38" overflow="visible"><path d="{SHAPES["compiled"]}"/></svg>',
        f'<text class="value" x="{dot:.2f}%" y="12" text-anchor="{_anchor(dot)}">measured {points(value)}</text>',
        f'<text class="value" x="{low:.2f}%" y="73" text-anchor="{_anchor(low)}">cautious end {points(bound)}</text>',
    ]
    return _row("".join(parts), 78, f"{points(value)}, cautious end {points(bound)}; kept above 0", "promise")


def _anchor(at: float) -> str:
    """How a label at `at` percent of the width stays inside it."""
    return "start" if at < 20 else "end" if at > 80 else "middle"


def pair(teacher: float, student: float) -> str:
    """Two bars, the teacher's above the student's, on one scale that starts at zero."""
    most = max(teacher, student) or 1.0
    bars = "".join(
        f'<rect class="bar {kind}" x="0" y="{y}" width="{100 * value / most:.2f}%" height="6" rx="1.5"/>'
        for kind, value, y in (("teacher", teacher, 0), ("compiled", student, 10))
    )
    return _row(bars, 16, f"the student takes {percent(student / teacher) if teacher else ''} of the teacher's", "pair")


def bar(share: float) -> str:
    """One bar from zero, `share` of the width."""
    width = 100 * min(1.0, max(0.0, share))
    return _row(f'<rect class="bar" x="0" y="2" width="{width:.2f}%" height="8" rx="1.5"/>', 12, "", "pair")


# --- curves ------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 180, 44, 10, 10, 24


def curves(
    lines: Sequence[tuple[str, Series]], *, low: float, high: float, picked: int | None, shares: bool, label: str
) -> str:
    """Lines over epochs, in one panel of fixed shape.

    Args:
        lines: (class of the line, one value an epoch); a missing value leaves a gap.
        low, high: the vertical axis, given so that panels beside one another can share it.
        picked: number of the epoch that validation chose, from 0.
        shares: whether the axis is labelled in percent.
    """
    epochs = max((len(values) for _, values in lines), default=0)
    if not epochs or high <= low:
        return ""
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(epoch: int) -> float:
        return LEFT + wide * (epoch / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + tall * (1 - (min(high, max(low, value)) - low) / (high - low))

    parts = []
    for tick in nice_ticks(low, high):
        text = f"{tick:.0%}" if shares else f"{tick:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{text}</text>')
    if picked is not None and 0 <= picked < epochs:
        parts.append(f'<line class="picked" x1="{x(picked):.1f}" x2="{x(picked):.1f}" y1="{TOP}" y2="{TOP + tall}"/>')
    for kind, values in lines:
        parts += [_trace(kind, run) for run in _runs([(x(i), y(v)) if v is not None else None for i, v in
                                                      enumerate(values)])]  # fmt: skip
    for epoch in {0, epochs - 1}:
        parts.append(f'<text x="{x(epoch):.1f}" y="{HEIGHT - 7}" text-anchor="middle">{epoch + 1}</text>')
    return _drawing("".join(parts), WIDTH, HEIGHT, label, "curves")


def small_curve(values: Series, kind: str) -> str:
    """A line alone, from its lowest to its highest value, for the cell of a table."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    wide, tall, edge = 110, 22, 3
    spread, last = (high - low) or 1.0, max(1, len(values) - 1)

    def y(value: float) -> float:
        return tall - edge - (tall - 2 * edge) * (value - low) / spread

    dots = [None if v is None else (edge + (wide - 2 * edge) * n / last, y(v)) for n, v in enumerate(values)]
    return _drawing("".join(_trace(kind, run) for run in _runs(dots)), wide, tall, "", "small-curve")


def nice_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """At most `most` + 1 round figures from `low` to `high`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _runs(dots: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """The stretches between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for dot in dots:
        if dot is None:
            runs.append([])
        else:
            runs[-1].append(dot)
    return [run for run in runs if run]


def _trace(kind: str, run: Sequence[tuple[float, float]]) -> str:
    if len(run) == 1:
        return f'<circle class="dot {kind}" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2.5"/>'
    return f'<polyline class="curve {kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>'


# --- confusion matrix --------------------------------------------------------------------------------------------

MOST_CLASSES = 30  # beyond, cells are too small to read; the page lists the mix-ups in words
LETTER = 6.4  # pixels of a Latin letter at the label's size, roughly; a Chinese one takes two
SLANT = 0.72  # cosine of 45 degrees, and a little
LONGEST = 22  # letters of a label


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], unreadable: Sequence[int] = ()) -> str:
    """A heat map, one row a true class, shaded by the share of that class; empty above MOST_CLASSES classes.

    Args:
        matrix: [truth][called] counts.     unreadable: [truth] rows that gave no answer; a column where any did.
    """
    if not classes or len(classes) > MOST_CLASSES:
        return ""
    heads = [*classes, *(["unreadable"] if any(unreadable) else [])]
    rows = [[*row, *([lost] if any(unreadable) else [])]
            for row, lost in zip(matrix, unreadable or [0] * len(classes), strict=True)]  # fmt: skip
    cell = max(24, min(54, 460 // len(heads)))
    left = max(_width(_short(name)) for name in classes) + 14
    top = max(_width(_short(name)) for name in heads) * SLANT + 16
    parts = []
    for column, name in enumerate(heads):
        x, y = left + cell * (column + 0.5), top - 7
        parts.append(f'<text class="name" transform="translate({x:.1f} {y:.1f}) rotate(-45)">{_name(name)}</text>')
    for number, (name, counts) in enumerate(zip(classes, rows, strict=True)):
        y = top + cell * number
        parts.append(
            f'<text class="name" x="{left - 8:.1f}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">{_name(name)}</text>'
        )
        for column, value in enumerate(counts):
            said = f"{name} called {heads[column]}: {value} of {sum(counts)}"
            parts.append(_cell(left + cell * column, y, cell, value, sum(counts), column == number, said))
    slant = SLANT * _width(_short(heads[-1]))  # the last head leans out to the right
    return _drawing("".join(parts), left + cell * len(heads) + max(4, slant - cell / 2), top + cell * len(classes) + 2,
                    "confusion matrix", "confusion")  # fmt: skip


def _cell(x: float, y: float, side: float, value: int, total: int, right: bool, said: str) -> str:
    share = value / total if total else 0.0
    # Middle shades are left out: neither dark nor light figures could be read on them.
    shade = 0.0 if not value else 0.2 + 0.4 * share if share < 0.5 else 0.7 + 0.3 * share
    ink = "strong" if shade > 0.6 else "plain" if value else "nil"
    return (
        f"<g><title>{escape(said)}</title>"
        f'<rect class="empty" x="{x + 1:.1f}" y="{y + 1:.1f}" width="{side - 2}" height="{side - 2}" rx="3"/>'
        f'<rect class="{"right" if right else "wrong"}" fill-opacity="{shade:.3f}" x="{x + 1:.1f}" y="{y + 1:.1f}" '
        f'width="{side - 2}" height="{side - 2}" rx="3"/>'
        f'<text class="{ink}" x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" text-anchor="middle">{value}</text></g>'
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _width(name: str) -> float:
    return sum(LETTER * (2 if east_asian_width(letter) in "WF" else 1) for letter in name)


def _name(name: str) -> str:
    return escape(_short(name)) if name == _short(name) else f"{escape(_short(name))}<title>{escape(name)}</title>"


# --- frames ------------------------------------------------------------------------------------------------------


def _whisker(kind: str, metric: Mapping[str, Any], axis: Axis, y: float) -> str:
    low, high = (axis.at(metric[end] if metric[end] is not None else metric["value"]) for end in ("low", "high"))
    ends = "".join(
        f'<line class="range {kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{y - 3.5}" y2="{y + 3.5}"/>' for x in (low, high)
    )
    line = f'<line class="range {kind}" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
    dot = axis.at(metric["value"])
    return f"{line}{ends}{_mark(kind, f'{dot:.2f}%', y)}"


def _mark(kind: str, x: str, y: float) -> str:
    # A nested drawing may be placed in percent, which a path alone may not.
    return f'<svg class="mark {kind}" x="{x}" y="{y}" overflow="visible"><path d="{SHAPES[kind]}"/></svg>'


def _row(inner: str, height: float, said: str, kind: str = "whiskers") -> str:
    told = f'role="img" aria-label="{escape(said)}"' if said else 'aria-hidden="true"'
    return f'<svg class="{kind}" width="100%" height="{height}" {told}>{inner}</svg>'


def _drawing(inner: str, wide: float, tall: float, said: str, kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {wide:.0f} {tall:.0f}" style="max-width: {wide * 1.15:.0f}px" role="img" '
        f'aria-label="{escape(said)}">{inner}</svg>'
    )
