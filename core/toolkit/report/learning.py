"""How the models learned: curves over epochs, one panel a model, drawn so that they can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.report.charts import Series, curves
from toolkit.report.tables import NAMES
from toolkit.report.verdict import Record, part
from toolkit.report.wording import percent

TRAINED = ("teacher", "student", "baseline")


@dataclass(frozen=True)
class Panel:
    """The curves of one model, as SVG, and which epoch was kept."""

    kind: str
    name: str
    accuracy: str
    loss: str
    kept: str


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
        kept = f"Epoch {picked + 1} of {len(history)} was kept: {percent(accuracy[picked])} of the validation pictures."
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
