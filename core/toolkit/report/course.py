"""How the trainings went, epoch by epoch: what was not to be made small but tells whether all was well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.report.charts import Series, curves
from toolkit.report.verdict import Record, part, words_of
from toolkit.report.wording import count, duration

COMPARED = ("student", "baseline")
"""They train on the same pictures in as many epochs, so one chart holds both."""

RATES = {"tokens_per_second": "Tokens a second", "rows_per_second": "Pictures a second"}


@dataclass(frozen=True)
class Course:
    """One figure over the epochs, as SVG, and what it means."""

    title: str
    drawing: str
    explained: str


def courses(report: Record) -> tuple[Course, ...]:
    """What is known of how student and baseline trained; empty where nothing is."""
    found = [_agreement(report), _gradient(report), _pace(report), _waiting(report)]
    return tuple(course for course in found if course is not None)


def _agreement(report: Record) -> Course | None:
    lines = _lines(report, "history", "agreement")
    if not lines:
        return None
    least = min(_values(lines))
    return _course(
        "Agreement with the teacher", lines, min(0.9, int(least * 10) / 10), 1.0,
        f"Share of training {words_of(report).step}s, as they were shown, that the student calls what its teacher "
        "calls them.",
        shares=True,
    )  # fmt: skip


def _gradient(report: Record) -> Course | None:
    lines = _lines(report, "history", "gradient_norm")
    words = "How strongly a step pulls on the weights. Where it rises to the end, the learning rate is too high."
    return _course("Gradient norm", lines, 0.0, max(_values(lines), default=0.0), words) if lines else None


def _pace(report: Record) -> Course | None:
    for name, title in RATES.items():
        lines = _lines(report, "pace", name)
        if lines:
            words = "On the machine that trained, without validation."
            return _course(title, lines, 0.0, max(_values(lines)), words)
    return None


def _waiting(report: Record) -> Course | None:
    lines = _lines(report, "pace", "queue/depth")
    if not lines:
        return None
    last = next(epoch for epoch in reversed(part(report, lines[0][0])["pace"]) if "queue/depth" in epoch)
    training, labelling = (duration(last[f"queue/{side}_waited_s"]) for side in ("training", "labelling"))
    words = (
        f"Labels that were made and not yet trained on, of {count(last['queue/total'])}. "
        f"Training waited {training} for labels, labelling {labelling} for training."
    )
    return _course("Labels waiting", lines, 0.0, max(_values(lines)), words)


def _lines(report: Record, where: str, name: str) -> list[tuple[str, Series]]:
    """The models of which `name` is known in at least one epoch, with its value in each."""
    found = [(kind, [epoch.get(name) for epoch in part(report, kind).get(where) or ()]) for kind in COMPARED]
    return [(kind, values) for kind, values in found if any(value is not None for value in values)]


def _values(lines: Sequence[tuple[str, Series]]) -> list[float]:
    return [value for _, values in lines for value in values if value is not None]


def _course(
    title: str, lines: Sequence[tuple[str, Series]], low: float, high: float, words: str, *, shares: bool = False
) -> Course:
    label = f"{title.lower()} over the epochs"
    return Course(title, curves(lines, low=low, high=high or 1.0, picked=None, shares=shares, label=label), words)
