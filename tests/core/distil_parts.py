"""A training small enough to repeat many times, with everything in it that has a state: batch norm, dropout, AdamW,
and where `everything` is asked for, a projection, weights of samples and of tasks, and objectives that come and go.

    python distil_parts.py FOLDER STEP

trains with everything and a checkpoint after every step, and dies, without a word, when batch STEP is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.distil import checkpoints
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import BatchLesson
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.objectives import Batch, Outputs
from toolkit.distil.watching import UNWATCHED, Watch
from toolkit.distil.weighting import TaskWeights, Weighting
from toolkit.protocols import Objective

FEATURES, CLASSES, STEPS, EPOCHS, WIDTH = 6, 3, 5, 4, 7
OBJECTIVES = (Objective("hard-label", 0.4), Objective("response", 0.6, 2.0))
EVERYTHING = (
    Objective("hard-label", 0.4, schedule="rise"),
    Objective("response", 0.6, 2.0),
    Objective("feature", 0.5),
    Objective("feature-distance", 0.1, schedule="fall"),
    Objective("similarity", 2.0),
    Objective("relation-distance", 0.5),
    Objective("relation-angle", 0.5, schedule="rise"),
)
TASKS = ("one", "two", "three")


class Interrupted(Exception):
    """Stands for whatever ends a process."""


class TinyBatches:
    """Seeded batches; `before` is told the number of each step before its batch is made. With `everything`, a teacher
    that shows features, two rows without a label, and tasks."""

    def __init__(
        self, steps: int = STEPS, before: Callable[[int], None] = lambda _: None, *, everything: bool = False
    ) -> None:
        self.steps = steps
        self.before = before
        self.everything = everything

    def batch(self, epoch: int, step: int) -> Batch:
        self.before(epoch * self.steps + step)
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        inputs = torch.randn(8, FEATURES, generator=generator)
        logits, labels = 3 * inputs[:, :CLASSES], inputs[:, :CLASSES].argmax(1)
        if not self.everything:
            return Batch(inputs, labels, Outputs(logits))
        ways = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(5))
        known = (torch.arange(8) < 6).float()
        return Batch(inputs, labels, Outputs(logits, torch.tanh(inputs @ ways)), known, 1 - known / 2, labels)


def tiny_module(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.3), nn.Linear(10, CLASSES)
    )


def held_out() -> tuple[Tensor, Tensor]:
    inputs = torch.randn(40, FEATURES, generator=torch.Generator().manual_seed(99))
    return inputs, inputs[:, :CLASSES].argmax(1)


@torch.no_grad()
def validate(module: nn.Module) -> Score:
    inputs, labels = held_out()
    logits = module(inputs)
    accuracy = float((logits.argmax(1) == labels).float().mean())
    return Score(accuracy, float(nn.functional.cross_entropy(logits, labels)), len(labels))


def train(
    folder: Path, before: Callable[[int], None] = lambda _: None, epochs: int = EPOCHS, *, everything: bool = False,
    watch: Watch = UNWATCHED,
) -> Fitted:  # fmt: skip
    learner = Learner(tiny_module(), width=WIDTH if everything else 0)
    weighting = (
        Weighting(difficulty=True, tasks=TaskWeights(TASKS, by="loss-ratio", floor=0.3)) if everything else Weighting()
    )
    batches = TinyBatches(before=before, everything=everything)
    return fit(
        learner, BatchLesson(batches, EVERYTHING if everything else OBJECTIVES, weighting),
        Schedule(epochs, 0.02, 0.01, seed=7), groups=[{"params": list(learner.parameters())}], validate=validate,
        folder=folder, report=lambda *_: None, watch=watch,
    )  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """The same sums in the same order, and a torch that other tests find as they left it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def gradient(loss: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of `loss` in every entry."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        found[index] = (loss(up) - loss(down)) / (2 * step)
    return found


def tensor(values: object) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def assert_same(one: Fitted, other: Fitted) -> None:
    """Bit for bit."""
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name
    assert (one.score, one.epoch, list(one.history)) == (other.score, other.epoch, list(other.history))


def interrupt_at(step: int) -> Callable[[int], None]:
    def before(reached: int) -> None:
        if reached == step:
            raise Interrupted

    return before


def die_at(step: int) -> Callable[[int], None]:
    def before(reached: int) -> None:
        if reached == step:
            os._exit(9)

    return before


if __name__ == "__main__":
    checkpoints.EVERY_SECONDS = 0.0
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), die_at(int(sys.argv[2])), everything=True)
