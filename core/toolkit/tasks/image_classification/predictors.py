"""A torch network behind the face that every model shows a domain: pictures in, probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from toolkit.artifacts import Student, StudentSpec
from toolkit.protocols import PredictorFacts, Tensors
from toolkit.tasks.image_classification.augment import resize


@dataclass(frozen=True)
class TorchPredictor:
    """Runs a student before it is compiled. `module` is on the CPU and in evaluation mode."""

    module: Any
    size: int
    facts: PredictorFacts

    @torch.inference_mode()
    def predict(self, inputs: Tensors) -> Tensors:
        pixels = resize(inputs["image"], self.size).div_(255)
        return {"probabilities": torch.softmax(self.module(pixels), dim=-1).numpy()}


def load_network(student: Student, spec: StudentSpec, which: str) -> Any:
    """The trained network `student` or `baseline`, on the CPU and in evaluation mode."""
    module = spec.build()
    module.load_state_dict(torch.load(student.path / f"{which}.pt", weights_only=True))
    return module.eval()
