"""What `bench-serving` serves: two classifiers as ONNX, a picture as a JPEG and as a tensor, and a site that has each.

`heavy` is EfficientNet-Lite0 at 224 pixels with its ImageNet weights and a head of 1,000 classes: inference is nearly
all. `small` is the student family's `small` at 128 pixels on one grey plane, 6 classes, of seeded weights, since what a
student has learned does not change how long it takes.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from serving_sites import on_site

from toolkit.compile.export import Preprocessing, export_network, join
from toolkit.protocols import PredictorFacts
from toolkit.serving.sessions import OnnxPredictor
from toolkit.tasks.image_classification.family import describe_student, network_of
from toolkit.tasks.image_classification.images import decode_image, to_channels
from toolkit_teacher_efficientnet import EfficientNetLite0

SCRAP = 30
"""Grey levels by which the drawn picture's grain varies: a JPEG of it is as large as one of a real surface."""


@dataclass(frozen=True)
class Served:
    """A model file, one input for it in both forms, and a site on which it is installed."""

    name: str
    model: Path
    jpeg: bytes
    array: np.ndarray
    site: Path
    key: str


def make(name: str, folder: Path, picture: Path | None) -> Served:
    """Build, seal, grant and install one of the two; `picture` is a real one, and where there is none it is drawn."""
    channels, size, classes = {"heavy": (3, 224, 1000), "small": (1, 128, 6)}[name]
    torch.manual_seed(0)
    if name == "heavy":
        plan: Any = SimpleNamespace(teacher=SimpleNamespace(input_size=size))
        network = EfficientNetLite0().load(plan, [str(number) for number in range(classes)]).build()
    else:
        network = network_of(describe_student("small", channels=channels, size_px=size, classes=classes))
    data = join(export_network(network.eval(), channels, size), Preprocessing(channels, size))
    model = folder / f"{name}.onnx"
    model.write_bytes(data)
    jpeg = as_jpeg(picture, channels, 224 if name == "heavy" else 200)
    array = to_channels(decode_image(jpeg), channels)[np.newaxis]
    site, key = install_on_site(name, folder / name, data, array, channels, classes)
    return Served(name, model, jpeg, array, site, key)


def as_jpeg(picture: Path | None, channels: int, side: int) -> bytes:
    """A JPEG `side` pixels a side, of the given file or of seeded grain."""
    if picture is not None:
        image = Image.open(picture).resize((side, side))
    else:
        grain = np.random.default_rng(0).normal(128, SCRAP, (side, side)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(grain)
    buffer = io.BytesIO()
    image.convert("L" if channels == 1 else "RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def install_on_site(
    name: str, folder: Path, model: bytes, array: np.ndarray, channels: int, classes: int
) -> tuple[Path, str]:
    """A site that serves the model for the domain `bench` (serving_domain.py), and a key for it."""
    answers = OnnxPredictor(model, facts=PredictorFacts("compiled", "", "")).predict({"image": array})
    golden = io.BytesIO()
    np.savez(golden, image=array, probabilities=answers["probabilities"])
    labels = {"classes": [f"class-{number}" for number in range(classes)], "good_class": None, "channels": channels}
    files = {
        "plan": json.dumps({"domain": "bench", "task": "image_classification"}).encode(),
        "classes": json.dumps(labels).encode(), "model": model, "golden": golden.getvalue(),
    }  # fmt: skip
    return on_site(name, folder, files)
