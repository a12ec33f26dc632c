"""Free drafts and the sense gate: what converts, what an independent solver makes of people's problems, of planted
nonsense and of drafts, with recorded answers of GPT-3 and with the exact solver of the curriculum."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import EnvironmentUnfit, Refused
from toolkit.text import Completion, Prompt
from toolkit.text_teachers import AskedTeacher
from toolkit_education.drafting import asked_of_teacher, converted, example_of, lessons, problem_of, written_out
from toolkit_education.exact_solver import CurriculumSolver, solved
from toolkit_education.generators import models, templates
from toolkit_education.gsm8k import convert_file, convert_row
from toolkit_education.gsm8k_reading import LeftOut
from toolkit_education.items import ItemModel, draw, render
from toolkit_education.nonsense import KINDS, planted
from toolkit_education.originality import Known
from toolkit_education.sense import (
    AGREES,
    DISAGREES,
    UNDECIDED,
    Solver,
    answer_in,
    checked,
    messages_of,
    number_sets,
    problem_in,
    unsound,
    vote,
)
from toolkit_education.sense_gate import humans, judged, measured, mistrusted

GSM8K = Path(__file__).parents[4] / "shared/data/education/gsm8k"
GOOD = (
    "Ria bakes 24 muffins and sells 15 of them at the fair. Her brother then brings 8 more muffins. How many muffins "
    "are there now?\nRia has 24-15 = <<24-15=9>>9 muffins left.\nWith her brother's there are 9+8 = <<9+8=17>>17 "
    "muffins.\n#### 17"
)


def asked(answer: Callable[[str], str | None]) -> AskedTeacher:
    """A solver that says what a function makes of the problem; None is silence."""

    def answers(prompts: Sequence[Prompt]) -> Iterator[Completion]:
        for prompt in reversed(prompts):  # in any order
            said = answer(problem_in(prompt.messages))
            if said is not None:
                yield Completion(prompt.id, said)

    return AskedTeacher("test:by a function", "f", answers)


def exact() -> AskedTeacher:
    solver: Any = CurriculumSolver()
    return AskedTeacher("curriculum-solver", "f", lambda prompts: solver.answers(None, prompts))


def knowing(*known: ItemModel) -> Callable[[str], str]:
    """Solves what is drawn of these models by their programs, as who understands them does, and finds none else."""
    book = {item.problem: item.answer for model in known for item in number_sets(model, 6, 0)}
    return lambda problem: f"Let me see.\n#### {book[problem]}" if problem in book else "#### none"


@lru_cache(maxsize=1)
def own() -> Sequence[ItemModel]:
    return humans((), 60, 0)


# --- drafts --------------------------------------------------------------------------------------------------------


def test_a_draft_becomes_an_item_model_of_which_other_items_are_drawn() -> None:
    model = converted(f"<think>hm</think>Problem: {GOOD}")
    assert (model.source, model.skill, len(model.quantities)) == ("draft", "two_step_problems", 3)
    assert problem_of(model) == GOOD.partition("\n")[0]
    item = draw(model, 1)
    assert item.answer == item.values["q0"] - item.values["q1"] + item.values["q2"]
    assert unsound(model) == ""
    assert converted(GOOD).id == model.id


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "it is no problem with a solution"),
        ("How many?", "it is no problem with a solution"),
        ("x" * 4000, "it is too long"),
        ("Anna has 3 pens.\n3+4 = <<3+4=7>>7\n#### 7", "it asks nothing"),
        (GOOD.replace("<<9+8=17>>17", "<<9+8=18>>18"), "a mark is rounded or wrong"),
        (GOOD.replace("#### 17", ""), "no final number"),
        (GOOD.replace("#### 17", "#### 16"), "the last mark is not the answer"),
        (GOOD.replace("<<24-15=9>>", "").replace("<<9+8=17>>", "<<9**9**9=17>>"), ""),
        (GOOD.replace("8 more", "80 more"), ""),
        (GOOD.replace("24 muffins", "{q0} muffins"), "braces in the text"),
        (GOOD.replace("#### 17", "#### 1e999999999"), "no final number"),
        (GOOD.replace("<<9+8=17>>", "<<9+8=17e99999999>>"), "a mark cannot be read"),
        ("How many \x00?\n<<" + "(" * 900 + "=1>>\n#### 1", ""),
    ],
)
def test_what_is_no_draft_is_refused_with_a_reason(text: str, because: str) -> None:
    with pytest.raises(LeftOut) as refused:
        converted(text)
    assert str(refused.value)
    assert because in ("", str(refused.value))


def test_what_a_student_learns_from_converts_again_to_the_same_answer() -> None:
    found = list(lessons(0, [converted(GOOD)], 60))
    assert len(found) == 60
    for _, prompt, text in found:
        model = converted(text)
        assert prompt.startswith("draft: ")
        assert render(model, model.original()).answer == Fraction(text.rpartition("#### ")[2])
    assert "<<" in asked_of_teacher("two_step_problems", "pens", example_of(3))[-1].content


def test_writing_out_a_converted_row_gives_its_own_marks_back() -> None:
    model = converted(GOOD)
    assert written_out(model, model.original()) == GOOD.replace("24-15 = <<", "24-15 = <<")


def test_a_copy_is_no_draft() -> None:
    good, of_template = GOOD.partition("\n")[0], draw(models("two_step_problems", 2, "en", "art")[0], 1).problem
    copied = Known([converted(GOOD).text]).copied([good.replace("24", "36"), of_template, "How many whales sing?"])
    assert copied == ["it copies a problem of the bank", "it is of a template of the curriculum", ""]
    assert Known([]).copied([good]) == [""]
    assert Known([good]).copied([]) == []


# --- solving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 18", 18), ("so\n#### $1,200.50.", Fraction("1200.5")), ("#### 1/2", Fraction(1, 2)), ("A: 7", 7),
        ("<think>#### 3</think>\n#### 4", 4), ("#### 3\n#### none", "none"), ("#### None of it", "none"),
        ("The answer is 12.", 12), ("**#### 9**", 9), ("", None), ("12", None), ("####", None), ("#### ten", None),
        ("#### 1 2", None), ("#### 9" + "9" * 500, None),
    ],
)  # fmt: skip
def test_an_answer_is_read_only_where_it_is_said(text: str, answer: Any) -> None:
    assert answer_in(text) == answer


def test_what_most_answers_say_counts_and_a_split_decides_nothing() -> None:
    item = render(converted(GOOD), converted(GOOD).original())
    assert vote(item, ["#### 17"])[0] == AGREES
    assert vote(item, ["#### 17", "#### 17", "#### 3"])[0] == AGREES
    assert vote(item, ["#### 17", "#### 3"])[0] == UNDECIDED
    assert vote(item, ["#### 17", None])[0] == UNDECIDED
    assert vote(item, ["#### none"]) == (DISAGREES, "the solver finds no answer in it")
    assert "comes to 3" in vote(item, ["#### 3"])[1]
    assert vote(item, [None, "?"])[0] == UNDECIDED


def test_agreement_by_chance_on_one_set_of_numbers_is_not_enough() -> None:
    model = converted(GOOD)
    first = problem_of(model)
    lucky = Solver(asked(lambda problem: "#### 17" if problem == first else "#### 5"), redrawn=3)
    assert lucky.verdicts([model])[model.id].outcome == DISAGREES
    silent = Solver(asked(lambda problem: "#### 17" if problem == first else None), redrawn=3)
    assert silent.verdicts([model])[model.id].outcome == UNDECIDED
    found = Solver(asked(knowing(model)), redrawn=3).verdicts([model])[model.id]
    assert (found.outcome, found.asked, found.agreed) == (AGREES, 4, 4)


def test_a_solver_never_sees_the_solution() -> None:
    model, seen = converted(GOOD), list[str]()

    def answers(prompts: Sequence[Prompt]) -> Iterator[Completion]:
        seen.extend(message.content for prompt in prompts for message in prompt.messages)
        yield from ()

    Solver(AskedTeacher("spy", "f", answers), redrawn=2).verdicts([model])
    assert seen
    assert not any("<<" in one or "17" in one for one in seen)
    assert problem_in(messages_of("What is {x}?")) == "What is {x}?"


@pytest.mark.parametrize("error", [Refused("the budget is spent"), EnvironmentUnfit("nobody answers")])
def test_a_budget_that_is_spent_decides_nothing_on_a_site_and_stops_a_gate(error: Exception) -> None:
    def answers(prompts: Sequence[Prompt]) -> Iterator[Completion]:
        yield Completion(prompts[0].id, "#### 17")
        raise error

    model, teacher = converted(GOOD), AskedTeacher("poor", "f", answers)
    other = replace(model, id="other", text=model.text.replace("Ria", "Mia"))
    found = Solver(teacher, redrawn=0, patient=True).verdicts([model, other])
    assert [found[one].outcome for one in (model.id, "other")] == [AGREES, UNDECIDED]
    assert found["other"].because == str(error)
    with pytest.raises(type(error)):
        Solver(teacher, redrawn=0).verdicts([model, other])


def test_the_exact_solver_solves_every_template_and_nothing_else() -> None:
    tried = 0
    for skill, several in templates().items():
        for template in several:
            for language in ("en", "zh"):
                built = models(skill, template.levels[0], language, "space")
                item = draw(next(one for one in built if one.id.startswith(f"{template.key}/")), 5)
                assert solved(item.problem) == item.answer, item.problem
                tried += 1
    assert tried > 150
    assert solved(GOOD.partition("\n")[0]) is None
    assert solved("") is None


# --- the gate ------------------------------------------------------------------------------------------------------


def test_planted_nonsense_of_every_kind_is_kept_out_by_the_exact_solver_and_peoples_problems_pass() -> None:
    spoilt = list(planted(own(), 120, 1))
    assert set(Counter(one.kind for one in spoilt)) == set(KINDS)
    assert len({one.model.id for one in spoilt}) == len(spoilt)
    solver = Solver(exact(), redrawn=2)
    assert all(verdict.outcome == AGREES for _, verdict in checked(own(), solver))
    for one, (_, verdict) in zip(spoilt, checked([one.model for one in spoilt], solver), strict=True):
        assert verdict.outcome != AGREES, (one.kind, one.model.text)


def test_a_solver_that_only_does_sums_is_found_out_by_the_nonsense() -> None:
    """It computes what the program computes, whatever the text says: it must not open the gate."""
    spoilt = [one.model for one in planted(own(), 60, 0)]
    sums = Solver(asked(knowing(*own(), *(one for one in spoilt if not unsound(one)))), redrawn=2)
    metrics, facts = measured([], [GOOD], sums, 60, 0)
    assert metrics["sense_human"].value == 1.0
    assert metrics["sense_nonsense"].value < 0.9
    assert facts["passed_nonsense"]
    plan = {"free_drafting": True, "least_human": 0.8, "least_nonsense": 0.9, "least_drafts": 0.0}
    records = {name: metric.as_record() for name, metric in metrics.items()}
    assert "planted nonsense" in mistrusted(plan, records)


def test_a_solver_that_is_silent_keeps_all_out_and_opens_nothing() -> None:
    metrics, _ = measured([], [GOOD], Solver(asked(lambda problem: None)), 40, 0)
    assert metrics["sense_human"].value == 0.0
    assert metrics["sense_nonsense"].value == 1.0
    assert metrics["sense_drafts"].value == 0.0
    plan = {"free_drafting": True, "least_human": 0.8, "least_nonsense": 0.9, "least_drafts": 0.5}
    records = {name: metric.as_record() for name, metric in metrics.items()}
    assert "people's own problems" in mistrusted(plan, records)


def test_the_gate_opens_by_the_lower_ends_of_what_was_measured_and_by_nothing_less() -> None:
    plan = {"free_drafting": True, "least_human": 0.8, "least_nonsense": 0.9, "least_drafts": 0.5}
    good = {name: {"value": 1.0, "low": 0.95} for name in ("sense_human", "sense_nonsense", "sense_drafts")}
    assert mistrusted(plan, good) == ""
    assert mistrusted(plan, {}) != ""
    for name in good:
        assert mistrusted(plan, good | {name: {"value": 1.0, "low": 0.4}}) != ""
        assert mistrusted(plan, good | {name: {"value": None, "low": None}}) != ""
    assert "off" in mistrusted(plan | {"free_drafting": False}, good)
    assert "off" in mistrusted({}, good)


def test_each_draft_says_why_it_does_not_pass() -> None:
    copy = written_out(own()[0], own()[0].original()) or next(text for _, _, text in lessons(0, (), 1))
    turned = GOOD.replace("8 more muffins", "8 fewer muffins")
    solver = Solver(asked(knowing(converted(GOOD))), redrawn=2)
    found = judged([GOOD, copy, "nonsense", turned, GOOD], Known([]), solver)
    assert [one.verdict.outcome for one in found] == [AGREES, DISAGREES, DISAGREES, DISAGREES, DISAGREES]
    assert [one.verdict.because for one in found[1:]] == [
        "it is of a template of the curriculum", "it is no problem with a solution",
        "the solver finds no answer in it", "it was drafted before",
    ]  # fmt: skip


# --- recorded answers of larger models -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded() -> tuple[Sequence[ItemModel], dict[str, list[str]]]:
    if not GSM8K.is_dir():
        pytest.skip("needs ../shared/data/education/gsm8k")
    lines = (GSM8K / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    names = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    ours = [one for one in convert_file(GSM8K / "test.jsonl", split="test").models if not unsound(one)]
    book = {one["question"]: [one[name]["solution"] for name in names] for one in found}
    return ours, book


def by_recording(book: dict[str, list[str]], which: int | None) -> AskedTeacher:
    """GPT-3's recorded solutions (Cobbe et al., 2021) in the place of a live solver: one model's, or all four's in the
    place of four answers."""

    def answers(prompts: Sequence[Prompt]) -> Iterator[Completion]:
        for prompt in prompts:
            said = book[problem_in(prompt.messages)]
            yield Completion(prompt.id, said[prompt.sample if which is None else which])

    return AskedTeacher("GPT-3, recorded", "f", answers)


def test_recorded_gpt3_is_marked_as_its_authors_marked_it_and_passes_peoples_problems_as_often_as_it_solves_them(
    recorded: tuple[Sequence[ItemModel], dict[str, list[str]]],
) -> None:
    ours, book = recorded
    assert len(ours) > 500
    best = Solver(by_recording(book, 3), redrawn=0).verdicts(ours)
    share = sum(one.outcome == AGREES for one in best.values()) / len(ours)
    assert 0.55 < share < 0.75, "no recorded model of 2021 is a solver that reaches 90%"
    majority = Solver(by_recording(book, None), redrawn=0, solvings=4).verdicts(ours)
    outcomes = Counter(one.outcome for one in majority.values())
    assert outcomes[AGREES] < sum(one.outcome == AGREES for one in best.values())
    assert outcomes[UNDECIDED] > outcomes[DISAGREES], "where the four split, nobody decides"


def test_a_row_with_a_wrong_key_is_refused_by_who_solves_it(
    recorded: tuple[Sequence[ItemModel], dict[str, list[str]]],
) -> None:
    _, book = recorded
    question = next(iter(book))
    wrong = "She eats 16-3-4 = <<16-3-4=9>>9 eggs.\nShe makes 9+2 = $<<9+2=11>>11.\n#### 11"
    model = convert_row("wrong", question, wrong)
    assert Solver(by_recording(book, 3), redrawn=0).verdicts([model])["wrong"].outcome == DISAGREES
