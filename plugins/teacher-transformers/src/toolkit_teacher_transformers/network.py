"""A Hugging Face image classifier as a plain module: pixels in, logits out."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from transformers import AutoModelForImageClassification


class ImageClassifier(nn.Module):
    """Float32 [n, 3, size, size] to logits [n, classes], with a new last layer."""

    def __init__(self, folder: Path, classes: int) -> None:
        super().__init__()
        self.model = AutoModelForImageClassification.from_pretrained(
            folder, num_labels=classes, ignore_mismatched_sizes=True, local_files_only=True
        )

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels).logits
        return logits
