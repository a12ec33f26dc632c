"""What both peers' models have in common: a session with the options that ours has, and a picture's pixels."""

from __future__ import annotations

import io
import os

import numpy as np
import onnxruntime as ort
from PIL import Image


def open_session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(os.environ["BENCH_THREADS"]), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


def pixels_of(jpeg: bytes, channels: int) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(1, *pixels.shape[:2], channels)


def classify(session: ort.InferenceSession, images: np.ndarray) -> np.ndarray:
    return session.run(["probabilities"], {"image": images})[0]
