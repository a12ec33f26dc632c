"""Item models and items: computed, drawn by seed within their constraints, and carried through JSON."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import pytest

from toolkit.errors import DataError
from toolkit_education.items import Constraint, ItemModel, Quantity, Step, articles_agree, as_record, draw, render
from toolkit_education.records import item_from_record, model_from_record, validate
from toolkit_education.templates import fill, placeholders
from toolkit_education.wording import in_words, mentions, read_words


def quantity(name: str, value: int, low: int, high: int, step: int = 1, unit: str = "") -> Quantity:
    return Quantity(name, Fraction(value), unit, Fraction(low), Fraction(high), Fraction(step))


MODEL = ItemModel(
    id="clips",
    skill="two_step_problems",
    level=2,
    language="en",
    theme="",
    text="Natalia sold {a} clips in an {b}-hour fair, and half as many in May. How many clips did she sell an hour?",
    quantities=(quantity("a", 48, 10, 99), quantity("b", 8, 2, 12, unit="hour")),
    steps=(
        Step("half", "a/2", "In May she sold {a}/2 = {half} clips.", ""),
        Step("both", "a + half", "", ""),
        Step("rate", "both/b", "She sold {a} + {half} = {both} clips, {both}/{b} = {rate} an hour.", ""),
    ),
    answer="rate",
    constraints=(Constraint("half - b", "positive"),),
    source="hand",
    licence="CC0-1.0",
)


def test_an_item_is_computed_from_its_quantities() -> None:
    item = render(MODEL, MODEL.original())
    assert item.problem.startswith("Natalia sold 48 clips in an 8-hour fair")
    assert item.steps == ("In May she sold 48/2 = 24 clips.", "She sold 48 + 24 = 72 clips, 72/8 = 9 an hour.")
    assert item.answer == 9
    assert dict(item.values) == {"a": 48, "b": 8, "half": 24, "both": 72, "rate": 9}


def test_draws_follow_from_the_seed_and_keep_every_constraint() -> None:
    drawn = [draw(MODEL, seed) for seed in range(40)]
    assert drawn == [draw(MODEL, seed) for seed in range(40)]
    assert len({item.id for item in drawn}) > 5
    for item in drawn:
        a, b = item.values["a"], item.values["b"]
        assert (a, b) != (48, 8)
        assert item.answer == a * Fraction(3, 2) / b
        assert item.answer.denominator == 1
        assert a / 2 > b
        assert b in (8, 11)  # the text says "an"
        assert 1 not in item.values.values()


def test_numbers_that_cannot_be_found_are_an_error_after_bounded_tries() -> None:
    narrow = dataclasses.replace(MODEL, constraints=(Constraint("0 - a", "positive"),))
    with pytest.raises(DataError, match="no numbers fit"):
        draw(narrow, 0, tries=20)
    fixed = dataclasses.replace(MODEL, quantities=(quantity("a", 48, 48, 48), quantity("b", 8, 8, 8)))
    with pytest.raises(DataError, match="no numbers fit"):
        draw(fixed, 0)


def test_narrow_constraints_are_met_by_walking_from_the_original() -> None:
    terms = [quantity(name, 12, 2, 400) for name in "abcde"]
    steps = tuple(Step(f"s{n}", f"{q.name}/12", "", "") for n, q in enumerate(terms))
    model = dataclasses.replace(MODEL, text="{a} {b} {c} {d} {e}", quantities=tuple(terms), steps=steps, answer="s0")
    model = dataclasses.replace(model, constraints=())
    assert all(value % 12 == 0 for name, value in draw(model, 3).values.items() if name in "abcde")


@pytest.mark.parametrize(
    ("text", "agree"),
    [
        ("an 8-hour day, a 10-hour day, an 11, a 110, an 80-page, an 11,000", True),
        ("an eight-hour day and a one-way trip", True),
        ("a 8-hour day", False),
        ("an 10-hour day", False),
        ("A 18-year-old", False),
        ("an 110", False),
    ],
)
def test_articles_before_numbers(text: str, agree: bool) -> None:
    assert articles_agree(text) is agree


def test_records_come_back_through_json() -> None:
    model = model_from_record(json.loads(json.dumps(as_record(MODEL))))
    assert model == MODEL
    item = draw(MODEL, 1)
    assert item_from_record(json.loads(json.dumps(as_record(item)))) == item


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"level": 7}, "level"),
        ({"level": True}, "level"),
        ({"text": 3}, "text"),
        ({"text": "{a} {nobody}"}, "text uses nobody"),
        ({"answer": "nothing"}, "answer"),
        ({"language": "fr"}, "language"),
        ({"extra": 1}, "extra"),
        ({"quantities": [{"name": "a"}]}, r"quantities\[0\]: field unit is missing"),
        ({"quantities": "a"}, "quantities is not a list"),
        (
            {"steps": [{"name": "s", "expression": "a/zero", "words": "", "unit": ""}]},
            r"steps\[0\].expression uses zero",
        ),
        ({"constraints": [{"expression": "a", "must": "prime"}]}, r"constraints\[0\].must"),
    ],
)
def test_the_field_that_is_wrong_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(DataError, match=named):
        model_from_record(as_record(MODEL) | change)


def test_a_range_without_its_value_and_a_name_defined_twice_are_refused() -> None:
    with pytest.raises(DataError, match=r"quantities\[0\]\.value"):
        validate(dataclasses.replace(MODEL, quantities=(quantity("a", 5, 10, 20), MODEL.quantities[1])))
    with pytest.raises(DataError, match="defined twice"):
        validate(dataclasses.replace(MODEL, quantities=(MODEL.quantities[0], MODEL.quantities[0])))


def test_a_changed_item_is_not_read_back() -> None:
    record = as_record(draw(MODEL, 1)) | {"answer": "7/2"}
    with pytest.raises(DataError, match="id is not the digest"):
        item_from_record(record)
    with pytest.raises(DataError, match=r"values\.a"):
        item_from_record(as_record(draw(MODEL, 1)) | {"values": {"a": "many"}})


def test_placeholders_have_forms() -> None:
    values = {"a": Fraction(3), "b": Fraction(5, 2), "c": Fraction(15000), "d": Fraction(25)}
    text = "{a:W} {a:w} {b} {b:.2} {b:f} {b:m} {c} {c:p} {c:,} {d:w}"
    assert fill(text, values, "en") == "Three three 2.5 2.50 5/2 2 1/2 15,000 15000 15,000 twenty-five"
    assert placeholders("{a:w} and {b}") == ("a", "b")
    for wrong in ("{e}", "{a:q}", "{a", "{b:.0}", "{b:w}"):
        with pytest.raises(DataError):
            fill(wrong, values, "en")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_number_words_are_read_as_they_are_written(language: str) -> None:
    for value in (*range(1, 130), 200, 305, 999, 1000, 1010, 2345, 10000, 10500, 120034, 999999):
        assert read_words(in_words(Fraction(value), language), language) == value


def test_numbers_are_found_in_text() -> None:
    found = mentions("On the 2nd at 7:30, twenty-five boys paid $1,200.50, 1/2 of 3 1/4 and two hundred.", "en")
    assert [(m.shape, m.value) for m in found] == [
        ("ordinal", 2),
        ("time", 450),
        ("words", 25),
        ("decimal", Fraction("1200.5")),
        ("fraction", Fraction(1, 2)),
        ("mixed", Fraction(13, 4)),
        ("words", 200),
    ]
    assert [m.value for m in mentions("小红有3.5元，两个朋友各有二十五元，一共买了12本。", "zh")] == [
        Fraction(7, 2),
        2,
        25,
        12,
    ]
