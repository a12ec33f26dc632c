"""Training a student by low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685): its own weights stay as they are
until the adapters are added to them, so the student that is kept has its own shape again. By PEFT.

Beside adapters the frozen weights may be held in four bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), by
bitsandbytes. What the adapters were trained beside are the rounded weights, so it is those that they are added to.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from transformers import PreTrainedModel

from toolkit.errors import EnvironmentUnfit, PlanError

BLOCK = 64
"""Weights that share a scale."""


class Adapted:
    """A student with adapters in every linear layer but its head. `model` is changed in place: frozen, but for them.

    Args:
        bits: of the frozen weights of those layers: 32, as they are, or 4 (NF4).

    Raises:
        EnvironmentUnfit: peft, or bitsandbytes, is not installed. PlanError: the student has no layer that could be
            adapted.
    """

    def __init__(self, model: PreTrainedModel, rank: int, seed: int = 0, *, bits: int = 32) -> None:
        _require("peft", "student.lora_rank asks for adapters", "lora", "train all weights: --set student.lora_rank=0")
        peft: Any = importlib.import_module("peft")
        config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
                torch.manual_seed(seed)
                self._wrapped: Any = peft.get_peft_model(model, config)
        except ValueError as error:
            raise PlanError(
                f"the student cannot be adapted: {str(error).splitlines()[0]}",
                hint="Train all weights: --set student.lora_rank=0",
            ) from error
        self._layers = [one for one in model.modules() if isinstance(getattr(one, "base_layer", None), nn.Linear)]
        if bits == 4:
            _require(
                "bitsandbytes", "student.frozen_bits asks for weights in four bits", "qlora",
                "keep them as they are: --set student.frozen_bits=32",
            )  # fmt: skip
            for layer in self._layers:
                layer.base_layer = Nf4Linear(cast(nn.Linear, layer.base_layer))

    def merged(self) -> PreTrainedModel:
        """The student with its adapters added to its weights."""
        for layer in self._layers:
            if isinstance(layer.base_layer, Nf4Linear):
                layer.base_layer = layer.base_layer.unpacked()
        model: PreTrainedModel = self._wrapped.merge_and_unload()
        return model


class Nf4Linear(nn.Module):
    """A linear layer whose weights are held in four bits and are never learnt: normal float, in blocks of BLOCK with a
    scale of 32 bits each. The gradient flows through it to what stands before it."""

    packed: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        packed, state = _blocks().quantize_4bit(linear.weight.data, blocksize=BLOCK, quant_type="nf4")
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.register_buffer("packed", packed)
        self.register_buffer("scales", state.absmax.view(torch.int32))  # no cast of the model may round them

    def forward(self, rows: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        return functional.linear(rows, self.weight.to(rows.dtype), bias)

    @property
    def weight(self) -> Tensor:
        """What the four bits mean: [out, in], float32."""
        blocks = _blocks()
        state = blocks.QuantState(
            absmax=self.scales.view(torch.float32), shape=torch.Size((self.out_features, self.in_features)),
            dtype=torch.float32, blocksize=BLOCK, quant_type="nf4",
        )  # fmt: skip
        found: Tensor = blocks.dequantize_4bit(self.packed, state)
        return found

    def unpacked(self) -> nn.Linear:
        """The same layer with its weights in 32 bits."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device=self.packed.device)
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        linear.bias = self.bias
        return linear


def _blocks() -> Any:
    return importlib.import_module("bitsandbytes").functional


def _require(module: str, why: str, extra: str, instead: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise EnvironmentUnfit(
            f"{why}, and {module}, which makes them, is not installed",
            hint=f"pip install 'distil-toolkit[{extra}]', or {instead}",
        )
