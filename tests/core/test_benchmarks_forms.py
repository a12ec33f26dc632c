"""Questions put as lm-eval puts them, and answers counted as it counts them: its own rules, worked by hand."""

from __future__ import annotations

import pytest

from toolkit.benchmarks.forms import CHOICE, NUMBER, PROGRAM, Question, program_of

CLIPS = Question("1", "Natalia sold 48 clips, and half as many later. In all?", "48/2 = <<48/2=24>>24\n#### 72")
EGGS = Question("2", "A duck lays 3 eggs a day. In a week?", "3*7 = <<3*7=21>>21\n#### 1,021")
FUNCTION = Question(
    "3", "from math import pi\n\n\ndef area(r):\n    '''Of a circle.'''\n", "def check(f):\n    assert f(1) == pi",
    entry="area",
)  # fmt: skip
CIRCLE = Question("4", " Which is round? ", "B", ("a square", "a circle"), "plane geometry")


def test_a_number_is_asked_behind_worked_examples() -> None:
    assert NUMBER.prompt(CLIPS, []) == f"Question: {CLIPS.asked}\nAnswer:"
    assert NUMBER.prompt(CLIPS, [EGGS]) == (
        f"Question: {EGGS.asked}\nAnswer: {EGGS.key}\n\nQuestion: {CLIPS.asked}\nAnswer:"
    )
    assert NUMBER.cut("#### 72\n\nQuestion: and") == "#### 72\n\n"


@pytest.mark.parametrize(
    ("said", "strict", "loose"),
    [
        ("so\n#### 1,021", True, True),
        ("so\n#### 1021.", True, True),
        ("so #### $1021", False, True),
        ("#### 1021\n#### 3", True, False),
        ("it is 1021 eggs", False, True),
        ("1021 or 3", False, False),
        ("#### 1021.0", False, False),
        ("#### -1021", False, False),
        ("nothing", False, False),
        ("", False, False),
    ],
)
def test_a_number_is_right_as_lm_eval_has_it(said: str, strict: bool, loose: bool) -> None:
    assert NUMBER.judge is not None
    assert NUMBER.judge([EGGS], [said]) == [{"strict_match": strict, "flexible_extract": loose}]


def test_a_choice_is_asked_with_its_letters_and_subject() -> None:
    opening = "The following are multiple choice questions (with answers) about plane geometry.\n\n"
    body = "Which is round?\nA. a square\nB. a circle\nAnswer:"
    assert CHOICE.prompt(CIRCLE, []) == opening + body
    assert CHOICE.prompt(CIRCLE, [CIRCLE]) == f"{opening}{body} B\n\n{body}"


@pytest.mark.parametrize(
    "said",
    [
        "    return pi * r * r\n",
        "def area(r):\n    return pi * r * r\n",
        "Here it is:\n```python\ndef area(r):\n    return pi * r * r\n```\nIt is round.",
        "```\nfrom math import pi\n\ndef area(r):\n    return pi * r * r\n",
    ],
)
def test_a_program_is_what_an_answer_goes_on_with_or_writes_whole(said: str) -> None:
    program = program_of(FUNCTION, said)
    assert program.endswith("check(area)\n")
    exec(compile(program, "answer", "exec"), {})
    with pytest.raises(AssertionError):
        exec(compile(program_of(FUNCTION, said.replace("r * r", "r * 2")), "answer", "exec"), {})


def test_a_program_ends_where_another_begins() -> None:
    assert PROGRAM.prompt(FUNCTION, []) == FUNCTION.asked
    assert PROGRAM.cut("    return 1\n\ndef other():\n    pass") == "    return 1\n"
    assert PROGRAM.cut("    return 1\nprint(area(2))") == "    return 1"
