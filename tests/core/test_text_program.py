"""The teacher `program`: exact answers, a checker for those of others, and answers that try to do more than answer."""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.distil.answers import answered
from toolkit.errors import DataError, EnvironmentUnfit, PlanError
from toolkit.plan import Plan
from toolkit.resolve import Layer, resolve
from toolkit.text import Completion, Prompt

pytest.importorskip("reasoning_gym", reason="it needs a C compiler to install")
pytest.importorskip("toolkit_teacher_program")

from toolkit_teacher_program import ProgramSettings, ProgramTeacher, verify
from toolkit_teacher_program.exam import NOT_OFFERED, Exam, Task
from toolkit_teacher_program.verify import OF_FORMULAS, OF_LISTS, is_formula, is_list

EVALUATING = OF_FORMULAS | OF_LISTS


def plan_of(*tasks: str, **settings: Any) -> Plan:
    table = {"size": 20, **({"tasks": tasks} if tasks else {}), **settings}
    return resolve(
        [Layer("test", {"domain": "mine", "teacher_program": table})], {"teacher_program": ProgramSettings}
    ).plan


def task_of(name: str, size: int = 3) -> Task:
    exam = Exam([name], size, 7, {})
    return exam.item(exam.prompts()[0])[0]


def test_the_answers_are_right_by_our_own_arithmetic() -> None:
    teacher, plan = ProgramTeacher(), plan_of()
    prompts = teacher.prompts(plan)
    answers = list(teacher.answers(plan, prompts))
    assert len(answers) == 20
    for prompt, answer in zip(prompts, answers, strict=True):
        numbers = re.findall(r"(?:^|[+-]) ?\d+", prompt.messages[0].content.partition(": ")[2].removesuffix(" ="))
        assert int(answer.text) == sum(int(number.replace(" ", "")) for number in numbers)


def test_the_same_settings_give_the_same_questions_and_others_give_others() -> None:
    teacher = ProgramTeacher()
    plans = [plan_of(), plan_of(), plan_of(seed=1), plan_of(parameters={"chain_sum": {"min_terms": 7, "max_terms": 8}})]
    first, again, seeded, longer = (tuple(teacher.prompts(plan)) for plan in plans)
    assert first == again
    assert len({first, seeded, longer}) == 3
    assert all(prompt.messages[0].content.count("+") + prompt.messages[0].content.count("-") >= 6 for prompt in longer)
    assert len({teacher.fingerprint(plan) for plan in plans}) == 3


def test_several_tasks_are_mixed_and_each_answer_passes_its_own_checker(tmp_path: Path) -> None:
    teacher, plan = ProgramTeacher(), plan_of("chain_sum", "leg_counting", "countdown", "n_queens", size=4)
    prompts, check = teacher.prompts(plan), teacher.verifier(plan)
    assert len({prompt.id for prompt in prompts}) == 16
    with answered(tmp_path, teacher, plan, prompts) as answers:
        for prompt, answer in zip(prompts, answers, strict=True):
            assert check(prompt, answer.text).score == 1


def test_a_wrong_answer_scores_less_and_the_verdict_says_who_judged() -> None:
    teacher, plan = ProgramTeacher(), plan_of()
    prompt = teacher.prompts(plan)[0]
    wrong = teacher.verifier(plan)(prompt, "no idea")
    assert (wrong.score, wrong.by, wrong.because) == (0.0, "reasoning-gym chain_sum", "not the answer")


def test_a_prompt_may_frame_the_question_but_not_change_it() -> None:
    teacher, plan = ProgramTeacher(), plan_of()
    prompt = teacher.prompts(plan)[3]
    text = prompt.messages[0].content
    framed = Prompt.of(prompt.id, f"Think first.\n{text}", system="You are careful.")
    assert list(teacher.answers(plan, [framed])) == [Completion(prompt.id, *_text(teacher, plan, prompt))]
    for other in (Prompt.of(prompt.id, "1 + 1 ="), Prompt.of("chain_sum-000099", text), Prompt.of("x", text)):
        with pytest.raises(DataError) as refused:
            teacher.check(plan, [prompt, other])
        assert refused.value.hint


def _text(teacher: ProgramTeacher, plan: Plan, prompt: Prompt) -> tuple[str]:
    [answer] = teacher.answers(plan, [prompt])
    return (answer.text,)


def test_a_task_that_states_no_answer_teaches_none_but_checks() -> None:
    teacher, plan = ProgramTeacher(), plan_of("propositional_logic", size=2)
    prompts = teacher.prompts(plan)
    with pytest.raises(DataError, match="states no answer"):
        list(teacher.answers(plan, prompts))
    assert teacher.verifier(plan)(prompts[0], "nonsense").score < 1


BAD = {
    "no task chain_summ": {"tasks": ["chain_summ"]},
    "no task codeio: it runs": {"tasks": ["codeio"]},
    "does not take teacher_program.parameters.chain_sum": {"parameters": {"chain_sum": {"no_such": 1}}},
    "min_terms must be positive|does not take": {"parameters": {"chain_sum": {"min_terms": -1}}},
    "is for spell_backward": {"parameters": {"spell_backward": {}}},
}


@pytest.mark.parametrize("says", BAD)
def test_tasks_and_parameters_that_do_not_exist_are_refused(says: str) -> None:
    with pytest.raises(PlanError, match=says) as refused:
        ProgramTeacher().prompts(plan_of(**BAD[says]))
    assert refused.value.hint


def test_the_package_states_licence_and_version() -> None:
    record = ProgramTeacher().record(plan_of())
    assert (record.id, record.licence, record.distillation) == ("reasoning-gym 0.1.25", "Apache-2.0", "allowed")
    assert "Apache License" in record.licence_text


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit_teacher_program.PACKAGE", "no-such-package")
    with pytest.raises(EnvironmentUnfit) as refused:
        ProgramTeacher().fingerprint(plan_of())
    assert "pip install" in refused.value.hint


# --- hostile answers ---------------------------------------------------------------------------------------------

WORDS = re.compile(r"(?<![a-z_])(eval|exec|parse_expr|sympify)\(")


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that Python's `eval` or `exec` is given meanwhile."""
    texts: list[str] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def note(source: Any, *rest: Any) -> Any:
            texts.append(str(source))
            return real(source, *rest)

        return note

    monkeypatch.setattr(builtins, "eval", watched(eval))
    monkeypatch.setattr(builtins, "exec", watched(exec))
    return texts


def test_the_list_of_checkers_that_evaluate_is_complete(evaluated: list[str]) -> None:
    """Each task whose module mentions evaluation is handed a probe; those that evaluate it are those listed."""
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    suspects = [
        name
        for name, (kind, _) in DATASETS.items()
        if name not in NOT_OFFERED and WORDS.search(Path(reasoning_gym.__path__[0], *_module(kind)).read_text())
    ]
    found = set()
    for name in suspects:
        task = task_of(name)
        item = task.dataset[0]
        evaluated.clear()
        for probe in ("probe(7)", "[probe]", "probe"):
            task.dataset.score_answer(probe, item)
        if any("probe" in text for text in evaluated):
            found.add(name)
    assert found == EVALUATING


def _module(kind: type) -> list[str]:
    parts = kind.__module__.split(".")[1:]
    return [*parts[:-1], f"{parts[-1]}.py"]


HOSTILE = [
    "__import__('pathlib').Path('{mark}').touch()",
    "[__import__('pathlib').Path('{mark}').touch()]",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    'sin(\'__import__("pathlib").Path("{mark}").touch()\')',
    'x + \'__import__("pathlib").Path("{mark}").touch()\'',
    '\'__import__("pathlib").Path("{mark}").touch()\'',
    "(lambda: open('{mark}', 'w'))()",
    "f\"{{open('{mark}', 'w')}}\"",
    "9**9**9**9",
    "((((9**99)**99)**99)**99)**99",
    "[0] * 10**10",
    "'a' * 10**10",
    "(" * 5000,
    "-" * 100_000 + "1",
    "\x00",
    "1" * 5000,
    "",
]


@pytest.mark.parametrize("name", sorted(EVALUATING))
def test_an_answer_is_never_run(name: str, tmp_path: Path, evaluated: list[str]) -> None:
    task, mark = task_of(name), tmp_path / "mark"
    item = task.dataset[0]
    evaluated.clear()
    began = time.monotonic()
    for text in HOSTILE:
        assert verify(task, item, text.format(mark=mark)) < 0.5
    assert time.monotonic() - began < 5
    assert not mark.exists()
    assert not [text for text in evaluated if "mark" in text or "__" in text or "99" in text]


@pytest.mark.parametrize("name", sorted(EVALUATING))
def test_a_right_answer_in_another_form_is_still_right(name: str) -> None:
    """What the checkers are for: 24 = 4 x 6 however it is written."""
    task = task_of(name)
    for index in range(3):
        item = task.dataset[index]
        answer = str(item["answer"])
        assert verify(task, item, answer) == 1
        rewritten = {
            "countdown": f"({answer}) + 0",
            "puzzle24": f"({answer})",
            "polynomial_multiplication": f"0 + {answer}",
            "simple_integration": answer.replace("+ C", "+ C + 5"),
            "intermediate_integration": answer.replace("+ C", "+ 3 + C"),
        }.get(name)
        assert rewritten is None or is_formula(rewritten)
        if name in ("polynomial_multiplication", "simple_integration", "intermediate_integration"):
            assert verify(task, item, str(rewritten)) == 1


FORMULAS = {
    "3 * (4 + 4) - 7 / 2", "x**3/3 - 5*x**(1/2) + sin(2*x) + C", "(x**2)**3", "10**19", "-x", "2.5",
}  # fmt: skip
LISTS = {"['A', 'B']", "[[0, 1], [1, 2]]", "('a', 1)", "[]"}
NEITHER = {
    "((x**2)**2)**2", "x**100", "x**x", "x^2", "open(x)", "sin(x, y)", "sin(x=1)", "x.y", "sin('x')", "lambda: 1",
    "1 if x else 2", "x == 1", "xy", "1; 2", "1\n2", "{1: 2}", "[x for x in y]", "[-1 * 2]", "f'{x}'", "b'x'",
    "10000000000000000000 + 1", "'a'",
}  # fmt: skip


@pytest.mark.parametrize("text", sorted(FORMULAS | LISTS | NEITHER))
def test_only_plain_formulas_and_lists_are_plain(text: str) -> None:
    assert is_formula(text) is (text in FORMULAS)
    assert is_list(text) is (text in LISTS)


def test_a_checker_that_breaks_over_an_answer_scores_nothing() -> None:
    task = task_of("prime_factorization")
    assert verify(task, task.dataset[0], "not a number at all") == 0
