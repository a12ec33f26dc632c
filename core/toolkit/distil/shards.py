"""A model of which no process holds all: weights, gradients, moving average and optimiser are cut into shards
(FSDP2: torch's `fully_shard`; Zhao et al. 2023, arXiv 2304.11277; ZeRO stage 3, arXiv 1910.02054).

Each layer of the student is put together for its own forward and backward pass, and let go of after it. `fully_shard`
does so in the forward hooks of modules, and lessons call what is inside of a model: so a lesson is taught, and a
student validated, within a forward pass of the learner itself (`Learner.within`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.holding import Kept, Trained, local
from toolkit.distil.learner import Learner
from toolkit.distil.processes import Processes, in_touch
from toolkit.errors import PlanError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Sharded:
    """Each process holds a part of every tensor on `device`, and takes the steps of that part."""

    processes: Processes
    device: torch.device

    def take(self, trained: Trained) -> Trained:
        """Shard a learner in place, and with it the average, which begins as its copy. It comes on the CPU: layer by
        layer its shards go to the device.

        Raises:
            PlanError: it has a weight that is a single number.
        """
        learner = trained.learner
        _check(learner)
        average = copy.deepcopy(learner).requires_grad_(False)
        names = {id(parameter): name for name, parameter in learner.named_parameters()}
        self._shard(learner)
        # The average has no backward pass that would let go of what is not in a layer.
        self._shard(average, reshard_after_forward=True)
        shards = dict(learner.named_parameters())
        groups = []
        for group in trained.groups:
            groups.append(group | {"params": [shards[names[id(whole)]] for whole in group["params"]]})
            for whole in group["params"]:
                whole.data = whole.data.new_empty(0)  # whoever made the groups may hold on to it
        return Trained(learner, groups, average)

    def _shard(self, learner: Learner, reshard_after_forward: bool | None = None) -> None:
        mesh = init_device_mesh(self.device.type, (self.processes.size,))
        for layer in _layers(learner.student):
            fully_shard(layer, mesh=mesh)
        fully_shard(learner, mesh=mesh, reshard_after_forward=reshard_after_forward)
        register_fsdp_forward_method(learner, "within")
        for module in learner.modules():
            if isinstance(module, FSDPModule):
                # Losses are shares of the whole step's, so gradients are summed; gloo can do nothing else anyway.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def shares(self, parts: Sequence[Value]) -> Sequence[tuple[Value, bool]]:
        """Each layer is put together by all processes, so all teach as many parts. Where there are too few, some do one
        over again that does not count."""
        mine, rounds = self.processes.mine(parts), -(-len(parts) // self.processes.size)
        return [*((part, True) for part in mine), *((part, False) for part in parts[: rounds - len(mine)])]

    def within(self, learner: Learner, do: Callable[[], Value]) -> Value:
        with self.in_touch():
            return learner.within(do)

    def in_touch(self) -> AbstractContextManager[None]:
        return in_touch()

    def sum_gradients(self, learner: Learner) -> None:
        """They are, since each backward pass."""

    def clip(self, learner: Learner, most: float) -> float:
        norm = nn.utils.clip_grad_norm_(learner.parameters(), most)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def score(self, average: Learner, validate: Callable[[nn.Module], Value]) -> Value:
        """All validate, since each holds a part of every layer."""
        found = self.within(average, lambda: validate(average.student))
        return self.processes.decide(lambda: found)

    def weights(self, student: nn.Module) -> dict[str, Tensor]:
        """Nothing in the others."""
        whole: dict[str, Tensor] = self._collected(student.state_dict())
        return whole if self.processes.first else {}

    def due(self, checkpoints: Checkpoints) -> bool:
        return self.processes.decide(lambda: checkpoints.due)

    def snapshot(self, kept: Kept) -> dict[str, Any]:
        found: dict[str, Any] = self._collected(
            {
                "learner": kept.learner.state_dict(),
                "average": kept.average.state_dict(),
                "optimizer": kept.optimizer.state_dict(),
            }
        )
        return found

    def _collected(self, value: Any) -> Any:
        """Tensors put together, one at a time, and copied to the CPU of the first process; to nothing elsewhere."""
        if isinstance(value, Mapping):
            return {key: self._collected(one) for key, one in value.items()}
        if not isinstance(value, Tensor):
            return value
        whole = value.detach()
        if isinstance(whole, DTensor):
            with self.in_touch():
                whole = whole.full_tensor()
        return whole.cpu().clone() if self.processes.first else None

    def restore(self, kept: Kept, saved: dict[str, Any]) -> None:
        for name in ("learner", "average"):
            module: Learner = getattr(kept, name)
            for key, value in module.state_dict().items():
                local(value).copy_(local(_like(value, saved[name][key])))
        optimizer = saved["optimizer"]
        parameters = [parameter for group in kept.optimizer.param_groups for parameter in group["params"]]
        states = {
            number: {key: _like(parameters[number], value) for key, value in state.items()}
            for number, state in optimizer["state"].items()
        }
        kept.optimizer.load_state_dict(optimizer | {"state": states})


def _layers(student: nn.Module) -> Iterator[nn.Module]:
    """What is put together at once: the layers that transformers names as not to be split over devices. A student that
    names none is one unit."""
    names = set(getattr(student, "_no_split_modules", None) or ())
    return (module for module in student.modules() if type(module).__name__ in names)


def _check(learner: Learner) -> None:
    for name, parameter in learner.student.named_parameters():
        if parameter.ndim == 0:
            raise PlanError(
                f"the student's weight {name} is a single number, which cannot be sharded",
                hint="Make it a vector of one, or hold the student whole: --set compute.sharding=none",
            )


def _like(shard: Tensor, whole: Any) -> Any:
    """This process's shard of a whole tensor, where it is one of the shape that `shard` is a shard of."""
    if not isinstance(shard, DTensor) or not isinstance(whole, Tensor) or whole.shape != shard.shape:
        return whole
    # Each process has read it, so nothing is sent; a copy, so that the whole of it can go.
    return distribute_tensor(whole.contiguous(), shard.device_mesh, shard.placements, src_data_rank=None).clone()
