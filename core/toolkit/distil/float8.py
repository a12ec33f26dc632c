"""Training in eight bits as DeepSeek-V3 does (arXiv 2412.19437, section 3.3), emulated: what enters a matrix product is
rounded to E4M3 and back, and the products are summed in float32.

Weights that are trained, norms, biases, the last layer and the optimiser stay in float32. A module is computed this way
inside `float8_products` and nowhere else: outside it, and in copies, it is the plain module it was.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

LARGEST = 448.0
"""Of E4M3: four bits of exponent, three of mantissa, no infinity (arXiv 2209.05433)."""

ALONG, ACROSS, SQUARE = (1, 128), (128, 1), (128, 128)
"""Blocks (rows, columns) that share a scale: activations and gradients along the dimension that a product sums over,
which is their last or their first, and weights, which are summed over either."""

SMALLEST_INNER = 16
"""Layers that sum over fewer products stay in float32: a depthwise 3x3 convolution sums over 9. They cost next to
nothing, an eight-bit unit cannot be filled with them, and no error averages out in so short a sum."""


def rounded(values: Tensor, block: tuple[int, int]) -> Tensor:
    """The nearest to `values` that E4M3 can hold, each block of the last two dimensions in units of its largest / 448.

    Finite values stay finite, whatever their size, and a block of zeros stays zero. A block with an infinity or a NaN
    becomes NaN, so that a training that diverges is still seen.

    Args:
        values: float32 [..., rows, columns].
        block: rows and columns that share a scale; the last block of a dimension may be smaller.

    Returns:
        The same shape and type.
    """
    height, width = values.shape[-2:]
    rows, columns = min(block[0], height), min(block[1], width)
    padded = functional.pad(values, (0, -width % columns, 0, -height % rows))
    down, across = padded.shape[-2] // rows, padded.shape[-1] // columns
    blocks = padded.reshape(*values.shape[:-2], down, rows, across, columns)
    largest = blocks.abs().amax(dim=(-3, -1), keepdim=True)
    scale = (largest / LARGEST).clamp(min=torch.finfo(values.dtype).tiny)
    codes = (blocks / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    # 448 times a scale that was rounded up may be a little more than the largest, and past float32's own largest.
    back = (codes.to(values.dtype) * scale).clamp(min=-largest, max=largest)
    return back.reshape(padded.shape)[..., :height, :width]


class _Product(torch.autograd.Function):
    """inputs [g, m, k] times weights [g, n, k] transposed, and the two products of its gradient, all of eight bits."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weights)
        return rounded(inputs, ALONG) @ rounded(weights, SQUARE).mT

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        inputs, weights = ctx.saved_tensors
        (slope,) = slopes
        for_inputs = for_weights = None
        if ctx.needs_input_grad[0]:
            for_inputs = rounded(slope, ALONG) @ rounded(weights, SQUARE)
        if ctx.needs_input_grad[1]:
            # This product sums over rows: both sides are rounded anew, from float32, in blocks along the rows.
            for_weights = rounded(slope, ACROSS).mT @ rounded(inputs, ACROSS)
        return for_inputs, for_weights


def layers(network: nn.Module, head: str = "") -> list[str]:
    """The dotted names of the layers that are computed in eight bits: each plain nn.Linear and nn.Conv2d that sums over
    enough products, but the last layer.

    Args:
        head: dotted name of the last layer; empty for the last nn.Linear, or the last nn.Conv2d where there is none.
    """
    modules = dict(network.named_modules())
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    last = head or next(reversed(linear or [name for name, m in modules.items() if isinstance(m, nn.Conv2d)]), "")
    return [name for name, module in modules.items() if name != last and _fits(module)]


@contextmanager
def float8_products(network: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Inside, the layers `names` of `network` multiply in eight bits, and so does the backward pass of what they
    computed, whenever it runs. Classes, parameters and the state stay as they are."""
    chosen = [network.get_submodule(name) for name in names]
    try:
        for layer in chosen:
            computed: Any = _linear if isinstance(layer, nn.Linear) else _convolution
            vars(layer)["forward"] = functools.partial(computed, layer)
        yield
    finally:
        for layer in chosen:
            vars(layer).pop("forward", None)


def _fits(layer: nn.Module) -> bool:
    """Subclasses may compute something else; padding that is not zeros is not a product."""
    if "forward" in vars(layer):
        return False
    if type(layer) is nn.Linear:
        return layer.in_features >= SMALLEST_INNER
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    return layer.weight[0].numel() >= SMALLEST_INNER


def _linear(layer: nn.Linear, inputs: Tensor) -> Tensor:
    product: Tensor = _Product.apply(inputs.reshape(1, -1, layer.in_features), layer.weight.unsqueeze(0))  # type: ignore[no-untyped-call]
    product = product.reshape(*inputs.shape[:-1], layer.out_features)
    return product if layer.bias is None else product + layer.bias


def _convolution(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """[n, c, h, w] by the matrix product that a convolution is: its patches as rows, one matrix a group."""
    kernel, stride, padding, dilation = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    assert not isinstance(padding, str)
    high, wide = (
        (inputs.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    )
    rows, groups, places = len(inputs), layer.groups, high * wide
    patches = functional.unfold(inputs, kernel, dilation, padding, stride).reshape(rows, groups, -1, places)
    product: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
        patches.permute(1, 0, 3, 2).flatten(1, 2), layer.weight.reshape(groups, layer.out_channels // groups, -1)
    )
    maps = product.reshape(groups, rows, places, -1).permute(1, 0, 3, 2).reshape(rows, -1, high, wide)
    return maps if layer.bias is None else maps + layer.bias.view(1, -1, 1, 1)
