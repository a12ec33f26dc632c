"""Marking: equivalent forms and units, and the first wrong line of a working, in both languages."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit_education.generators import models
from toolkit_education.items import Item, digest, draw
from toolkit_education.marking import RIGHT, UNIT_MISSING, UNREADABLE, WRONG, first_wrong_step, mark


def item(
    answer: str, *, unit: str = "", language: str = "en", problem: str = "How much is it?", skill: str = "addition"
) -> Item:
    value = Fraction(answer)
    made = Item(
        *("", "model", skill, 2, language, "", problem, ("12 × 3 = 36", "100 - 36 = 64"), value, unit),
        values={"a": Fraction(12), "b": Fraction(3), "c": Fraction(100), "p": Fraction(36), "r": Fraction(64)},
        checks=(),
        source="hand",
    )
    return dataclasses.replace(made, id=digest(made))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        *(("1/2", text) for text in ("0.5", "1/2", "2/4", "50%", "½", ".5", "x = 1/2", "The answer is 0.5.", "50 %")),
        *(
            ("1200", text)
            for text in ("1200", "1,200", "1200.0", "１２００", "1，200", "1200 apples", "= 1200", "answer: 1200")
        ),
        *(("3/2", text) for text in ("1 1/2", "1.5", "3/2", "1½", "150%", "6/4")),
        ("-3", "-3"),
        ("-3", "−3"),
        ("25", "twenty-five"),
    ],
)
def test_equivalent_forms_are_right(answer: str, text: str) -> None:
    assert mark(item(answer), text).verdict == RIGHT


@pytest.mark.parametrize(
    ("answer", "unit", "text", "verdict"),
    [
        ("3/2", "m", "1.5 m", RIGHT),
        ("3/2", "m", "150 cm", RIGHT),
        ("3/2", "m", "150 centimetres", RIGHT),
        ("3/2", "m", "1500mm", RIGHT),
        ("3/2", "m", "1 m 50 cm", RIGHT),
        ("3/2", "m", "1.5", UNIT_MISSING),
        ("3/2", "m", "150", WRONG),
        ("3/2", "m", "1.5 kg", WRONG),
        ("3/2", "m", "1.5 cm", WRONG),
        ("180", "minute", "3 hours", RIGHT),
        ("200", "minute", "3 hours 20 minutes", RIGHT),
        ("200", "minute", "3 h 20 min", RIGHT),
        ("200", "minute", "3 hours 30 minutes", WRONG),
        ("12", "$", "$12.00", RIGHT),
        ("12", "$", "12 dollars", RIGHT),
        ("12", "$", "1200 cents", RIGHT),
        ("12", "$", "12", UNIT_MISSING),
        ("12", "m2", "12 m²", RIGHT),
        ("12", "m2", "120000 cm²", RIGHT),
        ("12", "m2", "12 m", WRONG),
        ("40", "%", "40%", RIGHT),
        ("40", "%", "40 percent", RIGHT),
        ("40", "%", "0.4", WRONG),
        ("40", "", "3 and 4", UNREADABLE),
        ("40", "", "many", UNREADABLE),
        ("40", "", "", UNREADABLE),
        ("40", "", "1,5", UNREADABLE),
        ("40", "", "9" * 500, UNREADABLE),
    ],
)
def test_units_are_converted_and_asked_for(answer: str, unit: str, text: str, verdict: str) -> None:
    assert mark(item(answer, unit=unit), text).verdict == verdict


@pytest.mark.parametrize(
    ("answer", "unit", "text", "verdict"),
    [
        ("180", "minute", "3小时", RIGHT),
        ("180", "minute", "180分钟", RIGHT),
        ("200", "minute", "3小时20分", RIGHT),
        ("200", "minute", "答：200分钟。", RIGHT),
        ("1200", "元", "1200 元", RIGHT),
        ("1200", "元", "¥1,200", RIGHT),
        ("1200", "元", "1200", UNIT_MISSING),
        ("25", "", "二十五", RIGHT),
        ("25", "", "25个", RIGHT),
        ("3/2", "kg", "1500克", RIGHT),
        ("3/2", "kg", "3斤", RIGHT),
        ("3/2", "kg", "1.5米", WRONG),
    ],
)
def test_chinese_answers(answer: str, unit: str, text: str, verdict: str) -> None:
    marking = mark(item(answer, unit=unit, language="zh", problem="是多少？"), text)
    assert marking.verdict == verdict
    assert any("\u4e00" <= sign <= "\u9fff" for sign in marking.reason)


def test_a_unit_that_the_question_names_need_not_be_written() -> None:
    asked = item("90", unit="minute", problem="A film lasts 1 hour and 30 minutes. How many minutes is that?")
    assert mark(asked, "90").verdict == RIGHT
    assert mark(asked, "1.5 hours").verdict == RIGHT
    chinese = item("90", unit="minute", language="zh", problem="电影长1小时30分钟。合多少分钟？")
    assert mark(chinese, "90").verdict == RIGHT


def test_a_unit_may_be_said_as_people_do() -> None:
    assert mark(item("12", unit="year_old", problem="How old is she?"), "12 years").verdict == RIGHT
    asked = item("60", unit="km_per_hour", problem="She rides 120 km in 2 hours. How many kilometers is that per hour?")
    assert [mark(asked, text).verdict for text in ("60", "60 km", "60 km/h", "1 km/h")] == [RIGHT, RIGHT, RIGHT, WRONG]
    chinese = item("60", unit="km_per_hour", language="zh", problem="平均每小时走多少千米？")
    assert [mark(chinese, text).verdict for text in ("60", "60千米", "60千米/时")] == [RIGHT, RIGHT, RIGHT]


def test_a_simplest_form_is_asked_for() -> None:
    simplest = item("2/3", skill="fraction_simplification")
    assert mark(simplest, "2/3").verdict == RIGHT
    assert mark(simplest, "4/6").verdict == WRONG
    assert "simplest" in mark(simplest, "4/6").reason


@pytest.mark.parametrize(
    ("working", "line", "kind"),
    [
        ("12*3=36\n100-36=64", None, ""),
        ("12 x 3 = 36 apples\n$100 - $36 = $64", None, ""),
        ("First 12 apples × 3 = 36 apples.\nThen x = 100 - 36 = 64", None, ""),
        ("12*3=35\n100-35=65", 1, "arithmetic"),
        ("12*3=36\n100-36=74", 2, "arithmetic"),
        ("12*3=36\n\n100-37=63", 3, "number"),
        ("12*4=48", 1, "number"),
        ("12+3=15\n15*3=45", None, ""),
        ("12*3=36=100-36=64", 1, "arithmetic"),
        ("I multiply\n3*12=36; 100-36=63", 3, "arithmetic"),
        ("36% * 100 = 36", None, ""),
        ("1/0 = 5\n12*3=30", 2, "arithmetic"),
        ("no numbers = none", None, ""),
    ],
)
def test_the_first_wrong_line_is_found(working: str, line: int | None, kind: str) -> None:
    found = first_wrong_step(item("64"), working)
    assert (found.line if found else None) == line
    if found:
        assert found.kind == kind
        assert found.explanation.endswith(".")


def test_the_explanation_says_what_is_right() -> None:
    wrong = first_wrong_step(item("64"), "12*3=38")
    assert wrong is not None
    assert (wrong.expected, wrong.explanation) == (36, "12*3 is 36, not 38.")
    chinese = first_wrong_step(item("64", language="zh", problem="是多少？"), "12×3=38个")
    assert chinese is not None
    assert chinese.explanation == "12×3等于36，不是38。"
    strange = first_wrong_step(item("64", language="zh", problem="是多少？"), "100-37=63")
    assert strange is not None
    assert "37" in strange.explanation


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_items_own_solution_is_right_and_a_slip_in_it_is_found(language: str) -> None:
    for model in models("two_step_problems", 3, language, "art"):
        for seed in range(5):
            drawn = draw(model, seed)
            working = "\n".join(drawn.steps)
            assert first_wrong_step(drawn, working) is None
            final = f"= {drawn.answer}"
            assert final in working
            slip = first_wrong_step(drawn, working.replace(final, f"= {drawn.answer + 10}"))
            assert slip is not None
            assert slip.kind == "arithmetic"
            assert slip.line == len(drawn.steps)


PIECES = [*"0123456789.,/%$¥-−½１２ x=()+*÷:\n⁄²e", "元", "小时", "分", "三", "百", "cm", "m²", "hours", "1/2", "1 1/2"]
ANSWERS = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_whatever_is_written_is_marked(text: str) -> None:
    for language in ("en", "zh"):
        asked = item("64", unit="minute", language=language)
        assert mark(asked, text).verdict in (RIGHT, UNIT_MISSING, WRONG, UNREADABLE)
        found = first_wrong_step(asked, text)
        assert found is None or found.explanation
