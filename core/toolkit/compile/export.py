"""torch to ONNX. The network is exported alone; preprocessing and softmax are joined to it as ONNX, so that the file
takes pictures and gives probabilities, and what was trained is what is shipped."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

OPSET, IR = 18, 10
NETWORK = "network/"
"""Prefix of the network's own nodes in a joined graph: what quantisation may touch."""


@dataclass(frozen=True)
class Preprocessing:
    """Picture to network input: planes first, antialiased resize to `size` pixels a side, values in 0..1.

    `channels` is what a picture has: 1 grey, 3 RGB. What else a network wants of its input, it does itself.
    """

    channels: int
    size: int


def export_network(module: Any, channels: int, size: int, outputs: Sequence[str] = ("logits",)) -> bytes:
    """The ONNX of a torch module, float32 `pixels` [n, channels, size, size] to `logits` [n, k], and what else it
    returns, by the names of `outputs`; n is free.

    The module must be on the CPU and in evaluation mode.
    """
    import torch

    example = torch.zeros(2, channels, size, size)
    with warnings.catch_warnings(), quiet(logging.getLogger("torch.onnx")):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["pixels"], output_names=list(outputs), dynamic_shapes=({0: torch.export.Dim("n")},),
        )  # fmt: skip
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


@contextlib.contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Only errors from `logger` inside: exporters and quantisers warn of things that are checked here anyway."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def join(network: bytes, preprocessing: Preprocessing) -> bytes:
    """`image` uint8 [n, height, width, channels], any height and width, to `probabilities` float32 [n, k], made of the
    network's `logits`; or, of a network that has none, to its own outputs."""
    front = helper.make_model(
        _preprocessing_graph(preprocessing), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR
    )
    core = compose.add_prefix(onnx.load_from_string(network), NETWORK)
    core.ir_version = IR
    model = compose.merge_models(front, core, io_map=[("pixels", f"{NETWORK}pixels")])
    sizes = {
        output.name.removeprefix(NETWORK): [size.dim_value for size in output.type.tensor_type.shape.dim[1:]]
        for output in model.graph.output
    }
    if "logits" in sizes:
        sizes = {"probabilities": sizes["logits"]}
        last = [helper.make_node("Softmax", [f"{NETWORK}logits"], ["probabilities"], name="softmax", axis=-1)]
    else:
        last = [helper.make_node("Identity", [NETWORK + name], [name], name=f"give/{name}") for name in sizes]
    model.graph.node.extend(last)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *size]) for name, size in sizes.items()
    )
    del model.opset_import[1:]
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _preprocessing_graph(p: Preprocessing) -> onnx.GraphProto:
    constants: dict[str, np.ndarray] = {
        **({"channels": np.array([1], np.int64)} if p.channels == 1 else {}),
        "pixel_shape": np.array([p.channels, p.size, p.size], np.int64),
        "scale": np.array(1 / 255, np.float32),
    }
    nodes = [
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "pixel_shape"], ["sizes"], axis=0),
        *_planes(p.channels),
        helper.make_node("Cast", ["planes"], ["values"], to=TensorProto.FLOAT),
        helper.make_node(
            "Resize", ["values", "", "", "sizes"], ["resized"], mode="linear", antialias=1,
            coordinate_transformation_mode="half_pixel", exclude_outside=1,
        ),
        helper.make_node("Mul", ["resized", "scale"], ["pixels"]),
    ]  # fmt: skip
    for index, node in enumerate(nodes):
        node.name = f"preprocess/{index}"
    return helper.make_graph(
        nodes,
        "inspect",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "height", "width", p.channels])],
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", p.channels, p.size, p.size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def _planes(channels: int) -> list[onnx.NodeProto]:
    """Channels first. For one channel a reshape does it, six times faster than a transposition."""
    if channels > 1:
        return [helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])]
    return [
        helper.make_node("Shape", ["image"], ["extent"], start=1, end=3),
        helper.make_node("Concat", ["batch", "channels", "extent"], ["planar"], axis=0),
        helper.make_node("Reshape", ["image", "planar"], ["planes"]),
    ]
