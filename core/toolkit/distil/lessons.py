"""What a learner is taught, a step at a time: the side of training that knows what a batch is and what its loss.

The loop asks for the parts of a step, sums up the gradients of their losses, and tells the curves what it was told.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from toolkit.distil.learner import Learner
from toolkit.distil.objectives import WEIGHT, Batch, agreement, pulls, weighted_terms
from toolkit.distil.precision import Precision, in_float32
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.spread import one_batch, whole
from toolkit.distil.weighting import Weighting
from toolkit.protocols import Objective


@dataclass(frozen=True)
class Taught:
    """What a part of a step taught: its share of the step's loss, and figures that add up over the parts. Parts may be
    taught by several processes, each with the same state of the lesson."""

    loss: Tensor
    told: Mapping[str, float]


class Lesson(Protocol):
    """Training data with what is to be learnt from it. What changes on the way is its state."""

    @property
    def steps(self) -> int:
        """Steps in one epoch."""
        ...

    def parts(self, epoch: int, step: int) -> Sequence[Any]:
        """What is taught in that step, in parts that fit into memory: the same for the same arguments, whenever it is
        asked for. A part knows what share of the step it is."""
        ...

    def teach(self, learner: Learner, part: Any, progress: float, precision: Precision) -> Taught:
        """The loss of a part with its graph; `progress`, 0..1, of the training is done."""
        ...

    def close_step(self) -> None:
        """Look back on a step, in each process: from here on their states are the same."""
        ...

    def close_epoch(self) -> Mapping[str, float]:
        """Look back on an epoch; figures for its curves."""
        ...

    def twin(self) -> Lesson:
        """The same lesson with a state of its own, for a rehearsal."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""
        ...

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        ...


class Batches(Protocol):
    """Rows in batches of a fixed size."""

    @property
    def steps(self) -> int:
        """Batches in one epoch."""
        ...

    def batch(self, epoch: int, step: int) -> Batch:
        """The same batch for the same arguments, whenever it is asked for."""
        ...


@dataclass(frozen=True)
class BatchLesson:
    """Batches of rows by weighted objectives, for a model that answers each row at once: pictures, series, tables.

    Several processes share out the rows of a batch; each then sees what the model says of all of them. So batch norm,
    relations, weights and the lesson's state are those of the whole batch, and the same in each process.
    """

    batches: Batches
    objectives: Sequence[Objective]
    weighting: Weighting = field(default_factory=Weighting)
    processes: Processes = ALONE

    @property
    def steps(self) -> int:
        return self.batches.steps

    def parts(self, epoch: int, step: int) -> Sequence[Batch]:
        return (self.batches.batch(epoch, step),) * self.processes.size  # each takes its rows of it

    def teach(self, learner: Learner, part: Batch, progress: float, precision: Precision) -> Taught:
        count, processes = len(part.inputs), self.processes
        with precision.products(learner), one_batch(learner, processes):
            said = learner(part.inputs[processes.rows(count)])
        outputs = whole(in_float32(said), count, processes)
        batch = self.weighting.weigh(part, outputs)
        terms = weighted_terms(self.objectives, outputs, batch, progress)
        # The pulls are taken where the learner's own graph runs through, which a converted copy of the features is not.
        told = {name: float(term.mean.detach()) for name, term in terms.items()} | pulls(terms, said, processes.norms)
        told |= {f"{WEIGHT}{name}": term.weight for name, term in terms.items()} | {"rows": float(len(part.inputs))}
        if batch.teacher is not None:
            told["agreement"] = agreement(outputs, batch.teacher)
        self.weighting.observe(batch, torch.stack([term.weight * term.rows for term in terms.values()]).sum(dim=0))
        loss = torch.stack([term.weight * term.mean for term in terms.values()]).sum()
        # Each process has the loss of the whole batch: the first one's counts. The others give their gradients.
        return Taught(loss, told) if processes.first else Taught(loss - loss.detach(), {})

    def close_step(self) -> None:
        """Each process has seen the whole batch."""

    def close_epoch(self) -> Mapping[str, float]:
        return self.weighting.close_epoch()

    def twin(self) -> BatchLesson:
        return replace(self, weighting=copy.deepcopy(self.weighting))

    def state(self) -> dict[str, Any]:
        return self.weighting.state()

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.weighting.restore(saved)
