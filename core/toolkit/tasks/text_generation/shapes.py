"""What a causal language model of the Llama family is made of, and which smaller shape has so many parameters.

The family is every architecture with Llama's modules by name: RMSNorm before attention and MLP, rotary positions, a
gated MLP, grouped queries. Nothing here has weights: models are built on torch's meta device and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from toolkit.errors import PlanError

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
"""config.model_type of what can be pruned; SmolLM2 and TinyLlama are `llama`."""


SHARES = 64
"""Steps from nothing to the whole in which a student's size is looked for."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder; a head's own width is never changed, since rotary positions are tied to it."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class Target:
    """How large a student is to be: `parameters`, or the share `factor` of the teacher's; one of the two. `layers`:
    how many to keep; None: depth and width shrink alike.

    Raises:
        PlanError: neither or both are given, or they are out of range.
    """

    parameters: int | None = None
    factor: float | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        if (self.parameters is None) == (self.factor is None):
            raise PlanError("a student's size is parameters or a factor, one of the two", hint="Such as factor 0.5.")
        if self.factor is not None and not 0 < self.factor <= 1:
            raise PlanError(f"the factor is {self.factor}", hint="Choose one above 0 and up to 1, such as 0.5.")

    def of(self, whole: int) -> int:
        """Parameters wanted of a teacher that has `whole`."""
        return self.parameters if self.parameters is not None else round(whole * (self.factor or 1))


def check_family(config: PretrainedConfig) -> None:
    """Refuse what is not built as Llama is.

    Raises:
        PlanError: it is of another family.
    """
    if config.model_type not in FAMILY:
        raise PlanError(
            f"a model of type {config.model_type} cannot be pruned",
            hint=f"Choose a teacher of the types {', '.join(FAMILY)}, or give the student as a checkpoint or a config.",
        )


def shape_of(config: PretrainedConfig) -> Shape:
    """The sizes that a config states."""
    check_family(config)
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    return Shape(
        config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads, kv_heads
    )


def head_width(config: PretrainedConfig) -> int:
    """Of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def config_of(config: PretrainedConfig, shape: Shape) -> PretrainedConfig:
    """The same config with these sizes, and what it says layer by layer for those that `kept_layers` keeps."""
    kept = kept_layers(config.num_hidden_layers, shape.layers)
    record = config.to_dict()
    for name, value in record.items():
        if isinstance(value, list) and len(value) == config.num_hidden_layers and name.endswith(("types", "layers")):
            record[name] = [value[layer] for layer in kept]
    record |= {
        "num_hidden_layers": shape.layers, "hidden_size": shape.hidden, "intermediate_size": shape.mlp,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": head_width(config),
    }  # fmt: skip
    return type(config).from_dict(record)


def kept_layers(layers: int, kept: int) -> tuple[int, ...]:
    """Which of so many layers stay: spread evenly, the first and the last among them (DistilBERT, arXiv 1910.01108)."""
    if not 1 <= kept <= layers:
        raise PlanError(f"{kept} layers cannot be kept of {layers}", hint=f"Choose 1 to {layers}.")
    return (0,) if kept == 1 else tuple(round(i * (layers - 1) / (kept - 1)) for i in range(kept))


def parameters_of(config: PretrainedConfig) -> int:
    """How many a model of this config has; tied ones count once."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in built(config).parameters())


def built(config: PretrainedConfig, **settings: Any) -> PreTrainedModel:
    """A model of this config, its weights by chance."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **settings)  # type: ignore[no-untyped-call]
    return model


def shape_for(config: PretrainedConfig, target: Target) -> Shape:
    """The shape with most parameters, not more than wanted, of those that shrink everything alike.

    Raises:
        PlanError: the teacher is smaller than that, or even the smallest student is larger.
    """
    whole = shape_of(config)
    teacher = parameters_of(config)
    wanted = target.of(teacher)
    if wanted > teacher:
        raise PlanError(
            f"the teacher has {teacher:,} parameters, fewer than the student's {wanted:,}",
            hint="Choose a factor below 1.",
        )
    if target.layers is not None:
        kept_layers(whole.layers, target.layers)
        whole = replace(whole, layers=target.layers)
    shrunk = {_shrunk(whole, step / SHARES, deep=target.layers is None) for step in range(SHARES)}
    counts = {shape: _count(config, shape) for shape in {whole, *shrunk}}
    fitting = {shape: count for shape, count in counts.items() if count <= wanted}
    if not fitting:
        raise PlanError(
            f"no student of {wanted:,} parameters can be pruned: the smallest has {min(counts.values()):,}",
            hint="Choose more parameters; most of a small model is its vocabulary.",
        )
    return max(fitting, key=lambda shape: (fitting[shape], shape.layers, shape.hidden, shape.mlp, shape.heads))


def _count(config: PretrainedConfig, shape: Shape) -> int:
    """Parameters of this shape; layers are alike, so that one is built."""
    with torch.device("meta"):
        one = built(config_of(config, replace(shape, layers=1)))
    base: Any = one.base_model
    layer: int = sum(parameter.numel() for parameter in base.layers[0].parameters())
    return sum(parameter.numel() for parameter in one.parameters()) + (shape.layers - 1) * layer


def _shrunk(whole: Shape, share: float, *, deep: bool) -> Shape:
    """Every size by this share: heads so that each group keeps its size or every group loses as many, the hidden state
    to a multiple of the heads (Llama's config wants that), both it and the MLP to what vector units like."""
    heads, kv_heads = min(
        ((kv * group, kv) for kv, group in product(range(1, whole.kv_heads + 1), range(1, whole.group + 1))),
        key=lambda pair: (abs(pair[0] - share * whole.heads), -pair[1]),
    )
    return Shape(
        max(1, round(share * whole.layers)) if deep else whole.layers,
        _multiple(share, whole.hidden, heads),
        _multiple(share, whole.mlp, 1),
        heads,
        kv_heads,
    )


def _multiple(share: float, whole: int, of: int) -> int:
    """That share of the whole, to a multiple of `of`, and of 8 where the whole is large enough; at least one."""
    step = math.lcm(of, max(1, min(8, whole // 32)))
    step = step if step <= whole else of
    return step * max(1, min(round(share * whole / step), whole // step))


def described(shape: Shape, kept: Sequence[int]) -> dict[str, Any]:
    """For a report."""
    return asdict(shape) | {"teacher_layers": list(kept)}
