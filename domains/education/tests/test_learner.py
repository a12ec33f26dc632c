"""The learner model against independent arithmetic (scipy, FSRS by itself) and against what it promises."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import numpy as np
import pytest
from fsrs import Card, Rating, Scheduler
from scipy.integrate import quad
from scipy.stats import norm

from toolkit.errors import DataError
from toolkit_education import ability
from toolkit_education.learner import (
    Difficulty,
    Knowledge,
    Settings,
    State,
    answered,
    choose,
    difficulty_of,
    expected,
    mastered,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
STILL = Settings(growth=0.0, learning=0.0, absence=0.0, elo_step=0.0)
"""Ability does not move and difficulties are right: then the posterior has a closed form to compare with."""


@dataclass(frozen=True)
class Plan:
    """Each skill needs the one before, `free` ones nothing; three levels."""

    chain: tuple[str, ...] = ("a", "b", "c")
    free: tuple[str, ...] = ()

    def ids(self) -> tuple[str, ...]:
        return self.chain + self.free

    def prerequisites(self, skill: str) -> tuple[str, ...]:
        place = self.chain.index(skill) if skill in self.chain else 0
        return self.chain[place - 1 : place] if place else ()

    def levels(self, skill: str) -> int:
        return 3


def practised(state: State, skill: str, level: int, rights: str, settings: Settings = Settings()) -> State:  # noqa: B008
    for number, right in enumerate(rights):
        state = answered(state, skill, level, right == "1", NOON + timedelta(minutes=number), settings)
    return state


def knowing(mean: float, error: float = 0.3, answers: int = 10, due: datetime = NOON + timedelta(days=5)) -> Knowledge:
    return Knowledge(ability.prior(mean, error), mean, error, answers, Card(card_id=0, due=due))


def test_the_posterior_is_that_of_an_independent_quadrature() -> None:
    script = [(1, True), (1, True), (2, False), (3, True), (2, True), (3, False), (3, False)]
    state = State()
    for level, right in script:
        state = answered(state, "a", level, right, NOON, STILL)

    def weight(theta: float) -> float:
        found = float(norm.pdf(theta, STILL.prior_mean, STILL.prior_deviation))
        for level, right in script:
            logit = theta - (STILL.first_difficulty + STILL.level_step * (level - 1))
            chance = STILL.guess + (1 - STILL.guess - STILL.slip) / (1 + math.exp(-logit))
            found *= chance if right else 1 - chance
        return found

    whole = quad(weight, -12, 12)[0]
    mean = quad(lambda theta: theta * weight(theta), -12, 12)[0] / whole
    variance = quad(lambda theta: (theta - mean) ** 2 * weight(theta), -12, 12)[0] / whole
    known = state.knowledge["a"]
    assert known.mean == pytest.approx(mean, abs=1e-4)
    assert known.error == pytest.approx(math.sqrt(variance), abs=1e-4)
    assert known.answers == len(script)
    tail = quad(weight, 0.37, 12)[0] / whole
    assert ability.above(known.posterior, 0.37) == pytest.approx(tail, abs=2e-3)


def test_what_is_expected_is_the_integral_over_ability() -> None:
    state = practised(State(), "a", 2, "1101", STILL)
    posterior = state.knowledge["a"].posterior
    by_hand = sum(
        weight * (0.02 + 0.93 / (1 + math.exp(-(theta - (-1.5 + 2)))))
        for theta, weight in zip(ability.GRID, posterior, strict=True)
    )
    assert expected(state, "a", 3, STILL) == pytest.approx(by_hand, abs=1e-12)
    assert expected(state, "a", 1) > expected(state, "a", 2) > expected(state, "a", 3)


@pytest.mark.parametrize(("growth", "deviation"), [(0.0, 0.05), (0.12, 0.2), (0.3, 0.15), (0.0, 0.7), (0.35, 0.9)])
def test_a_walk_adds_its_mean_and_its_variance(growth: float, deviation: float) -> None:
    before = ability.prior(0.3, 0.8)
    after = ability.moved(before, growth, deviation)
    (mean, error), (was, spread) = ability.moments(after), ability.moments(before)
    assert after.sum() == pytest.approx(1.0)
    assert mean - was == pytest.approx(growth, abs=1e-3)
    assert error**2 - spread**2 == pytest.approx(deviation**2, abs=2e-3)


def test_a_walk_without_length_changes_nothing_and_at_the_ends_nothing_is_lost() -> None:
    at_the_end = ability.prior(7.0, 0.4)
    assert ability.moved(at_the_end, 0.0, 0.0) is at_the_end
    assert ability.moved(at_the_end, 0.3, 0.5).sum() == pytest.approx(1.0)


def test_right_answers_raise_and_wrong_ones_lower_ability_and_difficulty_moves_the_other_way() -> None:
    right, wrong = practised(State(), "a", 2, "1"), practised(State(), "a", 2, "0")
    assert right.knowledge["a"].mean > wrong.knowledge["a"].mean
    start = difficulty_of(State(), "a", 2).value
    assert right.difficulties["a", 2].value < start < wrong.difficulties["a", 2].value


def test_the_step_of_a_difficulty_is_elos_and_decreases() -> None:
    settings = Settings()
    state = State(difficulties={("a", 1): Difficulty(0.4, 30)})
    surprise = 1.0 - expected(state, "a", 1)
    after = answered(state, "a", 1, True, NOON)
    step = settings.elo_step / (1 + settings.elo_decay * 30)
    assert after.difficulties["a", 1].value == pytest.approx(0.4 - step * surprise)
    assert after.difficulties["a", 1].answers == 31


def test_difficulties_are_found_where_the_labels_are_wrong() -> None:
    """Level 1 is truly as hard as level 3 says; 400 learners of known spread answer it once each."""
    random, truth, difficulties = Random(5), 0.5, State().difficulties
    for _ in range(400):
        theta = random.gauss(0.0, 1.2)
        right = random.random() < 0.02 + 0.93 / (1 + math.exp(-(theta - truth)))
        difficulties = answered(State({}, difficulties), "a", 1, right, NOON, Settings(elo_step=0.3)).difficulties
    assert difficulties["a", 1].value == pytest.approx(truth, abs=0.35)
    assert difficulty_of(State(), "a", 1).value == -1.5


def test_the_card_is_fsrs_own_keyed_by_skill_and_deterministic() -> None:
    scheduler = Scheduler(desired_retention=0.9, learning_steps=(), relearning_steps=(), enable_fuzzing=False)
    card = Card(card_id=0, due=NOON)
    state = State()
    for day, right in ((0, True), (3, True), (9, False), (10, True)):
        when = NOON + timedelta(days=day)
        card, _ = scheduler.review_card(card, Rating.Good if right else Rating.Again, when)
        state = answered(state, "a", 1 + day % 3, right, when)
    assert state.knowledge["a"].card.to_dict() == card.to_dict()
    assert state.knowledge["a"].card.due > NOON + timedelta(days=10)


def test_answering_is_pure_and_gives_the_same_each_time() -> None:
    before = practised(State(), "a", 1, "110")
    kept = before.knowledge["a"].posterior.copy()
    one, two = (answered(before, "a", 2, True, NOON + timedelta(days=2)) for _ in range(2))
    assert np.array_equal(before.knowledge["a"].posterior, kept)
    assert before.knowledge["a"].answers == 3
    assert np.array_equal(one.knowledge["a"].posterior, two.knowledge["a"].posterior)
    with pytest.raises(ValueError, match="read-only"):
        one.knowledge["a"].posterior[0] = 1.0


def test_days_without_an_answer_make_the_estimate_less_sure() -> None:
    before = practised(State(), "a", 2, "1101101")
    at_once = answered(before, "a", 2, True, NOON + timedelta(minutes=10))
    later = answered(before, "a", 2, True, NOON + timedelta(days=60))
    assert later.knowledge["a"].error > at_once.knowledge["a"].error


def test_an_answer_dated_before_the_last_one_counts_as_at_the_last_one() -> None:
    before = practised(State(), "a", 2, "11")
    early, same = (
        answered(before, "a", 2, True, NOON + timedelta(days=back, minutes=1)) for back in (-3, 0)
    )  # fmt: skip
    assert early.knowledge["a"].card.to_dict() == same.knowledge["a"].card.to_dict()


def test_moments_are_read_in_any_zone_and_refused_without_one() -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    assert (
        answered(State(), "a", 1, True, tokyo).knowledge["a"].card.due
        == answered(State(), "a", 1, True, NOON).knowledge["a"].card.due
    )
    with pytest.raises(DataError, match="no time zone"):
        answered(State(), "a", 1, True, datetime(2026, 1, 1))
    with pytest.raises(DataError, match="no level 0"):
        answered(State(), "a", 0, True, NOON)


def test_mastery_needs_belief_and_four_answers() -> None:
    plan, needed = Plan(), 0.5 + math.log(0.8 / 0.2)  # level 3, lapses aside
    sure = knowing(needed + 0.3 * 1.2816 + 0.05)
    unsure = knowing(needed + 0.3 * 1.2816 - 0.05)
    assert mastered(State({"a": sure}), plan, "a")
    assert not mastered(State({"a": unsure}), plan, "a")
    assert not mastered(State({"a": replace(sure, answers=3)}), plan, "a")
    assert not mastered(State(), plan, "a")


def test_what_comes_next_needs_its_prerequisites() -> None:
    plan, met = Plan(), []
    state = State()
    for number in range(6):
        choice = choose(state, plan, NOON, met)
        assert choice.skill == "a"
        assert choice.because
        state = answered(state, "a", choice.level, False, NOON + timedelta(minutes=number))
        met.append(choice.skill)
    state = State({"a": knowing(4.0)})
    assert choose(state, plan, NOON, ["a"]).skill == "b"
    state = State({"a": knowing(4.0), "b": knowing(0.0)})
    assert {choose(state, plan, NOON, [], seed=seed).skill for seed in range(20)} == {"b"}


def test_the_level_is_the_one_whose_success_is_nearest_to_the_target() -> None:
    for target, means in ((0.6, (-2.7, -1.1, -0.1, 1.0)), (0.75, (-2.0, -0.4, 0.6, 1.7))):
        for mean, level in zip(means, (1, 1, 2, 3), strict=True):
            settings = Settings(target=target)
            choice = choose(State({"a": knowing(mean, answers=3)}), Plan(("a",)), NOON, settings=settings)
            assert (choice.skill, choice.level) == ("a", level), (target, mean)
    assert choose(State({"a": knowing(0.6, answers=3)}), Plan(("a",)), NOON).level == 3
    assert Settings().target == 0.6


def test_what_is_learnt_is_reviewed_at_its_top_level_where_it_succeeds() -> None:
    due = State({"a": knowing(2.5, due=NOON - timedelta(days=1))})
    found = choose(due, Plan(("a",)), NOON)
    assert (found.level, "review is due" in found.because) == (3, True)
    assert expected(due, "a", 3) > 0.75


def test_a_due_review_comes_first_and_never_two_in_a_row() -> None:
    plan = Plan(("a", "b"), ("x",))
    due = State({"a": knowing(4.0, due=NOON - timedelta(days=1)), "x": knowing(4.0, due=NOON - timedelta(hours=1))})
    first = choose(due, plan, NOON, ["b"])
    assert (first.skill, first.level) == ("a", 3)
    assert "due since 2026-03-01" in first.because
    assert choose(due, plan, NOON, ["b", "a"]).skill == "b"
    later = State({"a": knowing(4.0), "x": knowing(4.0)})
    assert choose(later, plan, NOON, ["b", "x"]).skill == "b"


def test_no_skill_comes_three_times_in_a_row_where_another_can_be_met() -> None:
    plan, state, met, random = Plan(("a", "b", "c"), ("x",)), State(), [], Random(1)
    for number in range(120):
        choice = choose(state, plan, NOON + timedelta(hours=number), met, seed=3)
        state = answered(state, choice.skill, choice.level, random.random() < 0.8, NOON + timedelta(hours=number))
        met.append(choice.skill)
        assert len(met) < 3 or len(set(met[-3:])) > 1
    assert set(met) == {"a", "b", "c", "x"}


def test_where_all_is_mastered_the_next_review_comes_and_what_is_unproven_before() -> None:
    plan = Plan(("a", "b"))
    both = State({"a": knowing(4.0), "b": knowing(4.0, due=NOON + timedelta(days=2))})
    assert choose(both, plan, NOON, []).skill == "b"
    unproven = State({"a": knowing(2.0, 0.5), "b": knowing(4.0, due=NOON + timedelta(days=2))})
    assert not mastered(unproven, plan, "a")
    assert choose(unproven, plan, NOON, []).skill == "a"


def test_chance_comes_by_the_seed_only() -> None:
    plan = Plan((), ("x", "y", "z"))
    chosen = [choose(State(), plan, NOON, [], seed=seed).skill for seed in range(40)]
    assert set(chosen) == {"x", "y", "z"}
    assert chosen == [choose(State(), plan, NOON, [], seed=seed).skill for seed in range(40)]


def test_the_built_in_curriculum_is_mastered_whole_by_one_who_learns() -> None:
    from toolkit_education.curriculum import curriculum

    graph = curriculum()

    class Built:
        def ids(self) -> tuple[str, ...]:
            return tuple(graph)

        def prerequisites(self, skill: str) -> tuple[str, ...]:
            return graph[skill].prerequisites

        def levels(self, skill: str) -> int:
            return len(graph[skill].levels)

    plan, state, met, random = Built(), State(), [], Random(2)
    theta = dict.fromkeys(graph, 0.0)
    for number in range(60 * len(graph)):
        when = NOON + timedelta(hours=number)
        choice = choose(state, plan, when, met[-2:], seed=1)
        assert 1 <= choice.level <= plan.levels(choice.skill)
        assert all(state.knowledge[one].answers >= 4 for one in plan.prerequisites(choice.skill))
        chance = 1 / (1 + math.exp(-(theta[choice.skill] - (choice.level - 2.5))))
        theta[choice.skill] += 0.3
        state = answered(state, choice.skill, choice.level, random.random() < chance, when)
        met.append(choice.skill)
        if number % 50 == 0 and all(mastered(state, plan, skill) for skill in graph):
            break
    assert all(mastered(state, plan, skill) for skill in graph)


def test_a_curriculum_that_cannot_be_begun_and_settings_that_cannot_be_are_refused() -> None:
    class Circle(Plan):
        def prerequisites(self, skill: str) -> tuple[str, ...]:
            return ("b",) if skill == "a" else ("a",)

    for plan in (Circle(("a", "b")), Plan(())):
        with pytest.raises(DataError, match="can be begun"):
            choose(State(), plan, NOON)
    for wrong in ({"target": 1.0}, {"slip": -0.1}, {"focus": 0}, {"prior_deviation": 0.1}, {"guess": 0.6, "slip": 0.5}):
        with pytest.raises(DataError, match="cannot be"):
            Settings(**wrong)
