from __future__ import annotations

import time

import numpy as np
import psutil
import pytest
from scipy import stats

from toolkit.errors import PlanError, UsageError
from toolkit.score.measure import (
    EnergyCounter,
    LatencySample,
    NotMeasured,
    energy_counter,
    measure_energy,
    measure_latency,
    measure_throughput,
    process_memory,
    quantile_interval,
)
from toolkit.score.money import api_cost_per_1000, cost_per_1000


def test_latency_percentiles():
    sample = LatencySample.of(np.arange(1, 1001)[::-1])
    assert (sample.p50.value, sample.p95.value, sample.p99.value) == pytest.approx((500.5, 950.05, 990.01))
    assert sample.mean.value == 500.5
    # 1.96 standard errors of a uniform sample's mean: 288.7 / sqrt(1000)
    assert (sample.mean.low, sample.mean.high) == pytest.approx((500.5 - 17.9, 500.5 + 17.9), abs=0.6)
    assert (sample.p95.n, sample.p95.unit, sample.p95.higher_is_better) == (1000, "ms", False)
    assert set(sample.as_record()) == {"p50", "p95", "p99", "mean"}


@pytest.mark.parametrize(("n", "quantile"), [(20, 0.5), (300, 0.5), (300, 0.95), (300, 0.99), (5_000, 0.99)])
def test_the_ranks_of_a_quantile_cover_it(n, quantile):
    """The samples 1..n are their own ranks; a rank interval covers with binomial chance, worked out by scipy."""
    lower, upper = quantile_interval(np.arange(1, n + 1).astype(float), quantile)
    below = stats.binom(n, quantile)
    coverage = below.cdf(upper - 1) - below.cdf(lower - 1)
    assert 0.95 <= coverage < 0.985


def test_too_few_samples_for_a_tail_end_at_the_largest():
    _, upper = quantile_interval(np.arange(1, 21).astype(float), 0.99)
    assert upper == 20


def test_measured_latency_is_the_clock_s():
    sample = measure_latency(lambda: time.sleep(0.002), warmup=2, repeats=30)
    assert sample.p50.n == 30
    assert 2 <= sample.p50.low <= sample.p50.value <= sample.p50.high


def test_a_slow_call_ends_at_its_time():
    calls = []
    start = time.perf_counter()
    sample = measure_latency(lambda: calls.append(time.sleep(0.05)), warmup=20, repeats=300, seconds=0.12)
    assert time.perf_counter() - start < 1
    assert 1 <= sample.p50.n < len(calls) < 10


def test_no_repeats_no_figure():
    with pytest.raises(UsageError, match="nothing was timed"):
        measure_latency(lambda: None, repeats=0)


def test_throughput():
    metric = measure_throughput(lambda: time.sleep(0.005), items_per_call=4, warmup=1, seconds=0.3)
    assert 0 < metric.low <= metric.value <= metric.high <= 800  # 4 items in at least 5 ms
    assert (metric.unit, metric.higher_is_better) == ("items/s", True)


def test_memory_of_this_process():
    memory = process_memory()
    assert memory.rss == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    ballast = np.ones(8_000_000)
    grown = process_memory()
    assert grown.rss - memory.rss == pytest.approx(ballast.nbytes, rel=0.2)
    if grown.pss is not None:
        assert 0 < grown.pss <= grown.rss
    for metric in grown.metrics().values():
        assert metric.low == metric.value == metric.high


def fake_powercap(root, zones):
    """Stands for /sys/class/powercap of a machine with counters; virtual machines have none."""
    for folder, (name, energy, turn) in zones.items():
        (root / folder).mkdir()
        (root / folder / "name").write_text(f"{name}\n")
        if energy is not None:
            (root / folder / "energy_uj").write_text(f"{energy}\n")
            (root / folder / "max_energy_range_uj").write_text(f"{turn}\n")
    return root


def test_energy_counts_packages_and_memory_once(tmp_path):
    root = fake_powercap(
        tmp_path,
        {
            "intel-rapl:0": ("package-0", 1_000, 10_000_000),
            "intel-rapl:0:0": ("core", 500, 10_000_000),
            "intel-rapl:0:1": ("dram", 200, 10_000_000),
            "intel-rapl:1": ("psys", 2_000, 10_000_000),
            "intel-rapl:2": ("package-1", None, None),
        },
    )
    counter = energy_counter(root)
    assert isinstance(counter, EnergyCounter)
    assert counter.read() == (1_000, 200)


def test_energy_over_a_counter_s_turn(tmp_path):
    root = fake_powercap(tmp_path, {"intel-rapl:0": ("package-0", 0, 5_000_000), "b:1": ("package-1", 0, 9_000_000)})
    counter = energy_counter(root)
    assert [path.parent.name for path, _ in counter.zones] == ["b:1", "intel-rapl:0"]
    # The first counts on from 1 to 3 J, the second turns at 5 J: 4.5 -> 0.25.
    assert counter.joules((1_000_000, 4_500_000), (3_000_000, 250_000)) == pytest.approx(2 + 0.75)


def test_joule_a_call(tmp_path):
    root = fake_powercap(tmp_path, {"intel-rapl:0": ("package-0", 900_000, 1_000_000)})
    file = root / "intel-rapl:0" / "energy_uj"

    def call():  # each call spends 0.03 J; the counter turns often
        file.write_text(str((int(file.read_text()) + 30_000) % 1_000_000))
        time.sleep(0.004)

    metric = measure_energy(call, energy_counter(root), blocks=5, seconds=0.1)
    assert metric.value == pytest.approx(0.03)
    assert (metric.unit, metric.n, metric.higher_is_better) == ("joule", 5, False)


def test_without_counters_nothing_is_invented(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        absent = energy_counter(root)
        assert isinstance(absent, NotMeasured)
        assert str(absent) == "not measured here: this machine shows no energy counters"


def test_counters_that_may_not_be_read(tmp_path, monkeypatch):
    root = fake_powercap(tmp_path, {"intel-rapl:0": ("package-0", 1, 2)})
    file = root / "intel-rapl:0" / "energy_uj"
    read_text = type(file).read_text

    def refuse(path, *args, **kwargs):  # file modes do not bind root, who may run this test
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(type(file), "read_text", refuse)
    assert "administrator" in str(energy_counter(root))


def test_cost_per_1000():
    # 1,000 x 3.6 ms = 3.6 s = 0.001 h; at 2 an hour and half in use: 0.004
    cost = cost_per_1000(3.6, 2.0, 0.5)
    assert cost.amount == pytest.approx(0.004)
    assert cost.arithmetic == "1,000 x 3.6 ms = 3.6 s; 3.6 / 3,600 h x 2 an hour / 0.5 in use = 0.004"


def test_what_an_api_takes_for_the_same_texts():
    cost = api_cost_per_1000(120, 60, 0.5, 2.0)
    assert cost.amount == pytest.approx(0.18)  # 120,000 tokens at 0.5 and 60,000 at 2 a million: 0.06 + 0.12
    assert cost.arithmetic == ("1,000 x (120 prompt tokens x 0.5 + 60 answer tokens x 2) / 1,000,000 = 0.18")


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, -1, 1), (1, 1, 0), (1, 1, 1.5)])
def test_a_cost_that_cannot_be(arguments):
    with pytest.raises(PlanError, match="no cost"):
        cost_per_1000(*arguments)
