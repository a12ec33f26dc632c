"""A training small enough to repeat many times, with everything in it that has a state: batch norm, dropout, AdamW.

    python distil_parts.py FOLDER STEP

trains with a checkpoint after every step and dies, without a word, when batch STEP is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.distil import checkpoints
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.objectives import Batch
from toolkit.protocols import Objective

FEATURES, CLASSES, STEPS, EPOCHS = 6, 3, 5, 4
OBJECTIVES = (Objective("hard-label", 0.4), Objective("response", 0.6, 2.0))


class Interrupted(Exception):
    """Stands for whatever ends a process."""


class TinyBatches:
    """Seeded batches; `before` is told the number of each step before its batch is made."""

    def __init__(self, steps: int = STEPS, before: Callable[[int], None] = lambda _: None) -> None:
        self.steps = steps
        self.before = before

    def batch(self, epoch: int, step: int) -> Batch:
        self.before(epoch * self.steps + step)
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        inputs = torch.randn(8, FEATURES, generator=generator)
        return Batch(inputs, inputs[:, :CLASSES].argmax(1), 3 * inputs[:, :CLASSES])


def tiny_module(seed: int = 0) -> nn.Module:
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


def train(folder: Path, before: Callable[[int], None] = lambda _: None, epochs: int = EPOCHS) -> Fitted:
    module = tiny_module()
    return fit(
        module, TinyBatches(before=before), OBJECTIVES, Schedule(epochs, 0.02, 0.01, seed=7),
        groups=[{"params": list(module.parameters())}], validate=validate, folder=folder, report=lambda *_: None,
    )  # fmt: skip


def die_at(step: int) -> Callable[[int], None]:
    def before(reached: int) -> None:
        if reached == step:
            os._exit(9)

    return before


if __name__ == "__main__":
    checkpoints.EVERY_SECONDS = 0.0
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), die_at(int(sys.argv[2])))
