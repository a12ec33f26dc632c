"""A benchmark put to a model: what it is asked, what counts, and what is refused before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from toolkit.benchmarks import sandbox
from toolkit.benchmarks.forms import CHOICE, NUMBER, PROGRAM, Form, Question
from toolkit.benchmarks.reading import Benchmark
from toolkit.benchmarks.scoring import TOGETHER, score
from toolkit.errors import DataError, EnvironmentUnfit, Unsupported
from toolkit.protocols import PredictorFacts
from toolkit.score.intervals import share
from toolkit.text import GenerationRequest, Logprobs, Message, TextDelta


@dataclass
class Model:
    """Says what `answer` makes of a prompt; of a completion, that it is likely where `likely` says so."""

    answer: Callable[[str], str] = lambda prompt: ""
    likely: Callable[[str, str], bool] | None = None
    asked: list[GenerationRequest] = field(default_factory=list)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("student", "test", "abc"))

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        self.asked += requests
        for request in reversed(requests):  # in any order, in pieces
            text = self.answer(request.messages[-1].content)
            yield TextDelta(request.id, text[:3])
            yield TextDelta(request.id, text[3:], "stop")

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[Logprobs]:
        if self.likely is None:
            raise Unsupported("a black box")
        said = [self.likely(messages[-1].content, text) for messages, text in texts]
        return [Logprobs(np.array([-0.1 if one else -3.0, -1.0]), np.array([one, True])) for one in said]


def quiet(what: str, done: int, total: int) -> None:
    pass


def benchmark(form: Form, questions: Sequence[Question], examples: Sequence[Question] = ()) -> Benchmark:
    return Benchmark("mine", form, questions, examples, "0" * 64)


SUMS = [Question(str(n), f"{n} and {n}?", f"#### {2 * n}") for n in range(TOGETHER + 8)]


def doubled(prompt: str) -> str:
    number = int(prompt.rpartition("Question: ")[2].split()[0])
    return f" twice\n#### {2 * number + number % 2}\nQuestion: 7 and 7?\n#### 14"


def test_numbers_are_counted_over_all_questions_whatever_order_they_come_in() -> None:
    model, told = Model(doubled), []
    found = score(benchmark(NUMBER, SUMS, SUMS[:3]), model, lambda *what: told.append(what), calculator=True)
    assert found.metrics["strict_match"] == share(20, 40)
    assert [row["strict_match"] for row in found.per_row] == [n % 2 == 0 for n in range(40)]
    assert "Question:" not in found.per_row[0]["text"]
    assert all(one.calculator and one.temperature == 0 and one.max_tokens == 256 for one in model.asked)
    assert model.asked[0].messages[-1].content.count("Question:") == 4  # as many examples as there are
    assert found.facts["shots"] == 3
    assert told[-1][1:] == (40, 40)


def test_only_the_first_questions_and_so_many_examples() -> None:
    model = Model(doubled)
    found = score(benchmark(NUMBER, SUMS, SUMS), model, quiet, shots=1, limit=5, tokens=9)
    assert (found.metrics["strict_match"].n, len(model.asked), model.asked[0].max_tokens) == (5, 5, 9)
    assert all(one.messages[-1].content.count("Question:") == 2 for one in model.asked)
    with pytest.raises(DataError, match="41 examples"):
        score(benchmark(NUMBER, SUMS, SUMS), model, quiet, shots=41)


CHOICES = [
    Question(str(n), f"{n}?", "ABC"[n % 3], ("x", "y", "z"), ("shapes", "sums")[n % 2]) for n in range(12)
]  # fmt: skip


def test_of_choices_the_likeliest_letter_counts_or_the_one_that_a_black_box_writes() -> None:
    first = Model(likely=lambda prompt, text: text == " A")
    found = score(benchmark(CHOICE, CHOICES, CHOICES[:2]), first, quiet)
    assert found.metrics["acc"] == share(4, 12)
    assert {part: metrics["acc"].n for part, metrics in found.slices.items()} == {"shapes": 6, "sums": 6}
    assert first.asked == []
    written = score(benchmark(CHOICE, CHOICES), Model(lambda prompt: "The answer is (C)."), quiet)
    assert written.metrics["acc"] == share(4, 12)
    assert {row["text"] for row in written.per_row} == {"C"}


def test_examples_are_of_the_same_part() -> None:
    prompts: list[str] = []
    score(benchmark(CHOICE, CHOICES, CHOICES[:2]), Model(likely=lambda p, t: bool(prompts.append(p))), quiet)
    assert all(("about shapes" in one) == ("\n\n0?" in one) for one in prompts)


def test_programs_are_asked_for_only_where_they_can_be_shut_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Model(lambda prompt: "    return x + 1\n")
    questions = [
        Question(f"q/{n}", "def f(x):\n", f"def check(f):\n    assert f({n}) == {n + n % 2}", entry="f")
        for n in range(4)
    ]
    try:
        found = score(benchmark(PROGRAM, questions), model, quiet)
    except EnvironmentUnfit as error:
        pytest.skip(f"{error.message}: {error.hint}")
    assert found.metrics["pass@1"] == share(2, 4)
    model.asked.clear()
    monkeypatch.setattr(sandbox, "BWRAP", "no-such-program")
    with pytest.raises(EnvironmentUnfit):
        score(benchmark(PROGRAM, questions), model, quiet)
    assert model.asked == []
