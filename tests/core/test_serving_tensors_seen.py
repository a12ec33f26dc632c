"""Answers in bare tensors, over KServe's HTTP and gRPC: a sample of them counts for drift and the review set."""

from __future__ import annotations

import base64
import io
import json
import socket
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from seal_parts import make_home
from serving_parts import running

from toolkit.errors import DataError
from toolkit.protocols import Tensors
from toolkit.serving.assembly import Tuning
from toolkit.serving.ledger import open_ledger
from toolkit.serving.limits import GrpcAddress
from toolkit.serving.sampling import Sampled
from toolkit.site.inference_chain import FOLDER, latest

OLIVE = (128, 128, 0)
"""As near to one class as to the other: worth a person's look."""


def infer_over_http(client: httpx.Client, pixels: np.ndarray) -> None:
    tensor = {"name": "image", "datatype": "UINT8", "shape": pixels.shape, "data": pixels.ravel().tolist()}
    assert client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).status_code == 200


def infer_over_grpc(port: int, key: str, pixels: np.ndarray) -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    from toolkit.serving.kserve_messages import SERVICE, message

    asked = message("ModelInferRequest")(
        model_name="tiny", inputs=[{"name": "image", "datatype": "UINT8", "shape": pixels.shape}],
        raw_input_contents=[pixels.tobytes()],
    )  # fmt: skip
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        infer(asked.SerializeToString(), metadata=(("x-api-key", key),), timeout=10)


def test_answers_in_tensors_count_for_drift_and_doubtful_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.serving.sampling.SECONDS", 0.0)
    site = make_home(tmp_path / "home").site()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    measures = {"brightness": 100.0, "contrast": 20.0, "sharpness": 5.0}
    rows = [{"measures": measures, "confidence": 0.9, "predicted": "good"}] * 60
    reference = json.dumps({"metrics": {}, "per_row": rows}).encode()
    ledger, tuning = open_ledger(site), Tuning(grpc=GrpcAddress(f"127.0.0.1:{port}"))
    pixels = np.zeros((2, 4, 6, 3), np.uint8) + np.array(OLIVE, np.uint8)
    with running(site.path, ledger=ledger, tuning=tuning, reference=reference) as server:
        with server.client() as client:
            infer_over_http(client, pixels)
            infer_over_http(client, pixels[:, :1, :1])  # too small to look like anything
        infer_over_grpc(port, server.keys["infer"], pixels)
        with server.client("operate") as operator:
            (told,) = operator.get("/site/drift").json()["products"]
            assert told["week"] == {"brightness": 2, "contrast": 2, "sharpness": 2, "confidence": 2}
            ledger.reviewer.work()
            kept = operator.get("/site/review").json()["entries"]
            assert [entry["why"][0] for entry in kept] == ["doubtful", "doubtful"]
            sample = operator.get(f"/site/review/{kept[0]['id']}").json()["sample"]
    assert sample["measures"]["brightness"] == 128
    assert np.array(Image.open(io.BytesIO(base64.b64decode(sample["content"])))).tolist() == pixels[0].tolist()
    assert sorted(line["inputs"] for line in latest(site.path / FOLDER)) == [0, 1, 1]


def test_a_sample_is_taken_once_in_a_while_and_never_costs_an_answer() -> None:
    asked: list[Tensors] = []

    def watch(inputs: Tensors, _outputs: Tensors) -> list[object]:
        asked.append(inputs)
        raise DataError("no picture of mine")

    sampled = Sampled(watch)  # type: ignore[arg-type]
    for _ in range(3):
        assert sampled({}, {}) == ()
    assert len(asked) == 1
    assert Sampled(None)({}, {}) == ()
