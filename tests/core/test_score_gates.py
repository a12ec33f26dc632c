from __future__ import annotations

import json

import numpy as np
import pytest

from toolkit.artifacts import HardwareBudget, Metric
from toolkit.score.compare import compare
from toolkit.score.gates import check_budget, decide


def compared(both, teacher_only, student_only, neither=0, floor=0):
    """`floor` rows of the first ones are those on which the most frequent class is right."""
    cells = [both, teacher_only, student_only, neither]
    teacher = np.repeat([True, True, False, False], cells)
    student = np.repeat([True, False, True, False], cells)
    return compare(teacher, student, floor_right=np.arange(len(teacher)) < floor)


def test_a_kept_promise_passes():
    decision = decide(compared(345, 6, 3, 6, floor=60))
    assert (decision.outcome, decision.refuses) == ("pass", False)
    assert "360 rows" in decision.because
    assert "above zero" in decision.because


def test_a_broken_promise_fails():
    decision = decide(compared(300, 50, 0, 10))
    assert (decision.outcome, decision.refuses) == ("fail", True)
    # 300/360 - 0.95 x 350/360 = -9.03 points
    assert "-9.03 points" in decision.because
    assert "83.3%" in decision.because


def test_a_promise_kept_to_the_row_and_no_further_fails():
    assert decide(compared(95, 5, 0)).outcome == "fail"


@pytest.mark.parametrize(("small_sample", "refuses"), [("refuse", True), ("warn", False)])
def test_a_good_figure_on_few_rows_is_neither(small_sample, refuses):
    decision = decide(compared(5, 0, 0), small_sample=small_sample)
    assert (decision.outcome, decision.refuses) == ("insufficient_n", refuses)
    assert "too few rows" in decision.because


def test_a_warning_never_lets_a_failure_through():
    assert decide(compared(50, 50, 0), small_sample="warn").refuses


def test_a_teacher_under_its_floor_voids_the_gate():
    """The student keeps all of a quality that is worth nothing."""
    decision = decide(compared(60, 0, 0, 40, floor=60))
    assert (decision.outcome, decision.refuses) == ("fail", True)
    assert "void" in decision.because


def test_a_teacher_barely_over_its_floor_is_not_shown_to_beat_it():
    assert decide(compared(1_002, 0, 0, 100, floor=1_000)).outcome == "insufficient_n"
    assert decide(compared(1_050, 0, 0, 100, floor=1_000)).outcome == "pass"


def test_table_and_record_say_the_same():
    decision = decide(compared(345, 6, 3, 6, floor=60))
    table = {row.name: row for row in decision.table}
    assert table["teacher"].value == "97.5%"
    assert table["student"].value == "96.7%"
    assert table["student - teacher"].value == "-0.83 points"
    assert table["only teacher right : only student right"].value == "6 : 3"
    record = decision.as_record()
    assert json.loads(json.dumps(record)) == record
    assert record["outcome"] == "pass"
    assert record["comparison"]["n"] == 360


def test_groups_are_told():
    teacher = np.ones(40, bool)
    decision = decide(compare(teacher, teacher, groups=[str(row // 10) for row in range(40)]))
    assert decision.outcome == "insufficient_n"
    assert "40 rows in 4 groups" in decision.because


def test_what_is_printed_never_rounds_across_zero():
    c = compared(345, 6, 3, 6)
    nearly = decide(type(c)(**{**c.__dict__, "lower_bound": 1e-6}))
    assert "+1.0e-04 points" in nearly.because


def metric(value):
    return Metric(value, value, value, 1)


def test_budget():
    budget = HardwareBudget(latency_p95_ms=10, memory_mb=64, throughput_rps=100)
    fits = {"latency_p95_ms": metric(10), "memory_mb": metric(3), "throughput_rps": metric(100), "size_mb": metric(999)}
    assert check_budget(fits, budget) == []
    slow, missing, slack = check_budget({"latency_p95_ms": metric(10.5), "throughput_rps": metric(99.4)}, budget)
    assert (slow.measured, slow.allowed) == ("10.5 ms", "at most 10 ms")
    assert (slack.measured, slack.allowed) == ("99.4 requests/s", "at least 100 requests/s")
    assert missing.because == "memory_mb was not measured"
    assert check_budget({}, HardwareBudget()) == []
