"""A bundle's classifier on a site: opened out of RAM, proven on pictures whose answers are known, and queued for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

import numpy as np

from toolkit.artifacts import BundleFile, CompiledModel
from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import PredictorFacts, TensorPredictor
from toolkit.serving.batching import IN_LOOP_SECONDS, PREPARERS, Batcher, Observer
from toolkit.serving.runtime import SealedFiles, misfit
from toolkit.serving.sessions import CPU, OnnxPredictor
from toolkit.workspace import mapped

GOLDEN_TOLERANCE = 1e-3
MODEL, GOLDEN, WEIGHTS = "model", "golden", "weights"


def bundle_files(compiled: CompiledModel) -> Iterable[BundleFile]:
    """What compiling left, by the roles that `open_installed` and `prove` read."""
    return [
        BundleFile(MODEL, mapped(compiled.path / "model.onnx")),
        BundleFile(GOLDEN, mapped(compiled.path / "golden.npz")),
    ]


def open_installed(files: SealedFiles, facts: PredictorFacts, threads: int) -> OnnxPredictor:
    """The bundle's model, from RAM into a session; the decrypted copies are wiped once it stands. 0 `threads` are
    one: pictures are many, and each core takes one of its own."""
    weights = {WEIGHTS: files.read(WEIGHTS)} if WEIGHTS in files.roles else None
    predictor = OnnxPredictor(files.read(MODEL), facts=facts, threads=threads or 1, weights=weights)
    files.forget(MODEL)
    files.forget(WEIGHTS)
    return predictor


def prove(predictor: TensorPredictor, golden: bytes) -> None:
    """Warm the model up on inputs whose answers are known.

    Args:
        golden: .npz with `image`, uint8 [n, height, width, channels], and `probabilities`, float32 [n, classes].

    Raises:
        EnvironmentUnfit: this machine's answers differ by more than 0.001 from those the model was released with.
        IntegrityError: the file is no such thing.
    """
    try:
        with np.load(io.BytesIO(golden), allow_pickle=False) as arrays:
            images, expected = arrays["image"], arrays["probabilities"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise misfit(GOLDEN) from error
    given = predictor.predict({"image": images})["probabilities"]
    one_by_one = [predictor.predict({"image": image[np.newaxis]})["probabilities"] for image in images]
    for answers in (given, np.concatenate(one_by_one)):
        difference = float(np.abs(answers - expected).max()) if answers.shape == expected.shape else float("inf")
        if not difference <= GOLDEN_TOLERANCE:  # NaN is refused too
            raise EnvironmentUnfit(
                f"the model does not answer here as it did when it was released: probabilities differ by "
                f"{difference:.2g}, {GOLDEN_TOLERANCE:g} is allowed",
                hint="Compare this machine and its onnxruntime with the bundle's profile, or compile for this one.",
            )


def queue(
    predictor: TensorPredictor, *, together: int, delay_ms: float, limit: int, preparers: int, observer: Observer
) -> Batcher:
    """What stands between requests and the model. An accelerator leaves the cores to those who prepare its inputs.
    Where every core has a worker, its loop and its model's thread only take turns, so the loop may run the model."""
    on_cpu = predictor.facts.provider == CPU
    return Batcher(
        predictor, max_batch=together, max_delay_ms=delay_ms, queue_limit=limit, observer=observer,
        preparers=preparers if on_cpu else max(preparers, PREPARERS),
        in_loop=IN_LOOP_SECONDS if on_cpu and not preparers else 0.0,
    )  # fmt: skip
