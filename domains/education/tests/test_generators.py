"""Generated problems: every skill, level, language and theme; verified, different, and of the level's size."""

from __future__ import annotations

import re
import sys
from fractions import Fraction

import pytest

from toolkit.errors import DataError, EnvironmentUnfit, PlanError, Unsupported
from toolkit_education.curriculum import curriculum
from toolkit_education.generators import gym, models, templates, themes
from toolkit_education.items import Item, draw
from toolkit_education.records import validate
from toolkit_education.templates import PLACEHOLDER
from toolkit_education.verify import verify

ITEMS = 20
FEWEST = 3  # different problems of 20 draws, where a template has one small number


@pytest.mark.parametrize("skill", sorted(curriculum()))
def test_all_levels_in_both_languages_are_verified(skill: str) -> None:
    for level in (1, 2, 3, 4, 5):
        size = curriculum()[skill].range(level)
        for language in ("en", "zh"):
            theme = sorted(themes())[level - 1]
            found = models(skill, level, language, theme)
            assert len(found) >= 2
            items: list[Item] = []
            for seed in range(ITEMS):
                model = found[seed % len(found)]
                items.append(draw(model, seed))
                assert verify(items[-1], model) == (), (model.id, verify(items[-1], model))
                given = [items[-1].values[quantity.name] for quantity in model.quantities]
                assert all(size.low <= value <= size.high for value in given)
                assert 0 < items[-1].answer <= size.most
            assert len({item.problem for item in items}) >= ITEMS // 2, (skill, level, language)


def test_every_template_of_every_theme_holds_together() -> None:
    assert len(themes()) >= 4
    seen = set()
    for skill in curriculum():
        for language in ("en", "zh"):
            for theme in themes():
                for model in models(skill, 2, language, theme):
                    validate(model)
                    assert "[" not in model.text
                    chinese = re.search("[\u4e00-\u9fff]", model.text) is not None
                    assert chinese == (language == "zh")
                    for step in model.steps:
                        words = PLACEHOLDER.sub("", step.words)
                        assert not re.search("[a-z]{3}" if chinese else "[\u4e00-\u9fff]", words), step.words
                    seen.add(model.id)
    assert len(seen) > 500


def test_each_template_draws_different_problems_at_every_level() -> None:
    for skill in curriculum():
        for level in (1, 3, 5):
            for model in models(skill, level, "en", "art"):
                assert len({draw(model, seed).problem for seed in range(ITEMS)}) >= FEWEST, model.id


LARGEST = {
    "elapsed_time/together": {"a": 120},
    "elapsed_time/hours_and_minutes": {"a": 14},
    "speed/distance": {"v": 130, "t": 12},
    "speed/time": {"v": 130},
    "speed/speed": {"speed": 130},
    "percent_change/discount": {"n": 500},
    "one_step_problems/price": {"a": 150},
}
"""What nobody meets more of: minutes on foot, hours of a visit, km per hour on the road, dollars for some carrots."""


@pytest.mark.parametrize("key", sorted(LARGEST))
def test_the_largest_numbers_are_still_of_this_world(key: str) -> None:
    for model in models(key.partition("/")[0], 5, "zh", "cooking"):
        for seed in range(ITEMS * model.id.startswith(key + "/")):
            values = draw(model, seed).values
            assert all(values[name] <= most for name, most in LARGEST[key].items()), values


@pytest.mark.parametrize("skill", ["decimal_addition", "decimal_multiplication"])
def test_a_problem_about_decimals_has_some(skill: str) -> None:
    for level in (1, 3, 5):
        for model in models(skill, level, "zh", "art"):
            broken = [one.name for one in model.quantities if one.step.denominator > 1]
            assert broken
            for seed in range(ITEMS):
                values = draw(model, seed).values
                assert all(values[name].denominator > 1 for name in broken), values


def test_both_languages_ask_the_same() -> None:
    for skill, several in templates().items():
        for english, chinese in zip(models(skill, 3, "en", "art"), models(skill, 3, "zh", "art"), strict=True):
            assert english.id.replace("/en", "") == chinese.id.replace("/zh", "")
            assert [step.expression for step in english.steps] == [step.expression for step in chinese.steps]
            assert english.original() == chinese.original()
        assert len({template.key for template in several}) == len(several)


@pytest.mark.parametrize(
    ("skill", "name", "values", "answer"),
    [
        ("remainders", "left", {"a": 17, "b": 5}, 2),
        ("remainders", "needed", {"a": 17, "b": 5}, 4),
        ("greatest_common_factor", "pieces", {"a": 24, "b": 18}, 6),
        ("fraction_addition", "difference", {"a": 3, "b": 4, "c": 2, "d": 5}, Fraction(7, 20)),
        ("percent_change", "discount", {"p": 25, "n": 80}, 60),
        ("ratio_sharing", "people", {"n": 50, "a": 2, "b": 3}, 20),
        ("sum_and_difference", "larger", {"s": 20, "d": 4}, 12),
        ("two_step_equations", "minus", {"a": 3, "b": 4, "c": 20}, 8),
        ("mean", "missing", {"m": 10, "a": 8, "b": 9}, 13),
        ("triangle_angles", "isosceles", {"a": 40}, 70),
        ("probability", "three_colours", {"a": 2, "b": 3, "c": 4}, Fraction(1, 3)),
        ("unit_conversion", "pieces", {"a": 3, "b": 20}, 15),
    ],
)
def test_programs_compute_what_is_worked_out_by_hand(
    skill: str, name: str, values: dict[str, int], answer: int | Fraction
) -> None:
    from toolkit_education.items import render

    model = next(one for one in models(skill, 3, "en", "art") if f"/{name}/" in one.id)
    assert render(model, {key: Fraction(value) for key, value in values.items()}).answer == answer


def test_what_is_not_known_is_refused() -> None:
    for arguments in (
        ("juggling", 1, "en", "art"),
        ("addition", 6, "en", "art"),
        ("addition", 1, "fr", "art"),
        ("addition", 1, "en", "arts"),
    ):
        with pytest.raises(DataError):
            models(*arguments)
    with pytest.raises(DataError) as refused:
        models("addition", 1, "en", "arts")
    assert "Did you mean art?" in refused.value.hint


def test_without_reasoning_gym_its_tasks_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(EnvironmentUnfit) as missing:
        gym.models("chain_sum", seed=1, count=1)
    assert "sources" in missing.value.hint


def test_an_unknown_task_and_chinese_stories_are_refused() -> None:
    with pytest.raises(PlanError, match="chain_sums"):
        gym.models("chain_sums", seed=1, count=1)
    with pytest.raises(Unsupported):
        gym.models("gsm_symbolic", seed=1, count=1, language="zh")


@pytest.mark.parametrize("task", gym.tasks())
def test_reasoning_gyms_tasks_become_verified_items(task: str) -> None:
    pytest.importorskip("reasoning_gym", reason="the extra [sources] is not installed")
    for language in ("en",) if task == "gsm_symbolic" else ("en", "zh"):
        found = gym.models(task, seed=3, count=60, language=language)
        assert len(found) >= 20
        for model in found:
            item = draw(model, 1)
            hard = [finding for finding in verify(item, model) if finding.code not in ("readable", "words")]
            assert hard == [], (item.problem, hard)
