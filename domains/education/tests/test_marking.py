"""Marking: equivalent forms and units, and the first wrong line of a working, in both languages."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit_education.items import Item, digest
from toolkit_education.marking import RIGHT, UNIT_MISSING, UNREADABLE, WRONG, mark
from toolkit_education.working import first_wrong_step


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
        *(("1200", text) for text in ("1200", "1,200", "1200.0", "１２００", "1，200", "= 1200", "answer: 1200")),
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


RIGHT_FORMS = {
    "5 ": "5|5.|+5|five|5 carrots|Mia has 5 carrots left.|x = 5|5 = x|A: 5|12 - 7 = 5|5.0|五|5根|5根胡萝卜|一共5根",
    "-5 ": "-5|–5|－5|− 5|- 5|minus five|negative 5|负5|负五",
    "21 ": "21|twenty-one|twenty one|二十一|二十一根",
    "-21 ": "负二十一|- 21|minus twenty-one",
    "12000 ": "12,000|12 000|12\u202f000|12000|twelve thousand|12 thousand|1.2万|一万二千|１２０００",
    "120 ": "120|一百二十|one hundred and twenty|10 dozen",
    "2/3 ": "2/3|2 / 3|２／３|2÷3|2 out of 3|三分之二|two thirds|two-thirds|⅔|4/6|2 in 3",
    "1/2 ": "1/2|0.5|.5|½|50%|50 percent|half|one half|a half|二分之一|一半|百分之五十|point five|零点五|five tenths",
    "31/2 ": "15.5|15 ½|15½|15 1/2|15 and 1/2|15,50|fifteen and a half|fifteen point five|十五点五|15又1/2|31/2",
    "7/2 hour": "3.5 hours|3 and a half hours|3½ h|3h30min|3 hours 30 minutes|3 h, 30 min|三个半小时|3小时30分|210 min",
    "1/2 hour": "half an hour|半小时|30 minutes|半个小时",
    "18 m2": "18 m2|18 m^2|18 m²|18㎡|180000 cm2|18 sq m|18 sq. m|18 square metres"
    "|18 meters squared|18平方米|十八平方米",
    "8 cm3": "8 cm3|8 cm^3|8 cm³|8 cubic cm|8 cm cubed|8 ml|8立方厘米",
    "31/2 $": "$15.50|$ 15.5|15.5 dollars|15 dollars and 50 cents|1550 cents|$15.50 dollars"
    "|15,50 $|15 dollars 50 cents",
    "19/2 元": "9.5元|9元5角|9元五角|9块5毛|9块五毛|9块5|9块五|九元五角|¥9.50|人民币9.5元|￥9.5|9.5 yuan|950分|9.5块钱",
    "60 km_per_hour": "60 km/h|60 km per hour|60千米/时|60 kmh|60公里每小时",
    "45 degree": "45°|45 degrees|45度|四十五度",
}
WRONG_FORMS = {
    "5 ": "-5|–5|－5|- 5|minus five|negative 5|point five|five hundredths|five thirds|5 hundredths|500%|负五|6|五分之一"
    "|5 kg|5 hours|$5|5元|五千克|5 thousand|5 dozen|1/5|15/2|5小时",
    "21 ": "负二十一|- 21|-21|twenty|12|21%|二十",
    "2/3 ": "3/2|two|三分之一|2/3 kg|2/3 $|23|三又三分之二",
    "31/2 $": "€15.5|£15.5|15.5 euros|15.5 pounds|1550%|15.5%|15.5 kg|15.5 cents|¥15.5|15.5元|$-15.5",
    "19/2 元": "9元|9块|9角5分|$9.5|9.5美元|9.5角|9.5%|9块6|950元",
    "18 m2": "18 m|18 cm2|18 m3|18 cubic meters|18 m^3|18 kg|18米|18平方厘米",
    "7/2 hour": "3.5 minutes|3 hours|3 hours 50 minutes|3小时50分|3.5 km|3.5%",
}
NO_ANSWER = {
    "5 ": "no idea|not 5|isn't 5|about 5|5 or 6|5 and 6|5, 6|5 elephants|5只大象|不是5|5或6|大约5|x|?|5-|--5"
    "|5 5|x-5|1e5"
    "|±5|5^2|5 two three|two three|3:4|more than 5|at least 5|x = 5, y = 6|x + 3 = 5|2x = 5|五六|二三|less than 5"
    "|not five|5/0|answer - 5",
    "7705 ": "7.705|7,7,05|77 05",
    "31/2 ": "15,60|15.5.1|15..5",
    "7/2 hour": "30 minutes 3 hours|3 hours 3 hours|3 hours 30|3 hours 2 kg",
    "18 m2": "18 km squared",
}


def rows(table: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(*asked.split(" "), text) for asked, texts in table.items() for text in texts.split("|")]  # type: ignore[misc]


def carrots(answer: str, unit: str, language: str) -> Item:
    problem = {"en": "Mia has carrots. How much is left?", "zh": "小雨有一些胡萝卜，还剩下多少？"}[language]
    made = item(answer, unit=unit, language=language, problem=problem)
    return dataclasses.replace(made, steps=())


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("table", "verdict"),
    [(RIGHT_FORMS, RIGHT), (WRONG_FORMS, WRONG), (NO_ANSWER, UNREADABLE)],
    ids=[RIGHT, WRONG, "not"],
)
def test_ordinary_forms_are_read_and_doubtful_ones_are_not(table: dict[str, str], verdict: str, language: str) -> None:
    for answer, unit, text in rows(table):
        asked = carrots(answer, unit, language)
        own = "zh" if re.search("[\u4e00-\u9fff]", text) else "en"
        if own == language or not re.search(
            "carrots|Mia|胡萝卜", text
        ):  # the other language's nouns are not the item's
            assert mark(asked, text).verdict == verdict, (answer, unit, text)


def test_a_unit_that_the_question_or_the_solution_gives_counts_where_the_item_has_none() -> None:
    asked = item("6", problem="Mia reads 30 pages. How many days does she need?")
    assert [mark(asked, text).verdict for text in ("6 days", "6", "6 hours")] == [RIGHT, RIGHT, WRONG]
    said = dataclasses.replace(item("6", problem="How long does it take?"), steps=("It takes 30 / 5 = 6 hours.",))
    assert [mark(said, text).verdict for text in ("6 hours", "6 kg")] == [RIGHT, WRONG]
    coins = item("5", problem="Leo has 125 cents in quarters. How many coins are these?")
    assert mark(coins, "5 quarters").verdict == RIGHT


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
