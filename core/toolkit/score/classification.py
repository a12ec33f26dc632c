"""Scores of a classifier: rates with intervals, the confusion matrix, the mistakes worth looking at.

It refuses to know where the answers came from: teacher, student, compiled and installed model are scored alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Metric
from toolkit.errors import DataError
from toolkit.score.intervals import Floats, bootstrap_interval, clustered_share

CALIBRATION_BINS = 15
LEAST_PROBABILITY = 1e-6  # of the true class: no single row makes the log loss infinite
CALIBRATION_DRAWS = 2_000  # of the bootstrap: no two rows are alike here, so that each draw costs n
WORST_ROWS = 20


@dataclass(frozen=True)
class ClassificationScore:
    """`confusion[t][p]` counts rows of class t called p; `unreadable[t]` those of class t that gave no answer.
    `worst` holds the row numbers of the most confident mistakes, surest first."""

    metrics: Mapping[str, Metric]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    unreadable: list[int]
    worst: tuple[int, ...]

    def as_record(self) -> dict[str, Any]:
        return {
            "metrics": {name: metric.as_record() for name, metric in self.metrics.items()},
            "classes": list(self.classes), "confusion": self.confusion, "unreadable": self.unreadable,
            "worst": list(self.worst),
        }  # fmt: skip


@dataclass(frozen=True)
class _Answers:
    truth: NDArray[np.int64]  # [n]
    called: NDArray[np.int64]  # [n], -1 where the row was unreadable
    probabilities: Floats  # [n, classes]
    classes: tuple[str, ...]
    groups: Sequence[str] | None
    seed: int

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.truth == self.called)

    def rate(self, flags: NDArray[np.bool_], among: NDArray[np.bool_], *, higher_is_better: bool = True) -> Metric:
        return clustered_share(flags[among], self.groups_of(among), higher_is_better=higher_is_better, seed=self.seed)

    def groups_of(self, among: NDArray[np.bool_]) -> list[str] | None:
        return None if self.groups is None else list(compress(self.groups, among))


def score_classification(
    truth: Sequence[str], predicted: Sequence[str | None], probabilities: NDArray[Any], classes: Sequence[str],
    *, good_class: str = "", groups: Sequence[str] | None = None, seed: int = 0,
) -> ClassificationScore:  # fmt: skip
    """Score one answer a row.

    Args:
        truth: [n] class names.       predicted: [n] class names; None is an unreadable row and counts as wrong.
        probabilities: [n, classes], rows summing to 1; the rows of unreadable examples are not looked at.
        good_class: the class of faultless parts, where there is one; adds `escapes` and `overkill`.
        groups: [n], rows that belong together (a lot, near-duplicates); intervals are then over whole groups.

    Metrics: accuracy, macro_f1, log_loss (the mean of -ln of the true class's probability, in nats: what a proper score
    makes of being sure, Good 1952), calibration_error (ECE, 15 equal-width bins, Guo et al. 2017, of the surest class),
    recall/<class>, escapes (defect rows called good), overkill (good rows not called good: a part that cannot be read
    is not passed). A class without rows is left out. The binned ECE leans high on few rows, and so does its interval.

    Raises:
        DataError: no rows, lengths that differ, a name outside `classes`, or rows that are not probabilities.
    """
    answers = _checked(truth, predicted, probabilities, tuple(classes), groups, seed)
    everyone = np.ones(len(answers.truth), dtype=bool)
    metrics = {"accuracy": answers.rate(answers.right, everyone), "macro_f1": _macro_f1(answers)}
    if (answers.called >= 0).any():
        metrics["log_loss"] = _log_loss(answers)
        metrics["calibration_error"] = _calibration_error(answers)
    for number, name in enumerate(classes):
        if (rows := answers.truth == number).any():
            metrics[f"recall/{name}"] = answers.rate(answers.right, rows)
    if good_class:
        metrics |= _escapes_and_overkill(answers, good_class)
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    readable = answers.called >= 0
    np.add.at(confusion, (answers.truth[readable], answers.called[readable]), 1)
    unreadable = np.bincount(answers.truth[~readable], minlength=len(classes))
    return ClassificationScore(metrics, answers.classes, confusion.tolist(), unreadable.tolist(), _worst(answers))


def majority_right(truth: Sequence[str]) -> NDArray[np.bool_]:
    """[n] whether the best constant answer, this sample's most frequent class, is right: the floor of any teacher."""
    _, member, counts = np.unique(np.asarray(truth), return_inverse=True, return_counts=True)
    return np.asarray(member == counts.argmax())


def _checked(
    truth: Sequence[str], predicted: Sequence[str | None], probabilities: NDArray[Any], classes: tuple[str, ...],
    groups: Sequence[str] | None, seed: int,
) -> _Answers:  # fmt: skip
    scores = np.asarray(probabilities, dtype=np.float64)
    lengths = {len(truth), len(predicted), len(scores), len(truth if groups is None else groups)}
    if len(lengths) > 1 or not truth:
        raise DataError(
            f"{len(truth)} true classes, {len(predicted)} answers and {len(scores)} rows of probabilities do not pair",
            hint="Score at least one row, and give each row one truth, one answer and one row of probabilities.",
        )
    if scores.shape != (len(truth), len(classes)):
        raise DataError(
            f"probabilities have the shape {scores.shape}, expected ({len(truth)}, {len(classes)})",
            hint="One column a class, in the order of the classes.",
        )
    number = {name: index for index, name in enumerate(classes)}
    named = {*truth, *(name for name in predicted if name is not None)}
    if unknown := sorted(named - number.keys()):
        raise DataError(
            f"{', '.join(map(repr, unknown))}: not among the classes {', '.join(classes)}",
            hint="Score with the classes the model was trained on.",
        )
    called = np.array([-1 if name is None else number[name] for name in predicted])
    readable = scores[called >= 0]
    if not np.allclose(readable.sum(axis=1), 1, atol=1e-3) or (readable < -1e-6).any():
        raise DataError(
            "the probabilities of some readable rows are negative, not numbers, or do not sum to 1",
            hint="Pass softmax outputs, not logits.",
        )
    return _Answers(np.array([number[name] for name in truth]), called, scores, classes, groups, seed)


def _macro_f1(answers: _Answers) -> Metric:
    """The mean of F1 over the classes that have rows. The guard's worst row is a mistake on the rarest class, where one
    row weighs most, charged to the next rarest."""
    counts = np.bincount(answers.truth, minlength=len(answers.classes))
    present = [int(number) for number in np.argsort(counts, kind="stable") if counts[number]]
    # Columns: true positives, then rows of the class plus rows called the class (2 TP + FP + FN), class by class.
    truth = answers.truth[:, None] == present
    called = answers.called[:, None] == present
    features = np.hstack([truth & called, truth.astype(np.int64) + called])

    def statistic(sums: Floats) -> Floats:
        hits, either = np.split(sums, 2, axis=1)
        f1 = np.divide(2 * hits, either, out=np.full_like(hits, np.nan), where=either > 0)
        there = np.isfinite(f1)
        return np.asarray(np.where(there, f1, 0).sum(axis=1) / there.sum(axis=1))

    worst = np.zeros(features.shape[1])
    worst[[len(present), len(present) + min(1, len(present) - 1)]] = 1
    best = np.zeros(features.shape[1])
    best[[0, len(present)]] = 1, 2
    low, high = bootstrap_interval(
        features, statistic, worst=worst.tolist(), best=best.tolist(), groups=answers.groups, seed=answers.seed
    )
    value = float(statistic(features.sum(axis=0, keepdims=True).astype(np.float64))[0])
    return Metric(value, low, high, len(answers.truth))


def _log_loss(answers: _Answers) -> Metric:
    readable = answers.called >= 0
    given = answers.probabilities[readable, answers.truth[readable]]
    features = np.ones((len(given), 2))
    features[:, 0] = -np.log(np.clip(given, LEAST_PROBABILITY, 1))

    def statistic(sums: Floats) -> Floats:
        return np.asarray(sums[:, 0] / sums[:, 1])

    low, high = bootstrap_interval(
        features, statistic, worst=[0, 1], best=[-math.log(LEAST_PROBABILITY), 1],
        groups=answers.groups_of(readable), draws=CALIBRATION_DRAWS, seed=answers.seed,
    )  # fmt: skip
    value = float(statistic(features.sum(axis=0, keepdims=True))[0])
    return Metric(value, low, high, len(given), "nats", higher_is_better=False)


def _calibration_error(answers: _Answers) -> Metric:
    readable = answers.called >= 0
    scores = answers.probabilities[readable]
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == answers.truth[readable]
    # Bins are open below and closed above, as in Guo et al.; the last column counts the rows.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    features = np.zeros((len(scores), CALIBRATION_BINS + 1))
    features[np.arange(len(scores)), bins] = right - confidence
    features[:, -1] = 1

    def statistic(sums: Floats) -> Floats:
        return np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1])

    sure_and_wrong = np.zeros(CALIBRATION_BINS + 1)
    sure_and_wrong[[-2, -1]] = -1, 1
    low, high = bootstrap_interval(
        features, statistic, best=sure_and_wrong.tolist(), groups=answers.groups_of(readable),
        draws=CALIBRATION_DRAWS, seed=answers.seed
    )  # fmt: skip
    value = float(statistic(features.sum(axis=0, keepdims=True))[0])
    return Metric(value, low, high, len(scores), "share", higher_is_better=False)


def _escapes_and_overkill(answers: _Answers, good_class: str) -> dict[str, Metric]:
    if good_class not in answers.classes:
        raise DataError(f"the good class {good_class!r} is not among the classes", hint="Name one of the classes.")
    good = answers.truth == answers.classes.index(good_class)
    passed = answers.called == answers.classes.index(good_class)
    metrics = {}
    if not good.all():
        metrics["escapes"] = answers.rate(passed, ~good, higher_is_better=False)
    if good.any():
        metrics["overkill"] = answers.rate(~passed, good, higher_is_better=False)
    return metrics


def _worst(answers: _Answers) -> tuple[int, ...]:
    mistakes = np.flatnonzero(~answers.right & (answers.called >= 0))
    certainty = answers.probabilities[mistakes, answers.called[mistakes]]
    return tuple(int(row) for row in mistakes[np.argsort(-certainty, kind="stable")][:WORST_ROWS])
