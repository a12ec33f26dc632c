"""Scores of a language model: how often it ends with the answer, and its nats a token, each against a plain count."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_parts import NUMBERS, after, records, save_config, save_tokenizer, write_rows
from scipy.special import log_softmax
from text_parts import Oracle

from toolkit.artifacts import Dataset, Evaluation, TeacherLabels
from toolkit.errors import DataError, Unsupported
from toolkit.plan import ComputePlan, Plan, TextPlan
from toolkit.protocols import PredictorFacts
from toolkit.tasks.text_generation import task
from toolkit.tasks.text_generation.evaluate import evaluate, judged
from toolkit.tasks.text_generation.predictors import LanguagePredictor
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.students import from_config, save
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import encode
from toolkit.text import GenerationRequest, Logprobs, TextDelta

PLAN = Plan(
    domain="none", task="text_generation", text=TextPlan(answer_tokens=3), compute=ComputePlan(device="cpu", threads=1)
)


def data_of(folder: Path, rows: Sequence[dict[str, Any]]) -> Dataset:
    """These rows to test with."""
    write_rows(folder / "data" / "test.jsonl", rows)
    return task.prepare(PLAN, folder / "data", "evaluate", folder / "dataset", (), lambda *_: None)


@dataclass
class Parrot:
    """Says what its book says, in two pieces; of no token it is sure but as `nats` tells."""

    book: dict[str, str]
    nats: dict[str, list[float]] | None = None
    form: str = "student"

    @property
    def facts(self) -> PredictorFacts:
        return PredictorFacts(self.form, "torch", "d" * 64)

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        for request in reversed(requests):
            said = self.book[request.id]
            yield TextDelta(request.id, said[:2])
            yield TextDelta(request.id, said[2:], "stop")

    def logprobs(self, texts: Any) -> Sequence[Logprobs]:
        """A token is the likeliest where it costs less than a bit."""
        if self.nats is None:
            raise Unsupported("it shows none", hint="")
        found = [np.array(self.nats[completion]) for _, completion in texts]
        return [Logprobs(-nats, nats < np.log(2)) for nats in found]


def test_what_a_row_wants_is_asked_for_at_the_gate_and_on_the_site(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, [{"id": "a", "prompt": "1?", "answer": "2", "wanted": ["[x]", "[y]"]}])
    asked: list[GenerationRequest] = []

    class Noting(Parrot):
        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
            asked.extend(requests)
            return super().generate(requests)

    evaluate(PLAN, dataset, Noting({"a": "2"}))
    assert [one.wanted for one in asked] == [("[x]", "[y]")]
    assert json.loads(task.request(PLAN, dataset).body)["wanted"] == ["[x]", "[y]"]


def test_accuracy_is_the_share_of_rows_that_end_with_their_answer(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "1 + 1?", "answer": 2, "task": "sum"},
        {"id": "b", "prompt": "60 * 20?", "answer": "1,200", "task": "product"},
        {"id": "c", "prompt": "2 + 2?", "answer": 4, "task": "sum"},
        {"id": "d", "prompt": "open?", "completion": "yes"},
    ]
    book = {"a": "1 + 1 = 2", "b": "so $1200.00 in all", "c": "it is 5"}
    found = evaluate(PLAN, data_of(tmp_path, rows), Parrot(book))
    assert found.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert found.metrics["accuracy"].n == 3
    assert found.metrics["accuracy"].low < 2 / 3 < found.metrics["accuracy"].high
    assert set(found.metrics) == {"accuracy"}
    assert {name: metrics["accuracy"].value for name, metrics in found.slices.items()} == {"sum": 0.5, "product": 1.0}
    by_id = {row["id"]: row for row in found.per_row}
    assert [(by_id[name]["right"], by_id[name]["predicted"]) for name in "abcd"] == [
        (True, "2"), (True, "1200.00"), (False, "5"), (None, None),
    ]  # fmt: skip
    assert by_id["c"]["text"] == "it is 5"
    assert by_id["d"]["truth"] == "yes"
    assert found.facts["predictor"] == {"form": "student", "provider": "torch", "digest": "d" * 64}


def test_log_loss_is_nats_over_all_tokens_and_no_single_token_makes_it_infinite(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "p?", "completion": "short"}, {"id": "b", "prompt": "q?", "completion": "long"},
        {"id": "c", "prompt": "r?", "completion": "sure"},
    ]  # fmt: skip
    nats = {"short": [0.5], "long": [1.0, 2.0, np.inf], "sure": [0.0, 0.25]}
    found = evaluate(PLAN, data_of(tmp_path, rows), Parrot({"a": "one", "b": "two", "c": "three"}, nats))
    most = -np.log(1e-6)
    assert found.metrics["log_loss"].value == pytest.approx((0.5 + 1 + 2 + most + 0 + 0.25) / 6)
    assert (found.metrics["log_loss"].n, found.metrics["log_loss"].unit) == (3, "nats")
    assert found.metrics["log_loss"].low <= found.metrics["log_loss"].value <= found.metrics["log_loss"].high
    assert not found.metrics["log_loss"].higher_is_better
    assert found.metrics["token_accuracy"].value == pytest.approx(3 / 6)
    assert [row["hits"] for row in found.per_row] == ["1", "000", "11"]
    assert all(row["right"] is row["predicted"] is None for row in found.per_row)
    assert [row["text"] for row in found.per_row] == ["one", "two", "three"]


def test_the_gate_looks_at_answers_and_where_there_are_none_at_tokens(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "p?", "completion": "short"}, {"id": "b", "prompt": "q?", "completion": "long"}]
    nats, book = {"short": [0.5], "long": [1.0, 0.1]}, {"a": "so 7", "b": "so 9"}
    found = judged(evaluate(PLAN, data_of(tmp_path / "tokens", rows), Parrot(book, nats)))
    assert (found.metric, found.right.tolist(), found.floor) == ("token_accuracy", [True, False, True], None)
    assert len(set(found.groups)) == 2
    with pytest.raises(DataError, match="no test row can be scored"):
        evaluate(PLAN, data_of(tmp_path / "nothing", rows), Parrot(book))
    answered = [{**rows[0], "answer": 7}, rows[1]]
    found = judged(evaluate(PLAN, data_of(tmp_path / "answers", answered), Parrot(book, nats)))
    assert (found.metric, found.right.tolist()) == ("accuracy", [True])


def test_a_teacher_whose_tokens_nobody_sees_cannot_be_compared_by_them(tmp_path: Path) -> None:
    evaluation = Evaluation.found({}, per_row=[{"right": None, "hits": "", "group": "g"}])
    with pytest.raises(DataError, match="nobody can look into the teacher"):
        judged(evaluation)


def half_wrong() -> list[dict[str, Any]]:
    """Of every other row the answer is another one, and some completions are long."""
    rows = records(24)
    for number, row in enumerate(rows):
        row["answer"] = row["answer"] if number % 2 else "one" if row["answer"] != "one" else "two"
        row["completion"] = " ".join(NUMBERS[: 1 + number % 5])
    return rows


def test_a_model_in_torch_is_scored_as_plain_softmax_row_by_row_scores_it(counter: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path, half_wrong())
    teacher = read_teacher(counter)
    predictor = LanguagePredictor(teacher, PredictorFacts("teacher", "torch", ""))
    found = evaluate(PLAN, data, predictor)
    nats: list[float] = []
    right = 0
    for row in load_corpus(tmp_path / "dataset", "test"):
        sample = encode(row, teacher.tokenizer)
        with torch.no_grad():
            logits = teacher.model(input_ids=torch.tensor([sample.ids])).logits[0].double().numpy()
        exact = log_softmax(logits, axis=-1)[sample.prompt - 1 : -1]
        nats += [-max(exact[n, token], np.log(1e-6)) for n, token in enumerate(sample.ids[sample.prompt :])]
        first = int(logits[sample.prompt - 1].argmax())
        right += teacher.tokenizer.decode([first]) == row.answer
    assert found.metrics["log_loss"].value == pytest.approx(np.mean(nats), rel=1e-5)
    assert right == 12
    assert found.metrics["accuracy"].value == right / 24
    assert {row["id"]: row["text"] for row in found.per_row} == {
        row["id"]: after(row["prompt"].split()[-1]) for row in half_wrong()
    }


def test_a_student_that_knows_nothing_is_near_an_even_guess(tmp_path: Path) -> None:
    student = from_config(save_config(tmp_path / "config"), seed=0)
    save(student, tmp_path / "student", save_tokenizer(tmp_path / "student"))
    predictor = LanguagePredictor(read_teacher(tmp_path / "student"), PredictorFacts("student", "torch", ""))
    found = evaluate(PLAN, data_of(tmp_path, records(24)), predictor)
    assert found.metrics["log_loss"].value == pytest.approx(np.log(24), abs=0.1)
    assert found.metrics["accuracy"].value < 0.5


def test_a_black_box_is_scored_by_what_it_writes_and_paid_once(tmp_path: Path) -> None:
    data = data_of(tmp_path, [*records(6), {"id": "open", "prompt": "open?", "completion": "yes"}])

    class Counter(Oracle):
        def say(self, held: Any) -> Any:
            for one in super().say(held):
                yield type(one)(one.prompt_id, after(one.text.split()[-1]), cost=1.0)

    teacher = Counter()
    labels = TeacherLabels(tmp_path, "d")
    predictor = task.teacher_predictor(PLAN, teacher, labels, tmp_path / "journal", 1)
    found = evaluate(PLAN, data, predictor)
    assert set(found.metrics) == {"accuracy"}
    assert (found.metrics["accuracy"].value, found.metrics["accuracy"].n) == (1.0, 6)
    assert len(teacher.asked) == 6
    evaluate(PLAN, data, task.teacher_predictor(PLAN, teacher, labels, tmp_path / "journal", 1))
    assert len(teacher.asked) == 6


def test_a_black_box_on_rows_without_answers_cannot_be_scored(tmp_path: Path) -> None:
    data = data_of(tmp_path, [{"prompt": "open?", "completion": "yes"}])
    with pytest.raises(DataError, match="no test row can be scored with the teacher") as refused:
        evaluate(PLAN, data, Parrot({}, form="teacher"))
    assert "answer" in refused.value.hint


def test_rows_with_neither_are_shown_and_not_counted(tmp_path: Path) -> None:
    data = data_of(tmp_path, [{"id": "open", "prompt": "open?"}, {"id": "a", "prompt": "1?", "answer": "1"}])
    found = evaluate(PLAN, data, Parrot({"a": "1"}))
    assert found.metrics["accuracy"].n == 1
    assert [row["right"] for row in found.per_row] == [None, True]
