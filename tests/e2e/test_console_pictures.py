"""The pictures of the console that the documents show of an inspection: `make pictures` takes them.

A sample lot goes down the real line, is served by `toolkit serve`, and is looked at in a real browser.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from console_parts import browser, opened, settle
from on_premises_parts import served
from serving_parts import Running

pytestmark = pytest.mark.skipif(
    "CONSOLE_PICTURES" not in os.environ, reason="CONSOLE_PICTURES names no folder for screenshots"
)
SETTINGS = (
    "industry.sample_per_class=24", "industry.sample_test_per_class=20", "teacher.epochs=2", "teacher.input_size=48",
    "student.input_size=64", "student.size=nano", "recipe.epochs=4", "recipe.views=3", "recipe.baseline=false",
    "compute.threads=1",
)  # fmt: skip
BUSY_SECONDS = 60
"""How long clients ask, so that the charts have something to show."""


@pytest.fixture(scope="module")
def inspected(
    tmp_path_factory: pytest.TempPathFactory, sample_teacher: None, shell_at: Callable[[Path], Any]
) -> Iterator[tuple[Running, list[Path]]]:
    """A server that was busy for a minute, with two versions and a third bundle that waits; and pictures of parts."""
    shell = shell_at(tmp_path_factory.mktemp("home"))
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    deploy = "deploy", "--domain", "industry", *words, "--override", "pictures for the documents"
    first = shell.ask(*deploy)
    again = shell.ask(*deploy, "--set", "recipe.epochs=5")
    last = shell.ask(*deploy, "--set", "recipe.epochs=6", "--until", "seal")
    site = shell.home / "site"
    shell.run("grant", last["bundle"], "--to", site / "recipient.json")
    shutil.copytree(last["bundle"], site / "incoming" / Path(last["bundle"]).name)
    assert first["bundle_id"] != again["bundle_id"]
    names = {"infer": "line-4", "operate": "foreman", "admin": "admin"}
    keys = {
        role: shell.ask("access", "add", name, "--role", role, "--site", site)["key"] for role, name in names.items()
    }
    pictures = sorted((shell.home / "store" / "dataset").rglob("test/*/*.jpg"))
    with served(shell, site, tmp_path_factory.mktemp("served")) as (host, port):
        running = Running(f"http://{host}:{port}", site, keys)
        _ask_for_a_while(running, pictures)
        yield running, pictures


def _ask_for_a_while(running: Running, pictures: list[Path]) -> None:
    """Three clients, each with a rhythm of its own."""
    end = time.monotonic() + BUSY_SECONDS

    def ask(pause: float) -> None:
        with running.client() as client:
            for turn in range(10_000):
                if time.monotonic() > end:
                    return
                _inspect(client, pictures[turn * 7 % len(pictures)])
                time.sleep(pause * (1 + turn % 5))

    clients = [threading.Thread(target=ask, args=(pause,)) for pause in (0.05, 0.11, 0.23)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def _inspect(client: httpx.Client, picture: Path) -> str:
    answer = client.post("/v1/inspect", content=picture.read_bytes(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    return str(answer.json()["request_id"])


def test_pictures_of_an_inspection(inspected: tuple[Running, list[Path]]) -> None:
    running, pictures = inspected
    folder = Path(os.environ["CONSOLE_PICTURES"])
    with running.client() as client:
        for turn, agree in enumerate((True, False, True)):
            told: dict[str, Any] = {"request_id": _inspect(client, pictures[11 * turn]), "agree": agree}
            client.post("/site/review", json=told if agree else told | {"label": "crack", "note": "fine, at the edge"})
    with browser() as chromium:
        for name, path, how in (
            ("console-home", "", {}),
            ("console-home-zh", "", {"locale": "zh-CN"}),
            ("console-versions", "/versions", {}),
            ("console-review", "/review", {}),
            ("console-phone", "", {"locale": "zh-CN", "viewport": {"width": 390, "height": 844}}),
        ):
            with opened(chromium, running, "admin", **how) as watched:
                watched.page.goto(f"{running.url}/console{path}")
                settle(watched.page)
                if path == "/review":
                    watched.page.locator("#review button").first.click()
                    watched.page.wait_for_selector(".sample img")
                watched.page.wait_for_timeout(400)
                watched.page.screenshot(path=folder / f"{name}.png")
        with opened(chromium, running, "admin") as watched:
            page = watched.page
            page.goto(f"{running.url}/console/workbench")
            page.set_input_files("#pictures", [str(pictures[0]), str(pictures[len(pictures) // 2])])
            page.wait_for_function("() => document.querySelectorAll('.verdict h3').length === 2")
            page.wait_for_timeout(400)
            page.screenshot(path=folder / "console-inspect.png")
            page.goto(f"{running.url}/console/keys")
            settle(page)
            page.fill("#name", "line-5")
            page.click("#add button")
            page.wait_for_selector("#made code")
            page.wait_for_timeout(400)
            page.screenshot(path=folder / "console-keys.png")
