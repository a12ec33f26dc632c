"""A torch detector behind the face that every model shows a domain: pictures in, probabilities and maps out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from toolkit.artifacts import Student
from toolkit.protocols import PredictorFacts, Tensors
from toolkit.tasks.anomaly_maps.network import OUTPUTS
from toolkit.tasks.image_classification.augment import resize
from toolkit.workspace import write_file


@dataclass(frozen=True)
class TorchDetector:
    """Runs a student before it is compiled. `module` is on the CPU and in evaluation mode."""

    module: Any
    size: int
    facts: PredictorFacts

    @torch.inference_mode()
    def predict(self, inputs: Tensors) -> Tensors:
        said = self.module(resize(inputs["image"], self.size).div_(255))
        return {name: array.numpy() for name, array in zip(OUTPUTS, said, strict=True)}


def write_program(path: Path, module: torch.nn.Module, channels: int, size: int) -> None:
    """Write a network of pixels, in evaluation mode, as a program that can be read without what it was built of."""
    example = torch.zeros(2, channels, size, size)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_file(path, buffer.getvalue())


def read_program(path: Path) -> torch.nn.Module:
    """What `write_program` wrote, on the CPU."""
    return torch.export.load(io.BytesIO(path.read_bytes())).module()


def load_network(student: Student, which: str) -> torch.nn.Module:
    """The trained student beside its teacher, with their detector."""
    return read_program(student.path / f"{which}.pt2")
