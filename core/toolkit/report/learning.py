"""How the models learned: curves over epochs, one panel a model, drawn so that they can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from toolkit.report.charts import Series, curves, small_curve
from toolkit.report.tables import NAMES
from toolkit.report.verdict import Record, part
from toolkit.report.wording import count, figure, interval, percent, significant

TRAINED = ("teacher", "student", "baseline")
ASKS = {
    "hard-label": "answer with the true label",
    "response": "answer as the teacher does, with its doubts",
    "feature": "see in a picture what the teacher sees in it",
    "feature-distance": "see in a picture what the teacher sees in it",
    "similarity": "find alike what the teacher finds alike",
    "relation-distance": "keep pictures as far apart as the teacher does",
    "relation-angle": "keep pictures in the places to one another that the teacher gives them",
}


@dataclass(frozen=True)
class Panel:
    """The curves of one model, as SVG, and which epoch was kept."""

    kind: str
    name: str
    accuracy: str
    loss: str
    kept: str


@dataclass(frozen=True)
class Pull:
    """What one objective asked of the student, as text: its value in the first and the kept epoch, and its share of
    the gradient over the whole training; `share` is that share as a number, `curve` the value over the epochs as SVG
    and `weight` what it weighed, from first to last where that changed."""

    name: str
    asks: str
    curve: str
    first: str
    kept: str
    weight: str
    share: float


@dataclass(frozen=True)
class TaskCurve:
    """How one class was learnt: its mean loss in the first and the kept epoch and the weight it ended with."""

    name: str
    first: str
    kept: str
    weight: str


@dataclass(frozen=True)
class Gain:
    """What a student gained by its own answers, as text: in one round of `self`, or by the rewards of `grpo`."""

    name: str
    learnt: str
    before: str
    after: str


def gains(report: Record) -> tuple[Gain, ...]:
    """Round after round; empty where the student learnt from others alone."""
    practice = part(report, "student", "practice")
    found = [
        Gain(
            f"Round {one['number']}", f"{count(one['distinct'])} right answers of {count(one['written'])}",
            _share(one["before"]), _share(one["after"]),
        )
        for one in practice.get("rounds") or ()
    ]  # fmt: skip
    if practice.get("history"):
        learnt = f"rewards on {count(practice['problems'])} problems, {len(practice['history'])} times"
        found.append(Gain("Rewards", learnt, percent(practice["before"]), percent(practice["after"])))
    return tuple(found)


def rewards(report: Record) -> str:
    """The share of rewarded answers over the passes, as SVG; empty where there were none."""
    history = part(report, "student", "practice").get("history") or ()
    return small_curve(_column(history, "reward"), "student") if len(history) > 1 else ""


def _share(metric: Record) -> str:
    return f"{figure(metric)} ({interval(metric)})"


def pulls(report: Record) -> tuple[Pull, ...]:
    """What pulled on the student, strongest first; empty where it had one objective alone."""
    history, first, kept = _ends(report)
    names = [name.removeprefix("pull/") for name in first if name.startswith("pull/")]
    found = [
        Pull(name, ASKS.get(name, ""), small_curve(_column(history, name), "student"), significant(first[name]),
             significant(kept[name]), _weight(_known(history, f"objective_weight/{name}")),
             fmean(epoch[f"pull/{name}"] for epoch in history))
        for name in names
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda pull: -pull.share))


def _weight(values: Sequence[float]) -> str:
    """What an objective weighed, epoch by epoch, in two figures or one."""
    if not values:
        return ""
    first, last = (significant(value, 2) for value in (values[0], values[-1]))
    return first if first == last else f"{first} to {last}"


def task_curves(report: Record) -> tuple[TaskCurve, ...]:
    """The classes as the student learnt them, the hardest last; weights only where they were not all alike."""
    _, first, kept = _ends(report)
    names = [name.removeprefix("task/") for name in first if name.startswith("task/")]
    names.sort(key=lambda name: kept[f"task/{name}"])
    return tuple(
        TaskCurve(name, significant(first[f"task/{name}"]), significant(kept[f"task/{name}"]),
                  significant(kept[f"weight/{name}"]) if f"weight/{name}" in kept else "")
        for name in names
    )  # fmt: skip


def _ends(report: Record) -> tuple[Sequence[Record], Record, Record]:
    """The student's history, its first epoch and the one that was kept."""
    history = part(report, "student").get("history") or ()
    picked = part(report, "student").get("picked_epoch")
    if not history or picked is None or not 0 <= picked < len(history):
        return (), {}, {}
    return history, history[0], history[picked]


def panels(report: Record) -> tuple[Panel, ...]:
    """A panel for each model that has a history. Accuracy is drawn on one axis; losses each have their own, since what
    a student's training loss counts is not what a teacher's counts."""
    histories = {kind: part(report, kind).get("history") or () for kind in TRAINED}
    least = min((value for history in histories.values() for value in _known(history, "validation_accuracy")),
                default=0.0)  # fmt: skip
    low = min(0.9, math.floor(least * 10) / 10)
    return tuple(
        _panel(kind, history, part(report, kind).get("picked_epoch"), low)
        for kind, history in histories.items() if history
    )  # fmt: skip


def _panel(kind: str, history: Sequence[Record], picked: int | None, low: float) -> Panel:
    accuracy = _column(history, "validation_accuracy")
    losses = [("training", _column(history, "loss")), ("validation", _column(history, "validation_loss"))]
    most = max((value for name in ("loss", "validation_loss") for value in _known(history, name)), default=0.0)
    kept = ""
    if picked is not None and 0 <= picked < len(history):
        kept = f"Epoch {picked + 1} of {len(history)} was kept: {percent(accuracy[picked])} of validation."
    return Panel(
        kind, NAMES[kind],
        curves([(kind, accuracy)], low=low, high=1.0, picked=picked, shares=True,
               label=f"validation accuracy of {NAMES[kind]} over {len(history)} epochs"),
        curves(losses, low=0.0, high=most, picked=picked, shares=False,
               label=f"loss of {NAMES[kind]} over {len(history)} epochs"),
        kept,
    )  # fmt: skip


def _column(history: Sequence[Record], name: str) -> Series:
    return [epoch.get(name) for epoch in history]


def _known(history: Sequence[Record], name: str) -> list[float]:
    return [value for value in _column(history, name) if value is not None]
