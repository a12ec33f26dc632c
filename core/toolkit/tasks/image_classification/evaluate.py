"""Scoring any image classifier on the test rows: teacher, student, compiled or installed, by the same lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, tee
from typing import Any

import numpy as np

from toolkit.artifacts import Dataset, Evaluation, Row
from toolkit.plan import Plan
from toolkit.protocols import BatchPredictor, TensorPredictor, Tensors
from toolkit.score.classification import ClassificationScore, score_classification
from toolkit.tasks.image_classification.appearance import appearance

BATCH = 32
UNLEAKED = "without near-duplicates of training rows"

Look = Callable[[Row, Tensors], None]
"""Shown every readable row and all that the predictor said of it."""


def evaluate(plan: Plan, dataset: Dataset, predictor: TensorPredictor, look: Look | None = None) -> Evaluation:
    """Accuracy, macro F1, recall of each class, escapes and overkill, calibration error, each with its interval.

    Intervals take rows as independent, so that a folder scored on a site gives the very figures of the report; the
    gate alone, which decides, resamples near-duplicates together. A row that cannot be read counts as wrong. Where
    the folder's own splits leak, the slice UNLEAKED leaves those test rows out. `per_row` says of every row what it
    is, what it was called, how sure, and how it looks, for drift; `look` sees each row with its answer in passing.
    """
    classes = dataset.classes
    per_row: list[dict[str, Any]] = []
    probabilities: list[np.ndarray] = []
    batches, read_ahead = tee(_batches(dataset.split("test")))
    given_batches = _answers(predictor, ({"image": images} for _, images in read_ahead if images is not None))
    for rows, images in batches:
        batch = next(given_batches) if images is not None else None
        for index, row in enumerate(rows):
            given = None if batch is None else batch["probabilities"][index]
            if look is not None and batch is not None:
                look(row, {name: array[index] for name, array in batch.items()})
            probabilities.append(np.full(len(classes), 1 / len(classes)) if given is None else given)
            looks = {} if images is None else appearance(images[index])
            per_row.append(_record(row, given, classes) | {"measures": looks})
    answers = np.stack(probabilities)

    def scored(chosen: Sequence[int]) -> ClassificationScore:
        rows = [per_row[index] for index in chosen]
        return score_classification(
            [row["truth"] for row in rows],
            [row["predicted"] for row in rows],
            answers[list(chosen)],
            classes,
            good_class=dataset.facts.get("good_class", ""),
            seed=plan.compute.seed,
        )

    score = scored(range(len(per_row)))
    leaked = {row for leak in dataset.facts.get("leaks", ()) for row in leak[:2]}
    unleaked = [index for index, row in enumerate(per_row) if row["id"] not in leaked]
    slices = {UNLEAKED: scored(unleaked).metrics} if 0 < len(unleaked) < len(per_row) else {}
    facts = {
        "predictor": {
            "form": predictor.facts.form, "provider": predictor.facts.provider, "digest": predictor.facts.digest
        },
        "classes": list(classes),
        "confusion": score.confusion,
        "unreadable": score.unreadable,
        "unreadable_rows": [row["id"] for row in per_row if row["predicted"] is None],
        "worst": [per_row[index]["id"] for index in score.worst],
    }  # fmt: skip
    return Evaluation.found(score.metrics, per_row=per_row, slices=slices, facts=facts)


def _answers(predictor: TensorPredictor, batches: Iterable[Tensors]) -> Iterator[Tensors]:
    """A predictor that works on several batches at once reads ahead; any other is asked batch by batch."""
    if isinstance(predictor, BatchPredictor):
        return predictor.predict_all(batches)
    return map(predictor.predict, batches)


def _record(row: Row, given: np.ndarray | None, classes: tuple[str, ...]) -> dict[str, Any]:
    called = None if given is None else int(given.argmax())
    return {
        "id": row.id,
        "group": row.group,
        "truth": row.label,
        "predicted": None if called is None else classes[called],
        "confidence": 0.0 if given is None or called is None else round(float(given[called]), 6),
        "right": called is not None and classes[called] == row.label,
    }


def _batches(rows: Iterable[Row]) -> Iterator[tuple[list[Row], np.ndarray | None]]:
    """Rows in order, as many of one picture size together as fit a batch; unreadable rows come alone, with None."""
    waiting: list[Row] = []
    for row in rows:
        image = row.inputs.get("image")
        if waiting and (image is None or len(waiting) == BATCH or image.shape != waiting[0].inputs["image"].shape):
            yield waiting, np.stack([r.inputs["image"] for r in waiting])
            waiting = []
        if image is None:
            yield [row], None
        else:
            waiting.append(row)
    if waiting:
        yield waiting, np.stack([r.inputs["image"] for r in waiting])


def single_inputs(rows: Iterable[Row], count: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` readable pictures, each a batch of one: for calibration, golden answers and timing."""
    readable = (row.inputs["image"] for row in rows if "image" in row.inputs)
    for image in islice(readable, count):
        yield {"image": image[None]}
