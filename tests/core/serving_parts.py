"""What the tests of serving share: a tiny real ONNX model, its answers by arithmetic, and a server around it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from toolkit.protocols import PredictorFacts, ServedPredictor, Tensors
from toolkit.services import Service
from toolkit.serving.access import Role, add_key
from toolkit.serving.assembly import Tuning, assemble
from toolkit.serving.ledger import Ledger
from toolkit.serving.models import BundleFacts, read_facts
from toolkit.serving.runner import in_background, listen
from toolkit.tasks.image_classification import task
from toolkit.tasks.image_classification.service import inspection_service

MATRIX = np.array([[0.02, 0.0], [0.0, 0.02], [-0.01, 0.01]], np.float32)


def mean_model(*, external: bool = False) -> tuple[bytes, bytes]:
    """uint8 [n, h, w, 3] -> channel means x MATRIX -> softmax [n, 2]; the matrix apart where `external`."""
    matrix = numpy_helper.from_array(MATRIX, "matrix")
    raw = matrix.raw_data
    if external:
        matrix.ClearField("raw_data")
        matrix.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights"), ("offset", "0"), ("length", str(len(raw)))):
            matrix.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "matrix"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [matrix, numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if not external:
        onnx.checker.check_model(model)
    return model.SerializeToString(), raw


def expected(images: np.ndarray) -> np.ndarray:
    logits = images.astype(np.float64).mean(axis=(1, 2)) @ MATRIX.astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def golden(count: int = 3) -> bytes:
    images = np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, image=images, probabilities=expected(images).astype(np.float32))
    return buffer.getvalue()


def bundle_files(**more: bytes) -> dict[str, bytes]:
    """The files of a small bundle by role."""
    labels = {"classes": ["good", "scratch"], "good_class": "good", "channels": 3}
    plain = {"plan": {"domain": "tiny", "task": "image_classification"}, "classes": labels, "thresholds": {"good": 0.5}}
    return {role: json.dumps(value).encode() for role, value in plain.items()} | {
        "model": mean_model()[0], "golden": golden(), **more
    }  # fmt: skip


@dataclass
class Files:
    """An opened bundle in memory; remembers what it was told to forget."""

    data: Mapping[str, bytes]
    forgotten: list[str] = field(default_factory=list)

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(self.data)

    def read(self, role: str) -> bytes:
        return self.data[role]

    def forget(self, role: str) -> None:
        self.forgotten.append(role)


def facts_of(files: Files) -> BundleFacts:
    return read_facts(
        files, bundle="b-123", version="1.7", product="tiny", domain="tiny", development_keys=True
    )  # fmt: skip


def inspection(bundle: Mapping[str, Any], predictor: ServedPredictor) -> Service:
    return inspection_service(
        classes=bundle["classes"], thresholds=bundle["thresholds"], bundle_id=bundle["id"],
        good_class=bundle["good_class"], channels=bundle["channels"], predictor=predictor,
    )  # fmt: skip


def picture(colour: tuple[int, int, int], kind: str = "PNG", size: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, kind)
    return buffer.getvalue()


@dataclass(frozen=True)
class Running:
    """A server that listens, its site, and a key of each role."""

    url: str
    site: Path
    keys: Mapping[Role, str]

    def client(self, role: Role = "infer", **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": self.keys[role]}, timeout=20, **options)


@dataclass(frozen=True)
class Slow:
    """A served model that takes `seconds` longer."""

    predictor: ServedPredictor
    seconds: float

    @property
    def facts(self) -> PredictorFacts:
        return self.predictor.facts

    async def predict(self, inputs: Tensors) -> Tensors:
        await asyncio.sleep(self.seconds)
        return await self.predictor.predict(inputs)


@contextlib.contextmanager
def running(
    site: Path,
    *,
    tuning: Tuning | None = None,
    ask: Callable[[Mapping[str, Any], ServedPredictor], Service | None] = inspection,
    slow: float = 0.0,
    ledger: Ledger | None = None,
    tls: ssl.SSLContext | None = None,
    **more: bytes,
) -> Iterator[Running]:
    """A real server on a free port; `slow` seconds are added to every batch, `more` are files of its bundle."""
    tuning, files = tuning or Tuning(), Files(bundle_files(**more))
    keys: dict[Role, str] = {role: add_key(site, role, role) for role in ("infer", "operate", "admin")}
    app = assemble(
        files, facts_of(files), runtime=task, site=site, tuning=tuning,
        ask=lambda bundle, predictor: ask(bundle, Slow(predictor, slow) if slow else predictor),
        ledger=ledger,
    )  # fmt: skip
    with in_background(app, listen("127.0.0.1", 0), tuning.limits, tls) as url:
        yield Running(url, site, keys)
