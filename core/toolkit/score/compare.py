"""Teacher against student on the same rows: what was lost, how sure that is, and the bound the gate reads.

It refuses to know what a right answer is; it sees only who was right where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Metric
from toolkit.errors import DataError, PlanError
from toolkit.score.intervals import DRAWS, Floats, Statistic, bootstrap_interval, clustered_share

Flags: TypeAlias = NDArray[np.bool_]

# The row that speaks most against the student, and the one most for it. Columns: teacher right, student right, one.
AGAINST, FOR = (1, 0, 1), (0, 1, 1)


@dataclass(frozen=True)
class Floor:
    """The teacher against its baseline (the most frequent class): `gap` = teacher - baseline, with the one-sided 95%
    bound of it, both as shares."""

    share: Metric
    gap: float
    lower_bound: float


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of a teacher and a student.

    Attributes:
        difference: student - teacher in points (hundredths), two-sided 95% interval.
        retained: student / teacher as a share of the teacher's quality; None where the teacher was never right.
        margin: the point estimate of student - retain x teacher, a share.
        lower_bound: its one-sided 95% bound; the promise is kept where it lies above zero.
        teacher_only, student_only: the discordant rows; mcnemar_p is the exact two-sided p of their balance (rows taken
            as independent).
    """

    n: int
    groups: int
    retain: float
    teacher: Metric
    student: Metric
    difference: Metric
    retained: Metric | None
    margin: float
    lower_bound: float
    teacher_only: int
    student_only: int
    mcnemar_p: float
    floor: Floor | None = None

    def as_record(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "n": self.n, "groups": self.groups, "retain": self.retain, "teacher": self.teacher.as_record(),
            "student": self.student.as_record(), "difference": self.difference.as_record(),
            "retained": self.retained.as_record() if self.retained else None, "margin": self.margin,
            "lower_bound": self.lower_bound, "teacher_only": self.teacher_only, "student_only": self.student_only,
            "mcnemar_p": self.mcnemar_p,
        }  # fmt: skip
        if self.floor:
            record["floor"] = {
                "share": self.floor.share.as_record(), "gap": self.floor.gap, "lower_bound": self.floor.lower_bound,
            }  # fmt: skip
        return record


def compare(
    teacher_right: Flags, student_right: Flags, *, retain: float = 0.95, draws: int = DRAWS,
    seed: int = 0, groups: Sequence[str] | None = None, floor_right: Flags | None = None,
) -> Comparison:  # fmt: skip
    """Compare two models on the same rows.

    Args:
        teacher_right, student_right: [n] whether each model was right on the row.
        retain: the share of the teacher's quality that was promised, above 0 and at most 1.
        groups: [n], rows that belong together; whole groups are resampled.
        floor_right: [n] whether the teacher's baseline was right (`classification.majority_right`).

    The difference is bounded by the paired bootstrap. The bound of student - retain x teacher is the lower of the
    bootstrap's and of the guarded one (intervals.py): the weighted mean of the rows with one further row on which the
    teacher is right and the student wrong. With no discordant row it is the Clopper-Pearson bound on losing one, so
    at retain = 0.95 a sample of fewer than about 59 rows does not pass, though every answer in it be right.

    Raises:
        DataError: no rows, or lengths that differ.     PlanError: `retain` out of range.
    """
    teacher, student = np.asarray(teacher_right, dtype=bool), np.asarray(student_right, dtype=bool)
    if not len(teacher) or len(teacher) != len(student):
        raise DataError(
            f"{len(teacher)} rows of the teacher and {len(student)} of the student do not pair",
            hint="Score both models on the same rows, at least one.",
        )
    if not 0 < retain <= 1:
        raise PlanError(f"gate.retain is {retain}", hint="Give the share of the teacher's quality to keep, 0 to 1.")
    sampling = _Sampling(groups, draws, seed)
    teacher_only, student_only = int((teacher & ~student).sum()), int((student & ~teacher).sum())
    margin, lower_bound = sampling.margin(teacher, student, retain)
    return Comparison(
        n=len(teacher), groups=len(teacher) if groups is None else len(set(groups)), retain=retain,
        teacher=sampling.share(teacher), student=sampling.share(student),
        difference=sampling.difference(teacher, student), retained=sampling.retained(teacher, student),
        margin=margin, lower_bound=lower_bound, teacher_only=teacher_only, student_only=student_only,
        mcnemar_p=mcnemar_exact(teacher_only, student_only),
        floor=None if floor_right is None else sampling.floor(teacher, np.asarray(floor_right, dtype=bool)),
    )  # fmt: skip


def mcnemar_exact(teacher_only: int, student_only: int) -> float:
    """Two-sided exact p of McNemar's test: twice the smaller binomial tail at 1/2, at most 1 (McNemar 1947)."""
    discordant = teacher_only + student_only
    ways, tail = 1, 0
    for count in range(min(teacher_only, student_only) + 1):  # whole numbers: no rounding, no overflow
        tail += ways
        ways = ways * (discordant - count) // (count + 1)
    return min(1.0, 2 * tail / (1 << discordant))


@dataclass(frozen=True)
class _Sampling:
    """How rows are drawn, the same for every figure of a comparison."""

    groups: Sequence[str] | None
    draws: int
    seed: int

    def share(self, right: Flags) -> Metric:
        return clustered_share(right, self.groups, draws=self.draws, seed=self.seed)

    def margin(self, reference: Flags, candidate: Flags, retain: float) -> tuple[float, float]:
        """candidate - retain x reference, and its one-sided 95% lower bound."""

        def gap(sums: Floats) -> Floats:
            return np.asarray((sums[:, 1] - retain * sums[:, 0]) / sums[:, 2])

        low, _ = self._interval(reference, candidate, gap, confidence=0.90)
        return (int(candidate.sum()) - retain * int(reference.sum())) / len(reference), low

    def difference(self, teacher: Flags, student: Flags) -> Metric:
        def points(sums: Floats) -> Floats:
            return np.asarray(100 * (sums[:, 1] - sums[:, 0]) / sums[:, 2])

        low, high = self._interval(teacher, student, points)
        return Metric(100 * (int(student.sum()) - int(teacher.sum())) / len(teacher), low, high, len(teacher), "points")

    def retained(self, teacher: Flags, student: Flags) -> Metric | None:
        def ratio(sums: Floats) -> Floats:
            return np.asarray(np.divide(sums[:, 1], sums[:, 0], out=np.full(len(sums), np.nan), where=sums[:, 0] > 0))

        if not teacher.any():
            return None
        low, high = self._interval(teacher, student, ratio)
        return Metric(int(student.sum()) / int(teacher.sum()), low, high, len(teacher))

    def floor(self, teacher: Flags, floor: Flags) -> Floor:
        if len(floor) != len(teacher):
            raise DataError(
                f"the baseline has {len(floor)} rows, the teacher {len(teacher)}", hint="Score both on the same rows."
            )
        gap, bound = self.margin(floor, teacher, 1.0)
        return Floor(self.share(floor), gap, bound)

    def _interval(
        self, reference: Flags, candidate: Flags, statistic: Statistic, *, confidence: float = 0.95
    ) -> tuple[float, float]:
        return bootstrap_interval(
            np.column_stack([reference, candidate, np.ones(len(reference))]), statistic, worst=AGAINST, best=FOR,
            groups=self.groups, confidence=confidence, draws=self.draws, seed=self.seed,
        )  # fmt: skip
