"""Verification: honest items pass, every planted fault is found by the check that is there for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import pytest

from toolkit.errors import Refused
from toolkit_education.generators import models
from toolkit_education.items import Constraint, Item, ItemModel, Quantity, Step, digest, draw, render
from toolkit_education.suitability import banned_in, reading, too_hard
from toolkit_education.verify import CHECKS, numbers_in, symbolic_answer, verified, verify

F = Fraction
MODEL = ItemModel(
    id="pens",
    skill="two_step_problems",
    level=2,
    language="en",
    theme="",
    text="Ann walks {a} km in the morning and {b} km at noon, 3 times a week. How many kilometers is that a week?",
    quantities=(
        Quantity("a", F(5), "km", F(2), F(20), F(1)),
        Quantity("b", F(7), "km", F(2), F(20), F(1)),
    ),
    steps=(
        Step("day", "a + b", "On a day she walks {a} + {b} = {day} km.", "km"),
        Step("week", "day * 3", "In a week she walks {day} * 3 = {week} km.", "km"),
    ),
    answer="week",
    constraints=(Constraint("b - a", "positive"),),
    source="hand",
    licence="CC0-1.0",
)
ITEM = render(MODEL, MODEL.original())


def changed(**fields: object) -> Item:
    """The item with other fields and, so that only the fault itself is found, a fitting id."""
    item = dataclasses.replace(ITEM, **fields)  # type: ignore[arg-type]
    return dataclasses.replace(item, id=digest(item))


def replaced(**fields: object) -> ItemModel:
    return dataclasses.replace(MODEL, **fields)  # type: ignore[arg-type]


def values(**other: int) -> Mapping[str, Fraction]:
    return MappingProxyType(dict(ITEM.values) | {name: F(value) for name, value in other.items()})


def codes(item: Item, model: ItemModel = MODEL) -> set[str]:
    return {finding.code for finding in verify(item, model)}


def test_an_honest_item_passes_and_bears_its_checks() -> None:
    assert verify(ITEM, MODEL) == ()
    assert verified(ITEM, MODEL).checks == ("belongs", *CHECKS, "words")
    assert verified(ITEM, MODEL).id == ITEM.id


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (dataclasses.replace(ITEM, id="0" * 20), {"belongs"}),
        (changed(level=3), {"belongs"}),
        (changed(values={"a": F(5)}), {"belongs"}),
        (changed(answer=F(37)), {"computed", "symbolic"}),
        (changed(values=values(week=37), answer=F(37)), {"computed", "symbolic", "solution"}),
        (changed(values=values(day=13)), {"computed", "solution"}),
        (changed(problem=ITEM.problem.replace("5 km", "6 km")), {"read_back"}),
        (changed(problem=ITEM.problem.replace(" and 7 km at noon", "")), {"read_back"}),
        (changed(problem=ITEM.problem + " She is 7."), {"read_back"}),
        (changed(problem=ITEM.problem.replace("Ann", "Eve")), {"read_back"}),
        (changed(steps=(ITEM.steps[0].replace("12", "13"), ITEM.steps[1])), {"solution"}),
        (changed(steps=ITEM.steps[:1]), {"solution"}),
        (changed(unit="m"), {"units"}),
        (render(MODEL, {"a": F(7), "b": F(5)}), {"fits"}),
        (render(MODEL, {"a": F(5), "b": F(30)}), {"fits"}),
        (render(MODEL, {"a": F(1), "b": F(5)}), {"fits"}),
        (render(MODEL, {"a": F(5, 2), "b": F(15, 2)}), {"fits"}),
    ],
)
def test_a_fault_is_found_by_its_check(item: Item, found: set[str]) -> None:
    assert codes(item) == found
    with pytest.raises(Refused):
        verified(item, MODEL)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (replaced(text=MODEL.text.replace("Ann walks", "Ann carries a gun")), {"words"}),
        (replaced(skill="juggling"), {"level"}),
        (replaced(skill="addition", level=1), {"level"}),
        (replaced(text=MODEL.text + " Ann talks of it on and on." * 30), {"readable"}),
        (replaced(text=MODEL.text.replace("{a} km", "a {a}-km path", 1) + " It is an 5-km path."), {"readable"}),
        (replaced(quantities=(MODEL.quantities[0], dataclasses.replace(MODEL.quantities[1], unit="m"))), {"units"}),
        (replaced(quantities=(MODEL.quantities[0], dataclasses.replace(MODEL.quantities[1], unit="hour"))), {"units"}),
        (replaced(steps=(MODEL.steps[0], Step("week", "day * 3", "That is {week} km, 9 more.", "km"))), {"solution"}),
    ],
)
def test_a_models_own_fault_is_found(model: ItemModel, found: set[str]) -> None:
    assert codes(render(model, model.original()), model) == found


def test_a_site_may_forbid_more_words() -> None:
    assert [finding.code for finding in verify(ITEM, MODEL, banned=("noon",))] == ["words"]


def test_division_by_zero_in_a_step_is_found() -> None:
    steps = (MODEL.steps[0], Step("week", "day * 3 / (a - 5)", "{week}", "km"))
    broken = dataclasses.replace(MODEL, steps=steps)
    assert {"computed", "symbolic"} <= codes(ITEM, broken)


def test_the_second_way_is_independent_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first evaluator broken, the symbolic one still finds the wrong answer."""
    monkeypatch.setattr("toolkit_education.verify.evaluate", lambda expression, names: names["week"])
    wrong = changed(answer=F(37), values=values(day=37, week=37))
    assert "symbolic" in codes(wrong)


@pytest.mark.parametrize(
    ("skill", "name"),
    [
        ("greatest_common_factor", "parcels"),
        ("least_common_multiple", "bells"),
        ("remainders", "needed"),
        ("data_range", "visitors"),
        ("fraction_addition", "sum"),
    ],
)
def test_the_second_way_knows_every_function(skill: str, name: str) -> None:
    model = next(one for one in models(skill, 4, "en", "art") if f"/{name}/" in one.id)
    for seed in range(10):
        item = draw(model, seed)
        quantities = {quantity.name: item.values[quantity.name] for quantity in model.quantities}
        assert symbolic_answer(model, quantities) == item.answer


def test_numbers_are_read_back_one_by_one() -> None:
    assert numbers_in("1,200 apples, 3/4 of 2.50 and 3:15") == {
        F(1200): 1, F(3): 2, F(4): 1, F(5, 2): 1, F(15): 1
    }  # fmt: skip


def test_reading_grade_by_hand() -> None:
    # 10 words in 2 sentences, 12 syllables (moth-er, sev-en): 0.39 * 5 + 11.8 * 1.2 - 15.59 = 0.52
    found = reading("Ann has ten red pens. Her mother has seven pens.", "en")
    assert (found.length, found.longest) == (10, 5)
    assert found.grade == pytest.approx(0.52)
    assert reading("小明有3支笔。小红比小明多2支，她有多少支？", "zh").length == 17


def test_long_and_hard_texts_are_refused() -> None:
    assert too_hard("One two three. " * 60, "en", 5)
    assert too_hard("很" * 61, "zh", 5)
    hard = "Institutional heterogeneity necessitates multidimensional epistemological considerations."
    assert "grade" in too_hard(hard, "en", 1)
    assert too_hard("Ann has ten pens. How many has she?", "en", 1) == ""


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("He drinks Beer.", "en", ("Beer",)),
        ("She begun to assassinate class assets in Essex.", "en", ()),
        ("两个赌徒", "zh", ("赌",)),
        ("The skilled engineer has a cartoon and warm food.", "en", ()),
        ("小红买了两支铅笔。", "zh", ()),
    ],
)
def test_banned_words_match_whole(text: str, language: str, found: tuple[str, ...]) -> None:
    assert banned_in(text, language) == found
