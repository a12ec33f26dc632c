"""A folder of good parts goes down the whole line: learnt, measured beside its teacher, sealed, served with maps."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from anomaly_parts import write_parts
from console_parts import axe, browser, opened
from on_premises_parts import served
from PIL import Image
from serving_parts import Running

Line = tuple[Any, dict[str, Any]]
"""A shell, and what deploying in it printed."""

SETTINGS = (
    "student.input_size=96", "teacher.input_size=96", "student.size=nano", "recipe.epochs=8", "recipe.views=2",
    "recipe.batch_size=16", "data.minimum_per_class=4",
)  # fmt: skip
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def line(
    tmp_path_factory: pytest.TempPathFactory, sample_teacher: None, parts: Path, shell_at: Callable[[Path], Any]
) -> Line:
    shell = shell_at(tmp_path_factory.mktemp("home"))
    arguments = ("deploy", "--domain", "industry", "--data", str(parts), *SMALL, "--override", "a test of the line")
    return shell, shell.ask(*arguments)


def test_the_domain_chooses_the_task_and_the_line_ends_with_an_answer(line: Line) -> None:
    _, record = line
    assert [stage["name"] for stage in record["stages"]][-1] == "check"
    assert record["answer"]["verdict"] in ("good", "anomaly")
    assert {"accuracy", "auroc", "pixel_auroc", "aupro", "escapes", "overkill"} <= set(record["metrics"])
    assert not {"log_loss", "calibration_error"} & set(record["metrics"])


def test_what_was_never_seen_is_found_and_where(line: Line) -> None:
    _, record = line
    for name in ("auroc", "pixel_auroc"):
        metric = record["metrics"][name]
        assert metric["low"] > 0.5, name  # better than chance, by its interval
        assert metric["value"] > 0.8, name


def test_the_report_shows_the_student_beside_its_teacher_with_pictures(line: Line) -> None:
    _, record = line
    figures = json.loads(Path(record["report"]).with_suffix(".json").read_bytes())
    assert "auroc" in figures["teacher"]["metrics"]
    assert figures["baseline"] is None
    assert set(figures["compiled"]["classes"]) == {"good", "anomaly"}
    for row in figures["compiled"]["worst"]:
        assert row["picture"].startswith("data:image/jpeg")


def test_the_installed_model_is_scored_as_at_the_gate(line: Line, parts: Path) -> None:
    shell, record = line
    found = shell.ask("evaluate", "--site", shell.home / "site", "--data", parts / "test")
    for name in ("accuracy", "auroc"):
        assert found["metrics"][name]["value"] == pytest.approx(record["metrics"][name]["value"])


def test_a_served_answer_says_where(line: Line, parts: Path, tmp_path: Path) -> None:
    shell, _ = line
    site = shell.home / "site"
    key = shell.ask("access", "add", "line-1", "--role", "infer", "--site", site)["key"]
    picture = parts / "test" / "dent" / "000.png"
    with served(shell, site, tmp_path) as (host, port), httpx.Client(timeout=60) as client:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
        answer = client.post(f"http://{host}:{port}/v1/inspect", content=picture.read_bytes(), headers=headers).json()
        broken = client.post(f"http://{host}:{port}/v1/inspect", content=b"no picture", headers=headers)
    assert broken.status_code == 422
    assert answer["verdict"] == ("anomaly" if answer["score"] >= 1 else "good")
    assert bool(answer["regions"]) == (answer["score"] > 1)
    shown = Image.open(io.BytesIO(base64.b64decode(answer["map"].partition(",")[2])))
    assert shown.size == (12, 12)
    heat, mask = np.asarray(shown), np.asarray(Image.open(parts / "ground_truth" / "dent" / "000_mask.png"))
    inside = np.asarray(Image.fromarray(mask).resize(shown.size, Image.Resampling.BOX)) > 127
    assert heat[inside].mean() > heat[~inside].mean()


WARM = """
() => {
    const canvas = document.querySelector(".verdict canvas"), pen = canvas.getContext("2d");
    const { data, width, height } = pen.getImageData(0, 0, canvas.width, canvas.height);
    const strength = Array.from({ length: width * height }, (_, place) => data[4 * place + 3]);
    return { width, height, strength };
}
"""


def test_the_workbench_lays_the_map_over_the_picture(line: Line, parts: Path, tmp_path: Path) -> None:
    shell, _ = line
    site = shell.home / "site"
    key = shell.ask("access", "add", "line-2", "--role", "infer", "--site", site)["key"]
    wide = tmp_path / "wide.png"
    Image.open(parts / "test" / "dent" / "000.png").resize((288, 96)).save(wide)
    with served(shell, site, tmp_path) as (host, port), browser() as chromium:
        running = Running(f"http://{host}:{port}", site, {"infer": key})
        with opened(chromium, running, "infer") as watched:
            page = watched.page
            page.goto(f"{running.url}/console/workbench")
            page.set_input_files("#pictures", [str(parts / "test" / "dent" / "000.png")])
            page.wait_for_selector(".verdict h3")
            page.wait_for_function("() => document.querySelector('.verdict canvas')?.height === 512")
            drawn = page.evaluate(WARM)
            warm = np.reshape(drawn["strength"], (drawn["height"], drawn["width"]))
            mask = Image.open(parts / "ground_truth" / "dent" / "000_mask.png").resize(warm.shape[::-1])
            inside = np.asarray(mask) > 127
            assert warm[inside].mean() > warm[~inside].mean()
            page.locator(".heat input").fill("0")
            assert page.locator(".verdict canvas").evaluate("one => getComputedStyle(one).opacity") == "0"
            page.locator(".heat input").fill("100")
            axe(page)
            page.click("#clear")
            page.set_input_files("#pictures", [str(wide)])  # the map is square, and lies on what the person sees
            page.wait_for_function("() => document.querySelector('.verdict canvas')?.width === 512")
            assert page.locator(".verdict canvas").evaluate("one => one.height") == 171


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("recipe.name=white-box", "no labels to learn from"),
        ("recipe.baseline=true", "no labels"),
        ("student.input_size=112", "place by place"),
        ("compute.sharding=full", "too small"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    make_shell: Callable[..., Any], parts: Path, change: str, said: str
) -> None:
    shell = make_shell("home")
    refused = shell.run("deploy", "--domain", "industry", "--data", parts, *SMALL, "--set", change, code=2)
    assert said in refused.stdout + refused.stderr
    assert not (shell.home / "store").exists()
