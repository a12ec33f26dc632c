"""Putting a benchmark to a model, and counting what it gets right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.artifacts import Evaluation, Metric
from toolkit.benchmarks.forms import LETTERS, PROGRAM, Judge, Question
from toolkit.benchmarks.reading import Benchmark
from toolkit.benchmarks.sandbox import Sandbox
from toolkit.errors import DataError, Unsupported
from toolkit.protocols import Report
from toolkit.score.intervals import share
from toolkit.text import GenerationRequest, Message, TextPredictor, whole_answers

TOGETHER = 32
"""Questions that are put at once, between two lines of progress."""

Rows = list[dict[str, Any]]


def score(
    benchmark: Benchmark, predictor: TextPredictor, report: Report, *,
    shots: int | None = None, limit: int | None = None, tokens: int | None = None, calculator: bool = False,
) -> Evaluation:  # fmt: skip
    """The model on the benchmark, with Wilson's intervals; of several parts each by itself too.

    Of choices the likeliest letter counts; of a model that shows no probabilities, the letter that it writes.

    Args:
        shots: examples before each question, the first ones of the benchmark; by default as lm-eval has it, and as many
            as there are.
        limit: only the first so many questions.
        tokens: most tokens of an answer that is written.
        calculator: the results of `<<a=b>>` marks are computed while it writes.

    Raises:
        DataError: there are fewer examples than asked for.
        EnvironmentUnfit: programs cannot be shut in here; nothing was asked.
    """
    form = benchmark.form
    if form is PROGRAM:
        Sandbox().check()
    questions = benchmark.questions[:limit]
    rows: Rows = []
    for start in range(0, len(questions), TOGETHER):
        report(f"{benchmark.name}: {predictor.facts.form}", start, len(questions))
        some = questions[start : start + TOGETHER]
        asked = [form.prompt(one, _examples(benchmark, one, shots)) for one in some]
        if form.judge is None:
            rows += _chosen(some, asked, predictor)
        else:
            texts = _texts(asked, predictor, tokens or form.answer_tokens, calculator)
            rows += _judged(form.judge, some, [form.cut(text) for text in texts])
    report(f"{benchmark.name}: {predictor.facts.form}", len(questions), len(questions))
    parts = sorted({row["part"] for row in rows})
    return Evaluation.found(
        _metrics(rows, form.metrics), per_row=rows,
        slices={part: _metrics([r for r in rows if r["part"] == part], form.metrics) for part in parts if part},
        facts={
            "benchmark": benchmark.name, "data_sha256": benchmark.digest, "calculator": calculator,
            "shots": len(_examples(benchmark, questions[0], shots)), "form": predictor.facts.form,
            "digest": predictor.facts.digest,
        },
    )  # fmt: skip


def _examples(benchmark: Benchmark, question: Question, shots: int | None) -> Sequence[Question]:
    found = [one for one in benchmark.examples if one.part == question.part]
    if shots is not None and len(found) < shots:
        raise DataError(
            f"{shots} examples are asked for, and {benchmark.name} has {len(found)}", hint="Ask for fewer: --shots."
        )
    return found[: benchmark.form.shots if shots is None else shots]


def _judged(judge: Judge, questions: Sequence[Question], texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    for question, text, right in zip(questions, texts, judge(questions, texts), strict=True):
        yield {"id": question.id, "part": question.part, "text": text, **right}


def _chosen(questions: Sequence[Question], asked: Sequence[str], predictor: TextPredictor) -> Iterator[dict[str, Any]]:
    letters = [LETTERS[: len(one.choices)] for one in questions]
    pairs = [((Message("user", text),), f" {one}") for text, some in zip(asked, letters, strict=True) for one in some]
    try:
        said = iter([float(np.sum(one.values)) for one in predictor.logprobs(pairs)])
        chosen = [max(zip((next(said) for _ in some), some, strict=True))[1] for some in letters]
    except Unsupported:
        written = _texts(asked, predictor, 4, calculator=False)
        chosen = [next((c for c in text if c in some), "") for text, some in zip(written, letters, strict=True)]
    for question, letter in zip(questions, chosen, strict=True):
        yield {"id": question.id, "part": question.part, "text": letter, "acc": letter == question.key}


def _texts(asked: Sequence[str], predictor: TextPredictor, most: int, calculator: bool) -> Sequence[str]:
    requests = [
        GenerationRequest(str(number), (Message("user", text),), most, calculator=calculator)
        for number, text in enumerate(asked)
    ]
    answers = whole_answers(predictor, requests)
    return [answers.get(request.id, "") for request in requests]


def _metrics(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Metric]:
    return {name: share(sum(row[name] for row in rows), len(rows)) for name in names}
