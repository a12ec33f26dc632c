"""What a language teacher and its compiled student cost: a token by the models alone, and a whole answer.

Both are measured in the same runtime: a teacher on this machine is compiled in fp32 for that, and for nothing else.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from toolkit.artifacts import CompiledModel, Dataset, Metric
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.plan import Plan
from toolkit.protocols import Report
from toolkit.score.measure import NotMeasured
from toolkit.score.onnx_cost import CostComparison, compare_costs, model_cost
from toolkit.serving.language import CONFIG, fed_with
from toolkit.serving.sessions import session_of
from toolkit.tasks.base import Measured
from toolkit.tasks.text_generation.footprint import footprint
from toolkit.tasks.text_generation.installed import FILES, GENERATION, MODEL, TOKENIZER, generation_record
from toolkit.text import Message
from toolkit.text_teachers import AnyTeacher, LocalTeacher
from toolkit.workspace import canonical_json, write_file

PAST = 128
"""Tokens that stand before the one that is timed; half of the context, where that is less."""


def measure(
    plan: Plan, dataset: Dataset, teacher: AnyTeacher, compiled: CompiledModel, folder: Path, report: Report
) -> Measured:
    """A token after PAST others, and the likeliest answer to the first test row."""
    asked = next(iter(dataset.split("test"))).inputs["messages"]
    report("compile the teacher, to measure it", 0, 3)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".measuring-") as aside:
        missing = _compile_teacher(plan, teacher, asked, Path(aside))
        report("measure what teacher and student cost", 1, 3)
        places = {"teacher": Path(aside), "student": compiled.path}
        if missing is not None:
            del places["teacher"]
        models = {who: (place / FILES[MODEL]).read_bytes() for who, place in places.items()}
        feeds = {who: _step(place, models[who]) for who, place in places.items()}
        if missing is None:
            costs = compare_costs(models["teacher"], models["student"], feeds["teacher"], feeds["student"])
        else:
            costs = CostComparison(missing, model_cost(models["student"], feeds["student"]))
        del models
        report("measure both end to end", 2, 3)
        footprints = {who: footprint(place, asked, plan.text.answer_tokens) for who, place in places.items()}
    return Measured(costs, footprints, Metric.from_record(footprints["student"]["latency"]["p95"]))


def _compile_teacher(plan: Plan, teacher: AnyTeacher, asked: Sequence[Message], folder: Path) -> NotMeasured | None:
    """The teacher in `folder` as a compiled student lies in its own; or why there is none."""
    if not isinstance(teacher, LocalTeacher):
        return NotMeasured(f"{teacher.name} is not on this machine")
    from toolkit.compile.language import language_forms
    from toolkit.tasks.text_generation.spelling import record_of
    from toolkit.tasks.text_generation.students import without_bars
    from toolkit.tasks.text_generation.teacher import read_teacher
    from toolkit.tasks.text_generation.tokens import stops_of

    try:
        model = read_teacher(teacher.source(plan), name=teacher.name)
        checkpoint = folder / "checkpoint"
        with without_bars():
            model.model.save_pretrained(checkpoint)
        model.tokenizer.save_pretrained(checkpoint)
        spelt, stops = record_of(model.tokenizer), stops_of(asked, model.tokenizer)
        del model
        form = next(iter(language_forms(checkpoint, ["fp32"], folder)))
    except (PlanError, EnvironmentUnfit) as error:
        return NotMeasured(error.message)
    write_file(folder / FILES[MODEL], form.model)
    write_file(folder / FILES[TOKENIZER], spelt)
    write_file(folder / FILES[GENERATION], canonical_json(generation_record(form.beside[CONFIG], stops)))
    return None


def _step(place: Path, model: bytes) -> Mapping[str, np.ndarray]:
    """The inputs of one more token."""
    config = json.loads((place / FILES[GENERATION]).read_bytes())[CONFIG]
    past = min(PAST, config["model"]["context_length"] // 2)
    return fed_with(session_of(model), config, [1], past=past)
