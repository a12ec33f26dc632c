from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from toolkit.errors import DataError, PlanError
from toolkit.score.compare import compare, mcnemar_exact


def right(both, teacher_only, student_only, neither=0):
    """Paired answers with these cells."""
    cells = [both, teacher_only, student_only, neither]
    return np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)


def test_figures_by_hand():
    c = compare(*right(340, 10, 4, 6))
    assert (c.n, c.groups, c.teacher_only, c.student_only) == (360, 360, 10, 4)
    assert c.teacher.value == pytest.approx(350 / 360)
    assert c.student.value == pytest.approx(344 / 360)
    assert c.difference.value == pytest.approx(-100 * 6 / 360)
    assert c.retained.value == pytest.approx(344 / 350)
    assert c.margin == pytest.approx((344 - 0.95 * 350) / 360)
    # 14 discordant rows, at most 4 one way: 2 x (1 + 14 + 91 + 364 + 1001) / 2^14
    assert c.mcnemar_p == pytest.approx(2 * 1471 / 16384)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (0, 7), (5, 5), (3, 12), (40, 61), (900, 1100)])
def test_mcnemar_is_that_of_statsmodels(b, c):
    assert mcnemar_exact(b, c) == pytest.approx(mcnemar([[10, b], [c, 10]], exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [5, 40, 80, 300])
def test_without_discordant_rows_the_bound_is_clopper_pearson(n):
    lost = stats.beta.ppf(0.95, 1, n)  # one-sided 95% upper bound of losing a row
    assert compare(*right(n, 0, 0)).lower_bound == pytest.approx(0.05 * (1 - lost) - 0.95 * lost, abs=0.015)


def test_few_rows_never_pass_though_all_be_right():
    for n in (1, 5, 20, 50):
        assert compare(*right(n, 0, 0)).lower_bound < 0 < compare(*right(n, 0, 0)).margin
    assert compare(*right(70, 0, 0)).lower_bound > 0


def test_on_many_rows_the_bound_is_the_normal_one():
    cells = (9_000, 400, 250, 350)
    outcomes = np.repeat([0.05, -0.95, 1.0, 0.0], cells)
    bound = outcomes.mean() - 1.6449 * outcomes.std() / 100
    c = compare(*right(*cells))
    assert c.lower_bound == pytest.approx(bound, abs=3e-4)
    losses = np.repeat([0.0, -1.0, 1.0, 0.0], cells)
    half = 1.96 * losses.std()  # in points: 100 x sd / sqrt(10,000)
    assert (c.difference.low, c.difference.high) == pytest.approx((-1.5 - half, -1.5 + half), abs=0.04)


@lru_cache
def bound(cells):
    return compare(*right(*cells), draws=400).lower_bound


@pytest.mark.parametrize(
    ("n", "chances"),
    [
        (5, (0.94, 0.035, 0.01, 0.015)),
        (20, (0.95, 0.05, 0.0, 0.0)),
        (60, (0.95, 0.05, 0.0, 0.0)),
        (150, (0.93, 0.05, 0.0035, 0.0165)),
        (150, (0.3, 0.3, 0.3, 0.1)),
        (360, (0.9, 0.045, 0.0, 0.055)),
    ],
)
def test_the_bound_holds_as_often_as_it_says(n, chances):
    """250 samples of a known truth: the bound may exceed it in 5% of them (13), give or take 2.6 standard errors."""
    truth = chances[0] + chances[2] - 0.95 * (chances[0] + chances[1])
    samples = np.random.default_rng(8).multinomial(n, chances, size=250)
    missed = sum(bound(tuple(int(count) for count in cells)) > truth + 1e-9 for cells in samples)
    assert missed <= 21


def test_the_bound_holds_for_rows_in_groups():
    """Whole groups of 1 to 8 rows are lost together with chance 5%: the truth is exactly 0."""
    random = np.random.default_rng(4)
    missed = 0
    for _ in range(120):
        owner = np.repeat(np.arange(60), random.choice((1, 2, 8), 60))
        student = ~(random.random(60) < 0.05)[owner]
        c = compare(np.ones(len(owner), bool), student, groups=[str(o) for o in owner], draws=300)
        missed += c.lower_bound > 0
    assert missed <= 12
    assert c.groups == 60


def test_five_rows_have_wide_intervals():
    c = compare(*right(5, 0, 0))
    lost = 100 * stats.beta.ppf(0.975, 1, 5)  # of five rows, this many in a hundred may still go either way: 52.2
    assert (c.difference.low, c.difference.high) == pytest.approx((-lost, lost), abs=1.5)
    assert (c.retained.low, c.retained.high) == pytest.approx((1 - lost / 100, 1 / (1 - lost / 100)), rel=0.05)


def test_a_teacher_never_right_has_nothing_to_retain():
    c = compare(*right(0, 0, 2, 8))
    assert c.retained is None
    assert json.loads(json.dumps(c.as_record()))["retained"] is None


def test_floor():
    teacher, student = right(90, 3, 2, 5)
    floor = np.arange(100) < 30
    c = compare(teacher, student, floor_right=floor)
    assert c.floor.gap == pytest.approx(0.63)
    assert 0.5 < c.floor.lower_bound < 0.63
    assert c.floor.share.value == 0.3
    # Four rows more than the floor, of five: the exact sign test would give p = 1/16.
    few = compare(np.ones(5, bool), np.ones(5, bool), floor_right=np.arange(5) < 1)
    assert few.floor.gap == pytest.approx(0.8)


def test_same_seed_same_figures_whatever_the_order():
    teacher, student = right(90, 6, 2, 2)
    order = np.random.default_rng(0).permutation(100)
    one = compare(teacher, student, seed=3)
    assert one == compare(teacher[order], student[order], seed=3)
    assert one != compare(teacher, student, seed=4)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="0 rows"):
        compare(np.array([], bool), np.array([], bool))
    with pytest.raises(DataError, match="do not pair"):
        compare(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(DataError, match="baseline has 2 rows"):
        compare(np.ones(3, bool), np.ones(3, bool), floor_right=np.ones(2, bool))
    with pytest.raises(PlanError, match=r"gate\.retain is 95"):
        compare(np.ones(3, bool), np.ones(3, bool), retain=95)
