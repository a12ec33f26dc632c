"""Words that are named and exchanged: gold drafts are accepted, planted mistakes are named, and what a student
practises on is what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from toolkit_education.generators.themes import themes
from toolkit_education.items import ItemModel, draw
from toolkit_education.practising import exercises
from toolkit_education.retheming import draft_of, exchanged, keeps_kinds, leftover, prompt_of, rethemed
from toolkit_education.signs import SIGN
from toolkit_education.verify import verify

EXERCISES = list(exercises(0, dressings=2, tested=1))
SPACE = themes()["space"]


def test_nearly_every_gold_draft_is_accepted_and_its_items_are_verified() -> None:
    found = [
        rethemed(one.model, one.draft, SPACE.words[one.model.language], "space")
        for one in EXERCISES
        if one.split == "test"
    ]
    good = [model for model in found if isinstance(model, ItemModel)]
    assert len(good) >= 0.98 * len(found)
    for model in good[::7]:
        assert verify(draw(model, 1), model) == ()
        assert model.theme == "space"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda draft: "", "theme"),
        (lambda draft: "nonsense", "mark"),
        (lambda draft: f"{draft}; dinosaur=W1", "mark"),
        (lambda draft: "place=W99", "theme"),
        (lambda draft: f"{draft}; place=W1 W99", "word"),
        (lambda draft: f"{draft}; place=the shop", "word"),
        (lambda draft: f"{draft}; {draft}", "word"),
        (lambda draft: f"{draft}; place=P1", "word"),
        (lambda draft: "A=S2", "word"),
        (lambda draft: "place=", "word"),
        (lambda draft: "place={a}", "word"),
    ],
)
def test_a_draft_that_cannot_be_trusted_is_named(spoil: Callable[[str], str], code: str) -> None:
    exercise = next(one for one in EXERCISES if one.id.startswith("comparison/more:en"))
    found = rethemed(exercise.model, spoil(exercise.draft), SPACE.words["en"], "space")
    assert not isinstance(found, ItemModel)
    assert code in {finding.code for finding in found}


@pytest.mark.parametrize(
    ("text", "named", "written"),
    [
        ("Tom has {a} pens. Tommy has a pensioner.", {"A": "Tom", "things": "pens"}, "Zed has {a} owls. Tommy has a "
         "pensioner."),
        ("A pen costs {a}; the pens cost {things}.", {"thing": "pen", "things": "pens"}, "An owl costs {a}; the owls "
         "cost {things}."),
        ("Pens are sold at the shop. Pens!", {"things": "pens", "place": "the shop"}, "Owls are sold at the zoo. "
         "Owls!"),
        ("Ann has a red pen, a pen and an ant.", {"thing": "red pen", "other": "pen"}, "Ann has an owl, a cat and an "
         "ant."),
    ],
)  # fmt: skip
def test_whole_words_are_exchanged_with_their_capitals_and_articles(
    text: str, named: dict[str, str], written: str
) -> None:
    words = {"A": "Zed", "thing": "owl", "things": "owls", "other": "cat", "place": "the zoo"}
    assert exchanged(text, named, words, "en") == written


def test_a_chinese_measure_word_follows_the_noun_that_it_counts() -> None:
    named = {"A": "小明", "thing": "铅笔", "m": "支", "other": "书", "om": "本"}
    words = {"A": "小天", "thing": "星球", "m": "颗", "other": "猫", "om": "只"}
    said = "小明有{a}支铅笔和{b}本书，又买了{c}支。"
    assert exchanged(said, named, words, "zh") == "小天有{a}颗星球和{b}只猫，又买了{c}颗。"


def test_a_learners_own_word_cannot_change_what_is_asked() -> None:
    exercise = next(one for one in EXERCISES if one.id.startswith("comparison/more:en"))
    found = rethemed(exercise.model, exercise.draft, dict(SPACE.words["en"]) | {"things": "fewer kilograms"}, "own")
    assert not isinstance(found, ItemModel)
    assert {finding.code for finding in found} >= {"relation", "unit"}


def test_words_that_are_left_over_are_seen() -> None:
    model = next(one for one in EXERCISES if one.id.startswith("addition/get:en")).model
    assert list(leftover(replace(model, text="Mia has {a} pens"), {"things": "pens", "A": "Tom"})) == ["pens"]
    assert list(leftover(replace(model, text="Tommy has {a} pensions"), {"things": "pens", "A": "Tom"})) == []
    assert list(leftover(replace(model, language="zh", text="小天有{a}支"), {"A": "小明", "m": "支"})) == []


def test_a_student_sees_signs_for_whatever_a_problem_is_about() -> None:
    model = next(one for one in EXERCISES if one.id.startswith("addition/get:en")).model
    text = "Zoë's toy car costs ${a}. The café sells {b} toy cars. Toy cars are sold at the zoo."
    asked = prompt_of(replace(model, text=text, steps=()))
    assert asked == "en: P1's W2 W3 costs ${a}. The W4 S5 {b} W2 S6. W2 S6 are sold at the W7."
    words = {"A": "Zoë", "thing": "toy car", "things": "toy cars", "place": "the zoo", "box": "jar"}
    assert draft_of(replace(model, text=text, steps=()), words) == "A=P1; thing=W2 W3; things=W2 S6; place=W7"
    chinese = replace(model, language="zh", text="小天有{a}颗宝石，又买了{b}颗。小天一共有多少颗宝石？", steps=())
    assert prompt_of(chinese) == "zh: P1有{a}颗W2，又买了{b}颗。P1一共有多少颗W2？"
    assert draft_of(chinese, {"A": "小天", "thing": "宝石", "m": "颗"}) == "A=P1; thing=W2"


def test_test_templates_are_never_met_in_training() -> None:
    for language in ("en", "zh"):
        train, test = (
            {one.template for one in EXERCISES if one.split == split and one.model.language == language}
            for split in ("train", "test")
        )
        assert train and test and not train & test  # noqa: PT018
    assert len({one.id for one in EXERCISES}) == len(EXERCISES)
    assert all(set(SIGN.findall(one.draft)) <= set(SIGN.findall(one.prompt)) for one in EXERCISES)


def test_the_same_seed_gives_the_same_exercises() -> None:
    again = list(exercises(0, dressings=2, tested=1))
    assert [(one.id, one.prompt, one.draft) for one in again] == [(one.id, one.prompt, one.draft) for one in EXERCISES]
    other = Counter(one.prompt for one in exercises(1, dressings=2, tested=1))
    assert sum((other & Counter(one.prompt for one in EXERCISES)).values()) < len(EXERCISES) / 2


TRUTH = "A=W1; B=W2; thing=W3; things=W4; others=W5; place=W6 W7"


@pytest.mark.parametrize(
    "draft",
    [
        TRUTH,
        "A=W2; B=W1; thing=W3; things=W4; others=W5; place=W6 W7",
        "A=W1; B=W2; other=W3; others=W4; things=W5; place=W6 W7",
        "A=W1; things=W4",
    ],
)
def test_a_draft_keeps_kinds_whichever_of_two_is_the_first(draft: str) -> None:
    assert keeps_kinds(TRUTH, draft)


@pytest.mark.parametrize(
    "draft",
    [
        "",
        "A=W3; B=W2",
        "boxes=W4; things=W5",
        "thing=W4; things=W3",
        "thing=W3; others=W4; things=W5",
        "things=W4; others=W3",
        "place=W6",
        "A=W8",
    ],
)
def test_a_draft_that_makes_another_kind_of_a_word_keeps_none(draft: str) -> None:
    assert not keeps_kinds(TRUTH, draft)
