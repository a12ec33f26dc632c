"""GSM8K's rows as item models: what is converted computes and reads as the original; what is in doubt is left out."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit_education.gsm8k import Converted, convert_file, convert_row
from toolkit_education.gsm8k_ranges import free_range
from toolkit_education.gsm8k_reading import LeftOut
from toolkit_education.items import ItemModel, draw, render
from toolkit_education.records import validate
from toolkit_education.verify import symbolic_answer, verify

GSM8K = Path(__file__).parents[4] / "shared/data/education/gsm8k/train.jsonl"
WANTED = 4500
needs_data = pytest.mark.skipif(not GSM8K.is_file(), reason="needs shared/data/education/gsm8k/train.jsonl")


def converted(question: str, *lines: str, final: str) -> ItemModel:
    return convert_row("row", question, "\n".join((*lines, f"#### {final}")))


CLIPS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)


def test_a_row_becomes_a_program() -> None:
    model = converted(
        CLIPS,
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.",
        "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.",
        final="72",
    )
    assert model.text == CLIPS.replace("48", "{q0}")
    assert [(step.name, step.expression) for step in model.steps] == [("r0", "q0/2"), ("r1", "q0 + r0")]
    assert model.steps[0].words == "Natalia sold {q0}/2 = {r0} clips in May."
    assert (model.skill, model.answer, model.source, model.licence) == ("two_step_problems", "r1", "gsm8k", "MIT")
    item = render(model, {"q0": Fraction(30)})
    assert item.answer == 45
    assert item.steps[1] == "Natalia sold 30+15 = 45 clips altogether in April and May."


def test_percentages_money_and_number_words() -> None:
    model = converted(
        "A $1,200.50 bike is sold at 20% off. How much is the discount on three bikes?",
        "One discount is 1,200.50*.2 = $<<1200.50*.2=240.1>>240.1.",
        "Three of them are 3*240.1 = $<<3*240.1=720.3>>720.3.",
        final="720.3",
    )
    assert model.text == "A ${q0:,.2} bike is sold at {q1}% off. How much is the discount on three bikes?"
    assert [step.expression for step in model.steps] == ["q1/100", "q0*p1", "3*r0"]
    assert [quantity.unit for quantity in model.quantities] == ["$", "%"]
    assert model.unit == "$"


def test_an_unmarked_equation_is_read_and_a_lone_mark_completed() -> None:
    model = converted(
        "Ann has 14 pens and 5 boxes with 7 pens in each. How many pens does she have?",
        "The boxes hold 5*7 = 35 pens.",
        "She has 14+35 = <<49=49>>49 pens.",
        final="49",
    )
    assert [step.expression for step in model.steps] == ["q1*q2", "q0 + r0"]


@pytest.mark.parametrize(
    ("question", "lines", "final", "reason"),
    [
        ("Ann has 12 pens.", ["She has 12."], "12", "no mark"),
        ("Ann has 12 {pens}.", ["<<12+1=13>>13"], "13", "braces"),
        ("Ann has 12 pens.", ["<<12+5=17>>17"], "17", "from nowhere"),
        ("Ann has 10 pens for 3 boys.", ["10/3 = <<10/3=3.33>>3.33"], "3.33", "rounded"),
        ("Ann has 12 pens and 5 cups.", ["<<12+5=17>>17", "<<17-5=12>>12"], "17", "last mark is not"),
        ("Ann has 12 pens, 5 cups and 30 mats.", ["12+5 = <<12+5=17>>17"], "17", "question is not used"),
        ("Ann has 12 pens and 5 cups.", ["12+5 = <<12+5=17>>17, and 9 more"], "17", "words comes from nowhere"),
        ("Ann has two pens and two cups.", ["2+2 = <<2+2=4>>4"], "4", "nothing can be drawn"),
        ("Ann has 12 pens and 05 cups.", ["12+5 = <<12+5=17>>17"], "17", "way of its own"),
        ("Ann has 12 pens.", ["<<12+=13>>13"], "13", "cannot be read"),
        ("Ann eats a 8 oz pie and 12 oz of jam.", ["8+12 = <<8+12=20>>20"], "20", "article"),
        # 12 is a quantity and the first result: which one divides, and which one is left?
        (
            "Ann has 12 pens, 4 bags with 3 cups in each, and 60 mats.",
            ["3*4 = <<3*4=12>>12", "60/12 = <<60/12=5>>5", "12-5 = <<12-5=7>>7"],
            "7",
            "two readings of equal numbers",
        ),
        # Both readings compute the same, but the words tell the two tens apart and the row does not say how.
        (
            "Jen has 40 bottles and sells a quarter for 10 cents each. How much does she get?",
            ["She sells 40/4 = <<40/4=10>>10 bottles.", "10 bottles * 10 cents = <<10*10=100>>100 cents."],
            "100",
            "two readings of equal numbers in the words",
        ),
    ],
)
def test_a_row_in_doubt_is_left_out_for_a_reason(question: str, lines: list[str], final: str, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        converted(question, *lines, final=final)


def test_equal_numbers_and_numbers_said_in_words_stay_as_they_are() -> None:
    model = converted(
        "Kim has 30 pens, 2 pencils and twice as many cups as pencils. How many things does she have?",
        "She has 2*2 = <<2*2=4>>4 cups.",
        "She has 30+2+4 = <<30+2+4=36>>36 things.",
        final="36",
    )
    assert model.text.startswith("Kim has {q0} pens, 2 pencils")
    assert [quantity.value for quantity in model.quantities] == [30]


def test_what_adds_up_or_is_listed_stays_as_it_is() -> None:
    model = converted(
        "There are 26 pupils, 12 boys and 14 girls. Each boy has 4 pens and each girl has 6 pens. How many pens?",
        *("12*4 = <<12*4=48>>48", "14*6 = <<14*6=84>>84", "48+84 = <<48+84=132>>132", "132-26 = <<132-26=106>>106"),
        final="106",
    )
    assert {quantity.value for quantity in model.quantities} == {4, 6}
    with pytest.raises(LeftOut, match="nothing can be drawn"):
        converted("He has 3 pets: a cat, a dog and a bird. Triple it.", "3*3 = <<3*3=9>>9", final="9")


@pytest.mark.parametrize(
    ("value", "after", "low", "high", "step"),
    [
        (48, " friends", 24, 96, 1),
        (2000, " dollars", 1000, 4000, 100),
        (5, " days a week", 3, 7, 1),
        (5, " pens", 3, 10, 1),
        (2, " pens", 2, 5, 1),
        (60, "% of them", 30, 95, 5),
        (80, "% of them", 40, 95, 5),
        ("2.5", " kg", "1.25", 5, "0.1"),
    ],
)
def test_ranges_stay_plausible(value: str | int, after: str, low: str | int, high: str | int, step: str | int) -> None:
    found = free_range(Fraction(value), after)
    assert found.low <= Fraction(value) <= found.high
    assert ((Fraction(value) - found.low) / found.step).denominator == 1
    assert found.low >= Fraction(low)
    assert found.high <= Fraction(high)
    assert found.step == Fraction(step)


def test_a_file_that_is_not_gsm8k_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not here"):
        convert_file(tmp_path / "none.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n[]\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        convert_file(tmp_path / "rows.jsonl")


@lru_cache(maxsize=1)
def everything() -> Converted:
    return convert_file(GSM8K)


@lru_cache(maxsize=1)
def rows() -> dict[str, tuple[str, str]]:
    lines = GSM8K.read_text(encoding="utf-8").splitlines()
    found = (json.loads(line) for line in lines)
    return {f"gsm8k-train-{n:05d}": (row["question"], row["answer"]) for n, row in enumerate(found, start=1)}


@needs_data
def test_at_least_4500_training_rows_convert() -> None:
    found = everything()
    print(len(found.models), dict(found.left_out))
    assert len(found.models) >= WANTED
    assert len(found.models) + sum(found.left_out.values()) == len(rows()) == 7473
    assert len({model.id for model in found.models}) == len(found.models)


@needs_data
def test_each_reproduces_its_row_and_its_answer() -> None:
    """Against the file itself, by another way than the converter's: text, worked answer and final number."""
    for model in everything().models:
        question, answer = rows()[model.id]
        item = render(validate(model), model.original())
        body, _, final = answer.rpartition("####")
        assert item.problem == question
        assert "\n".join(item.steps) == re.sub(r"<<[^>]*>>", "", body).rstrip()
        assert item.answer == Fraction(final.strip().replace(",", ""))
        assert symbolic_answer(model, model.original()) == item.answer


@needs_data
def test_every_mark_is_one_of_the_steps() -> None:
    for model in everything().models:
        results = Counter(render(model, model.original()).values[step.name] for step in model.steps)
        marks = re.findall(r"<<[^<>=]*=([^<>=]*)>>", rows()[model.id][1])
        assert not Counter(Fraction(mark.replace(",", "")) for mark in marks) - results


@needs_data
def test_what_is_drawn_from_them_is_verified() -> None:
    sample = random.Random(5).sample(everything().models, 500)
    codes, undrawn, served = Counter[str](), 0, 0
    for model in sample:
        try:
            item = draw(model, 3)
        except DataError:
            undrawn += 1
            continue
        found = verify(item, model)
        served += not found
        codes.update({finding.code for finding in found})
        assert item.problem != rows()[model.id][0]
        assert 1 not in {item.values[quantity.name] for quantity in model.quantities}
    assert undrawn <= 0.02 * len(sample)
    assert served >= 0.93 * len(sample), codes
    assert not set(codes) & {"belongs", "computed", "symbolic", "read_back", "fits"}, codes
