"""Working: the first wrong line is found, and no right one is ever called wrong, in both languages."""

from __future__ import annotations

from fractions import Fraction

import pytest

from toolkit_education.curriculum import curriculum
from toolkit_education.generators import models
from toolkit_education.items import Item, draw
from toolkit_education.working import first_wrong_step


def item(language: str = "en", problem: str = "") -> Item:
    values = {"a": Fraction(12), "b": Fraction(3), "c": Fraction(100), "p": Fraction(36), "r": Fraction(64)}
    said = (problem, ("12 × 3 = 36", "100 - 36 = 64"), Fraction(64), "", values)
    return Item("id", "model", "addition", 2, language, "", *said, checks=(), source="hand")


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
    found = first_wrong_step(item(), working)
    assert (found.line if found else None) == line
    if found:
        assert found.kind == kind
        assert found.explanation.endswith(".")


def test_the_explanation_says_what_is_right() -> None:
    wrong = first_wrong_step(item(), "12*3=38")
    assert wrong is not None
    assert (wrong.expected, wrong.explanation) == (36, "12*3 is 36, not 38.")
    chinese = first_wrong_step(item("zh"), "12×3=38个")
    assert chinese is not None
    assert chinese.explanation == "12×3等于36，不是38。"
    strange = first_wrong_step(item("zh"), "100-37=63")
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


GOOD = {
    "en": (
        "2x = 22", "x + 34 = 43", "3(x - 2) = 9", "x = 43 - 34 = 9", "1 m = 100 cm", "1 hour = 60 minutes", "7² = 49",
        "7^2 = 49", "2/7 = 16/56 and 3/8 = 21/56", "5 × 10 = 50\n5 × 7 = 35\n50 + 35 = 85", "3 m + 20 cm = 320 cm",
        "3 m × 2 m = 6 m²", "$5 = 500 cents", "3/4 kg = 750 g", "3 m ÷ 5 = 60 cm", "3 km = 3000",
        "2 liters * 20% = .4 liters",
        "The off-road car costs 3*4 = 12", ".5*2 = 1", "(4/8)*100 = 50%", "Area of 1 room = 3 * 4 = 12",
        "28 / 1/5 = 28 * 5 = 140", "$3 in-store + $4 = $7", "half of 12 = 6",
        "30 min × 60 km/h = 30 km", "the sum of 3 and 4 = 7", "17 ÷ 5 = 3 R 2", "17 ÷ 5 = 3 remainder 2",
        "1/2 of 12 = 6", "20% of 100 = 20", "three groups of 4 = 12", "two thirds of 12 = 8", "1) 12*3 = 36",
        "1 1/2 + 2 = 3 1/2",
        "4 weeks = 28 days", "12 × 3 = 36 cm", "(3+4)² = 49", "5 m 20 cm = 520 cm", "1 km = 1000 m, 2 km = 2000 m",
        "5 dozen = 60", "3 × 4 = 12.", "-5 + 3 = -2", "2.50 × 4 = 10.00", "12 ÷ 4 = 3, 3 + 1 = 4", "twice 3 = 6",
        "5 x 17 = 5 x 10 + 5 x 7 = 85",
    ),
    "zh": (
        "1米=100厘米", "1小时=60分钟", "3米+20厘米=320厘米", "3米20厘米=320厘米", "17÷5=3……2", "17÷5=3余2",
        "12的一半=6", "12的1/2=6", "3的4倍=12", "5元=50角", "2/7=16/56，3/8=21/56", "1平方米=10000平方厘米", "2x=22",
        "两人一共12+3=15个",
    ),
}  # fmt: skip
BAD = {
    "en": (
        ("2x = 22 = 11", "22 is 22, not 11."), ("1 m = 10 cm", "1 m is 100 cm, not 10 cm."), 
        ("7² = 14", "7² is 49, not 14."), ("1 hour = 1 minute", "1 hour is 60 minutes, not 1 minute."),
        ("5 m × 3 m = 16 m²", "5 m × 3 m is 15, not 16 m2."),
        ("2/7 = 16/56 and 3/8 = 22/56", "3/8 is 0.375, not 22/56."), ("One pack is 27 ÷ 9 = 4", "27 ÷ 9 is 3, not 4."),
        ("$5 = 50 cents", "$5 is 500 cents, not 50 cents."), ("12 ÷ 4 = 3, 3 + 1 = 5", "3 + 1 is 4, not 5."),
        ("with the 12 + 3 = 16", "12 + 3 is 15, not 16."),
    ),
    "zh": (("1米=10厘米", "1米等于100厘米，不是10厘米。"), ("一共12+3=16个", "12+3等于15，不是16。")),
}  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_right_lines_are_never_called_wrong_and_wrong_ones_are(language: str) -> None:
    asked = item(language, "2, 3, 4, 7, 8, 9, 12, 17, 22, 34, 43, 2.5, 5, 20, 27, 3/4, 30, 56, 28, .5")
    for working in GOOD[language]:
        assert first_wrong_step(asked, working) is None, working
    for working, explanation in BAD[language]:
        found = first_wrong_step(asked, working)
        assert (found.kind, found.explanation) == ("arithmetic", explanation) if found else "", working


def test_a_number_from_nowhere_is_only_a_hint_after_all_lines() -> None:
    found = first_wrong_step(item(), "12 * 4 = 48\n100 - 36 = 74")
    assert found is not None
    assert (found.line, found.kind) == (2, "arithmetic")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_items_own_solution_has_a_wrong_step(language: str) -> None:
    for skill in curriculum():
        for level in (1, 2, 3, 4, 5):
            for place, model in enumerate(models(skill, level, language, "animals")):
                drawn = draw(model, seed=level + place)
                assert first_wrong_step(drawn, "\n".join(drawn.steps)) is None, drawn.steps
