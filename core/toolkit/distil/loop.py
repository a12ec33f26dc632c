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
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import Lesson
from toolkit.distil.precision import Precision, Rehearse, Wanted
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.watching import UNWATCHED, Watch
from toolkit.errors import EnvironmentUnfit, PlanError


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
    """The weights validation picked, its score, one record an epoch for the curves, and what it was trained in."""

    weights: dict[str, Tensor]
    score: Score
    epoch: int
    history: Sequence[dict[str, float]]
    precision: Precision

    def facts(self) -> dict[str, Any]:
        """What the report shows of a training."""
        return {
            "validation_accuracy": self.score.accuracy,
            "picked_epoch": self.epoch,
            "history": list(self.history),
            "precision": self.precision.facts(),
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
        watch: told, in the first process, the figures of each step and each epoch, none of which depends on a clock.
    """
    processes.share([*learner.parameters(), *learner.buffers()])
    trained = _Trained(learner, [group | {"params": list(group["params"])} for group in groups])
    checkpoints = Checkpoints(folder)
    saved = checkpoints.load()
    _agree_on_the_start(saved, processes)
    if saved is not None:
        precision = Precision.of(saved["precision"])
    elif isinstance(precision, str):
        timed = formats.choose(precision, learner, _rehearsal(trained, lesson, schedule, processes))
        chosen = processes.decide(lambda: timed)  # each process took other times
        precision = chosen
    state = _State(trained, lesson, schedule, precision, processes)
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
        state.close_epoch(processes.decide(lambda: validate(state.average.eval().student)))
        watch.epoch(state.epoch, state.epoch * lesson.steps, state.history[-1])
        state.keep(checkpoints)
    report(total, total)
    assert state.best is not None
    return Fitted(state.best_weights, state.best, state.best_epoch, state.history, precision)


@dataclass(frozen=True)
class _Trained:
    """What the optimiser changes. Copied together, the groups of the copy hold the copied learner's parameters."""

    learner: Learner
    groups: list[dict[str, Any]]


def _agree_on_the_start(saved: Mapping[str, Any] | None, processes: Processes) -> None:
    """All begin at the same position, before the first may write another."""
    positions = processes.everyone(saved and saved["position"])
    if any(position != positions[0] for position in positions):
        raise EnvironmentUnfit(
            "the processes of this training see different checkpoints",
            hint="Point TOOLKIT_HOME at one folder that all machines share.",
        )


def _rehearsal(trained: _Trained, lesson: Lesson, schedule: Schedule, processes: Processes) -> Rehearse:
    """The first steps of that training, on copies of all that it changes."""
    total = schedule.epochs * lesson.steps

    @functools.cache
    def seen(step: int) -> Sequence[Any]:
        return lesson.parts(0, step)

    def rehearse(precision: Precision) -> Iterator[float]:
        first = [seen(step) for step in range(min(formats.STEPS, lesson.steps))]
        state = _State(copy.deepcopy(trained), lesson.twin(), schedule, precision, processes)
        for done in range(formats.STEPS):
            torch.manual_seed(processes.seed(schedule.seed * 1_000_003 + done))
            yield state.learn(first[done % len(first)], schedule, min(done, total - 1), total)["loss"]

    return rehearse


class _State:
    """All that changes while training: what a checkpoint holds, and nothing else."""

    def __init__(
        self, trained: _Trained, lesson: Lesson, schedule: Schedule, precision: Precision, processes: Processes
    ) -> None:
        self.learner, self.lesson, self.precision = trained.learner, lesson, precision
        self.processes = processes
        self.average = copy.deepcopy(trained.learner).requires_grad_(False)
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

    def learn(self, parts: Sequence[Any], schedule: Schedule, done: int, total: int) -> Mapping[str, float]:
        """One step; its figures."""
        rate = schedule.learning_rate * schedule.factor(done, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.learner.train()
        self.optimizer.zero_grad(set_to_none=True)
        told: dict[str, float] = {"loss": 0.0}
        for part in self.processes.mine(parts):
            taught = self.lesson.teach(self.learner, part, done / total, self.precision)
            taught.loss.backward()  # type: ignore[no-untyped-call]
            _add(told, {"loss": float(taught.loss.detach()), **taught.told})
        self.processes.sum_gradients(self.learner.parameters())
        told = self.processes.summed(told)
        norm = float(nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0))
        if not math.isfinite(norm):
            raise PlanError(
                f"the training diverged at step {done + 1} of {total}: its gradient is not a number",
                hint="Lower the learning rate: recipe.learning_rate, or teacher.learning_rate for the teacher.",
            )
        self.optimizer.step()
        self._average(schedule.decay(done))
        told |= {"gradient_norm": norm, "learning_rate": rate}
        _add(self.sums, told)
        self.step += 1
        return told

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        # Parameters and buffers, not the state dict: that names a tied weight once for each layer that shares it.
        means = [*self.average.parameters(), *self.average.buffers()]
        values = [*self.learner.parameters(), *self.learner.buffers()]
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def close_epoch(self, score: Score) -> None:
        means = {name: value / self.step for name, value in self.sums.items()} | dict(self.lesson.close_epoch())
        self.history.append(means | {"validation_accuracy": score.accuracy, "validation_loss": score.loss})
        if self.highest is None or score.accuracy > self.highest.accuracy:
            self.highest = score
        if score.holds(self.highest):
            self.best, self.best_epoch = score, self.epoch
            self.best_weights = {k: v.detach().cpu().clone() for k, v in self.average.student.state_dict().items()}
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}

    def keep(self, checkpoints: Checkpoints) -> None:
        if self.processes.first and checkpoints.due:
            checkpoints.save(self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": [self.epoch, self.step],
            "highest": _numbers(self.highest),
            "best": _numbers(self.best),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "history": self.history,
            "sums": self.sums,
            "lesson": self.lesson.state(),
            "precision": self.precision.facts(),
        }

    def restore(self, saved: dict[str, Any] | None) -> None:
        if saved is None:
            return
        self.learner.load_state_dict(saved["learner"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.epoch, self.step = saved["position"]
        self.highest, self.best = _score(saved["highest"]), _score(saved["best"])
        self.best_epoch = saved["best_epoch"]
        self.best_weights, self.history, self.sums = saved["best_weights"], saved["history"], saved["sums"]
        self.lesson.restore(saved["lesson"])


def _add(sums: dict[str, float], told: Mapping[str, float]) -> None:
    for name, value in told.items():
        sums[name] = sums.get(name, 0.0) + value


def _numbers(score: Score | None) -> list[float] | None:
    return None if score is None else [score.accuracy, score.loss, score.rows]


def _score(numbers: list[float] | None) -> Score | None:
    return None if numbers is None else Score(numbers[0], numbers[1], int(numbers[2]))
