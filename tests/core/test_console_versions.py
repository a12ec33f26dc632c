"""Versions by clicks: an administrator installs a bundle in the browser, tries it, promotes it and goes back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from console_parts import axe, opened, settle
from seal_parts import Home, make_home
from serving_parts import Running
from test_serving_cli import install_domain, serving
from test_serving_following import RED, lying, put, seal

from toolkit.serving.access import add_key
from toolkit.serving.console.catalogue import own_catalogues
from toolkit.serving.versions import INCOMING

TEXTS = own_catalogues()["en"]
ROW = ".version-row:has(> div > h3:has-text('{}'))"


def carried(home: Home, name: str, **more: bytes) -> str:
    """A bundle that somebody copied into the site's folder; its id."""
    bundle = seal(home, **more)
    shutil.copytree(bundle, home.site().path / INCOMING / name)
    return bundle.name


def torn(home: Home, name: str) -> None:
    """One whose model is not what was signed."""
    carried(home, name)
    model = max(
        (home.site().path / INCOMING / name).rglob("*"), key=lambda path: path.is_file() and path.stat().st_size
    )
    model.write_bytes(model.read_bytes()[:-1] + b"?")


def answering(running: Running) -> str:
    """The version that answers now."""
    with running.client() as client:
        return str(client.post("/v1/inspect", content=RED, headers={"content-type": "image/png"}).json()["bundle"])


def button(page: Any, row: str, key: str) -> Any:
    return page.locator(f"{row} button:has-text('{TEXTS(key)}')")


def wait_for(page: Any, version: str, state: str) -> None:
    page.wait_for_selector(f"{ROW.format(version)} .pill:has-text('{TEXTS(state)}')")


def test_installed_promoted_and_rolled_back_by_clicks_and_by_keys(chromium: Any, tmp_path: Path) -> None:
    home, packages = make_home(tmp_path / "home"), install_domain(tmp_path / "packages", seconds=0)
    first = put(home, seal(home))
    second = carried(home, "line-4-second")
    torn(home, "line-4-torn")
    carried(home, "line-4-lying", golden=lying())
    site = home.site().path
    (site / INCOMING / "line-4-empty").mkdir()
    (site / INCOMING / "line-4-empty" / "bundle.dsse").write_bytes(b"{}")
    keys = {role: add_key(site, role, role) for role in ("infer", "operate", "admin")}
    with serving(site, packages, "--workers", "1") as (_process, told):
        running = Running(told["url"], site, keys)
        with opened(chromium, running, "operate") as watched:
            watched.page.goto(f"{running.url}/console/versions")
            settle(watched.page)
            assert watched.page.locator("main button").count() == 0  # who may look may not change
        with opened(chromium, running, "admin") as watched:
            page = watched.page
            page.goto(f"{running.url}/console/versions")
            settle(page)
            wait_for(page, "1.1", "js.serving")
            # What cannot be read says so and has no button; what is not what was signed is refused where it was asked.
            assert page.locator(f"{ROW.format('line-4-empty')} .problem").inner_text()
            assert button(page, ROW.format("line-4-empty"), "js.install").count() == 0
            button(page, ROW.format("line-4-torn"), "js.install").click()
            page.click(f"dialog button:has-text('{TEXTS('js.install')}')")
            said = page.locator(f"{ROW.format('line-4-torn')} > .note.bad")
            assert said.inner_text().startswith(TEXTS("error.refused"))
            assert page.evaluate("document.activeElement.innerText") == TEXTS("js.install")
            axe(page)
            assert answering(running) == first
            watched.faults = [fault for fault in watched.faults if "409" not in fault]

            button(page, ROW.format("line-4-second"), "js.install").click()
            page.click(f"dialog button:has-text('{TEXTS('js.cancel')}')")
            assert answering(running) == first
            button(page, ROW.format("line-4-second"), "js.install").click()
            page.click(f"dialog button:has-text('{TEXTS('js.install')}')")
            wait_for(page, "1.2", "js.serving")
            assert answering(running) == second
            assert button(page, ROW.format("line-4-second"), "js.install").count() == 0

            # By keys alone: back, and the one before answers.
            back = button(page, ".version-row", "js.roll_back")
            back.focus()
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog[open]")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.innerText") == TEXTS("js.roll_back")
            page.keyboard.press("Enter")
            wait_for(page, "1.1", "js.serving")
            assert page.evaluate("document.activeElement.id") == "versions"
            assert answering(running) == first

            # On trial by half of the requests, and then for all.
            button(page, ROW.format("1.2"), "js.promote").click()
            page.locator("#share").fill("50")
            assert page.locator("dialog output").inner_text() == "50%"
            page.click(f"dialog button:has-text('{TEXTS('js.promote')}')")
            wait_for(page, "1.2", "js.canary")
            seen = {answering(running) for _ in range(40)}
            assert seen == {first, second}
            button(page, ROW.format("1.2"), "js.promote").click()
            page.click(f"dialog button:has-text('{TEXTS('js.promote')}')")
            wait_for(page, "1.2", "js.serving")
            assert answering(running) == second

            # One that answers otherwise here than in the lab is taken back by the server, which says why.
            button(page, ROW.format("line-4-lying"), "js.install").click()
            page.click(f"dialog button:has-text('{TEXTS('js.install')}')")
            wait_for(page, "1.4", "js.failed_state")
            wait_for(page, "1.2", "js.serving")
            assert "does not answer here as it did" in page.locator(f"{ROW.format('1.4')} .problem").inner_text()
            assert answering(running) == second
