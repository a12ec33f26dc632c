"""Training a student by low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685): its own weights stay as they are
until the adapters are added to them, so the student that is kept has its own shape again. By PEFT."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import torch
from transformers import PreTrainedModel

from toolkit.errors import EnvironmentUnfit, PlanError


class Adapted:
    """A student with adapters in every linear layer but its head. `model` is changed in place: frozen, but for them.

    Raises:
        EnvironmentUnfit: peft is not installed. PlanError: the student has no layer that could be adapted.
    """

    def __init__(self, model: PreTrainedModel, rank: int, seed: int = 0) -> None:
        if importlib.util.find_spec("peft") is None:
            raise EnvironmentUnfit(
                "student.lora_rank asks for adapters, and peft, which makes them, is not installed",
                hint="pip install 'distil-toolkit[lora]', or train all weights: --set student.lora_rank=0",
            )
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

    def merged(self) -> PreTrainedModel:
        """The student with its adapters added to its weights."""
        model: PreTrainedModel = self._wrapped.merge_and_unload()
        return model
