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
from toolkit.distil.weighting import Weighting
from toolkit.protocols import Objective


@dataclass(frozen=True)
class Taught:
    """What a part of a step taught: its share of the step's loss, and figures that add up over the parts."""

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
    """Batches of rows by weighted objectives, for a model that answers each row at once: pictures, series, tables."""

    batches: Batches
    objectives: Sequence[Objective]
    weighting: Weighting = field(default_factory=Weighting)

    @property
    def steps(self) -> int:
        return self.batches.steps

    def parts(self, epoch: int, step: int) -> Sequence[Batch]:
        return (self.batches.batch(epoch, step),)

    def teach(self, learner: Learner, part: Batch, progress: float, precision: Precision) -> Taught:
        with precision.products(learner):
            said = learner(part.inputs)
        outputs = in_float32(said)
        batch = self.weighting.weigh(part, outputs)
        terms = weighted_terms(self.objectives, outputs, batch, progress)
        # The pulls are taken where the learner's own graph runs through, which a converted copy of the features is not.
        told = {name: float(term.mean.detach()) for name, term in terms.items()} | pulls(terms, said)
        told |= {f"{WEIGHT}{name}": term.weight for name, term in terms.items()} | {"rows": float(len(part.inputs))}
        if batch.teacher is not None:
            told["agreement"] = agreement(outputs, batch.teacher)
        self.weighting.observe(batch, torch.stack([term.weight * term.rows for term in terms.values()]).sum(dim=0))
        return Taught(torch.stack([term.weight * term.mean for term in terms.values()]).sum(), told)

    def close_epoch(self) -> Mapping[str, float]:
        return self.weighting.close_epoch()

    def twin(self) -> BatchLesson:
        return replace(self, weighting=copy.deepcopy(self.weighting))

    def state(self) -> dict[str, Any]:
        return self.weighting.state()

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.weighting.restore(saved)
