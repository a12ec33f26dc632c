"""Evaluations on disk: one JSON file a model, in the folder of the stage that scored it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolkit.artifacts import Dataset, Evaluation, Metric
from toolkit.stages.context import Context
from toolkit.tasks.asking import ask_by
from toolkit.tasks.base import AnyPredictor
from toolkit.workspace import canonical_json, write_file


def score(context: Context, dataset: Dataset, predictor: AnyPredictor, folder: Path) -> Evaluation:
    """Ask the domain's `evaluate`, and keep the answer under the predictor's form."""
    ask = ask_by(context.plugins, context.plan, context.workspace.home)
    hook = context.plugins.hook
    found: Evaluation = hook.evaluate(plan=context.plan, dataset=dataset, predictor=predictor, ask=ask)
    write_file(folder / f"{predictor.facts.form}.json", canonical_json(as_record(found)))
    return found


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as `--json`, the report and the store show it."""
    return {
        "metrics": {name: metric.as_record() for name, metric in evaluation.metrics.items()},
        "slices": {
            part: {name: metric.as_record() for name, metric in metrics.items()}
            for part, metrics in evaluation.slices.items()
        },
        "per_row": [dict(row) for row in evaluation.per_row],
        "facts": dict(evaluation.facts),
    }


def read(folder: Path, form: str) -> Evaluation | None:
    """The evaluation of that model, or None where it was not scored."""
    path = folder / f"{form}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_bytes())
    return Evaluation.found(
        {name: Metric.from_record(metric) for name, metric in record["metrics"].items()},
        per_row=record["per_row"],
        slices={
            part: {name: Metric.from_record(metric) for name, metric in metrics.items()}
            for part, metrics in record["slices"].items()
        },
        facts=record["facts"],
    )
