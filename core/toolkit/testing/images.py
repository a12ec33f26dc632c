"""Tiny seeded data and models for tests: folders of pictures, and ONNX files that a target can compile.

Everything is made here from a seed; nothing is downloaded, and nothing needs torch.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from toolkit.protocols import Tensors

if TYPE_CHECKING:
    import onnx

NOISE, CONTRAST = 6.0, 46.0


def surface(grain: int, seed: int, side: int = 64) -> np.ndarray:
    """A grey surface, uint8 [side, side]: blotches of `grain` pixels under sensor noise. No two seeds look alike."""
    dice = np.random.default_rng([grain, seed])
    coarse = dice.normal(128, CONTRAST, (side // grain + 2, side // grain + 2)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(smooth + dice.normal(0, NOISE, (side, side)), 0, 255).astype(np.uint8)


def image_folder(
    root: Path, classes: Sequence[str], *, per_class: int, test_per_class: int = 0, side: int = 64, seed: int = 0
) -> Path:
    """PNGs in `root/<class>/`, or in `root/train/<class>/` and `root/test/<class>/` where `test_per_class` is given.

    Each class has a grain of its own (2, 4, 8, ... pixels), so that a small network tells them apart.
    """
    splits = {"train": per_class, "test": test_per_class} if test_per_class else {"": per_class}
    for number, name in enumerate(classes):
        first = seed * 1_000_000
        for split, count in splits.items():
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(first, first + count):
                (folder / f"{index:04}.png").write_bytes(_png(surface(2 << number, index, side)))
            first += count
    return root


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture_model(*, channels: int = 1, size: int = 32, classes: int = 3, seed: int = 0) -> bytes:
    """An exported student in miniature, as `Target.compile` gets it: `image` uint8 [n, height, width, channels] to
    `probabilities` float32 [n, classes], preprocessing inside. Two convolutions, seeded weights."""
    from onnx import helper

    from toolkit.compile.export import IR, OPSET, Preprocessing, join

    dice = np.random.default_rng(seed)
    weights = {
        "first": dice.normal(0, 0.5, (8, channels, 3, 3)),
        "second": dice.normal(0, 0.3, (8, 8, 3, 3)),
        "head": dice.normal(0, 1.5, (8, classes)),
        "bias": dice.normal(0, 0.5, classes),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "first"], ["a"], "conv1", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "second"], ["c"], "conv2", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "head", "bias"], ["logits"], "head"),
    ]
    model = helper.make_model(
        _graph(nodes, weights, (channels, size, size), classes),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    preprocessing = Preprocessing(channels, size)
    return join(model.SerializeToString(), preprocessing)


def _graph(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, np.ndarray], pixels: tuple[int, ...], classes: int
) -> onnx.GraphProto:
    from onnx import TensorProto, helper, numpy_helper

    return helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", *pixels])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )


def pictures(count: int, *, channels: int = 1, size: int = 32, seed: int = 0) -> Iterator[Tensors]:
    """Inputs of such a model, a batch of one each."""
    for index in range(count):
        grains = (2, 4, 8)
        planes = [surface(grains[index % 3], seed + index * channels + plane, size) for plane in range(channels)]
        yield {"image": np.stack(planes, axis=-1)[None]}
