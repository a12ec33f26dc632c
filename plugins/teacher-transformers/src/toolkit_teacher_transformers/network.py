"""A Hugging Face image classifier as a plain module: pixels in, logits out."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

from toolkit.errors import PlanError


class ImageClassifier(nn.Module):
    """Float32 [n, 3, size, size] to logits [n, classes], with a new last layer."""

    def __init__(self, folder: Path, classes: int) -> None:
        super().__init__()
        try:
            self.model, found = AutoModelForImageClassification.from_pretrained(
                folder, num_labels=classes, ignore_mismatched_sizes=True, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise PlanError(
                f"{folder} cannot be loaded as an image classifier: {str(error).splitlines()[0]}",
                hint="Fetch it again, or save it again with save_pretrained.",
            ) from error
        # Its last layer is new, whatever it was. Anything else that does not fit transformers would draw by lot.
        names = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
        body = f"{self.model.base_model_prefix}."
        if lacking := [name for name in names if name.startswith(body)]:
            raise PlanError(
                f"{folder} lacks {len(lacking)} weights of its own network, such as {lacking[0]}",
                hint="Fetch it again, or save it again with save_pretrained.",
            )

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels).logits
        return logits
