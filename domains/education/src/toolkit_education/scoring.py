"""Scoring re-themed problems: first drafts that ask the same, why the others do not, and which also make sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.artifacts import Dataset, Evaluation, Metric
from toolkit.plan import Plan
from toolkit.score.intervals import clustered_share
from toolkit.text import GenerationRequest, TextPredictor, whole_answers
from toolkit_education.generators.themes import themes
from toolkit_education.items import ItemModel
from toolkit_education.naming import Namer, draft_from
from toolkit_education.practising import Exercise
from toolkit_education.retheming import keeps_kinds, leftover, rethemed
from toolkit_education.samples import samples
from toolkit_education.teaching import NAME

SHOWN_REASONS = 12


def evaluate(plan: Plan, dataset: Dataset, predictor: TextPredictor, known: Mapping[str, Exercise]) -> Evaluation:
    """Of first drafts, filled with another theme's words, on templates that were never met in training.

    `accuracy`: the share that ask the same as before, and in which none of the old words is left. `sense`: the share of
    those in which besides every word got another of its kind; nobody packs baskets into dragons.
    """
    rows = list(dataset.split("test"))
    namer = Namer.of(known.values()) if predictor.facts.form == "teacher" and plan.teacher.name != NAME else None
    requests = [
        GenerationRequest(
            row.id, namer.messages(known[row.id].model) if namer else row.inputs["messages"], plan.text.answer_tokens
        )
        for row in rows
    ]
    drafts = whole_answers(predictor, requests)
    if namer:  # it was asked in words
        drafts = {identity: draft_from(known[identity].model, said) for identity, said in drafts.items()}
    per_row = [_record(row.id, row.group, known[row.id], drafts.get(row.id, "")) for row in rows]
    tasks = sorted({row["task"] for row in per_row})
    reasons = Counter(reason for row in per_row for reason in row["reasons"])
    facts = {
        "predictor": {
            "form": predictor.facts.form, "provider": predictor.facts.provider, "digest": predictor.facts.digest
        },
        "rejected": dict(reasons.most_common(SHOWN_REASONS)),
        "samples": samples(plan.compute.seed),
    }  # fmt: skip
    return Evaluation.found(
        _metrics(per_row, plan.compute.seed), per_row=per_row, facts=facts,
        slices={task: _metrics([r for r in per_row if r["task"] == task], plan.compute.seed) for task in tasks},
    )  # fmt: skip


def _metrics(per_row: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Metric]:
    groups = [row["group"] for row in per_row]
    return {
        name: clustered_share(np.array([row[flag] for row in per_row]), groups, seed=seed)
        for name, flag in (("accuracy", "right"), ("sense", "sensible"))
    }


def _record(identity: str, group: str, exercise: Exercise, draft: str) -> dict[str, Any]:
    language = exercise.model.language
    theme = next(theme for theme in themes().values())
    found = rethemed(exercise.model, draft, theme.words[language], theme.id)
    reasons = [] if isinstance(found, ItemModel) else sorted({finding.code for finding in found})
    if isinstance(found, ItemModel) and (
        words := set(leftover(found, exercise.words)) - set(theme.words[language].values())
    ):
        reasons = [f"left over: {min(words)}"]
    text = found.text if isinstance(found, ItemModel) else f"{draft}  ({', '.join(reasons)})"
    return {
        "id": identity, "group": group, "task": language, "truth": exercise.draft, "draft": draft, "hits": "",
        "predicted": text, "text": text,
        "right": not reasons,
        "sensible": not reasons and keeps_kinds(exercise.draft, draft),
        "reasons": [reason.partition(":")[0] for reason in reasons],
    }  # fmt: skip
