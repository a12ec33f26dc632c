"""ONNX Runtime without a server: threads of one process that call the model on the same input, as fast as it answers.

    python serving_bare.py MODEL CLIENTS SECONDS THREADS < INPUT

THREADS are those of one inference. INPUT is a JPEG, decoded each time anew, or an array as .npy. Prints one
JSON object.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from PIL import Image


def run(model: str, clients: int, seconds: float, threads: int, given: bytes) -> dict[str, float]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    channels = session.get_inputs()[0].shape[3]

    def picture() -> np.ndarray:
        pixels = np.asarray(Image.open(io.BytesIO(given)).convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(1, *pixels.shape[:2], channels)

    array = None if given.startswith(b"\xff\xd8") else np.load(io.BytesIO(given))
    taken: list[float] = []

    def ask(inputs: Callable[[], np.ndarray], until: float, into: list[float]) -> None:
        while (began := time.perf_counter()) < until:
            session.run(["probabilities"], {"image": inputs()})
            into.append(time.perf_counter() - began)

    for length, into in ((seconds / 4, []), (seconds, taken)):
        until = time.perf_counter() + length
        inputs = picture if array is None else lambda: array
        asking = [threading.Thread(target=ask, args=(inputs, until, into)) for _ in range(clients)]
        began = time.perf_counter()
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        took = time.perf_counter() - began
    taken.sort()

    def at(share: float) -> float:
        return round(1000 * taken[min(len(taken) - 1, int(share * len(taken)))], 3)

    return {
        "requests": len(taken), "per_second": round(len(taken) / took, 2), "p50_ms": at(0.5), "p95_ms": at(0.95),
        "p99_ms": at(0.99), "errors": 0, "client_cpu": 0.0,
    }  # fmt: skip


if __name__ == "__main__":
    model, clients, seconds, threads = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(run(model, clients, seconds, threads, sys.stdin.buffer.read())))
