"""How the processes that train together hold what is trained: here, each all of it. `shards` is the other way.

The loop asks for everything that differs between the two: which parts of a step are whose, how gradients become those
of the whole step, who validates, and what a checkpoint is made of. Its state is the same either way, so that a
training which began one way can be taken up the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.learner import Learner
from toolkit.distil.precision import Precision, Wanted
from toolkit.distil.processes import Processes
from toolkit.errors import EnvironmentUnfit, PlanError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Trained:
    """What the optimiser changes. Copied together, the groups of the copy hold the copied learner's parameters.

    `average`: the moving average of its weights, where it has been made already.
    """

    learner: Learner
    groups: list[dict[str, Any]]
    average: Learner | None = None


@dataclass(frozen=True)
class Kept:
    """What a training keeps for each weight."""

    learner: Learner
    average: Learner
    optimizer: torch.optim.Optimizer

    def size(self) -> int:
        """Bytes that this process keeps for it between two steps; a storage that several share counts once."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [*_of(self.learner), *_of(self.average), *(value for value in states if isinstance(value, Tensor))]
        storages = {one.data_ptr(): one.nbytes() for one in (local(value).untyped_storage() for value in tensors)}
        return sum(storages.values())


class Holding(Protocol):
    """One way to hold a model among processes."""

    @property
    def processes(self) -> Processes: ...

    def take(self, trained: Trained) -> Trained:
        """Begin to hold it."""
        ...

    def shares(self, parts: Sequence[Value]) -> Sequence[tuple[Value, bool]]:
        """The parts of a step that this process teaches, and whether each counts."""
        ...

    def within(self, learner: Learner, do: Callable[[], Value]) -> Value:
        """What `do` returns, which may use all weights; the gradient flows to them through tensors it returns alone or
        in a tuple."""
        ...

    def in_touch(self) -> AbstractContextManager[None]:
        """Within it a process that is gone is said to be."""
        ...

    def sum_gradients(self, learner: Learner) -> None:
        """Make its gradients those of all processes, after the last backward pass of a step."""
        ...

    def clip(self, learner: Learner, most: float) -> float:
        """Scale its gradients down to that norm over all weights; the norm they had."""
        ...

    def score(self, average: Learner, validate: Callable[[nn.Module], Value]) -> Value:
        """What validation says of the averaged student, the same in each process."""
        ...

    def weights(self, student: nn.Module) -> dict[str, Tensor]:
        """A copy of its whole state on the CPU, in the first process at least."""
        ...

    def due(self, checkpoints: Checkpoints) -> bool:
        """Whether this process has to ask for a `snapshot` now, for the first one to save."""
        ...

    def snapshot(self, kept: Kept) -> dict[str, Any]:
        """What a checkpoint holds of it; whole in the first process."""
        ...

    def restore(self, kept: Kept, saved: dict[str, Any]) -> None:
        """Take over what `snapshot` gave, here or in another way to hold it."""
        ...


@dataclass(frozen=True)
class Whole:
    """Each process holds all of it, and takes the same steps."""

    processes: Processes

    def take(self, trained: Trained) -> Trained:
        return trained

    def shares(self, parts: Sequence[Value]) -> Sequence[tuple[Value, bool]]:
        return [(part, True) for part in self.processes.mine(parts)]

    def within(self, learner: Learner, do: Callable[[], Value]) -> Value:
        return do()

    def in_touch(self) -> AbstractContextManager[None]:
        return nullcontext()  # the processes say so themselves

    def sum_gradients(self, learner: Learner) -> None:
        self.processes.sum_gradients(learner.parameters())

    def clip(self, learner: Learner, most: float) -> float:
        return float(nn.utils.clip_grad_norm_(learner.parameters(), most))

    def score(self, average: Learner, validate: Callable[[nn.Module], Value]) -> Value:
        return self.processes.decide(lambda: validate(average.student))

    def weights(self, student: nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in student.state_dict().items()}

    def due(self, checkpoints: Checkpoints) -> bool:
        return self.processes.first and checkpoints.due

    def snapshot(self, kept: Kept) -> dict[str, Any]:
        return {
            "learner": kept.learner.state_dict(),
            "average": kept.average.state_dict(),
            "optimizer": kept.optimizer.state_dict(),
        }

    def restore(self, kept: Kept, saved: dict[str, Any]) -> None:
        kept.learner.load_state_dict(saved["learner"])
        kept.average.load_state_dict(saved["average"])
        kept.optimizer.load_state_dict(saved["optimizer"])
        for parameter, state in kept.optimizer.state.items():
            for name, value in state.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    # Saved of shards, which lie in plain order. A fused step goes through both as they lie in memory.
                    state[name] = torch.empty_like(parameter).copy_(value)


def holding_of(processes: Processes, shard_on: torch.device | None, precision: Wanted | Precision) -> Holding:
    """The way in which they hold it: each a shard on that device, or all of it where there is none.

    Raises:
        PlanError: a precision would have to be found on copies that no process has room for.
    """
    if shard_on is None:
        return Whole(processes)
    if precision == "auto":
        raise PlanError(
            "compute.precision auto tries formats on whole copies of the student, and sharded nobody has one",
            hint="Name a format, --set compute.precision=bf16; or hold the student whole: --set compute.sharding=none",
        )
    from toolkit.distil.shards import Sharded

    return Sharded(processes, shard_on)


def agree_on_the_start(saved: Mapping[str, Any] | None, processes: Processes) -> None:
    """All begin at the same position, before the first may write another.

    Raises:
        EnvironmentUnfit: they see different checkpoints.
    """
    positions = processes.everyone(saved and saved["position"])
    if any(position != positions[0] for position in positions):
        raise EnvironmentUnfit(
            "the processes of this training see different checkpoints",
            hint="Point TOOLKIT_HOME at one folder that all machines share.",
        )


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor: its shard, where it has one."""
    shard: Callable[[], Tensor] | None = getattr(value, "to_local", None)
    return value if shard is None else shard()


def held(module: nn.Module) -> list[Tensor]:
    """What this process holds of a module. Not of its state dict: that names a tied weight once for each layer that
    shares it."""
    return [local(value) for value in _of(module)]


def _of(module: nn.Module) -> Iterable[Tensor]:
    return [*module.parameters(), *module.buffers()]
