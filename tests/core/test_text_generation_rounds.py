"""Self-training: what is kept is what is right, distinct and not too much of one problem; every round begins where the
first did; and a run that was broken off anywhere, in writing, in training or between, ends with the same weights."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distil_parts import Interrupted, one_thread
from solving_parts import HELD_OUT, PROBLEMS, check, new_student, right_answer, solver_of
from statsmodels.stats.proportion import proportion_confint
from test_text_generation_teacher import NUMBERS
from transformers import PreTrainedModel

from toolkit.distil.loop import Schedule, Score
from toolkit.errors import DataError, PlanError
from toolkit.tasks.text_generation.rounds import Improved, Improvement, Rounds, Tuning
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.solving import Solver
from toolkit.tasks.text_generation.tokens import Tokenised, tokenise
from toolkit.text import Prompt, Verdict


@pytest.fixture(scope="module")
def solver(tmp_path_factory: pytest.TempPathFactory) -> Solver:
    return solver_of(tmp_path_factory.mktemp("teacher"), most=3)


def tuning(**changes: Any) -> Tuning:
    return Tuning(**{
        "schedule": Schedule(4, 1e-2, 0.0), "capacity": 48, "rows": 2,
        "groups": lambda model: [{"params": list(model.parameters())}], "validate": lambda _: Score(0.5, 1.0, 9),
    } | changes)  # fmt: skip


@pytest.fixture(scope="module")
def start(solver: Solver, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """A student that answers with one number or two and ends, but hardly knows which."""
    rows = [
        Row(f"{prompt.id}-{number}-{more}", prompt.messages, f"{number}{more}")
        for prompt in PROBLEMS for number in NUMBERS for more in ("", " one", " two")
    ]  # fmt: skip
    samples, student = tokenise(rows, solver.tokenizer, max_tokens=48).samples, new_student()
    with one_thread():
        student.load_state_dict(tuning().train(student, samples, tmp_path_factory.mktemp("start"), quiet))
    return student


def quiet(what: str, done: int, total: int) -> None:
    del what, done, total


def run(
    folder: Path, solver: Solver, start: PreTrainedModel, *, how: Rounds | None = None,
    report: Callable[[str, int, int], None] = quiet, given: Sequence[Tokenised] = (), tuned: Tuning | None = None,
) -> Improved:  # fmt: skip
    student, how = copy.deepcopy(start), how or Rounds(2, answers=12, most=2, chunk=3)
    return Improvement(student, PROBLEMS, HELD_OUT, solver, tuned or tuning(), how, folder, given=given).run(report)


def written(folder: Path, number: int) -> dict[str, list[tuple[str, bool]]]:
    """All answers of a round, out of its files."""
    files = sorted((folder / f"round-{number:02}").glob("written-*.json"))
    return {
        name: [(text, right) for text, right in found]
        for path in files
        for name, found in json.loads(path.read_bytes())
    }


def same(one: Improved, other: Improved) -> bool:
    return one.rounds == other.rounds and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )


def test_what_is_learnt_is_right_distinct_and_not_too_much_of_one_problem(
    solver: Solver, start: PreTrainedModel, tmp_path: Path
) -> None:
    seen: list[list[Tokenised]] = []

    class Watched(Tuning):
        def train(self, model: Any, samples: Any, folder: Any, report: Any) -> Any:
            seen.append(list(samples))
            return super().train(model, samples, folder, report)

    tuned = Watched(**tuning().__dict__)
    found = run(tmp_path, solver, start, how=Rounds(2, answers=40, most=2, chunk=3), tuned=tuned)
    prompts = {prompt.id: prompt for prompt in PROBLEMS}
    rights: list[dict[str, list[str]]] = []
    for number, one in enumerate(found.rounds, 1):
        answers = written(tmp_path, number)
        assert list(answers) == [prompt.id for prompt in PROBLEMS]
        flat = [(prompts[name], text, right) for name, each in answers.items() for text, right in each]
        assert all(check(prompt, text).score == 1 for prompt, text, right in flat if right)
        assert (one.problems, one.written) == (8, 320)
        assert one.right == sum(right for *_, right in flat)
        distinct = {(prompt.id, text) for prompt, text, right in flat if right}
        assert one.distinct == len(distinct) < one.right
        assert one.solved == len({name for name, _ in distinct})
        rights.insert(0, {name: list(dict.fromkeys(t for t, r in each if r)) for name, each in answers.items()})
        expected = {
            name: list(dict.fromkeys(text for one in rights for text in one[name]))[:2] for name in prompts
        }  # the newest round's first
        texts = {name: [] for name in prompts} | {}
        for sample in seen[number - 1]:
            ids = [token for token in sample.ids[sample.prompt :] if token != 0]
            texts[sample.id.partition("#")[0]].append(solver.tokenizer.decode(ids))
        assert texts == expected
        assert one.learnt == len(seen[number - 1]) == sum(map(len, expected.values()))
    assert max(Counter(sample.id.partition("#")[0] for sample in seen[1]).values()) == 2


def test_every_round_begins_where_the_first_did_and_learns_what_was_given(
    solver: Solver, start: PreTrainedModel, tmp_path: Path
) -> None:
    begun, given = [], [Tokenised("given", (7, 8, 0), 1)]

    class Watched(Tuning):
        def train(self, model: Any, samples: Any, folder: Any, report: Any) -> Any:
            begun.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            assert samples[0] == given[0]
            return super().train(model, samples, folder, report)

    run(tmp_path, solver, start, tuned=Watched(**tuning().__dict__), given=given)
    first = start.state_dict()
    assert len(begun) == 2
    assert all(torch.equal(weights[name], first[name]) for weights in begun for name in first)


def test_rounds_make_a_student_that_solves_more(solver: Solver, start: PreTrainedModel, tmp_path: Path) -> None:
    found = run(
        tmp_path, solver, start, how=Rounds(3, answers=40, most=3), tuned=tuning(schedule=Schedule(40, 1e-2, 0.0))
    )
    model = copy.deepcopy(start)
    model.load_state_dict(found.weights)
    right = [one.right for one in found.rounds]
    assert right[-1] > 2 * right[0]
    assert solver.right(model, PROBLEMS).sum() > solver.right(start, PROBLEMS).sum()
    first, second, third = found.rounds
    assert (first.after, second.after) == (second.before, third.before)
    assert first.before == tuple(solver.right(start, HELD_OUT))
    assert third.after == tuple(solver.right(model, HELD_OUT))
    facts = third.facts()
    low, high = proportion_confint(sum(third.after), 8, method="wilson")
    assert (facts["after"]["value"], facts["after"]["low"], facts["after"]["high"]) == pytest.approx(
        (np.mean(third.after), low, high)
    )
    assert facts["right_share"] == third.right / third.written
    assert facts["solved_share"] == third.solved / 8
    json.dumps(facts)


def calls_of(run_with: Callable[[Callable[..., None]], object]) -> int:
    """How often something is called."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    run_with(counted)
    return count


@pytest.mark.usefixtures("every_step")
def test_a_run_that_is_broken_off_anywhere_ends_with_the_same_weights(
    solver: Solver, start: PreTrainedModel, tmp_path: Path
) -> None:
    with one_thread():
        whole = run(tmp_path / "whole", solver, start)
        steps = calls_of(lambda told: run(tmp_path / "counted", solver, start, report=told))
        for number, last in enumerate(np.linspace(0, steps - 1, 6).astype(int)):  # when writing, and when training
            left = int(last)

            def stop(*_: object) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Interrupted

            folder = tmp_path / f"told-{number}"
            with pytest.raises(Interrupted):
                run(folder, solver, start, report=stop)
            assert same(run(folder, solver, start), whole)


@pytest.mark.parametrize("at", [1, 60, 120, 200])
def test_a_run_that_is_broken_off_while_answers_are_checked_writes_the_same(
    at: int, solver: Solver, start: PreTrainedModel, tmp_path: Path
) -> None:
    left = at

    def verify(prompt: Prompt, said: str) -> Verdict:
        nonlocal left
        left -= 1
        if not left:
            raise Interrupted
        return check(prompt, said)

    with one_thread():
        whole = run(tmp_path / "whole", solver, start)
        with pytest.raises(Interrupted):
            run(tmp_path / "broken", replace(solver, verify=verify), start)
        torch.manual_seed(at)  # what was done before does not matter
        assert same(run(tmp_path / "broken", solver, start), whole)
        assert [written(tmp_path / "broken", number) for number in (1, 2)] == [
            written(tmp_path / "whole", number) for number in (1, 2)
        ]


def test_a_run_that_is_done_asks_nobody(solver: Solver, start: PreTrainedModel, tmp_path: Path) -> None:
    first = run(tmp_path, solver, start)

    def never(prompt: Prompt, said: str) -> Verdict:
        raise AssertionError(f"asked {prompt.id} again: {said}")

    assert same(run(tmp_path, replace(solver, verify=never), start), first)


def test_where_nothing_is_right_there_is_nothing_to_learn(
    solver: Solver, start: PreTrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not one answer to 8 problems was right"):
        run(tmp_path, replace(solver, verify=lambda prompt, said: Verdict(0.9, "never quite")), start)


def test_what_is_held_out_is_not_trained_on(solver: Solver, start: PreTrainedModel, tmp_path: Path) -> None:
    again = replace(PROBLEMS[2], id="other")
    with pytest.raises(DataError, match="held-out problem other is trained on too"):
        Improvement(new_student(), PROBLEMS, [*HELD_OUT, again], solver, tuning(), Rounds(), tmp_path)
    with pytest.raises(DataError, match="needs problems"):
        Improvement(new_student(), PROBLEMS, [], solver, tuning(), Rounds(), tmp_path)
    with pytest.raises(DataError, match="stands twice"):
        Improvement(new_student(), [*PROBLEMS, replace(again, id="p0")], HELD_OUT, solver, tuning(), Rounds(), tmp_path)


@pytest.mark.parametrize("name", ["rounds", "answers", "most", "chunk"])
def test_rounds_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(PlanError):
        Rounds(**{name: 0})


def test_the_problems_know_their_answers() -> None:
    assert [right_answer(prompt) for prompt in (PROBLEMS[0], HELD_OUT[0])] == ["two", "three"]
