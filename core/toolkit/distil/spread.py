"""A batch that is spread over processes and yet one batch: each computes some of its rows, batch norm takes the
statistics of all of them, and losses see what the model says of every row.

So any number of processes computes what one does, but for the order of sums.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.distil.objectives import Outputs
from toolkit.distil.processes import Processes
from toolkit.distil.sequences import precise


def whole(outputs: Outputs, count: int, processes: Processes) -> Outputs:
    """What all processes say of the batch's `count` rows, of which `outputs` is this one's share. The gradient of a
    loss on it goes to this process's own rows: to have the whole of it, gradients of weights are added up."""
    if not processes.several:
        return outputs
    parts = (outputs.logits, outputs.features, outputs.projected)
    there = [part for part in parts if part is not None]
    rows: Tensor = _Whole.apply(torch.cat(there, dim=1), count, processes)  # type: ignore[no-untyped-call]
    columns = iter(torch.split(rows, [part.shape[1] for part in there], dim=1))
    return Outputs(*(None if part is None else next(columns) for part in parts))  # type: ignore[arg-type]


@contextmanager
def one_batch(network: nn.Module, processes: Processes) -> Iterator[None]:
    """Inside, batch norm of a network in training takes its statistics over the rows of all processes. torch's own
    SyncBatchNorm does so on accelerators alone. Classes and the state stay as they are."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)] if processes.several else []
    try:
        for norm in norms:
            vars(norm)["forward"] = functools.partial(_normalised, norm, processes)
        yield
    finally:
        for norm in norms:
            vars(norm).pop("forward", None)


class _Whole(torch.autograd.Function):
    """Rows [mine, ...] to the rows of all processes [count, ...]."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, count: int, processes: Processes) -> Tensor:
        ctx.rows = processes.rows(count)
        rows = mine.new_zeros((count, *mine.shape[1:]))
        rows[ctx.rows] = mine
        return processes.add_up(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return slope[ctx.rows], None, None


def _normalised(norm: _BatchNorm, processes: Processes, inputs: Tensor) -> Tensor:
    """Batch norm as torch defines it, running statistics with the unbiased variance included."""
    if not norm.training and norm.running_mean is not None:
        return type(norm).forward(norm, inputs)
    mean, variance, count = _statistics(precise(inputs.detach()), processes)
    if norm.training and norm.running_mean is not None:
        _remember(norm, mean, variance * (count / max(count - 1, 1)))
    found: Tensor = _Norm.apply(inputs, norm.weight, norm.bias, mean, variance, count, norm.eps, processes)  # type: ignore[no-untyped-call]
    return found


def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), share)
    norm.running_var.lerp_(variance.to(norm.running_var), share)


def _statistics(inputs: Tensor, processes: Processes) -> tuple[Tensor, Tensor, int]:
    """Mean and variance [channels] over the rows and places of all processes, and how many values that is, from each
    one's own (Chan, Golub and LeVeque 1983): sums of squares around zero would cancel."""
    channels = inputs.shape[1]
    values = inputs.numel() // channels
    told = inputs.new_zeros(processes.size, 1 + 2 * channels)
    if values:
        variances, means = torch.var_mean(inputs, _all_but_channels(inputs), correction=0)
        told[processes.rank] = torch.cat([means.new_tensor([float(values)]), means, variances])
    counts, means, variances = torch.split(processes.add_up(told), [1, channels, channels], dim=1)
    count = counts.sum()
    mean = (counts * means).sum(dim=0) / count
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean, variance, int(count)


class _Norm(torch.autograd.Function):
    """(inputs - mean) / sqrt(variance + eps) * weight + bias, with the mean and the variance of all processes' inputs
    (Ioffe and Szegedy 2015, arXiv 1502.03167; the means of its backward pass are over the whole batch, too)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor,
        count: int, eps: float, processes: Processes,
    ) -> Tensor:  # fmt: skip
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(inputs, weight, mean, scale)
        ctx.count, ctx.processes = count, processes
        return torch.nn.functional.batch_norm(inputs, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, scale = ctx.saved_tensors
        dims, slopes = _all_but_channels(inputs), precise(slope)
        centred = precise(inputs) - _along(mean, inputs)
        mine = torch.cat([slopes.sum(dims), (slopes * centred).sum(dims) * scale])
        for_bias, for_weight = mine.clone().chunk(2)
        level, tilt = (ctx.processes.add_up(mine) / ctx.count).chunk(2)
        for_inputs = slopes - _along(level, inputs) - centred * _along(tilt * scale, inputs)
        for_inputs = for_inputs * _along(scale if weight is None else scale * weight, inputs)
        affine = (None, None) if weight is None else (for_weight, for_bias)
        return for_inputs.to(inputs.dtype), *affine, None, None, None, None, None


def _all_but_channels(inputs: Tensor) -> list[int]:
    return [dim for dim in range(inputs.ndim) if dim != 1]


def _along(channels: Tensor, inputs: Tensor) -> Tensor:
    """[channels] so that it goes with inputs [n, channels, ...]."""
    return channels.view(1, -1, *[1] * (inputs.ndim - 2))
