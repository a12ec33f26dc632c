"""Drafts with marks: gold ones are accepted, planted mistakes are named, and what a student practises on is what it
says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from toolkit_education.generators.themes import themes
from toolkit_education.items import ItemModel, draw
from toolkit_education.practising import KNOWN, NEW, Exercise, exercises
from toolkit_education.retheming import MARK, leftover, prompt_of, rethemed
from toolkit_education.verify import verify

EXERCISES = list(exercises(0, dressings=2, tested=1))
SPACE = themes()["space"]


def accepted(exercise: Exercise, draft: str) -> bool:
    return isinstance(rethemed(exercise.model, draft, SPACE.words[exercise.model.language], "space"), ItemModel)


def test_nearly_every_gold_draft_is_accepted_and_its_items_are_verified() -> None:
    found = [rethemed(one.model, one.marked, SPACE.words[one.model.language], "space") for one in EXERCISES]
    good = [model for model in found if isinstance(model, ItemModel)]
    assert len(good) >= 0.98 * len(found)
    for model in good[::7]:
        assert verify(draw(model, 1), model) == ()
        assert model.theme == "space"


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (lambda text: text.replace("{a}", "{b}", 1), {"quantity"}),
        (lambda text: text.replace("{a}", "7"), {"quantity", "number"}),
        (lambda text: text.replace(" more", " fewer", 1), {"relation"}),
        (lambda text: text.replace("[things]", "[dinosaurs]", 1), {"mark"}),
        (lambda text: text.rpartition(" || ")[0], {"parts"}),
        (lambda text: MARK.sub("x", text), {"theme", "roles"}),
        (lambda text: "", {"parts"}),
    ],
)
def test_a_draft_that_asks_something_else_is_named(spoil: Callable[[str], str], codes: set[str]) -> None:
    exercise = next(one for one in EXERCISES if one.id.startswith("comparison/more:en"))
    found = rethemed(exercise.model, spoil(exercise.marked), SPACE.words["en"], "space")
    assert not isinstance(found, ItemModel)
    assert codes & {finding.code for finding in found}


def test_articles_follow_the_word_that_fills_a_mark() -> None:
    exercise = next(one for one in EXERCISES if one.id.startswith("addition/get:en"))
    words = dict(SPACE.words["en"]) | {"thing": "apple", "things": "apples"}
    text = exercise.marked.replace("[A] has", "[A] with a [thing] has", 1)
    found = rethemed(exercise.model, text, words, "own")
    written = found.text if isinstance(found, ItemModel) else ""
    assert "with an apple" in written or not isinstance(found, ItemModel)


def test_words_that_are_left_over_are_seen() -> None:
    words = {"A": "Tom", "things": "pens", "m": "支"}
    assert leftover("[A] has {a} pens", words, "en") == ("pens",)
    assert leftover("[A] has {a} pensions for Tommy", words, "en") == ()
    assert leftover("Tom有{a}支", {"A": "小明", "m": "支"}, "zh") == ()


def test_test_words_and_templates_are_never_met_in_training() -> None:
    train = [one for one in EXERCISES if one.split == "train"]
    test = [one for one in EXERCISES if one.split == "test"]
    for language in ("en", "zh"):
        words = [
            {
                word
                for one in part
                if one.model.language == language
                for slot, word in one.words.items()
                if len(slot) > 2
            }
            for part in (train, test)
        ]
        assert not words[0] & words[1]
        new = {one.id.partition(":")[0] for one in test if one.kind == NEW and one.model.language == language}
        assert new
        assert not new & {one.id.partition(":")[0] for one in train if one.model.language == language}
    assert {one.kind for one in train} == {KNOWN}
    assert len({one.id for one in EXERCISES}) == len(EXERCISES)
    assert prompt_of(train[0].model).startswith("en: ")


def test_the_same_seed_gives_the_same_exercises() -> None:
    again = list(exercises(0, dressings=2, tested=1))
    assert [(one.id, one.prompt, one.marked) for one in again] == [
        (one.id, one.prompt, one.marked) for one in EXERCISES
    ]
    other = Counter(one.prompt for one in exercises(1, dressings=2, tested=1))
    assert sum((other & Counter(one.prompt for one in EXERCISES)).values()) < len(EXERCISES) / 2
