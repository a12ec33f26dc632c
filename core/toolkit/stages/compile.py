"""Compile the student for its hardware, choose the form to ship, and prove that it answers as the torch student did."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from toolkit.artifacts import CompiledModel, Dataset, Facts, Student
from toolkit.compile.parity import compare_outputs
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.protocols import CompiledForm, PredictorFacts, TensorPredictor, Tensors
from toolkit.score.measure import measure_latency
from toolkit.serving.sessions import OnnxPredictor
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.tasks.base import Task, task_of
from toolkit.workspace import Stored, write_file

GOLDEN_ROWS = 8
PARITY_ROWS = 256


@dataclass(frozen=True)
class Tried:
    """A form, how it does on validation, and how fast it answers here (median, ms)."""

    form: CompiledForm
    predictor: TensorPredictor
    accuracy: float
    latency_ms: float


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Build every form the target offers, try each on validation, keep one."""
    plan, task = context.plan, task_of(context.plan)
    dataset, student = take(upstream, "prepare", Dataset), take(upstream, "distil", Student)
    profile, target = context.profile
    context.report("export the student", 0, 4)
    spec = context.student_spec(dataset)
    exported = task.export(student, spec)
    context.report("build the forms", 1, 4)
    calibration = task.inputs(dataset, "calibration", plan.data.calibration_rows)
    forms = list(target.compile(exported, calibration, profile, folder))
    context.report("try the forms", 2, 4)
    tried = [_try(context, form, task, dataset) for form in forms]
    chosen, because = _choose(tried, plan.target.precision, plan.target.margin)
    context.report("compare with the torch student", 3, 4)
    torch_student = cast(TensorPredictor, task.student_predictor(student, spec, "student"))
    rows = list(task.inputs(dataset, "validation", PARITY_ROWS))
    parity = compare_outputs(_answers(torch_student, rows), _answers(chosen.predictor, rows))
    write_file(folder / "model.onnx", chosen.form.model)
    write_file(folder / "golden.npz", _golden(chosen.predictor, rows))
    context.report("compare with the torch student", 4, 4)
    return {
        "profile": profile.name,
        "form": chosen.form.form,
        "rung": "verified_on_device" if _runs_here(context) else "verified_proxy",
        "opset": profile.opset,
        "parity": parity.as_record(),
        "model_sha256": hashlib.sha256(chosen.form.model).hexdigest(),
        "size_bytes": len(chosen.form.model),
        "forms": [_record(one, one is chosen, because[one.form.form]) for one in tried],
    }


def _try(context: Context, form: CompiledForm, task: Task, dataset: Dataset) -> Tried:
    facts = PredictorFacts("compiled", "", hashlib.sha256(form.model).hexdigest())
    predictor = open_form(context, form.model, facts)
    validation = dataset.split("validation")
    inputs = list(task.inputs(dataset, "validation", len(validation)))
    called = _answers(predictor, inputs).argmax(axis=1)
    truth = np.array([dataset.classes.index(label) for label in validation.labels])
    sample = measure_latency(lambda: predictor.predict(inputs[0]), seconds=2.0)
    return Tried(form, predictor, float((called == truth).mean()), sample.p50.value)


def _choose(tried: Sequence[Tried], precision: str, margin: float) -> tuple[Tried, dict[str, str]]:
    """The first form that is as good as fp32 within the margin and faster here; fp32 where none is."""
    reference = tried[-1]
    because = {reference.form.form: "the reference"}
    chosen: Tried | None = None
    for one in tried[:-1]:
        lost, name = reference.accuracy - one.accuracy, one.form.form
        if precision not in ("auto", name):
            because[name] = f"the plan asks for {precision}"
        elif precision == "auto" and lost > margin:
            because[name] = f"it loses {lost:.1%} of validation accuracy, the margin is {margin:.1%}"
        elif precision == "auto" and one.latency_ms >= reference.latency_ms:
            because[name] = f"it is not faster here: {one.latency_ms:.3f} against {reference.latency_ms:.3f} ms"
        elif chosen is not None:
            because[name] = f"{chosen.form.form} fits too and is wanted more"
        else:
            because[name] = f"it loses {max(lost, 0):.1%} of validation accuracy, the margin is {margin:.1%}"
            chosen = one
    if precision not in ("auto", *because):
        raise PlanError(f"the target offers no form {precision}", hint=f"It offers {', '.join(because)}.")
    return chosen or reference, because


def _record(one: Tried, chosen: bool, because: str) -> dict[str, Any]:
    return {
        "form": one.form.form,
        "size_bytes": len(one.form.model),
        "validation_accuracy": one.accuracy,
        "latency_ms": one.latency_ms,
        "chosen": chosen,
        "because": because,
        "notes": dict(one.form.notes),
    }


def _answers(predictor: TensorPredictor, rows: Iterable[Tensors]) -> np.ndarray:
    return np.concatenate([predictor.predict(row)["probabilities"] for row in rows])


def _golden(predictor: TensorPredictor, rows: Sequence[Tensors]) -> bytes:
    """Inputs of one size and the answers they must give: what a site checks before it serves."""
    shape = rows[0]["image"].shape
    chosen = [row for row in rows if row["image"].shape == shape][:GOLDEN_ROWS]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        image=np.concatenate([row["image"] for row in chosen]),
        probabilities=np.concatenate([predictor.predict(row)["probabilities"] for row in chosen]),
    )
    return buffer.getvalue()


def open_form(context: Context, model: bytes, facts: PredictorFacts) -> TensorPredictor:
    """A session by the target; on a machine that is not its own, a stand-in on the CPU provider (rung 2)."""
    profile, target = context.profile
    try:
        return target.load(model, profile, facts)
    except EnvironmentUnfit:
        return OnnxPredictor(model, facts=facts, threads=1)


def _runs_here(context: Context) -> bool:
    import platform

    return platform.machine() in context.profile[0].arch


def load(context: Context, stored: Stored) -> CompiledModel:
    facts = stored.facts
    return CompiledModel(
        stored.path,
        stored.digest,
        stored.parents,
        facts,
        profile=facts["profile"],
        form=facts["form"],
        rung=facts["rung"],
        parity=facts["parity"],
    )


STAGE = Stage(
    name="compile",
    kind="compiled",
    keys=("target.profile", "target.precision", "target.margin", "data.calibration_rows"),
    needs=("prepare", "distil"),
    code=("toolkit.compile", "toolkit.stages.compile"),
    run=run,
    load=load,
    uses=lambda context: (context.profile[1],),
)
