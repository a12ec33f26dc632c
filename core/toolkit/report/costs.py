"""What the models cost to run: from the report's records to rows of ready text.

Ratios are shown where the report has one, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.report.tables import Cell
from toolkit.report.verdict import Record, Words, part, words_of

COSTS = (
    ("Time for one {step}, median (p50)", ("latency", "p50"), "latency", "Half of all {step}s are answered faster."),
    ("95 of 100 {step}s within (p95)", ("latency", "p95"), "", ""),
    ("99 of 100 {step}s within (p99)", ("latency", "p99"), "", ""),
    ("Size of the model's files", ("size",), "size", ""),
    ("Memory", ("memory",), "memory", "Weights and the peak of working memory together."),
    ("Memory: weights", ("weights",), "", ""),
    ("Memory: peak of working memory", ("activations",), "", ""),
    ("Energy for one {step}", ("energy",), "energy", "The whole machine's, its idle power included."),
)
END_TO_END = (
    ("{request}, median (p50)", ("latency", "p50"), "", ""),
    ("95 of 100 within (p95)", ("latency", "p95"), "", ""),
    ("99 of 100 within (p99)", ("latency", "p99"), "", ""),
    ("Memory of the whole process", ("rss",), "", "Mostly the libraries, alike for both: therefore no ratio."),
)


@dataclass(frozen=True)
class CostRow:
    """One line of the cost table; `ratio` is empty where none is defined."""

    name: str
    teacher: Cell
    student: Cell
    ratio: Cell | None
    explained: str = ""


def cost_rows(report: Record) -> tuple[CostRow, ...]:
    """Model-only costs of teacher and shipped student, with their ratios."""
    return _cost_rows(part(report, "costs"), COSTS, words_of(report))


def end_to_end_rows(report: Record) -> tuple[CostRow, ...]:
    """What a request costs with everything around the model."""
    return _cost_rows(part(report, "end_to_end"), END_TO_END, words_of(report))


def _cost_rows(
    costs: Record, lines: Sequence[tuple[str, tuple[str, ...], str, str]], words: Words
) -> tuple[CostRow, ...]:
    found = []
    for title, path, ratio_name, meaning in lines:
        name, explained = (text.format(step=words.step, request=words.request) for text in (title, meaning))
        teacher, student = (_cost(costs, who, path) for who in ("teacher", "student"))
        if teacher or student:
            ratio, nothing = part(costs, "ratios", ratio_name), Cell.of(None)
            found.append(CostRow(
                name, teacher or nothing, student or nothing, Cell.of(ratio) if ratio else None, explained
            ))  # fmt: skip
    return tuple(found)


def _cost(costs: Record, who: str, path: tuple[str, ...]) -> Cell | None:
    """A figure, or the reason why there is none; None where nothing is known."""
    value = part(costs, who, *path[:-1]).get(path[-1])
    if isinstance(value, Mapping):
        return Cell.of(value)
    head, _, reason = str(value or "").partition(": ")
    return Cell(head, reason) if head else None
