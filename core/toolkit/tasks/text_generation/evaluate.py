"""Scoring any language model on the test rows: teacher, student, compiled or installed, by the same lines.

Knows answers and tokens, and nothing of what a good text is in a domain; a domain's own `evaluate` says that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.artifacts import Dataset, Evaluation, Metric, Row
from toolkit.errors import DataError, Unsupported
from toolkit.plan import Plan
from toolkit.score.intervals import bootstrap_interval, clustered_share
from toolkit.tasks.text_generation.answers import answers_right, final_answer
from toolkit.text import GenerationRequest, TextPredictor

LEAST = 1e-6
"""Probability below which a token counts as this: no single one makes the log loss infinite."""


def evaluate(plan: Plan, dataset: Dataset, predictor: TextPredictor) -> Evaluation:
    """`accuracy` over the rows that have an answer to compare with: whether what the model writes by itself, the
    likeliest token each time, ends with it. `log_loss` (nats a token) over those that have a completion, of a model
    that can be looked into. Intervals are over whole prompts.

    Raises:
        DataError: no test row can be scored with this model.
    """
    rows = list(dataset.split("test"))
    written = _written(plan, [row for row in rows if row.inputs["answer"]], predictor)
    said = _said([row for row in rows if row.label], predictor)
    per_row = [_record(row, written.get(row.id), said.get(row.id)) for row in rows]
    metrics = _metrics(per_row, plan.compute.seed)
    if not metrics:
        raise DataError(
            f"no test row can be scored with the {predictor.facts.form}: none has an answer to compare with, and it "
            "shows no probabilities",
            hint="Give test rows an `answer`.",
        )
    slices = {
        task: _metrics([one for one in per_row if one["task"] == task], plan.compute.seed)
        for task in dataset.facts.get("tasks", ())
    }
    facts = {
        "predictor": {
            "form": predictor.facts.form, "provider": predictor.facts.provider, "digest": predictor.facts.digest
        },
    }  # fmt: skip
    return Evaluation.found(
        metrics, per_row=per_row, slices={task: found for task, found in slices.items() if found}, facts=facts
    )


def _written(plan: Plan, rows: Sequence[Row], predictor: TextPredictor) -> dict[str, str]:
    requests = [GenerationRequest(row.id, row.inputs["messages"], plan.text.answer_tokens) for row in rows]
    pieces: dict[str, list[str]] = defaultdict(list)
    for delta in predictor.generate(requests) if requests else ():
        pieces[delta.id].append(delta.text)
    return {identity: "".join(found) for identity, found in pieces.items()}


def _said(rows: Sequence[Row], predictor: TextPredictor) -> dict[str, np.ndarray]:
    try:
        found = predictor.logprobs([(row.inputs["messages"], row.label) for row in rows]) if rows else ()
    except Unsupported:
        return {}
    return {row.id: logprobs for row, logprobs in zip(rows, found, strict=True)}


def _record(row: Row, written: str | None, said: np.ndarray | None) -> dict[str, Any]:
    answer = row.inputs["answer"]
    called = None if written is None else final_answer(written)
    return {
        "id": row.id,
        "group": row.group,
        "task": row.inputs["task"],
        "truth": answer or row.label,
        "predicted": called,
        "right": None if written is None else answers_right(written, answer),
        "text": written,
        "tokens": 0 if said is None else len(said),
        "nats": None if said is None else float(-np.maximum(said, np.log(LEAST)).sum()),
    }


def _metrics(per_row: Sequence[dict[str, Any]], seed: int) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    answered = [row for row in per_row if row["right"] is not None]
    if answered:
        flags, groups = np.array([row["right"] for row in answered]), [row["group"] for row in answered]
        metrics["accuracy"] = clustered_share(flags, groups, seed=seed)
    seen = [row for row in per_row if row["tokens"]]
    if seen:
        features = np.array([[row["nats"], row["tokens"]] for row in seen], np.float64)
        low, high = bootstrap_interval(
            features, lambda sums: sums[:, 0] / sums[:, 1], groups=[row["group"] for row in seen], seed=seed
        )
        value = float(features[:, 0].sum() / features[:, 1].sum())
        metrics["log_loss"] = Metric(value, low, high, len(seen), "nats", False)
    return metrics
