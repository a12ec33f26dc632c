"""The console as people use it: Debian's Chromium goes through every page, in both languages, as each role."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import serving_parts
from console_parts import (
    HOSTILE,
    ROLES,
    Scripted,
    axe,
    for_the_documents,
    inspecting_files,
    opened,
    serving_text,
    settle,
    take,
    tutoring,
    writing,
)
from serving_parts import Running, picture, running

from toolkit.serving.access import Role
from toolkit.serving.console.catalogue import own_catalogues, read_catalogues

PAGES = {
    "": "infer", "/workbench": "infer", "/try": "infer", "/versions": "operate", "/review": "operate",
    "/audit": "operate", "/keys": "admin",
}  # fmt: skip
DRAFT = "The [brand] [model] is a red kettle of stainless steel. It holds [capacity]."


@pytest.fixture(scope="module")
def inspecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    files = inspecting_files(("good", HOSTILE))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serving_parts, "bundle_files", lambda: files.data)
        with running(tmp_path_factory.mktemp("site")) as found:
            yield found


@pytest.fixture(scope="module")
def teaching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site, student = tmp_path_factory.mktemp("site"), Scripted()
    with serving_text(site, *tutoring(site, student), student) as found:
        yield found


@pytest.fixture(scope="module")
def copywriting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site, student = tmp_path_factory.mktemp("site"), Scripted((DRAFT,), pause=0.01)
    with serving_text(site, *writing(site, student), student) as found:
        yield found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("role", ROLES)
def test_every_page_opens_in_both_languages_as_each_role(
    chromium: Any, inspecting: Running, role: Role, language: str
) -> None:
    texts = own_catalogues()[language]
    with opened(chromium, inspecting, role, locale={"en": "en-GB", "zh": "zh-CN"}[language]) as watched:
        page = watched.page
        for path, least in PAGES.items():
            page.goto(inspecting.url + "/console" + path)
            if ROLES.index(role) >= ROLES.index(least):
                settle(page)
                assert page.locator("h1").inner_text()
                assert page.locator("html").get_attribute("lang") == {"en": "en", "zh": "zh-CN"}[language]
                if role == "admin":  # who sees all that others see
                    axe(page)
            else:
                assert page.locator("h1").inner_text() == texts("refused.title")
        watched.faults = [fault for fault in watched.faults if "403" not in fault]


@pytest.mark.parametrize("how", [{"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 800}}], ids=str)
def test_dark_and_small_screens_are_as_usable(chromium: Any, inspecting: Running, how: dict[str, Any]) -> None:
    with opened(chromium, inspecting, "admin", **how) as watched:
        for path in PAGES:
            watched.page.goto(inspecting.url + "/console" + path)
            settle(watched.page)
            axe(watched.page)
            wide = watched.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, path


def test_a_picture_is_judged_by_drop_by_paste_and_by_keyboard(
    chromium: Any, inspecting: Running, tmp_path: Path
) -> None:
    red, green = tmp_path / "red.png", tmp_path / "green.png"
    red.write_bytes(picture((230, 10, 10)))
    green.write_bytes(picture((10, 230, 10)))
    with opened(chromium, inspecting, "infer") as watched:
        page = watched.page
        page.goto(inspecting.url + "/console/workbench")
        page.set_input_files("#pictures", [str(red), str(green)])
        page.wait_for_function("() => document.querySelectorAll('.verdict h3').length === 2")
        said = dict(zip(page.locator(".verdict img").evaluate_all("all => all.map((one) => one.alt)"),
                        page.locator(".verdict h3").all_inner_texts(), strict=True))  # fmt: skip
        assert said == {"red.png": "good", "green.png": HOSTILE}
        assert page.locator(".verdict .pill.good").count() == page.locator(".verdict .pill.bad").count() == 1
        axe(page)
        for kind in ("drop", "paste"):
            page.evaluate(
                """([kind, bytes]) => {
                    const data = new DataTransfer();
                    data.items.add(new File([new Uint8Array(bytes)], kind + ".png", { type: "image/png" }));
                    const how = { bubbles: true, cancelable: true };
                    const event = kind === "drop" ? new DragEvent(kind, { ...how, dataTransfer: data })
                        : new ClipboardEvent(kind, { ...how, clipboardData: data });
                    (kind === "drop" ? document.getElementById("drop") : document.body).dispatchEvent(event);
                }""",
                [kind, list(red.read_bytes())],
            )
            page.wait_for_selector(f".verdict img[alt='{kind}.png'] >> xpath=../.. >> h3")
        assert page.locator(".verdict").count() == 4
        page.focus("#clear")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "pictures"
        (tmp_path / "none.png").write_bytes(b"no picture")
        page.set_input_files("#pictures", [str(tmp_path / "none.png")])
        page.wait_for_selector(".verdict .note.bad")
        watched.faults = [fault for fault in watched.faults if "422" not in fault]
        assert page.title() != "owned"


def test_what_a_client_names_a_script_is_text(chromium: Any, inspecting: Running) -> None:
    with opened(chromium, inspecting, "admin") as watched:
        page = watched.page
        for path in ("", "/workbench", "/try"):
            page.goto(inspecting.url + "/console" + path)
            settle(page)
            assert page.evaluate("document.title") != "owned"
        page.goto(inspecting.url + "/console/workbench")
        assert page.locator(".tag").nth(1).inner_text() == HOSTILE
        # Where a template had a hole, the policy would still refuse markup from strings.
        refused = page.evaluate(
            "() => { try { document.body.innerHTML += '<b>x</b>'; return ''; } catch (error) { return error.name; } }"
        )
        assert refused == "TypeError"
        watched.faults.clear()


def test_home_shows_the_last_minutes(chromium: Any, inspecting: Running) -> None:
    with inspecting.client() as client:
        for _ in range(20):
            client.post("/v1/inspect", content=picture((9, 9, 9)), headers={"content-type": "image/png"})
    with opened(chromium, inspecting, "operate") as watched:
        watched.page.wait_for_selector("[data-chart=latency] path.line", state="attached")
        assert "ms" in watched.page.locator("[data-chart=latency] .now").inner_text()
        assert watched.page.locator(".gate-table tbody tr").first.locator("td").first.inner_text().startswith("97.5%")
    with opened(chromium, inspecting, "infer") as watched:
        assert watched.page.locator("#live").count() == 0


def test_language_theme_drawer_and_sign_out(chromium: Any, inspecting: Running) -> None:
    with opened(chromium, inspecting, "infer", viewport={"width": 390, "height": 800}) as watched:
        page = watched.page
        page.click("#menu")
        assert page.locator("#menu").get_attribute("aria-expanded") == "true"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "menu"
        page.click("#menu")
        page.click(".languages a[lang='zh-CN']")
        assert page.locator("h1").inner_text() == own_catalogues()["zh"]("home.title")
        page.click("#menu")
        page.click("#theme")
        page.reload()
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.click("#menu")
        page.click("#sign-out")
        page.wait_for_url("**/console/sign-in")
        page.goto(inspecting.url + "/console/workbench")
        assert "/console/sign-in?next=/console/workbench" in page.url


def test_a_wrong_key_is_told_and_a_right_one_leads_back(chromium: Any, inspecting: Running) -> None:
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(inspecting.url + "/console/try")
    page.fill("#key", "tk_wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem")
    axe(page)
    page.fill("#key", inspecting.keys["infer"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/try")
    context.close()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_learner_gets_a_problem_a_hint_and_the_next_one(chromium: Any, teaching: Running, language: str) -> None:
    from importlib.resources import files

    texts = read_catalogues(files("toolkit_education") / "panel")[language]
    with opened(chromium, teaching, "infer", locale={"en": "en-GB", "zh": "zh-CN"}[language]) as watched:
        page = watched.page
        page.goto(teaching.url + "/console/workbench")
        page.click("#enrol")
        page.wait_for_function("() => document.querySelector('#learner').value.length > 8")
        page.select_option("#skill", "two_step_problems")
        page.select_option("#level", "2")
        page.click("#ask")
        first = page.locator("#question").inner_text()
        assert re.search("[\u4e00-\u9fff]", first) if language == "zh" else first.isascii()
        page.fill("#answer", "123456")
        page.keyboard.press("Enter")
        assert page.locator(".feedback h3").inner_text() == texts("wrong")
        page.click(f".feedback button:has-text('{texts('hint')}')")
        assert page.locator(".steps li").count() == 1
        axe(page)
        page.click(f".feedback button:has-text('{texts('solution')}')")
        answer = re.search(r"\d[\d,/. ]*", page.locator(".feedback strong").inner_text())
        assert answer
        page.fill("#answer", answer[0])
        page.keyboard.press("Enter")
        page.wait_for_selector(".feedback.right")
        page.wait_for_selector("#mastery:not([hidden])")
        page.click(".feedback .next")
        page.wait_for_function("before => document.querySelector('#question').innerText !== before", arg=first)


def test_what_is_pressed_before_a_panel_is_open_waits_for_it(chromium: Any, teaching: Running) -> None:
    with opened(chromium, teaching, "infer") as watched:
        page = watched.page
        page.route("**/v1/skills", lambda route: (sleep(0.7), route.continue_()))
        page.goto(teaching.url + "/console/workbench")
        assert page.locator("#ask").is_disabled()
        page.click("#ask")
        assert page.locator("#question").inner_text()
        assert "?" not in page.url  # the form was not sent by the browser itself


def test_a_panel_that_cannot_open_says_so(chromium: Any, teaching: Running) -> None:
    with opened(chromium, teaching, "infer") as watched:
        page = watched.page
        page.route("**/v1/skills", lambda route: route.abort())
        page.goto(teaching.url + "/console/workbench")
        assert own_catalogues()["en"]("js.panel_failed") in page.locator("#panel > .empty").inner_text()
        assert own_catalogues()["en"]("error.unreachable") in page.locator("#panel > .empty").inner_text()
        watched.faults.clear()


NOTE_DRAFTS = """
  window.drafts = new Set();
  const texts = () => document.querySelectorAll(".copy.drafting .said-text");
  new MutationObserver(() => texts().forEach((one) => drafts.add(one.innerText)))
    .observe(document.getElementById("copies"), { childList: true, subtree: true, characterData: true });
"""
"""What a draft says each time that it changes, however soon it is done."""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_copy_is_streamed_and_its_marks_are_shown(chromium: Any, copywriting: Running, language: str) -> None:
    with opened(chromium, copywriting, "infer", locale={"en": "en-GB", "zh": "zh-CN"}[language]) as watched:
        page = watched.page
        page.goto(copywriting.url + "/console/workbench")
        page.select_option("#language", "en")
        page.locator(".attribute .value").last.fill("1.7 L")
        page.evaluate(NOTE_DRAFTS)
        page.click("#write")
        page.wait_for_selector(".copy:not(.drafting) .pill.good")
        drafts = page.evaluate("[...window.drafts]")
        assert len(drafts) > 2
        assert drafts == sorted(drafts, key=len)
        assert (
            page.locator("#copies .said-text").inner_text()
            == "The Nordal K3 is a red kettle of stainless steel. It holds 1.7 L."
        )
        assert page.locator("#copies mark").all_inner_texts()[:2] == ["Nordal", "K3"]
        page.fill("#any-text", f"The best kettle. {HOSTILE} 13800138000")
        page.click("#checking button")
        page.wait_for_selector("#checked mark.block")
        assert HOSTILE in page.locator("#checked .said-text").inner_text()
        axe(page)


def test_a_domain_without_panels_still_has_a_page(chromium: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    site, student = tmp_path, Scripted()
    facts, service = tutoring(site, student)
    with (
        serving_text(site, facts, replace(service, panels=()), student) as plain,
        opened(chromium, plain, "infer") as watched,
    ):
        page = watched.page
        page.goto(plain.url + "/console/workbench")
        page.wait_for_url("**/console/try")
        settle(page)
        route = page.locator(".route", has_text="/v1/chat/completions")  # which every model that writes answers
        route.evaluate("one => { one.open = true; }")
        body = json.loads(route.locator("textarea").input_value())
        assert body["model"] == "tutor"
        route.locator("textarea").fill(json.dumps(body | {"messages": [{"role": "user", "content": "Hello"}]}))
        route.locator("form button").click()
        page.wait_for_selector(".route :is(pre, .note)")
        assert '"chat.completion"' in route.locator("pre").inner_text()
        route = page.locator(".route", has_text="/v1/problem")
        route.evaluate("one => { one.open = true; }")  # the first one is
        route.locator("textarea").fill('{"skill": "addition", "level": 1}')
        route.locator("form button").click()
        page.wait_for_selector(".route pre")
        assert '"problem"' in route.locator("pre").inner_text()


def test_a_server_that_is_gone_is_told(chromium: Any, inspecting: Running) -> None:
    with opened(chromium, inspecting, "operate") as watched:
        settle(watched.page)
        watched.page.context.set_offline(True)
        watched.page.evaluate(
            "() => import(document.querySelector('script[src$=\"home.js\"]').src + '?again').catch(() => 0)"
        )
        watched.page.wait_for_selector("#live.stale", timeout=15_000)
        watched.faults.clear()


@for_the_documents
def test_pictures_for_the_documents(chromium: Any, teaching: Running, copywriting: Running) -> None:
    """What docs/howto/console.md shows of the workbench."""
    with opened(chromium, teaching, "infer") as watched:
        page = watched.page
        page.goto(teaching.url + "/console/workbench")
        page.select_option("#skill", "two_step_problems")
        page.select_option("#level", "2")
        page.click("#ask")
        page.fill("#answer", "7")
        page.click(".sheet details summary")
        page.fill("#working", "3 * 4 = 13")
        page.click(".answer-row button")
        page.wait_for_selector(".feedback")
        take(page, "console-tutor", whole=True)
    with opened(chromium, copywriting, "infer", locale="zh-CN", color_scheme="dark") as watched:
        page = watched.page
        page.goto(copywriting.url + "/console/workbench")
        page.click("#write")
        page.wait_for_selector(".copy:not(.drafting) .pill.good")
        page.fill("#any-text", "Nordal K3 是全国最佳的红色不锈钢电热水壶，容量1.7升。")
        page.click("#checking button")
        page.wait_for_selector("#checked mark.block")
        take(page, "console-copy", whole=True)
