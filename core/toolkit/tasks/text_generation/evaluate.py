"""Scoring any language model on the test rows: teacher, student, compiled or installed, by the same lines.

Knows answers and tokens, and nothing of what a good text is in a domain; a domain's own `evaluate` says that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.artifacts import Dataset, Evaluation, Metric, Row
from toolkit.errors import DataError, Unsupported
from toolkit.plan import Plan
from toolkit.score.intervals import bootstrap_interval, clustered_share
from toolkit.serving.written import text_measures
from toolkit.tasks.base import Judged
from toolkit.tasks.text_generation.answers import answers_right, final_answer
from toolkit.text import GenerationRequest, Logprobs, TextPredictor, whole_answers

READ = 12
"""Test rows whose answers a person may read in the report."""

LEAST = 1e-6
"""Probability below which a token counts as this: no single one makes the log loss infinite."""


def evaluate(plan: Plan, dataset: Dataset, predictor: TextPredictor) -> Evaluation:
    """`accuracy` over the rows that have an answer to compare with: whether what the model writes by itself, the
    likeliest token each time, ends with it. Over those that have a completion, of a model that can be looked into,
    `token_accuracy`, how many of its tokens the model would choose, and `log_loss` (nats a token). Intervals are over
    whole prompts. What it writes to the first rows is kept to be read, whether it can be judged or not.

    Raises:
        DataError: no test row can be scored with this model.
    """
    rows = list(dataset.split("test"))
    said = _said([row for row in rows if row.label], predictor)
    read = rows[:READ] if said else []
    written = _written(plan, [row for row in rows if row.inputs["answer"] or row in read], predictor)
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
    return whole_answers(predictor, [request_of(row, plan.text.answer_tokens) for row in rows])


def request_of(row: Row, most: int) -> GenerationRequest:
    """A row as a student is asked: its likeliest answer, with all that is wanted in it."""
    return GenerationRequest(row.id, row.inputs["messages"], most, wanted=row.inputs["wanted"])


def judged(evaluation: Evaluation) -> Judged:
    """The rows that have an answer; where none has, the tokens of all completions.

    Raises:
        DataError: there are neither.
    """
    rows = [row for row in evaluation.per_row if row["right"] is not None]
    if rows:
        return Judged("accuracy", np.array([row["right"] for row in rows]), [row["group"] for row in rows])
    tokens = [(hit == "1", row["group"]) for row in evaluation.per_row for hit in row["hits"]]
    if not tokens:
        raise DataError(
            "teacher and student cannot be compared: no test row has an answer, and nobody can look into the teacher",
            hint="Give test rows an `answer`.",
        )
    return Judged("token_accuracy", np.array([hit for hit, _ in tokens]), [group for _, group in tokens])


def _said(rows: Sequence[Row], predictor: TextPredictor) -> dict[str, Logprobs]:
    try:
        found = predictor.logprobs([(row.inputs["messages"], row.label) for row in rows]) if rows else ()
    except Unsupported:
        return {}
    return {row.id: logprobs for row, logprobs in zip(rows, found, strict=True)}


def _record(row: Row, written: str | None, said: Logprobs | None) -> dict[str, Any]:
    answer = row.inputs["answer"]
    called = None if written is None or not answer else final_answer(written)
    return {
        "id": row.id,
        "group": row.group,
        "task": row.inputs["task"],
        "truth": answer or row.label,
        "predicted": called,
        "right": None if written is None or not answer else answers_right(written, answer),
        "text": written,
        "hits": "" if said is None else "".join("01"[hit] for hit in said.likeliest.astype(int)),
        "measures": {} if written is None else text_measures(row.inputs["messages"], written),
        "nats": None if said is None else float(-np.maximum(said.values, np.log(LEAST)).sum()),
    }


def _metrics(per_row: Sequence[dict[str, Any]], seed: int) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    answered = [row for row in per_row if row["right"] is not None]
    if answered:
        flags, groups = np.array([row["right"] for row in answered]), [row["group"] for row in answered]
        metrics["accuracy"] = clustered_share(flags, groups, seed=seed)
    seen = [row for row in per_row if row["hits"]]
    if seen:
        tokens, groups = [len(row["hits"]) for row in seen], [row["group"] for row in seen]
        hits = _a_token([row["hits"].count("1") for row in seen], tokens, groups, seed)
        nats = _a_token([row["nats"] for row in seen], tokens, groups, seed)
        metrics["token_accuracy"] = Metric(*hits, len(seen))
        metrics["log_loss"] = Metric(*nats, len(seen), "nats", False)
    return metrics


def _a_token(
    sums: Sequence[float], tokens: Sequence[int], groups: Sequence[str], seed: int
) -> tuple[float, float, float]:
    """The mean of a token, and its interval, of what rows come to."""
    features = np.array([sums, tokens], np.float64).T
    low, high = bootstrap_interval(features, lambda found: found[:, 0] / found[:, 1], groups=groups, seed=seed)
    return float(features[:, 0].sum() / features[:, 1].sum()), low, high
