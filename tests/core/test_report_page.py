"""The page of a run: complete, self-contained, safe with hostile text, and true to its input."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.artifacts import Metric
from toolkit.errors import EnvironmentUnfit
from toolkit.report.page import picture, printable, render, write_report
from toolkit.score.classification import ClassificationScore, majority_right, score_classification
from toolkit.score.compare import compare
from toolkit.score.gates import decide
from toolkit.score.measure import LatencySample, NotMeasured, exact_bytes
from toolkit.score.money import cost_per_1000

STEEL = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
HOSTILE = ("good", "<script>alert(1)</script>", 'pit" onload="alert(2)', "划痕 & Kratzer", "{{ 7 * 7 }}")
VOID = {"meta", "br", "img", "hr", "link", "input"}


# --- two reports -------------------------------------------------------------------------------------------------


@cache
def _steel() -> dict[str, Any]:
    """A full run on six classes of steel defects that passed its gate."""
    rng = np.random.default_rng(3)
    truth = [name for name in STEEL for _ in range(60)]
    teacher, student, compiled, baseline = (answers(truth, STEEL, wrong, rng) for wrong in (5, 8, 8, 14))
    scores = [score_classification(truth, *given, STEEL, groups=None) for given in (teacher, student, compiled, baseline)]
    right = [np.array(given[0]) == np.array(truth) for given in (teacher, compiled)]
    gate = decide(compare(*right, floor_right=majority_right(truth)))
    trained = {"size": "micro", "parameters": 81_030, "input_size": 96}
    return {
        "run": {
            "id": "industry-20260724-101200-7f3a", "domain": "industry", "product": "Steel strip inspection",
            "date": "2026-07-24T10:12:00+00:00", "toolkit": "0.1.0", "sample": False, "development_keys": True,
            "overrides": [], "machine": {
                "cpu": "AMD EPYC 7B13", "cores": 2, "memory_gb": 15.6, "system": "Linux 6.1 x86_64",
                "python": "3.11.7", "onnxruntime": "1.32.0", "torch": "2.13.0",
            },
        },
        "data": {
            "source": "neu-det", "licence": "", "stated": False, "classes": list(STEEL), "good_class": "", "channels": 1,
            "counts": {"train": dict.fromkeys(STEEL, 152), "validation": dict.fromkeys(STEEL, 23),
                       "calibration": dict.fromkeys(STEEL, 5), "test": dict.fromkeys(STEEL, 60)},
            "findings": [
                {"kind": "same-image", "severity": "warning", "message": "two files hold the same bytes",
                 "rows": ["patches_101.jpg", "patches_105.jpg"]},
                {"kind": "grey-as-colour", "severity": "info", "message": "all pictures are grey, stored in colour",
                 "rows": []},
            ],
            "leaks": [],
        },
        "teacher": {
            "name": "efficientnet-lite0", "architecture": "EfficientNet-Lite0", "licence": "Apache-2.0",
            "distillation": "allowed", "parameters": 3_379_000, "validation_accuracy": 0.9928,
            "metrics": metrics(scores[0]), "history": history(8, 0.9, 0.992), "picked_epoch": 6,
        },
        "student": trained | {"metrics": metrics(scores[1]), "history": history(40, 0.35, 0.985), "picked_epoch": 33},
        "baseline": trained | {"metrics": metrics(scores[3]), "history": history(40, 0.3, 0.964), "picked_epoch": 38},
        "compiled": {
            "profile": "cpu", "form": "int8", "rung": "verified_on_device",
            "parity": {"rows": 138, "largest_difference": 0.0618, "mean_difference": 0.00093, "same_decision": 0.9928,
                       "worst_class": 0.9565},
            "forms": [
                {"form": "fp32", "size_bytes": 341_220, "validation_accuracy": 0.9855, "latency_ms": 0.402,
                 "chosen": False, "because": "int8 is faster here and loses less than the margin"},
                {"form": "int8", "size_bytes": 118_764, "validation_accuracy": 0.9783, "latency_ms": 0.281,
                 "chosen": True, "because": "loses 0.7 points, within the margin of 1.0, and is 1.43 times faster"},
            ],
            "metrics": metrics(scores[2]), **scores[2].as_record(),
            "worst": worst(scores[2], truth, compiled[0], compiled[1]),
        },
        "gate": gate.as_record(), "violations": [], "costs": costs(rng),
        "end_to_end": {
            "teacher": {"latency": LatencySample.of(rng.normal(6.1, 0.3, 400)).as_record(),
                        "rss": exact_bytes(148_500_000).as_record()},
            "student": {"latency": LatencySample.of(rng.normal(1.9, 0.1, 400)).as_record(),
                        "rss": exact_bytes(101_200_000).as_record()},
        },
        "money": {"currency": "EUR", "teacher": vars(cost_per_1000(3.7, 0.04, 0.5)),
                  "student": vars(cost_per_1000(0.28, 0.04, 0.5))},
        "stages": [{"name": name, "seconds": seconds, "kept": name == "prepare"} for name, seconds in (
            ("prepare", 0.4), ("label", 206.0), ("distil", 418.5), ("evaluate", 21.2), ("compile", 33.0),
            ("seal", 1.1), ("install", 0.8), ("check", 2.6),
        )],
    }  # fmt: skip


@cache
def _hostile() -> dict[str, Any]:
    """A small sample run that failed: a good class, no baseline, no energy, a long finding, hostile names."""
    rng = np.random.default_rng(8)
    truth = [name for name in HOSTILE for _ in range(12)]
    teacher, student = answers(truth, HOSTILE, 3, rng), answers(truth, HOSTILE, 13, rng)
    student[0][20] = None
    scores = [score_classification(truth, *given, HOSTILE, good_class="good") for given in (teacher, student)]
    right = [np.array(given[0], dtype=object) == np.array(truth, dtype=object) for given in (teacher, student)]
    trained = {"size": "nano", "parameters": 21_400, "input_size": 64}
    return {
        "run": {
            "id": "<img src=x onerror=alert(3)>", "domain": "industry", "product": "Sample lot </title><script>",
            "date": "yesterday", "toolkit": "0.1.0", "sample": True, "development_keys": True,
            "overrides": ["shown to visitors only <b>& nobody else</b>"], "machine": {"cpu": "x86", "cores": 2},
        },
        "data": {
            "source": "https://evil.example/lot", "licence": "CC0-1.0", "stated": True, "classes": list(HOSTILE),
            "counts": {"train": dict.fromkeys(HOSTILE, 40), "test": dict.fromkeys(HOSTILE, 12)},
            "findings": [{"kind": "truncated", "severity": "error", "message": "pictures end early <script>",
                          "rows": [f"train/<script>/\u202ebild_{k:04}\udcff.jpg" for k in range(400)]}],
            "leaks": [[f"train/a{k}.png", f"test/b{k}.png", 0.993] for k in range(30)], "good_class": "good",
            "channels": 3,
        },
        "teacher": {
            "name": "efficientnet-lite0", "architecture": "EfficientNet-Lite0", "licence": "Apache-2.0",
            "distillation": "allowed", "parameters": 3_379_000, "validation_accuracy": 0.95,
            "metrics": metrics(scores[0]), "history": [], "picked_epoch": None,
        },
        "student": trained | {"metrics": metrics(scores[1]), "picked_epoch": 0,
                              "history": [{"loss": float("nan"), "validation_accuracy": 0.7, "validation_loss": 0.9}]},
        "baseline": None,
        "compiled": {
            "profile": "cpu", "form": "fp32", "rung": "verified_on_device", "parity": None, "forms": None,
            "metrics": metrics(scores[1]), **scores[1].as_record(),
            "worst": [{"id": "https://evil.example/x", "truth": HOSTILE[1], "predicted": "good", "confidence": 0.97,
                       "picture": "https://evil.example/pixel.gif"},
                      {"id": "b", "truth": HOSTILE[2], "predicted": HOSTILE[3], "confidence": None,
                       "picture": 'data:image/png;base64,AA"onerror="alert(4)'}],
        },
        "gate": decide(compare(*right, floor_right=majority_right(truth))).as_record(),
        "violations": [{"by": "industry", "because": "escapes are above the limit", "measured": "8.3%",
                        "allowed": "at most 2.0%"}],
        "costs": None, "end_to_end": None, "money": None, "stages": None,
    }  # fmt: skip


def steel() -> dict[str, Any]:
    return copy.deepcopy(_steel())


def hostile() -> dict[str, Any]:
    return copy.deepcopy(_hostile())


def answers(truth: list[str], classes: tuple[str, ...], wrong: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Answers of a model that errs `wrong` times, mostly on the second class, and its probabilities."""
    called: list[str | None] = list(truth)
    weights = np.array([4.0 if name == classes[1] else 1.0 for name in truth])
    for row in rng.choice(len(truth), wrong, replace=False, p=weights / weights.sum()):
        called[row] = classes[(classes.index(truth[row]) + int(rng.integers(1, 3))) % len(classes)]
    probabilities = rng.dirichlet(np.full(len(classes), 0.05), len(truth)) * 0.12
    for row, name in enumerate(called):
        probabilities[row, classes.index(name or classes[0])] += 0.88
    return called, probabilities


def metrics(score: ClassificationScore) -> dict[str, Any]:
    return {name: metric.as_record() for name, metric in score.metrics.items()}


def history(epochs: int, start: float, end: float) -> list[dict[str, float]]:
    share = np.linspace(0, 1, epochs)
    accuracy = end - (end - start) * np.exp(-6 * share)
    return [
        {"loss": float(0.08 + 1.6 * np.exp(-5 * s)), "hard-label": 0.1, "gradient_norm": 1.0,
         "validation_accuracy": float(a), "validation_loss": float(0.12 + 1.2 * np.exp(-4 * s))}
        for s, a in zip(share, accuracy, strict=True)
    ]  # fmt: skip


def worst(score: ClassificationScore, truth: list[str], called: list[str], probabilities: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"{truth[row]}_{row}.jpg", "truth": truth[row], "predicted": called[row],
         "confidence": float(probabilities[row].max()), "picture": jpeg(row)}
        for row in score.worst
    ]  # fmt: skip


def jpeg(seed: int, side: int = 200) -> str:
    noise = np.random.default_rng(seed).integers(90, 160, (side // 8, side // 8), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((side, side)).save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def costs(rng: np.random.Generator) -> dict[str, Any]:
    """As CostComparison.as_record() gives it."""
    times, sizes = (3.7, 0.281), ((13_528_004, 13_480_120, 4_816_896), (118_764, 97_330, 331_776))
    energy = str(NotMeasured("this machine shows no energy counters"))
    teacher, student = (
        {
            "latency": LatencySample.of(rng.normal(mean, mean / 40, 600)).as_record(),
            "size": exact_bytes(size).as_record(), "weights": exact_bytes(weights).as_record(),
            "activations": exact_bytes(peak).as_record(), "memory": exact_bytes(weights + peak).as_record(),
            "energy": energy,
        }
        for mean, (size, weights, peak) in zip(times, sizes, strict=True)
    )  # fmt: skip
    ratios = {name: teacher[name]["value"] / student[name]["value"] for name in ("size", "memory")}
    exact = {name: Metric(value, value, value, 1, "times").as_record() for name, value in ratios.items()}
    latency = Metric(13.17, 13.05, 13.31, 30, "times").as_record()
    return {"teacher": teacher, "student": student, "ratios": exact | {"latency": latency, "energy": None}}


# --- the page ----------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The page as an HTML parser sees it: every tag closed in order, and all that could fetch or run something."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(page: str) -> str:
    """What a reader sees, the curves' axes left out."""
    root = ElementTree.fromstring(page)
    for parent in root.iter():
        for child in list(parent):
            if child.tag == "style" or child.get("class") in ("axis", "curves"):
                parent.remove(child)
    return " ".join(" ".join(root.itertext()).split())


@pytest.fixture(scope="module", params=["steel", "hostile", "empty"])
def page(request: pytest.FixtureRequest) -> str:
    return render({"steel": steel, "hostile": hostile, "empty": dict}[request.param]())


def test_page_is_well_formed_as_html_and_as_xml(page: str) -> None:
    Tags(page)
    assert ElementTree.fromstring(page).tag == "html"
    assert page.startswith("<!DOCTYPE html>")


def test_page_fetches_and_runs_nothing(page: str) -> None:
    tags = Tags(page)
    assert not tags.names & {"script", "link", "iframe", "object", "embed", "form", "base", "video", "audio", "use"}
    for tag, name, value in tags.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert value.startswith("#") if tag == "a" else value.startswith("data:image/jpeg;base64,")
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_every_link_inside_the_page_has_its_goal(page: str) -> None:
    attributes = Tags(page).attributes
    goals = {value for _, name, value in attributes if name == "id"}
    assert {value[1:] for _, name, value in attributes if name == "href"} <= goals


def test_no_address_but_the_text_of_the_data() -> None:
    assert re.findall(r"https?://[^<\"\s]*", render(steel())) == []
    assert set(re.findall(r"https?://[^<\"\s]*", render(hostile()))) == {"https://evil.example/lot"}


def test_hostile_text_is_shown_as_text() -> None:
    report = hostile()
    seen = text_of(render(report))
    for name in (*HOSTILE, report["run"]["id"], report["run"]["product"], report["run"]["overrides"][0]):
        assert name in seen
    assert "\u202e" not in seen
    assert "train/<script>/\N{REPLACEMENT CHARACTER}bild_0000\N{REPLACEMENT CHARACTER}.jpg" in seen


@pytest.mark.parametrize("url", [
    "https://evil.example/pixel.gif", "data:text/html;base64,PGI+", "data:image/svg+xml;base64,PHN2Zz4=", "", None, 7,
    'data:image/png;base64,AA"onerror="alert(4)', "data:image/png;base64,AA==\n", " data:image/png;base64,AA==",
])  # fmt: skip
def test_only_a_raster_picture_in_the_page_itself_is_shown(url: object) -> None:
    assert picture(url) == ""


@pytest.mark.parametrize("example", [steel, hostile])
def test_any_part_may_be_null_or_missing(example: Any) -> None:
    report = example()
    paths = [(name,) for name in report]
    paths += [(name, inner) for name, part in report.items() if isinstance(part, dict) for inner in part]
    for path in paths:
        for gone in (True, False):
            changed = copy.copy(report)
            changed[path[0]] = part = copy.copy(report[path[0]])
            holder = changed if len(path) == 1 else part
            if gone:
                del holder[path[-1]]
            else:
                holder[path[-1]] = None
            ElementTree.fromstring(render(changed))


def test_every_number_on_the_page_comes_from_the_report() -> None:
    report = steel()
    number = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
    known = {"1", "95", "99", "100", "1,000", "50"} | set(number.findall(json.dumps(report["data"]["classes"])))
    known |= set(number.findall("macro F1 p50 p95 p99 24 July 2026"))
    for leaf in leaves(report):
        if isinstance(leaf, str) and not leaf.startswith("data:"):
            known |= set(number.findall(leaf))
        elif isinstance(leaf, int | float):
            known |= set(number.findall(" ".join(written(abs(leaf)))))
    accuracy = {kind: report[kind]["metrics"]["accuracy"]["value"] for kind in ("student", "baseline", "compiled")}
    wrong = round(360 * (1 - accuracy["compiled"]))
    comparison = report["gate"]["comparison"]
    derived = [
        f"{360 / wrong:.0f}",  # wrong answers, 1 in
        f"{100 * (accuracy['student'] - accuracy['baseline']):.2f}",  # what distilling added
        f"{comparison['teacher_only'] + comparison['student_only']}",
        f"{100 * comparison['margin']:.2f}", f"{100 * comparison['lower_bound']:.2f}",
        *(f"{missed}" for missed in range(6)),  # of a class's 60, counted below
        "7", "34", "39", "8", "40",  # epochs, from 1
        "240", "912", "138", "30", "360", "1,440",  # sums of the counts
        "3", "26", "6", "58", "11", "24",  # 206 s, 418.5 s and 683.6 s
        "12.2", "161",  # million requests for one euro
        "152", "23", "5", "60", "3.38", "81",
    ]  # fmt: skip
    assert set(number.findall(text_of(render(report)))) - known - set(derived) == set()
    per_class = {row["value"] for name, row in report["compiled"]["metrics"].items() if name.startswith("recall/")}
    assert max(60 * (1 - value) for value in per_class) < 5.5


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def written(value: float) -> list[str]:
    """A number in every unit the page knows, by Python's own formatting."""
    units = [value, 100 * value, value / 1e3, value / 1e6]
    fixed = [f"{v:,.{places}f}" for v in units for places in (0, 1, 2, 3, 4)]
    return [*fixed, *(f"{v:.{places}f}" for v in (value,) for places in (5, 6, 7, 8)), f"{value:.3g}"]


def test_figures_stand_on_the_page_as_in_the_report() -> None:
    report = steel()
    seen = text_of(render(report))
    for shown in ("Steel strip inspection", "24 July 2026", "Gate passed", "13.2× faster", "114× smaller", "42.6× less",
                  "119 KB instead of 13.5 MB", "0.281 ms instead of 3.70 ms", "not measured here",
                  "this machine shows no energy counters", "No licence stated", "Development keys", "148 MB", "101 MB",
                  "EfficientNet-Lite0, 3.38 million parameters", "micro, 81 thousand parameters", "int8, for cpu",
                  "verified on device", "Epoch 34 of 40 was kept", "same image", "patches_105.jpg", "AMD EPYC 7B13",
                  "kept from an earlier run", "6 min 58 s", report["run"]["id"], report["gate"]["because"],
                  report["money"]["student"]["arithmetic"], *(cell for row in report["gate"]["table"] for cell in row)):
        assert shown in seen  # fmt: skip
    for name, metric in report["compiled"]["metrics"].items():
        assert f"{metric['value']:.1%}" in seen, name


def test_a_sample_that_failed_says_so() -> None:
    seen = text_of(render(hostile()))
    for shown in ("SAMPLE", "Gate failed, release refused", "at least 95.0% was promised", "1 rule refused the release",
                  "escapes are above the limit (measured 8.3%, allowed at most 2.0%)", "Defects that pass as good",
                  "Good parts that are rejected", "30 pairs of near-identical pictures", "And 18 more",
                  "And 340 more", "400 pictures", "no picture kept", "unreadable"):
        assert shown in seen  # fmt: skip
    assert "labels alone" not in seen
    assert "which none of them had learned from" not in seen


def test_page_stays_small_with_twenty_pictures() -> None:
    report = steel()
    case = report["compiled"]["worst"][0]
    noise = np.random.default_rng(0).integers(0, 256, (20, 200, 200), dtype=np.uint8)
    report["compiled"]["worst"] = []
    bare = len(render(report).encode())
    for pixels in noise:  # noise: no picture of this size takes more
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=80)
        url = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
        report["compiled"]["worst"].append(case | {"picture": url})
    page = render(report)
    assert page.count("<img ") == 20
    assert len(page.encode()) < 1_000_000
    assert bare < 100_000


def test_write_report_leaves_both_files_and_nothing_else(tmp_path: Path) -> None:
    report = hostile()
    write_report(tmp_path / "run", report)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]
    assert (tmp_path / "run" / "report.html").read_text() == render(report)
    saved = json.loads((tmp_path / "run" / "report.json").read_text())
    assert saved == printable(report)
    assert saved["student"]["history"][0]["loss"] is None
    assert saved["gate"] == json.loads(json.dumps(report["gate"]))


def test_write_report_says_when_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    (tmp_path / "report.json" / "full").touch()
    with pytest.raises(EnvironmentUnfit):
        write_report(tmp_path, {})


def test_text_can_be_read_on_its_ground_in_light_and_dark() -> None:
    css = render({}).partition("<style>")[2].partition("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2])
    assert set(dark) <= set(light)
    for colours in (light, light | dark):
        for ground in ("paper", "card", "faint", "good-wash", "bad-wash", "unsure-wash"):
            assert contrast(colours["ink"], colours[ground]) >= 7
        for text, ground in (("soft", "paper"), ("soft", "card"), ("soft", "faint"), ("soft", "good-wash"),
                             ("good", "good-wash"), ("bad", "bad-wash"), ("unsure", "unsure-wash"), ("bad", "paper"),
                             ("unsure", "paper"), ("compiled", "paper"), ("on-heat", "heat-right"),
                             ("on-heat", "heat-wrong")):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)  # fmt: skip
        for mark in ("teacher", "student", "baseline", "compiled", "good", "bad"):
            assert contrast(colours[mark], colours["paper"]) >= 3, mark


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""
    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)
