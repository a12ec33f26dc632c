"""The words, tables and drawings of the page, against figures worked out by hand."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from toolkit.report import charts, wording
from toolkit.report.costs import cost_rows, end_to_end_rows
from toolkit.report.course import courses
from toolkit.report.learning import panels, pulls
from toolkit.report.tables import agreement, class_rows, count_rows, mix_ups, parity_words, quality, sorting
from toolkit.report.verdict import key_figures, notes, verdict


def metric(
    value: float, low: float | None = None, high: float | None = None, *, n: int = 100, unit: str = "share"
) -> Any:
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high, "n": n,
            "unit": unit, "higher_is_better": True}  # fmt: skip


# --- numbers in words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "expected"), [
    (wording.percent(0.9778), "97.8%"), (wording.percent(1.0), "100.0%"), (wording.percent(0.9999), "> 99.9%"),
    (wording.percent(0.0002), "< 0.1%"), (wording.percent(0.0), "0.0%"), (wording.percent(None), "–"),
    (wording.milliseconds(0.2841), "0.284 ms"), (wording.milliseconds(3.7), "3.70 ms"),
    (wording.milliseconds(123.4), "123 ms"), (wording.milliseconds(1500), "1.50 s"), (wording.milliseconds(0), "0 ms"),
    (wording.size(812), "812 bytes"), (wording.size(118_764), "119 KB"), (wording.size(13_528_004), "13.5 MB"),
    (wording.size(999_999), "1.00 MB"), (wording.size(2.5e9), "2.50 GB"),
    (wording.times(13.17), "13.2×"), (wording.times(99.96), "100×"), (wording.times(0.5), "0.500×"),
    (wording.points(-0.833), "−0.83 points"), (wording.points(4.1), "+4.10 points"),
    (wording.counted(1, "picture"), "1 picture"), (wording.counted(1080, "picture"), "1,080 pictures"),
    (wording.parameters(81_030), "81 thousand"), (wording.parameters(3_379_000), "3.38 million"),
    (wording.parameters(999_700), "1.00 million"), (wording.parameters(640), "640"),
    (wording.duration(0.42), "0.4 s"), (wording.duration(59.6), "1 min 0 s"), (wording.duration(190), "3 min 10 s"),
    (wording.duration(7500), "2 h 5 min"), (wording.duration(9.97), "10 s"),
    (wording.one_in(0.025), "1 in 40"), (wording.one_in(0.0), "none"), (wording.one_in(0.25), "25.0%"),
    (wording.decimal(0.0618), "0.062"), (wording.decimal(0.0001), "< 0.001"), (wording.decimal(0.0), "0.000"),
    (wording.money(0.0000822, "EUR"), "EUR 0.0000822"), (wording.money(12.5, "EUR"), "EUR 12.5"),
    (wording.buys(0.0000822, "EUR"), "EUR 1 pays for 12.2 million requests"), (wording.buys(1.0, "EUR"), ""),
    (wording.day("2026-07-24T10:12:00+00:00"), "24 July 2026"), (wording.day("yesterday"), "yesterday"),
])  # fmt: skip
def test_numbers_in_words(words: str, expected: str) -> None:
    assert words == expected


@pytest.mark.parametrize(("given", "figure", "interval"), [
    (metric(0.971, 0.948, 0.984), "97.1%", "94.8% to 98.4%"), (metric(0.5), "50.0%", ""),
    (metric(3.7, 3.69, 3.71, unit="ms"), "3.70 ms", "3.69 to 3.71 ms"),
    (metric(999e3, 998e3, 1.2e6, unit="bytes"), "999 KB", "998 KB to 1.20 MB"),
    (metric(13.2, 13.05, 13.31, unit="times"), "13.2×", "13.1× to 13.3×"),
    (metric(0.0123, 0.012, 0.0125, unit="joule"), "0.0123 J", "0.0120 to 0.0125 J"),
    (metric(51.2, 50.0, 52.0, unit="items/s"), "51.2 items/s", "50.0 items/s to 52.0 items/s"), (None, "–", ""),
])  # fmt: skip
def test_a_metric_in_words(given: Any, figure: str, interval: str) -> None:
    assert (wording.figure(given), wording.interval(given)) == (figure, interval)


# --- the top of the page -----------------------------------------------------------------------------------------


def gated(outcome: str, retained: float, speed: float = 13.2, space: float = 41.0, **more: Any) -> dict[str, Any]:
    return {
        "gate": {"outcome": outcome, "comparison": {"retained": metric(retained), "retain": 0.95}},
        "costs": {"ratios": {"latency": metric(speed, unit="times"), "size": metric(space, unit="times")}}, **more,
    }  # fmt: skip


@pytest.mark.parametrize(("report", "tone", "sentence"), [
    (gated("pass", 0.991), "good", "The student keeps 99.1% of its teacher's quality, answers 13.2× faster and takes "
     "41.0× less space. Gate passed."),
    (gated("pass", 1.003, 0.5, 1.0), "good", "The student keeps all of its teacher's quality (100.3%), answers 2.0× "
     "slower and takes about as much space. Gate passed."),
    (gated("fail", 0.825), "bad", "The student keeps 82.5% of its teacher's quality, answers 13.2× faster and takes "
     "41.0× less space. Gate failed: at least 95.0% was promised."),
    (gated("fail", 0.99), "bad", "The student keeps 99.0% of its teacher's quality, answers 13.2× faster and takes "
     "41.0× less space. Gate failed."),
    ({"gate": {"outcome": "insufficient_n", "comparison": {"retained": metric(1.0)}}}, "unsure",
     "The student keeps all of its teacher's quality (100.0%). The test pictures are too few to be sure of it."),
    ({"gate": {"outcome": "pass"}, "violations": [{}, {}]}, "bad", "Gate passed. 2 rules refused the release."),
    ({}, "none", "This run has no verdict: no gate was asked."),
])  # fmt: skip
def test_the_verdict_in_one_sentence(report: Any, tone: str, sentence: str) -> None:
    found = verdict(report)
    assert (found.tone, found.sentence) == (tone, sentence)


def test_key_figures_say_slower_and_larger_where_they_are() -> None:
    report = gated("fail", 0.5, 0.25, 0.5, compiled={"metrics": {"accuracy": metric(1.0, 0.96, 1.0)}})
    accuracy, speed, size = key_figures(report)
    assert (accuracy.value, accuracy.beside) == ("100.0%", "likely 96.0% to 100.0%")
    assert accuracy.explained == "No answer was wrong."
    assert (speed.value, size.value) == ("4.0× slower", "2.0× larger")


def test_notes_tell_what_limits_the_figures() -> None:
    quiet = {"run": {"sample": False}, "data": {"stated": True, "leaks": []}}
    assert notes(quiet) == ()
    loud = {"run": {"development_keys": True, "overrides": ["trade fair"]}, "data": {"stated": False, "leaks": [[1]]},
            "violations": [{"by": "industry", "because": "too many escapes", "measured": "3%", "allowed": "1%"}],
            "gate": {"outcome": "insufficient_n", "refuses": False}}  # fmt: skip
    found = {note.title: note for note in notes(loud)}
    assert list(found) == ["Release refused", "Overridden", "Pictures shared between splits", "Small sample",
                           "No licence stated", "Development keys"]  # fmt: skip
    assert found["Release refused"].items == ("too many escapes (measured 3%, allowed 1%). Rule of: industry",)
    assert found["Overridden"].items == ("trade fair",)


# --- tables ------------------------------------------------------------------------------------------------------


def test_what_distilling_added_or_cost_is_never_hidden() -> None:
    def added(student: Any, baseline: Any) -> str:
        models = {"student": {"metrics": {"accuracy": student}}, "baseline": {"metrics": {"accuracy": baseline}}}
        found = quality(models)
        return "" if found is None else found.added

    assert "added 1.50 points" in added(metric(0.98, 0.96, 0.99), metric(0.965, 0.94, 0.98))
    assert "may be chance" in added(metric(0.98, 0.96, 0.99), metric(0.965, 0.94, 0.98))
    assert "may be chance" not in added(metric(0.98, 0.97, 0.99), metric(0.90, 0.88, 0.92))
    assert "cost 2.00 points" in added(metric(0.94), metric(0.96))
    assert "made no difference" in added(metric(0.94), metric(0.94))


def test_quality_shows_a_domains_own_metrics_too() -> None:
    found = quality({"teacher": {"name": "big", "metrics": {
        "accuracy": metric(0.9), "macro_f1": metric(0.8), "pixel_overlap": metric(0.7), "recall/x": metric(1.0),
        "escapes": metric(0.1)}}})  # fmt: skip
    assert found is not None
    assert [name for name, _ in found.columns] == ["Macro F1", "Pixel overlap"]
    assert [cell.figure for cell in found.rows[0].others] == ["80.0%", "70.0%"]
    assert quality({}) is None


def test_classes_are_those_of_the_shipped_model_beside_the_teachers() -> None:
    report = {
        "compiled": {"metrics": {"recall/pit/deep": metric(0.975, n=40), "escapes": metric(0.05, n=40),
                                 "overkill": metric(0.0, n=20)}},
        "teacher": {"metrics": {"recall/pit/deep": metric(1.0, n=40)}},
    }  # fmt: skip
    (row,) = class_rows(report)
    assert (row.name, row.missed, row.teachers) == ("pit/deep", "1 of 40 missed", metric(1.0, n=40))
    escapes, overkill = sorting(report)
    assert escapes.words == "2 of 40 defective parts would be let through: 1 in 20."
    assert overkill.words == "None of 20 good parts would be stopped."


def test_mix_ups_are_sorted_and_count_unreadable_rows() -> None:
    report = {"compiled": {"classes": ["a", "b"], "confusion": [[5, 1], [3, 6]], "unreadable": [2, 0]}}
    assert [(m.truth, m.called, m.number, m.of) for m in mix_ups(report)] == [("b", "a", 3, 9), ("a", "b", 1, 8)]


def test_costs_show_a_ratio_only_where_one_is_defined() -> None:
    latency = {name: metric(3.7, 3.6, 3.8, unit="ms") for name in ("p50", "p95", "p99")}
    model = {"latency": latency, "size": metric(10e6, unit="bytes"), "energy": "not measured here: no counters"}
    rows = {row.name: row for row in cost_rows({"costs": {
        "teacher": model, "student": model | {"size": None},
        "ratios": {"latency": metric(13.2, 13.0, 13.4, unit="times"), "energy": None},
    }})}  # fmt: skip
    median, size, energy = (rows[name] for name in ("Time for one picture, median (p50)", "Size of the model's files",
                                                    "Energy for one picture"))  # fmt: skip
    assert median.ratio is not None
    assert (median.ratio.figure, median.ratio.interval) == ("13.2×", "13.0× to 13.4×")
    assert (size.teacher.figure, size.student.figure, size.ratio) == ("10.0 MB", "–", None)
    assert (energy.teacher.figure, energy.teacher.interval) == ("not measured here", "no counters")
    assert end_to_end_rows({"end_to_end": {"teacher": {"rss": metric(1.5e8, unit="bytes")}}})[0].ratio is None


def test_counts_have_their_sums() -> None:
    counts = {"train": {"a": 3, "b": 4}, "test": {"a": 1}}
    splits, rows = count_rows({"data": {"classes": ["a", "b"], "counts": counts}})
    assert splits == ("train", "test")
    assert [(row.name, row.counts, row.total) for row in rows] == [
        ("a", ("3", "1"), "4"), ("b", ("4", "0"), "4"), ("All", ("7", "1"), "8"),
    ]  # fmt: skip


def test_sentences_about_agreement_and_parity() -> None:
    comparison = {"teacher_only": 5, "student_only": 2, "n": 360}
    assert agreement({"gate": {"comparison": comparison}}) == (
        "On 7 of 360 test pictures only one of the two was right: the teacher 5 times, the student 2 times."
    )
    assert agreement({}) == parity_words({}) == ""
    parity = {"rows": 138, "same_decision": 0.9928, "worst_class": 0.9565}
    assert "99.3% of 138 pictures" in parity_words({"compiled": {"parity": parity}})


def test_panels_share_the_axis_of_accuracy_and_skip_gaps() -> None:
    def epoch(accuracy: float, loss: float | None) -> dict[str, float | None]:
        return {"validation_accuracy": accuracy, "loss": loss, "validation_loss": 0.5}

    teacher = [epoch(0.95, 1.0), epoch(0.99, 0.2)]
    student = [epoch(0.42, 2.0), epoch(0.8, None), epoch(0.9, 0.5), epoch(0.97, 0.4)]
    first, second = panels({"teacher": {"history": teacher, "picked_epoch": 1}, "student": {"history": student}})
    assert first.kept == "Epoch 2 of 2 was kept: 99.0% of validation."
    assert second.kept == ""
    assert all("40%" in panel.accuracy and "100%" in panel.accuracy for panel in (first, second))
    assert second.loss.count('class="curve training"') == 1  # the two epochs after the gap
    assert second.loss.count('class="dot training"') == 1  # the one before


def test_what_an_objective_weighed_is_one_figure_or_two() -> None:
    def epoch(weight: float, **more: float) -> dict[str, float]:
        return {"pull/feature": 0.25, "feature": weight, "objective_weight/feature": weight, "pull/response": 0.75,
                "response": 2.0, "objective_weight/response": 0.6} | more  # fmt: skip

    history = [epoch(0.5), epoch(0.25), epoch(0.01)]
    response, feature = pulls({"student": {"history": history, "picked_epoch": 2}})
    assert (response.name, response.weight, response.share) == ("response", "0.60", 0.75)
    assert (feature.weight, feature.first, feature.kept) == ("0.50 to 0.010", "0.500", "0.0100")
    drawing = ElementTree.fromstring(feature.curve)
    # 110 by 22 with an edge of 3: from the top (0.5) by (0.25 - 0.01) / 0.49 of 16 above the bottom to the bottom
    assert [line.get("points") for line in drawing.iter("polyline")] == ["3.0,3.0 55.0,11.2 107.0,19.0"]
    for one in history:
        del one["objective_weight/feature"]
    assert pulls({"student": {"history": history, "picked_epoch": 2}})[1].weight == ""


def test_how_training_went_is_told_of_what_is_known() -> None:
    history = [{"agreement": 0.43, "gradient_norm": 4.0}, {"agreement": 0.9, "gradient_norm": 1.0}]
    queue = {"queue/total": 1200.0, "queue/training_waited_s": 141.2, "queue/labelling_waited_s": 0.4}
    paces = [{}, {"rows_per_second": 80.0, "queue/depth": 12.5} | queue]
    student = {"history": history, "pace": paces}
    alike, norm, pace, waiting = courses({"student": student, "baseline": {"history": [{"gradient_norm": 2.0}] * 2}})
    assert [one.title for one in (alike, norm, pace, waiting)] == [
        "Agreement with the teacher", "Gradient norm", "Pictures a second", "Labels waiting",
    ]  # fmt: skip
    assert "40%" in alike.drawing
    assert "baseline" not in alike.drawing
    assert norm.drawing.count('class="curve student"') == norm.drawing.count('class="curve baseline"') == 1
    assert pace.drawing.count('class="dot student"') == 1  # of the first epoch nothing is known
    assert "of 1,200. Training waited 2 min 21 s for labels, labelling 0.4 s for training." in waiting.explained
    (tokens,) = courses({"student": {"pace": [{"tokens_per_second": 4e3, "rows_per_second": 8.0}]}})
    assert tokens.title == "Tokens a second"
    assert courses({"student": {"history": [{"loss": 1.0}]}, "baseline": None}) == ()


# --- drawings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "start"), [(0.96, 0.95), (0.95, 0.95), (0.931, 0.9), (0.86, 0.8), (0.5, 0.5), (0.2, 0)]
)
def test_a_share_axis_shows_every_interval_whole(least: float, start: float) -> None:
    axis = charts.share_axis([metric(0.99, least, 1.0), None])
    assert (axis.low, axis.high, axis.ticks[0], axis.ticks[-1]) == (start, 1.0, start, 1.0)
    assert axis.at(start) == 0
    assert axis.at(1.0) == 100


def test_a_whisker_lies_where_its_figures_are() -> None:
    drawing = ElementTree.fromstring(charts.whiskers([("compiled", metric(0.95, 0.92, 0.98))], charts.Axis(0.9, 1, ())))
    assert [(line.get("x1"), line.get("x2")) for line in drawing.iter("line")] == [
        ("20.00%", "80.00%"), ("20.00%", "20.00%"), ("80.00%", "80.00%"),
    ]  # fmt: skip
    mark = drawing.find("svg")
    assert mark is not None
    assert mark.get("x") == "50.00%"
    assert drawing.get("aria-label") == "compiled 95.0%, 92.0% to 98.0%"


def test_the_promise_is_kept_right_of_zero() -> None:
    # reach 1.25 x 4 = 5 points; the axis runs from -1.25 to 5, so zero lies at 20%, 2 points at 52%, 4 at 84%.
    drawing = charts.promise(4.0, 2.0)
    assert re.findall(r'class="zero" x1="([\d.]+)%', drawing) == ["20.00"]
    assert re.findall(r'class="range kept" x1="([\d.]+)%" x2="([\d.]+)%', drawing)[0] == ("52.00", "84.00")
    assert "range missed" in charts.promise(4.0, -0.1)


def test_the_confusion_matrix_shades_by_share_of_the_row() -> None:
    drawing = ElementTree.fromstring(charts.confusion([[9, 1], [0, 4]], ["a", "b<"], [0, 1]))
    assert [group.findtext("title") for group in drawing.iter("g")] == [
        "a called a: 9 of 10", "a called b<: 1 of 10", "a called unreadable: 0 of 10",
        "b< called a: 0 of 5", "b< called b<: 4 of 5", "b< called unreadable: 1 of 5",
    ]  # fmt: skip
    shades = [float(box.get("fill-opacity", "nan")) for box in drawing.iter("rect") if box.get("class") != "empty"]
    assert shades == [0.97, 0.24, 0, 0, 0.94, 0.28]
    assert charts.confusion([], []) == ""
    assert charts.confusion([[1] * 31] * 31, ["x"] * 31) == ""


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0.0, 1.7, [0.0, 0.5, 1.0, 1.5]), (0.9, 1.0, [0.9, 0.925, 0.95, 0.975, 1.0]), (0.0, 40.0, [0, 10, 20, 30, 40]),
    (0.0, 3e-4, [0.0, 0.0001, 0.0002, 0.0003]),
])  # fmt: skip
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert charts.nice_ticks(low, high) == pytest.approx(ticks)


def test_only_the_page_itself_needs_jinja() -> None:
    parts = "wording, charts, verdict, tables, costs, learning"
    code = f"from toolkit.report import {parts}; import sys; sys.exit(bool({{'jinja2', 'torch'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
