"""A student of pictures in the forms of its target: each tried on validation, one chosen and compared with torch."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.artifacts import Dataset, Facts
from toolkit.compile.choice import Tried, choose, facts_of
from toolkit.compile.parity import compare_outputs
from toolkit.plan import Plan
from toolkit.protocols import CompiledForm, HardwareProfile, PredictorFacts, Report, Target, TensorPredictor, Tensors
from toolkit.score.measure import measure_latency
from toolkit.serving.sessions import opened
from toolkit.tasks.image_classification.evaluate import single_inputs
from toolkit.workspace import write_file

GOLDEN_ROWS = 8
PARITY_ROWS = 256


def compile_student(
    plan: Plan, dataset: Dataset, exported: bytes, torch_student: TensorPredictor, target: Target,
    profile: HardwareProfile, folder: Path, report: Report,
) -> Facts:  # fmt: skip
    """Build every form of an exported student that the target offers, try each on validation, keep one in `folder`."""
    report("build the forms", 1, 4)
    calibration = single_inputs(dataset.split("calibration"), plan.data.calibration_rows)
    forms = list(target.compile(exported, calibration, profile, folder))
    report("try the forms", 2, 4)
    predictors = {form.form: _opened(form, target, profile) for form in forms}
    tried = [_try(form, predictors[form.form], dataset) for form in forms]
    chosen, because = choose(tried, plan.target.precision, plan.target.margin)
    report("compare with the torch student", 3, 4)
    predictor = predictors[chosen.form.form]
    rows = list(single_inputs(dataset.split("validation"), PARITY_ROWS))
    parity = compare_outputs(_answers(torch_student, rows), _answers(predictor, rows))
    write_file(folder / "model.onnx", chosen.form.model)
    write_file(folder / "golden.npz", _golden(predictor, rows))
    report("compare with the torch student", 4, 4)
    return facts_of(tried, chosen, because) | {"parity": parity.as_record()}


def _opened(form: CompiledForm, target: Target, profile: HardwareProfile) -> TensorPredictor:
    facts = PredictorFacts("compiled", "", hashlib.sha256(form.model).hexdigest())
    return opened(target, profile, form.model, facts)


def _try(form: CompiledForm, predictor: TensorPredictor, dataset: Dataset) -> Tried:
    validation = dataset.split("validation")
    inputs = list(single_inputs(validation, len(validation)))
    called = _answers(predictor, inputs).argmax(axis=1)
    truth = np.array([dataset.classes.index(label) for label in validation.labels])
    sample = measure_latency(lambda: predictor.predict(inputs[0]), seconds=2.0)
    return Tried(form, float((called == truth).mean()), sample.p50.value)


def _answers(predictor: TensorPredictor, rows: Iterable[Tensors]) -> np.ndarray:
    return np.concatenate([predictor.predict(row)["probabilities"] for row in rows])


def _golden(predictor: TensorPredictor, rows: Sequence[Tensors]) -> bytes:
    """Inputs of one size and the answers they must give: what a site checks before it serves."""
    shape = rows[0]["image"].shape
    chosen = [row for row in rows if row["image"].shape == shape][:GOLDEN_ROWS]
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        "image": np.concatenate([row["image"] for row in chosen]),
        "probabilities": np.concatenate([predictor.predict(row)["probabilities"] for row in chosen]),
    }
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
