from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from toolkit.errors import DataError
from toolkit.score.intervals import bootstrap_interval, clustered_share, share, wilson


def rate(sums):
    return sums[:, 0] / sums[:, 1]


def rows(flags):
    return np.column_stack([flags, np.ones(len(flags))])


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 10), (7, 10), (350, 360), (360, 360), (1, 5000)])
@pytest.mark.parametrize("confidence", [0.90, 0.95, 0.99])
def test_wilson_is_that_of_statsmodels(successes, n, confidence):
    expected = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert wilson(successes, n, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_by_hand():
    # 0 of 10: z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson(0, 10) == (0.0, pytest.approx(0.27753, abs=1e-5))
    assert wilson(10, 10) == (pytest.approx(0.72247, abs=1e-5), 1.0)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 4), (5, 4)])
def test_a_rate_that_cannot_be_is_refused(successes, n):
    with pytest.raises(DataError, match=f"{successes} out of {n}"):
        wilson(successes, n)


def test_share_carries_its_denominator_and_direction():
    metric = share(3, 12, higher_is_better=False)
    assert (metric.value, metric.n, metric.unit, metric.higher_is_better) == (0.25, 12, "share", False)
    assert (metric.low, metric.high) == wilson(3, 12)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(3).exponential(size=80)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=7).confidence_interval
    # 80 different values: rows are drawn one by one.
    assert bootstrap_interval(rows(values), rate) == pytest.approx(tuple(expected), rel=0.015)
    # Few different values: the counts of each are drawn.
    coarse = np.round(values)
    expected = stats.bootstrap((coarse,), np.mean, method="percentile", n_resamples=10_000, rng=7).confidence_interval
    assert bootstrap_interval(rows(coarse), rate) == pytest.approx(tuple(expected), rel=0.03)


@pytest.mark.parametrize(("successes", "n"), [(5, 5), (0, 5), (59, 59), (190, 200), (355, 360)])
def test_a_guarded_rate_is_clopper_pearson(successes, n):
    flags = np.arange(n) < successes
    low, high = bootstrap_interval(rows(flags), rate, worst=(0, 1), best=(1, 1))
    exact = proportion_confint(successes, n, method="beta")
    assert (low, high) == (pytest.approx(exact[0], abs=0.01), pytest.approx(exact[1], abs=0.01))


def test_an_unguarded_bootstrap_of_equal_rows_has_no_width():
    """Why the guard is there."""
    assert bootstrap_interval(rows(np.ones(5)), rate) == (1.0, 1.0)


def test_groups_are_drawn_whole():
    flags = np.repeat([True, False], 50)
    low, high = bootstrap_interval(rows(flags), rate, groups=["a"] * 50 + ["b"] * 50)
    assert (low, high) == (0.0, 1.0)  # of two groups, a quarter of all draws is twice the same one
    alone = bootstrap_interval(rows(flags), rate, groups=[str(row) for row in range(100)])
    assert alone == bootstrap_interval(rows(flags), rate)


def test_ten_copies_of_a_row_are_one_row():
    flags = np.arange(40) < 36
    copies, groups = np.repeat(flags, 10), [str(row) for row in np.repeat(np.arange(40), 10)]
    once = bootstrap_interval(rows(flags), rate, worst=(0, 1), best=(1, 1))
    grouped = bootstrap_interval(rows(copies), rate, worst=(0, 1), best=(1, 1), groups=groups)
    assert grouped == pytest.approx(once, abs=1e-9)
    metric = clustered_share(copies, groups)
    assert (metric.low, metric.high) == pytest.approx(once, abs=1e-9)
    assert clustered_share(copies).low > metric.low


def test_a_seed_fixes_the_interval_and_the_order_of_rows_does_not_matter():
    values = np.random.default_rng(5).normal(size=30).round(1)
    one = bootstrap_interval(rows(values), rate, seed=4)
    assert one == bootstrap_interval(rows(values), rate, seed=4)
    assert one != bootstrap_interval(rows(values), rate, seed=5)
    assert one == pytest.approx(bootstrap_interval(rows(values[::-1]), rate, seed=4))


def test_memory_stays_bounded():
    features = rows(np.random.default_rng(0).normal(size=2_000))  # 2,000 x 10,000 doubles would be 160 MB
    tracemalloc.start()
    bootstrap_interval(features, rate, worst=(-9, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


def test_nothing_to_resample_and_groups_that_do_not_pair_are_refused():
    with pytest.raises(DataError, match="no rows"):
        bootstrap_interval(np.zeros((0, 2)), rate)
    with pytest.raises(DataError, match="3 rows came with 2 groups"):
        bootstrap_interval(rows(np.ones(3)), rate, groups=["a", "b"])
