"""The training loop: one for teachers being adapted, students and baselines. Deterministic, and exact on resume.

Everything random is a pure function of (seed, epoch, step), so the position in the data is the whole random state.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.distil import precision as formats
from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.devices import FUSED
from toolkit.distil.holding import Holding, Kept, Trained, Whole, agree_on_the_start, held, holding_of
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import Lesson
from toolkit.distil.precision import Precision, Rehearse, Wanted
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.watching import UNWATCHED, Watch
from toolkit.errors import PlanError


@dataclass(frozen=True)
class Score:
    """How a checkpoint does on `rows` validation rows; the loss (nats) is for the curves alone."""

    accuracy: float
    loss: float
    rows: int = 0

    @property
    def noise(self) -> float:
        """One standard error of the accuracy, by Laplace's estimate so that a perfect score has some too."""
        share = (self.accuracy * self.rows + 1) / (self.rows + 2)
        return math.sqrt(share * (1 - share) / self.rows) if self.rows else 0.0

    def holds(self, highest: Score) -> bool:
        """Whether this score is as good as the highest, within its noise: the one-standard-error rule (Breiman et al.
        1984). A few hundred rows saturate early; of checkpoints they cannot tell apart, the longest trained is best."""
        return self.accuracy >= highest.accuracy - highest.noise


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up and cosine decay; validation sees the moving average of the weights."""

    epochs: int
    learning_rate: float
    weight_decay: float
    warmup_share: float = 0.1
    average_decay: float = 0.99
    seed: int = 0

    def factor(self, step: int, steps: int) -> float:
        """The learning rate at `step` of `steps`, as a share of the highest."""
        warmup = max(1, round(self.warmup_share * steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    def decay(self, step: int) -> float:
        """Decay of the moving average: short at first, so that early weights are forgotten."""
        return min(self.average_decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Fitted:
    """The weights validation picked, its score, one record an epoch for the curves, and what it was trained in; and the
    bytes that each process held of weights, moving average and optimiser."""

    weights: dict[str, Tensor]
    score: Score
    epoch: int
    history: Sequence[dict[str, float]]
    precision: Precision
    held: Sequence[int] = ()

    def facts(self) -> dict[str, Any]:
        """What the report shows of a training."""
        return {
            "validation_accuracy": self.score.accuracy,
            "picked_epoch": self.epoch,
            "history": list(self.history),
            "precision": self.precision.facts(),
            "held_bytes": list(self.held),
        }


def fit(
    learner: Learner,
    lesson: Lesson,
    schedule: Schedule,
    *,
    groups: Iterable[dict[str, Any]],
    validate: Callable[[nn.Module], Score],
    folder: Path,
    report: Callable[[int, int], None],
    precision: Wanted | Precision = "fp32",
    processes: Processes = ALONE,
    shard_on: torch.device | None = None,
    watch: Watch = UNWATCHED,
) -> Fitted:
    """Train `learner` on its device and return the student that validation picked.

    Args:
        groups: parameter groups for AdamW; a group may carry `scale`, its share of the learning rate.
        validate: scores the averaged student, in evaluation mode.
        folder: where the checkpoint lies; a state found there is taken up at its exact position.
        report: told (steps done, steps in all).
        precision: number format of forward and backward passes; a training that is taken up keeps the one it began in.
        processes: those that train together: each calls this with the same arguments. The first one validates and
            writes the checkpoints, and all read them.
        shard_on: the device on which each process holds its shard of what is trained (`shards`); then the learner comes
            on the CPU and is of no use afterwards, and the first process alone is given weights. None: each holds all.
        watch: told, in the first process, the figures of each step and each epoch, none of which depends on a clock.
    """
    processes.share([*learner.parameters(), *learner.buffers()])
    holding = holding_of(processes, shard_on, precision)
    trained = holding.take(Trained(learner, [group | {"params": list(group["params"])} for group in groups]))
    checkpoints = Checkpoints(folder)
    saved = checkpoints.load(mapped=shard_on is not None)
    agree_on_the_start(saved, processes)
    if saved is not None:
        precision = Precision.of(saved["precision"])
    elif isinstance(precision, str):
        timed = formats.choose(precision, learner, _rehearsal(trained, lesson, schedule, processes))
        chosen = processes.decide(lambda: timed)  # each process took other times
        precision = chosen
    state = _State(trained, lesson, schedule, precision, holding)
    state.restore(saved)
    total = schedule.epochs * lesson.steps
    watch = watch if processes.first else UNWATCHED
    watch.begin(state.epoch, state.step, lesson.steps)
    while state.epoch < schedule.epochs:
        while state.step < lesson.steps:
            done = state.epoch * lesson.steps + state.step
            report(done, total)
            torch.manual_seed(processes.seed(schedule.seed * 1_000_003 + done))
            told = state.learn(lesson.parts(state.epoch, state.step), schedule, done, total)
            watch.step(done + 1, told)
            state.keep(checkpoints)
        state.close_epoch(holding.score(state.average.eval(), validate))
        watch.epoch(state.epoch, state.epoch * lesson.steps, state.history[-1])
        state.keep(checkpoints)
    report(total, total)
    assert state.best is not None
    sizes = processes.everyone(state.kept.size())
    return Fitted(state.best_weights, state.best, state.best_epoch, state.history, precision, sizes)


def _rehearsal(trained: Trained, lesson: Lesson, schedule: Schedule, processes: Processes) -> Rehearse:
    """The first steps of that training, on copies of all that it changes."""
    total = schedule.epochs * lesson.steps

    @functools.cache
    def seen(step: int) -> Sequence[Any]:
        return lesson.parts(0, step)

    def rehearse(precision: Precision) -> Iterator[float]:
        first = [seen(step) for step in range(min(formats.STEPS, lesson.steps))]
        state = _State(copy.deepcopy(trained), lesson.twin(), schedule, precision, Whole(processes))
        for done in range(formats.STEPS):
            torch.manual_seed(processes.seed(schedule.seed * 1_000_003 + done))
            yield state.learn(first[done % len(first)], schedule, min(done, total - 1), total)["loss"]

    return rehearse


class _State:
    """All that changes while training: what a checkpoint holds, and nothing else."""

    def __init__(
        self, trained: Trained, lesson: Lesson, schedule: Schedule, precision: Precision, holding: Holding
    ) -> None:
        self.learner, self.lesson, self.precision = trained.learner, lesson, precision
        self.processes, self.holding = holding.processes, holding
        self.average = trained.average or copy.deepcopy(trained.learner).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            [{"scale": 1.0} | group for group in trained.groups],
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            fused=next(trained.learner.parameters()).device.type in FUSED,
        )
        self.epoch = self.step = 0
        self.highest: Score | None = None
        self.best: Score | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    @property
    def kept(self) -> Kept:
        return Kept(self.learner, self.average, self.optimizer)

    def learn(self, parts: Sequence[Any], schedule: Schedule, done: int, total: int) -> Mapping[str, float]:
        """One step; its figures."""
        rate = schedule.learning_rate * schedule.factor(done, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.learner.train()
        self.optimizer.zero_grad(set_to_none=True)
        told: dict[str, float] = {"loss": 0.0}
        for part, counts in self.holding.shares(parts):
            _add(told, self._teach(part, done / total, counts=counts))
        self.lesson.close_step()
        self.holding.sum_gradients(self.learner)
        told = self.processes.summed(told)
        norm = self.holding.clip(self.learner, 5.0)
        if not math.isfinite(norm + told["loss"]):
            raise PlanError(
                f"the training diverged at step {done + 1} of {total}: its loss or gradient is not a number",
                hint="Lower the learning rate: recipe.learning_rate, or teacher.learning_rate for the teacher.",
            )
        self.optimizer.step()
        self._average(schedule.decay(done))
        told |= {"gradient_norm": norm, "learning_rate": rate}
        _add(self.sums, told)
        _add(self.counts, dict.fromkeys(told, 1))
        self.step += 1
        return told

    def _teach(self, part: Any, progress: float, *, counts: bool) -> Mapping[str, float]:
        """The gradient of a part; its figures. One that does not count leaves no trace."""
        lesson = self.lesson if counts else self.lesson.twin()

        def teach() -> tuple[Tensor, Mapping[str, float]]:
            taught = lesson.teach(self.learner, part, progress, self.precision)
            return taught.loss if counts else 0.0 * taught.loss, taught.told

        loss, told = self.holding.within(self.learner, teach)
        with self.holding.in_touch():
            loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), **told} if counts else {}

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for mean, value in zip(held(self.average), held(self.learner), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def close_epoch(self, score: Score) -> None:
        means = {name: value / self.counts[name] for name, value in self.sums.items()}
        means |= dict(self.lesson.close_epoch())
        self.history.append(means | {"validation_accuracy": score.accuracy, "validation_loss": score.loss})
        if self.highest is None or score.accuracy > self.highest.accuracy:
            self.highest = score
        if score.holds(self.highest):
            self.best, self.best_epoch = score, self.epoch
            self.best_weights = self.holding.weights(self.average.student)
        self.epoch, self.step, self.sums, self.counts = self.epoch + 1, 0, {}, {}

    def keep(self, checkpoints: Checkpoints) -> None:
        if self.holding.due(checkpoints):
            snapshot = self.snapshot()
            if self.processes.first:
                checkpoints.save(snapshot)

    def snapshot(self) -> dict[str, Any]:
        return self.holding.snapshot(self.kept) | {
            "position": [self.epoch, self.step],
            "highest": _numbers(self.highest),
            "best": _numbers(self.best),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "history": self.history,
            "sums": self.sums,
            "counts": self.counts,
            "lesson": self.lesson.state(),
            "precision": self.precision.facts(),
        }

    def restore(self, saved: dict[str, Any] | None) -> None:
        if saved is None:
            return
        self.holding.restore(self.kept, saved)
        self.epoch, self.step = saved["position"]
        self.highest, self.best = _score(saved["highest"]), _score(saved["best"])
        self.best_epoch = saved["best_epoch"]
        self.best_weights, self.history = saved["best_weights"], saved["history"]
        self.sums, self.counts = saved["sums"], saved["counts"]
        self.lesson.restore(saved["lesson"])


def _add(sums: dict[str, float], told: Mapping[str, float]) -> None:
    for name, value in told.items():
        sums[name] = sums.get(name, 0.0) + value


def _numbers(score: Score | None) -> list[float] | None:
    return None if score is None else [score.accuracy, score.loss, score.rows]


def _score(numbers: list[float] | None) -> Score | None:
    return None if numbers is None else Score(numbers[0], numbers[1], int(numbers[2]))
