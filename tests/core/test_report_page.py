"""The page of a run: complete, self-contained, safe with hostile text, and true to its input."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_parts import HOSTILE, hostile, jpeg, steel

from toolkit.errors import EnvironmentUnfit
from toolkit.report.page import picture, printable, render, write_report
from toolkit.report.wording import figure
from toolkit.score.money import api_cost_per_1000

# Which text stands on which ground.
TEXTS = {
    "soft": ("paper", "card", "faint", "good-wash"), "good": ("good-wash",), "bad": ("bad-wash", "paper"),
    "unsure": ("unsure-wash", "paper"), "compiled": ("paper",), "on-heat": ("heat-right", "heat-wrong"),
}  # fmt: skip
VOID = {"meta", "br", "img", "hr", "link", "input"}


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
        "235", "912", "138", "30", "360", "1,410",  # sums of the counts; calibration pictures are training pictures
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


def test_an_apis_price_stands_beside_for_texts() -> None:
    report = steel()
    assert "An API" not in text_of(render(report))
    report["money"]["api"] = vars(api_cost_per_1000(120, 60, 0.5, 2.0))
    seen = text_of(render(report))
    assert "An API, at the plan's prices" in seen
    assert "EUR 0.180" in seen
    assert report["money"]["api"]["arithmetic"] in seen


def test_figures_stand_on_the_page_as_in_the_report() -> None:
    report = steel()
    seen = text_of(render(report))
    expected = ("Steel strip inspection", "24 July 2026", "Gate passed", "13.2× faster", "114× smaller", "42.6× less",
                  "119 KB instead of 13.5 MB", "0.281 ms instead of 3.70 ms", "not measured here",
                  "this machine shows no energy counters", "No licence stated", "Development keys", "148 MB", "101 MB",
                  "EfficientNet-Lite0, 3.38 million parameters", "micro, 81 thousand parameters", "int8, for cpu",
                  "verified on device", "Epoch 34 of 40 was kept", "same image", "patches_105.jpg", "AMD EPYC 7B13",
                  "kept from an earlier run", "6 min 58 s", report["run"]["id"], report["gate"]["because"],
                  report["money"]["student"]["arithmetic"],
                  *(cell for row in report["gate"]["table"] for cell in row))  # fmt: skip
    assert [shown for shown in expected if shown not in seen] == []
    for name, metric in report["compiled"]["metrics"].items():
        assert figure(metric) in seen, name
        assert metric.get("unit", "share") != "share" or figure(metric) == f"{metric['value']:.1%}"


def test_a_sample_that_failed_says_so() -> None:
    seen = text_of(render(hostile()))
    expected = ("SAMPLE", "Gate failed, release refused", "at least 95.0% was promised", "1 rule refused the release",
                  "escapes are above the limit (measured 8.3%, allowed at most 2.0%)", "Defects that pass as good",
                  "Good parts that are rejected", "30 pairs of near-identical pictures", "And 18 more",
                  "And 340 more", "400 pictures", "no picture kept", "unreadable")  # fmt: skip
    assert [shown for shown in expected if shown not in seen] == []
    assert "labels alone" not in seen
    assert "which none of them had learned from" not in seen


def test_page_stays_small_with_twenty_pictures() -> None:
    report = steel()
    case = report["compiled"]["worst"][0]
    noise = np.random.default_rng(0).integers(0, 256, (20, 200, 200), dtype=np.uint8)
    report["compiled"]["worst"] = []
    bare = len(render(report).encode())
    for pixels in noise:  # noise: no picture of this size takes more
        report["compiled"]["worst"].append(case | {"picture": jpeg(pixels)})
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
        for text, grounds in TEXTS.items():
            for ground in grounds:
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
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
