"""The protocol of the simulation: the same learners and draws for each policy, equal budgets, no gain from nothing.

Whether the adaptive policy is ahead is the bench's to say (tests/bench/adaptation.py); here is whether the bench can be
believed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit_education import simulation
from toolkit_education.evidence import calibration, difference, ratio
from toolkit_education.simulated_learners import (
    FAMILIES,
    Forgetting,
    Growth,
    Tracing,
    make_test,
    make_world,
)
from toolkit_education.simulation import POLICIES, PRIMARY, Outcome, Protocol, run

SMALL = Protocol(learners=24, sites=2, budget=64, looks=(32,), horizon=80, each_level=2, each=2, seed=5)
LEARNING = ("growth", "tracing", "forgetting")


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str], Outcome]:
    return {(family, policy): run(family, policy, SMALL) for family in FAMILIES for policy in POLICIES}


def test_every_policy_spends_the_same_budget_on_the_same_learners(outcomes: dict[tuple[str, str], Outcome]) -> None:
    for outcome in outcomes.values():
        assert outcome.trace.shape == (SMALL.budget, SMALL.learners)
        assert outcome.score.shape == outcome.items.shape == outcome.site.shape == (SMALL.learners,)
        assert outcome.early.shape == (1, SMALL.learners)
        assert ((outcome.trace >= 0) & (outcome.trace < 32)).all()
        assert (outcome.items <= SMALL.horizon).all()
        assert (outcome.items[~outcome.reached] == SMALL.horizon).all()
    assert len(outcomes["growth", "adaptive"].predicted) == SMALL.budget * SMALL.learners


def test_the_draws_are_common_a_policy_that_does_the_same_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random policy made to choose as the fixed one does: every answer and every score are the fixed order's."""
    fixed = {family: run(family, "fixed", SMALL) for family in LEARNING}
    picker = simulation._picker
    monkeypatch.setattr(simulation, "_picker", lambda policy, *more: picker("fixed", *more))
    for family in LEARNING:
        same = run(family, "random", SMALL)
        assert np.array_equal(same.score, fixed[family].score)
        assert np.array_equal(same.items, fixed[family].items)


def test_the_same_protocol_gives_the_same_outcome_and_another_seed_another() -> None:
    one, two, other = (run("tracing", "adaptive", protocol) for protocol in (SMALL, SMALL, replace(SMALL, seed=6)))
    assert np.array_equal(one.trace, two.trace)
    assert np.array_equal(one.score, two.score)
    assert not np.array_equal(one.trace, other.trace)


def test_the_fixed_order_is_the_curriculum_and_starts_again(outcomes: dict[tuple[str, str], Outcome]) -> None:
    trace = outcomes["growth", "fixed"].trace
    assert trace[:, 0].tolist() == [cell for cell in range(32) for _ in range(2)]
    longer = run("growth", "fixed", replace(SMALL, budget=66))
    assert longer.trace[64:, 3].tolist() == [0, 0]
    counts = Counter(outcomes["growth", "random"].trace.ravel().tolist())
    assert len(counts) == 32
    assert max(counts.values()) < 2 * min(counts.values())


def test_no_policy_helps_the_null_learner(outcomes: dict[tuple[str, str], Outcome]) -> None:
    fixed = outcomes["null", "fixed"]
    for policy in ("random", "adaptive", "oracle"):
        found = outcomes["null", policy]
        assert np.array_equal(found.ability, fixed.ability)  # to the last digit: nothing of the policy leaks into it
        assert np.array_equal(found.items, fixed.items)
        gap = difference(found.score, fixed.score, np.arange(SMALL.learners))
        assert gap.low <= 0.0 <= gap.high
        assert gap.low < gap.high


def test_what_can_be_learned_is_learned_and_best_by_the_oracle(outcomes: dict[tuple[str, str], Outcome]) -> None:
    for family in LEARNING:
        start = run(family, "fixed", replace(SMALL, budget=1, looks=(), horizon=1)).ability.mean()
        means = {policy: outcomes[family, policy].ability.mean() for policy in POLICIES}
        assert all(mean > start for mean in means.values()), family
        assert means["oracle"] == max(means.values()), family


def test_the_tutor_is_given_states_and_the_curriculum_and_never_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    choose = simulation.choose
    monkeypatch.setattr(simulation, "choose", lambda *args, **more: calls.append((args, more)) or choose(*args, **more))
    run("growth", "adaptive", replace(SMALL, learners=2, sites=1, budget=4, looks=(), horizon=4))
    assert len(calls) == 8
    for args, more in calls:
        assert {type(one).__name__ for one in args} <= {"State", "Graph", "datetime", "list"}
        assert set(more) == {"seed", "settings"}


def test_the_post_test_is_not_practice() -> None:
    random = np.random.default_rng(1)
    before = np.array([[other in PRIMARY.before[one] for other in PRIMARY.ids()] for one in PRIMARY.ids()])
    world = make_world(before, 4, random)
    test = make_test(world, 50, random)
    assert (test.other != test.skill).mean() > 0.2
    assert all(world.before[one, other] for one, other in zip(test.skill, test.other, strict=True) if one != other)
    low, high = world.difficulty[:, 0], world.difficulty[:, -1]
    hard = low[test.skill] + test.share * (high - low)[test.skill] + test.shift
    assert min(np.abs(world.difficulty - one).min() for one in hard) > 0.0
    assert not np.allclose(world.difficulty, np.arange(4) - 1.5, atol=0.3)  # and labels are wrong


@pytest.mark.parametrize("family", [Growth, Tracing, Forgetting])
def test_practice_out_of_reach_or_far_below_teaches_little(family: type[Growth] | type[Tracing]) -> None:
    before = np.array([[False, False], [True, False]])
    world = make_world(before, 4, np.random.default_rng(2))
    cohort = family(world, 400, np.random.default_rng(3))
    gains = cohort.gains()
    assert gains[:, 1].mean() < gains[:, 0].mean()  # the second skill needs the first, which few know yet
    assert (gains >= 0.0).all()
    one = np.zeros(400, dtype=np.int64)
    success = cohort.success()[:, 0].mean()
    for step in range(40):
        level = np.full(400, min(3, step // 8), dtype=np.int64)
        cohort.practise(one, level, np.random.default_rng(step).random(400))
    assert cohort.success()[:, 0].mean() > success + 0.2


def test_what_was_learned_is_forgotten_and_less_after_spaced_practice() -> None:
    world = make_world(np.array([[False]]), 3, np.random.default_rng(2))
    massed, spaced = (Forgetting(world, 200, np.random.default_rng(3)) for _ in range(2))
    zero, draws = np.zeros(200, dtype=np.int64), np.zeros(200)
    for _ in range(6):
        massed.practise(zero, zero, draws)
        spaced.practise(zero, zero, draws)
        spaced.rest(3.0)
    at_once = massed.ability().mean()
    massed.rest(30.0)
    assert massed.ability().mean() < at_once
    assert massed.theta.mean() < massed.ability().mean()
    assert (spaced.half > massed.half).all()


def test_figures_by_hand_and_by_the_textbook() -> None:
    ours, theirs, site = np.array([3.0, 5.0, 4.0, 8.0]), np.array([2.0, 2.0, 4.0, 4.0]), np.array([0, 0, 1, 1])
    assert difference(ours, theirs, site).value == pytest.approx(2.0)
    assert ratio(ours, theirs, site).value == pytest.approx(20 / 12)
    assert (difference(ours, theirs, site).low, difference(ours, theirs, site).high) == (2.0, 2.0)  # both sites gain 2
    random = np.random.default_rng(4)
    noise = random.standard_normal(400)
    found = difference(noise + 0.2, np.zeros(400), np.arange(400))
    half = 1.96 * noise.std(ddof=1) / 20
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    with pytest.raises(DataError, match="paired"):
        difference(ours, theirs[:3], site)


def test_learners_of_a_site_do_not_count_as_independent() -> None:
    shift = np.repeat(np.random.default_rng(1).standard_normal(10), 50)
    alone = difference(shift, np.zeros(500), np.arange(500))
    clustered = difference(shift, np.zeros(500), np.repeat(np.arange(10), 50))
    assert clustered.high - clustered.low > 3 * (alone.high - alone.low)


def test_calibration_tells_a_liar_from_an_honest_tutor() -> None:
    random = np.random.default_rng(2)
    truth = random.uniform(0.2, 0.95, 20_000)
    right = random.random(20_000) < truth
    honest, liar = calibration(truth, right), calibration(np.clip(truth + 0.2, 0, 1), right)
    assert honest.error < 0.015
    assert liar.error == pytest.approx(0.19, abs=0.03)
    assert honest.brier < liar.brier
    assert honest.base == pytest.approx(right.mean() * (1 - right.mean()))
    assert sum(count for _, _, count in honest.bins) == 20_000
    with pytest.raises(DataError, match="no answers"):
        calibration(np.zeros(0), np.zeros(0, dtype=bool))


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(DataError, match="policy best"):
        run("growth", "best", SMALL)
    with pytest.raises(DataError, match="family real"):
        run("real", "fixed", SMALL)
    for wrong in ({"sites": 5}, {"horizon": 10}, {"looks": (64,)}):
        with pytest.raises(DataError, match="do not fit"):
            run("growth", "fixed", replace(SMALL, **wrong))
