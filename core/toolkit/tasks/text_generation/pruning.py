"""A student cut out of its teacher: which layers, heads, neurons and channels stay, and with which weights.

Depth first, layers dropped evenly (DistilBERT, arXiv 1910.01108); then width by what calibration text makes of each
part (Minitron, arXiv 2407.14679, section 2.2): heads by the norm of their output, neurons of the MLP by their
activation, channels of the hidden state by the size of what the norms give, all in absolute values, averaged over a
batch's tokens and joined over batches by the root of the sum of squares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from toolkit.errors import DataError, PlanError
from toolkit.tasks.text_generation.shapes import Shape, built, config_of, head_width, kept_layers, shape_of


@dataclass
class Importance:
    """By layer: `heads` [h], `neurons` [m]. `channels` [d], over all norms, and squared, which changes no order; and by
    the norm's name `energy` [d], the mean square of what it is given, summed over batches."""

    heads: dict[int, Tensor] = field(default_factory=dict)
    neurons: dict[int, Tensor] = field(default_factory=dict)
    channels: Tensor | None = None
    energy: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """What of the teacher the student is made of, by index and in order: its layers, its channels, and for each of
    the student's layers its query heads, key and value heads, and neurons."""

    layers: tuple[int, ...]
    channels: Tensor
    heads: tuple[Tensor, ...]
    kv_heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]


@torch.no_grad()
def pruned(teacher: PreTrainedModel, shape: Shape, calibration: Iterable[Tensor]) -> tuple[PreTrainedModel, Kept]:
    """A student of this shape with the teacher's weights; the teacher stays as it is.

    Args:
        calibration: token ids int64 [n, length] of the training rows, whole rows without padding. 10 to 1,000 samples
            do (Minitron takes 1,024).

    Returns:
        The student on the teacher's device and in its precision, and what was kept.

    Raises:
        PlanError: the teacher is of another family, or the shape is not a part of it.
        DataError: there is no calibration text.
    """
    whole = shape_of(teacher.config)
    _check_part(whole, shape)
    layers = kept_layers(whole.layers, shape.layers)
    shallow = _like(teacher, Shape(shape.layers, whole.hidden, whole.mlp, whole.heads, whole.kv_heads))
    everything = Kept(
        layers, torch.arange(whole.hidden), *(
            (torch.arange(size),) * len(layers) for size in (whole.heads, whole.kv_heads, whole.mlp)
        ),
    )  # fmt: skip
    _copy(teacher, shallow, everything)
    if shape == shape_of(shallow.config):
        return shallow, everything
    found = importance(shallow, calibration)
    kept = _chosen(found, shape, whole, layers)
    student = _like(teacher, shape)
    _copy(teacher, student, kept)
    _rescale(student, found, kept.channels)
    return student, kept


@torch.no_grad()
def importance(model: PreTrainedModel, calibration: Iterable[Tensor]) -> Importance:
    """What calibration text makes of each part of a model of the family."""
    found = Importance()
    batches = 0
    with _watched(model, found), _evaluating(model):
        for ids in calibration:
            model.base_model(input_ids=ids.to(model.device), use_cache=False)
            batches += 1
    if not batches:
        raise DataError("there is no calibration text to prune by", hint="Give some training rows.")
    found.heads = {layer: total.sqrt() for layer, total in found.heads.items()}
    found.neurons = {layer: total.sqrt() for layer, total in found.neurons.items()}
    return found


@contextlib.contextmanager
def _watched(model: PreTrainedModel, found: Importance) -> Iterator[None]:
    """Sums are taken up as long as this is open."""
    width = head_width(model.config)
    base: Any = model.base_model
    hooks = []

    def add(to: dict[Any, Tensor], key: Any, batch: Tensor) -> None:
        to[key] = to[key] + batch if key in to else batch

    def heads(layer: int) -> Callable[..., None]:
        def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            norms = given[0].float().flatten(0, 1)
            add(found.heads, layer, norms.view(len(norms), -1, width).norm(dim=-1).mean(dim=0).square())

        return see

    def neurons(layer: int) -> Callable[..., None]:
        def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            add(found.neurons, layer, given[0].float().abs().flatten(0, 1).mean(dim=0).square())

        return see

    def norm(name: str) -> Callable[..., None]:
        def see(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            size = out.float().abs().flatten(0, 1).mean(dim=0).square()
            found.channels = size if found.channels is None else found.channels + size
            add(found.energy, name, given[0].float().square().flatten(0, 1).mean(dim=0))

        return see

    for number, layer in enumerate(base.layers):
        hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(heads(number)))
        hooks.append(layer.mlp.down_proj.register_forward_pre_hook(neurons(number)))
    for name, module in model.named_modules():
        if _is_norm(name):
            hooks.append(module.register_forward_hook(norm(name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout, and as it was afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _is_norm(name: str) -> bool:
    """Whether a module normalises the hidden state (a norm of queries and keys does not)."""
    return name.endswith(("input_layernorm", "post_attention_layernorm")) or name == "model.norm"


def _chosen(found: Importance, shape: Shape, whole: Shape, layers: Sequence[int]) -> Kept:
    """The most important of each, in their old order."""
    assert found.channels is not None
    heads, kv_heads = [], []
    for layer in range(len(layers)):
        groups = found.heads[layer].view(whole.kv_heads, whole.group)
        inner = groups.topk(shape.group, dim=1)
        kept = _best(inner.values.sum(dim=1), shape.kv_heads)
        kv_heads.append(kept)
        inside = inner.indices.sort(dim=1).values.cpu()
        heads.append((kept[:, None] * whole.group + inside[kept]).flatten())
    neurons = tuple(_best(found.neurons[layer], shape.mlp) for layer in range(len(layers)))
    return Kept(tuple(layers), _best(found.channels, shape.hidden), tuple(heads), tuple(kv_heads), neurons)


def _best(importance: Tensor, count: int) -> Tensor:
    return importance.topk(count).indices.sort().values.cpu()


def _like(teacher: PreTrainedModel, shape: Shape) -> PreTrainedModel:
    """An empty model of this shape, tied where the teacher is."""
    attention = teacher.config._attn_implementation
    model = built(config_of(teacher.config, shape), dtype=teacher.dtype, attn_implementation=attention)
    model.to(teacher.device)  # type: ignore[arg-type]
    model.train(teacher.training)
    return model


def _copy(teacher: PreTrainedModel, student: PreTrainedModel, kept: Kept) -> None:
    """Every weight of the student, tied ones once, from the rows and columns of the teacher's."""
    width = head_width(teacher.config)
    for name, parameter in student.named_parameters():
        path = name.split(".")
        layer = -1
        if path[:2] == ["model", "layers"]:
            layer = int(path[2])
            path[2] = str(kept.layers[layer])
        weight = teacher.get_parameter(".".join(path)).detach()
        for axis, index in enumerate(_axes(name, layer, kept, width)):
            if index is not None:
                weight = weight.index_select(axis, index.to(weight.device))
        if weight.shape != parameter.shape:
            raise PlanError(
                f"the teacher's weight {name} is not as Llama's is",
                hint="Give the student as a checkpoint or a config.",
            )
        parameter.copy_(weight)


def _axes(name: str, layer: int, kept: Kept, width: int) -> tuple[Tensor | None, ...]:
    """Which rows, columns of the teacher's weight of this name stay; None: all."""
    part = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    bias = name.endswith(".bias")
    channels = kept.channels
    if part in ("embed_tokens", "lm_head"):
        return (None,) if bias else (None, channels)
    if part in ("norm", "input_layernorm", "post_attention_layernorm"):
        return (channels,)
    if part in ("q_norm", "k_norm"):
        return (None,)
    inner = {
        "q_proj": kept.heads, "o_proj": kept.heads, "k_proj": kept.kv_heads, "v_proj": kept.kv_heads,
        "gate_proj": kept.neurons, "up_proj": kept.neurons, "down_proj": kept.neurons,
    }.get(part)  # fmt: skip
    if inner is None:
        raise PlanError(
            f"the teacher has a weight {name} that Llama has not", hint="Give the student as a checkpoint or a config."
        )
    rows = inner[layer] if part in ("gate_proj", "up_proj", "down_proj") else _rows(inner[layer], width)
    if part in ("o_proj", "down_proj"):
        return (channels,) if bias else (channels, rows)
    return (rows,) if bias else (rows, channels)


def _rows(heads: Tensor, width: int) -> Tensor:
    """The rows of a projection that belong to some heads."""
    return (heads[:, None] * width + torch.arange(width)).flatten()


def _rescale(student: PreTrainedModel, found: Importance, channels: Tensor) -> None:
    """RMSNorm divides by the root mean square of fewer channels now, and those that stay are the larger ones: its
    weight makes good for it, on average over the calibration text."""
    for name, module in student.named_modules():
        if _is_norm(name):
            energy = found.energy[name]
            ratio = energy[channels.to(energy.device)].mean() / energy.mean()
            norm: Any = module
            norm.weight.mul_(ratio.sqrt().to(norm.weight.dtype))


def _check_part(whole: Shape, shape: Shape) -> None:
    sizes = (shape.layers, shape.hidden, shape.mlp, shape.kv_heads, shape.group)
    of = (whole.layers, whole.hidden, whole.mlp, whole.kv_heads, whole.group)
    uneven = shape.heads % shape.kv_heads or shape.hidden % shape.heads
    if uneven or not all(1 <= size <= most for size, most in zip(sizes, of, strict=True)):
        raise PlanError(
            f"{shape} is no part of the teacher's {whole}",
            hint="Every size is at most the teacher's; channels are a multiple of heads, those of kv_heads.",
        )
