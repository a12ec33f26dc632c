"""What a model costs in ONNX Runtime on this machine: the model alone, batch 1, one thread, CPU.

Teacher and student are measured by one method, in one run, in turns, so that the machine's noise hits both alike. This
module knows bytes, feeds and clocks; it refuses to know what the model answers.

The peak activation arena is ONNX Runtime's own account of a run, see `onnx_arena`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.artifacts import Metric
from toolkit.errors import UsageError
from toolkit.score.intervals import Floats, bootstrap_interval
from toolkit.score.measure import (
    EnergyCounter,
    LatencySample,
    NotMeasured,
    energy_block,
    energy_counter,
    exact_bytes,
    quantile_interval,
)
from toolkit.score.onnx_arena import Feeds, arena_peak, one_thread_session
from toolkit.score.onnx_weights import weight_bytes

Call = Callable[[], object]

ROUNDS = 30
CALLS_A_TURN = (5, 50)  # at least, at most; the first call of a turn only warms the caches


@dataclass(frozen=True)
class ModelCost:
    """The cost of one model. `memory` is its weights plus `activations`, the peak activation arena; `arena_held`, for
    information, is all that the arena takes from the system; `energy` is joule a call."""

    latency: LatencySample
    size: Metric
    weights: Metric
    activations: Metric
    memory: Metric
    arena_held: Metric
    energy: Metric | NotMeasured

    def as_record(self) -> dict[str, Any]:
        return {
            "latency": self.latency.as_record(), "size": self.size.as_record(), "weights": self.weights.as_record(),
            "activations": self.activations.as_record(), "memory": self.memory.as_record(),
            "arena_held": self.arena_held.as_record(),
            "energy": str(self.energy) if isinstance(self.energy, NotMeasured) else self.energy.as_record(),
        }  # fmt: skip


@dataclass(frozen=True)
class CostComparison:
    """Both costs, and how many times smaller the student's is: latency (median over rounds), size, memory, and energy,
    whose ratio is None where this machine cannot measure it. Without a teacher on this machine there is no ratio."""

    teacher: ModelCost | NotMeasured
    student: ModelCost
    latency: Metric | None = None
    size: Metric | None = None
    memory: Metric | None = None
    energy: Metric | None = None

    def as_record(self) -> dict[str, Any]:
        ratios = {"latency": self.latency, "size": self.size, "memory": self.memory, "energy": self.energy}
        teacher = self.teacher
        return {
            "teacher": {"reason": str(teacher)} if isinstance(teacher, NotMeasured) else teacher.as_record(),
            "student": self.student.as_record(),
            "ratios": {name: ratio.as_record() if ratio else None for name, ratio in ratios.items()},
        }  # fmt: skip


def model_cost(model: bytes, feeds: Feeds, *, seconds: float = 5.0) -> ModelCost:
    """The cost of one model, timed for about `seconds`. Raises as `compare_costs` does."""
    call, counter = _caller(model, feeds), energy_counter()
    (times,) = _turns([call], seconds)
    (joules,) = _energy_turns([call], counter, seconds) if isinstance(counter, EnergyCounter) else (counter,)
    return _cost(model, feeds, times, joules)


def compare_costs(
    teacher: bytes, student: bytes, teacher_feeds: Feeds, student_feeds: Feeds | None = None, *, seconds: float = 10.0
) -> CostComparison:
    """Measure both models in turns and relate them.

    Args:
        teacher, student: whole ONNX models, weights inside.
        teacher_feeds, student_feeds: inputs by name, batch axis 1; the student's are the teacher's where left out.
        seconds: of timing, both together; as much again where energy can be measured.

    Raises:
        UsageError: weights outside the model's bytes, or feeds whose batch axis is not 1.
        EnvironmentUnfit: an ONNX Runtime that does not account for its arena (before 1.32).
    """
    student_feeds = teacher_feeds if student_feeds is None else student_feeds
    calls = [_caller(teacher, teacher_feeds), _caller(student, student_feeds)]
    teacher_times, student_times = _turns(calls, seconds)
    counter = energy_counter()
    blocks = _energy_turns(calls, counter, seconds) if isinstance(counter, EnergyCounter) else [counter, counter]
    costs = (
        _cost(teacher, teacher_feeds, teacher_times, blocks[0]),
        _cost(student, student_feeds, student_times, blocks[1]),
    )
    return CostComparison(
        *costs,
        latency=_latency_ratio(teacher_times, student_times),
        size=_exact_ratio(costs[0].size, costs[1].size),
        memory=_exact_ratio(costs[0].memory, costs[1].memory),
        energy=None if isinstance(blocks[0], NotMeasured) or isinstance(blocks[1], NotMeasured)
        else _energy_ratio(blocks[0], blocks[1]),
    )  # fmt: skip


def _caller(model: bytes, feeds: Feeds) -> Call:
    if odd := sorted(name for name, value in feeds.items() if value.ndim and value.shape[0] != 1):
        raise UsageError(f"costs are taken at batch 1; {', '.join(odd)} holds more rows", hint="Feed one example.")
    session = one_thread_session(model)
    inputs = dict(feeds)
    return lambda: session.run(None, inputs)


def _turns(calls: list[Call], seconds: float) -> list[list[Floats]]:
    """Milliseconds of each call [model][round][call]: in every round each model has one turn of some calls."""
    once = sum(_time(call, 3).min() for call in calls) / 1e3
    size = int(np.clip(seconds / ROUNDS / once, *CALLS_A_TURN))
    times: list[list[Floats]] = [[] for _ in calls]
    deadline = time.perf_counter() + seconds
    for turn in range(ROUNDS):
        for taken, call in zip(times, calls, strict=True):
            taken.append(_time(call, size + 1)[1:])
        if turn and time.perf_counter() > deadline:
            break
    return times


def _time(call: Call, repeats: int) -> Floats:
    marks = [time.perf_counter()]
    for _ in range(repeats):
        call()
        marks.append(time.perf_counter())
    return 1e3 * np.diff(marks)


def _energy_turns(calls: list[Call], counter: EnergyCounter, seconds: float) -> list[Floats | NotMeasured]:
    """Joule and calls of each turn [model][round, 2]."""
    part = seconds / ROUNDS / len(calls)
    rounds = [[energy_block(call, counter, part) for call in calls] for _ in range(ROUNDS)]
    return [np.array([turn[number] for turn in rounds], dtype=np.float64) for number in range(len(calls))]


def _cost(model: bytes, feeds: Feeds, times: list[Floats], energy: Floats | NotMeasured) -> ModelCost:
    weights, arena = weight_bytes(model), arena_peak(model, feeds)
    return ModelCost(
        latency=LatencySample.of(np.concatenate(times)), size=exact_bytes(len(model)), weights=exact_bytes(weights),
        activations=exact_bytes(arena.activations), memory=exact_bytes(weights + arena.activations),
        arena_held=exact_bytes(arena.held), energy=energy if isinstance(energy, NotMeasured) else _joule(energy),
    )  # fmt: skip


def _joule(blocks: Floats) -> Metric:
    def per_call(sums: Floats) -> Floats:
        return np.asarray(sums[:, 0] / sums[:, 1])

    value = float(blocks[:, 0].sum() / blocks[:, 1].sum())
    return Metric(value, *bootstrap_interval(blocks, per_call), len(blocks), "joule", higher_is_better=False)


def _latency_ratio(teacher: list[Floats], student: list[Floats]) -> Metric:
    """The median over rounds of the turns' medians, one over the other: what slows a whole round cancels out."""
    ratios = np.sort([np.median(ours) / np.median(theirs) for ours, theirs in zip(teacher, student, strict=True)])
    return _times(float(np.median(ratios)), *quantile_interval(ratios, 0.5), len(ratios))


def _energy_ratio(teacher: Floats, student: Floats) -> Metric:
    def ratio(sums: Floats) -> Floats:
        return np.asarray(sums[:, 0] / sums[:, 1] / (sums[:, 2] / sums[:, 3]))

    features = np.hstack([teacher, student])
    value = float(ratio(features.sum(axis=0, keepdims=True))[0])
    return _times(value, *bootstrap_interval(features, ratio), len(features))


def _exact_ratio(teacher: Metric, student: Metric) -> Metric:
    value = teacher.value / student.value
    return _times(value, value, value, 1)


def _times(value: float, low: float, high: float, n: int) -> Metric:
    return Metric(value, min(low, value), max(high, value), n, "times")
