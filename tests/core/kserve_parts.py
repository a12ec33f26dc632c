"""What the tests of KServe v2 share: a real ONNX model that gives back a tensor of every datatype, and a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter
from onnx import TensorProto, helper
from serving_parts import Files, Running, bundle_files, facts_of

from toolkit.protocols import PredictorFacts
from toolkit.services import Service
from toolkit.serving.access import Access, Role, add_key
from toolkit.serving.app import build_app
from toolkit.serving.batching import Batcher
from toolkit.serving.fleet import Fleet, Line
from toolkit.serving.limits import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import ServedModel
from toolkit.serving.runner import in_background, listen
from toolkit.serving.sessions import OnnxPredictor

KINDS: Mapping[str, tuple[str, Any]] = {
    "BOOL": ("bool", TensorProto.BOOL),
    "UINT8": ("uint8", TensorProto.UINT8), "UINT16": ("uint16", TensorProto.UINT16),
    "UINT32": ("uint32", TensorProto.UINT32), "UINT64": ("uint64", TensorProto.UINT64),
    "INT8": ("int8", TensorProto.INT8), "INT16": ("int16", TensorProto.INT16),
    "INT32": ("int32", TensorProto.INT32), "INT64": ("int64", TensorProto.INT64),
    "FP16": ("float16", TensorProto.FLOAT16), "FP32": ("float32", TensorProto.FLOAT),
    "FP64": ("float64", TensorProto.DOUBLE), "BYTES": ("object", TensorProto.STRING),
}  # fmt: skip


def every_datatype() -> bytes:
    """A graph with an input [n, 2] of every datatype, and an output that is the same."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in KINDS],
        "every",
        [helper.make_tensor_value_info(f"in_{name}", kind, ["n", 2]) for name, (_, kind) in KINDS.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, ["n", 2]) for name, (_, kind) in KINDS.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return made.SerializeToString()


def values_of(name: str, rows: int = 2) -> np.ndarray:
    """An array [rows, 2] of a datatype, with its extremes."""
    dtype = np.dtype(KINDS[name][0])
    if dtype.kind == "O":
        texts = ["", "naïve", "二〇二六", "\x00\n", "x" * 300]
        return np.array([texts[number % 5] for number in range(rows * 2)], object).reshape(rows, 2)
    if dtype.kind == "b":
        return np.arange(rows * 2).reshape(rows, 2) % 2 == 1
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    array = np.arange(rows * 2).reshape(rows, 2).astype(dtype)
    array.flat[0], array.flat[-1] = limits.min, limits.max
    return array


def served(model: bytes, **limits: Any) -> ServedModel:
    """A version around a graph, as the server holds it."""
    predictor = OnnxPredictor(model, facts=PredictorFacts("installed", "", "b-123"))
    queue = Batcher(predictor, **limits)
    return ServedModel(
        facts_of(Files(bundle_files())), queue, Service(routes=APIRouter()), predictor.inputs, predictor.outputs
    )  # fmt: skip


@contextlib.contextmanager
def serving(
    model: ServedModel, site: Path, limits: Limits | None = None, beside: Sequence[ServedModel] = (), **more: Any
) -> Iterator[Running]:
    """A real server of one version on a free port, and of other products `beside` it."""
    keys: dict[Role, str] = {role: add_key(site, role, role) for role in ("infer", "operate", "admin")}
    metrics = Metrics()
    for one in (model, *beside):
        metrics.serve(one)
    limits = limits or Limits()
    app = build_app(
        models=Fleet(map(Line, (model, *beside))), access=Access(site), metrics=metrics, limits=limits, **more
    )
    with in_background(app, listen("127.0.0.1", 0), limits) as url:
        yield Running(url, site, keys)
