"""The processes that train one model together, and what they tell each other; one alone by default.

Every process holds the same weights, average and optimiser, takes its share of a step, and sums gradients with the
others: so each does the same step. The first one decides, writes and reports. How they were started is not known here,
and torch is imported only where there are several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.errors import EnvironmentUnfit

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed import ProcessGroup

Value = TypeVar("Value")

BUCKET = 2**23
"""Numbers of gradients that are summed at once: many enough for a network's bandwidth, few beside all of them."""

SEED_STRIDE = 715_827_883
"""Between the seeds of two processes: what a network draws itself, each draws for its own rows. The first draws as one
process alone would."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Args:
        rank: its number, from 0; the first is 0.
        size: how many there are.
        local_rank, local_size: the same on this machine: which of its devices is this one's, and by how many processes
            its cores are shared.
        control: the group in which values, not tensors, are told: on the CPU, and patient, since the first may be
            long about its own work. None: the default group.

    Raises:
        EnvironmentUnfit: by every method that waits for the others, where one of them is gone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    control: ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this one decides, writes and reports."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.size > 1

    def mine(self, parts: Sequence[Value]) -> Sequence[Value]:
        """This process's share of a step's parts; none where there are fewer than processes."""
        return parts[self.rank :: self.size]

    def rows(self, count: int) -> slice:
        """This process's share of `count` rows: as many as the others', or one more or less."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def seed(self, seed: int) -> int:
        """What this process seeds with where one alone would take `seed`."""
        return seed + SEED_STRIDE * self.rank

    def decide(self, decision: Callable[[], Value]) -> Value:
        """What the first process finds; the others do not ask, and wait for it."""
        if not self.several:
            return decision()
        import torch.distributed as dist

        told: list[Any] = [decision() if self.first else None]
        with _others():
            dist.broadcast_object_list(told, src=0, group=self.control)
        found: Value = told[0]
        return found

    def everyone(self, value: Value) -> Sequence[Value]:
        """The values of all processes, by rank; no process goes on before all have said theirs."""
        if not self.several:
            return [value]
        import torch.distributed as dist

        told: list[Any] = [None] * self.size
        with _others():
            dist.all_gather_object(told, value, group=self.control)
        return told

    def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Figures by name, added up over the processes; one that a process does not have is 0 there."""
        total: dict[str, float] = {}
        for told in self.everyone(dict(figures)):
            for name, value in told.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def norms(self, norms: Sequence[float]) -> Sequence[float]:
        """The norms of vectors of which each process has pieces with these norms."""
        if not self.several:
            return norms
        import torch

        return self.add_up(torch.tensor(norms, dtype=torch.float64).square()).sqrt().tolist()

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors of the same shape, in place; the same bits in each."""
        if self.several:
            import torch.distributed as dist

            with _others():
                dist.all_reduce(tensor)
        return tensor

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Make them the first process's, in place."""
        if self.several:
            import torch.distributed as dist

            with _others():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Make each gradient the sum of the processes'. One that is nowhere stays None, so that the optimiser leaves
        that weight alone, as it does in one process."""
        if self.several:
            for bucket in _buckets([parameter for parameter in parameters if parameter.requires_grad]):
                self._sum_bucket(bucket)

    def _sum_bucket(self, bucket: Sequence[torch.nn.Parameter]) -> None:
        import torch

        there = bucket[0].new_tensor([float(parameter.grad is not None) for parameter in bucket])
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = self.add_up(torch.cat([there, *(piece.reshape(-1) for piece in pieces)]))
        counts, *sums = torch.split(flat, [len(bucket), *(parameter.numel() for parameter in bucket)])
        for parameter, count, total in zip(bucket, counts.tolist(), sums, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(total.view_as(parameter))


ALONE = Processes()


@contextmanager
def _others() -> Iterator[None]:
    """What torch says of a process that is gone, as an error of the house: of a call that does nothing but talk."""
    try:
        yield
    except RuntimeError as error:  # gloo raises nothing narrower
        raise _lost(error) from error


@contextmanager
def in_touch() -> Iterator[None]:
    """The same of what computes and talks: an error that is not about the others stays what it is.

    Raises:
        EnvironmentUnfit: another process is gone.
    """
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):  # which names its own sources
            raise _lost(error) from error
        raise


def _lost(error: RuntimeError) -> EnvironmentUnfit:
    return EnvironmentUnfit(
        f"this training lost touch with its other processes: {_said(error)}",
        hint="See what they said, or what ended them; the same command takes up where it was.",
    )


def _said(error: RuntimeError) -> str:
    """The first sentence of it, without the place in torch's sources."""
    return re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).partition(". ")[0]


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Neighbours of one type and device, up to BUCKET numbers; the same in each process."""
    bucket: list[torch.nn.Parameter] = []
    for parameter in parameters:
        like = bucket and (bucket[0].dtype, bucket[0].device) == (parameter.dtype, parameter.device)
        if bucket and (not like or sum(p.numel() for p in bucket) + parameter.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
