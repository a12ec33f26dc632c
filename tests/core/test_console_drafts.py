"""What a teacher decides in the browser: drafts that wait, and marks that a learner disputes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from console_parts import Scripted, axe, for_the_documents, opened, serving_text, settle, take, tutoring
from seal_parts import make_home
from serving_parts import Running

from toolkit.serving.console.catalogue import own_catalogues, read_catalogues
from toolkit.serving.ledger import open_ledger
from toolkit_education.draft_records import DraftRecords
from toolkit_education.drafting import converted
from toolkit_education.sense import UNDECIDED, Verdict
from toolkit_education.sense_gate import Drafted
from toolkit_education.service import learners_of

BAKER = (
    "{who} bakes {many} muffins and sells 15 of them at the fair. Her brother then brings 8 more muffins. How many "
    "muffins are there now?\n{who} has {many}-15 = <<{many}-15={left}>>{left} muffins left.\nWith her brother's there "
    "are {left}+8 = <<{left}+8={all}>>{all} muffins.\n#### {all}"
)
NAMES = ("Ria", "Mai", "Ina")


@pytest.fixture(scope="module")
def teaching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A tutor at whose site three drafts wait for a person."""
    site, student = make_home(tmp_path_factory.mktemp("home")).site(), Scripted()
    facts, service = tutoring(site.path, student)
    drafts = DraftRecords(learners_of(site.path))
    for number, who in enumerate(NAMES):
        many = 24 + number
        text = BAKER.format(who=who, many=many, left=many - 15, all=many - 7)
        verdict = Verdict(UNDECIDED, "the solver says nothing")
        drafts.add(Drafted(text, converted(text), verdict), "the student", "curriculum-solver")
    with serving_text(site.path, facts, service, student, open_ledger(site)) as found:
        yield found


def bench(site: Running) -> str:
    return f"{site.url}/console/workbench/tutor/drafts"


@for_the_documents
def test_picture_of_a_draft_for_the_documents(chromium: Any, teaching: Running) -> None:
    with opened(chromium, teaching, "operate") as watched:
        watched.page.goto(bench(teaching))
        watched.page.locator(".draft").first.click()
        take(watched.page, "console-drafts", whole=True)


def test_drafts_are_read_and_decided_by_keys_alone(chromium: Any, teaching: Running) -> None:
    texts = read_catalogues(files("toolkit_education") / "drafts_panel")["en"]
    with opened(chromium, teaching, "operate") as watched:
        page = watched.page
        page.goto(bench(teaching))
        settle(page)
        assert page.locator(".draft").count() == 3
        assert page.locator("#draft").is_disabled()
        assert "free drafting is off" in page.locator("#mistrust").inner_text()
        page.locator(".draft").first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        reading = page.locator(".reading")
        assert "Mai bakes 25 muffins" in reading.locator("h2").inner_text()
        assert reading.locator(".pill").nth(1).inner_text() == texts("why_silent")
        assert reading.locator("ol").first.locator("li").count() == 2
        assert reading.locator(".set strong").first.inner_text() == texts("answer_is", answer="18")
        axe(page)

        # In the note a letter is a letter; on the draft it is a key.
        page.focus("#note")
        page.keyboard.type("are there fairs?")
        assert page.locator(".draft").count() == 3
        page.evaluate("document.querySelector('.reading').focus()")
        page.keyboard.press("a")
        page.wait_for_function("() => document.querySelectorAll('.draft').length === 2")
        page.wait_for_selector(".reading:has-text('Ina bakes 26')")  # the next one, ready for its key
        page.keyboard.press("r")
        page.wait_for_function("() => document.querySelectorAll('.draft').length === 1")
        page.select_option("#outcome", "accepted")
        page.wait_for_selector(".draft:has-text('Mai bakes')")
        page.locator(".draft").click()
        assert "operate" in reading.inner_text()
        assert "are there fairs?" in reading.inner_text()
        assert page.locator("#outcome option").all_inner_texts()[4] == f"{texts('rejected')} (1)"
    with teaching.client("operate") as client:
        assert [one["reviewer"] for one in client.get("/v1/drafts?outcome=accepted").json()["drafts"]] == ["operate"]


def test_who_may_only_ask_sees_no_drafts_and_what_somebody_decided_before_is_told(
    chromium: Any, teaching: Running
) -> None:
    with opened(chromium, teaching, "infer") as watched:
        page = watched.page
        page.goto(f"{teaching.url}/console/workbench")
        assert page.locator(".tabs a[href$=drafts]").count() == 0
        page.goto(bench(teaching))
        assert page.locator("h1").inner_text() == own_catalogues()["en"]("refused.title")
        watched.faults.clear()
    with opened(chromium, teaching, "operate", locale="zh-CN", viewport={"width": 390, "height": 800}) as watched:
        page = watched.page
        page.goto(bench(teaching))
        settle(page)
        page.locator(".draft").first.click()
        with teaching.client("admin") as other:
            waiting = other.get("/v1/drafts").json()["drafts"][0]
            assert other.post(f"/v1/drafts/{waiting['id']}/reject", json={}).status_code == 200
        page.locator(".reading .buttons button").first.click()
        refused = page.locator(".reading .note.bad")
        assert refused.inner_text().startswith(own_catalogues()["zh"]("error.data"))
        assert "rejected by admin" in refused.inner_text()
        axe(page)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        watched.faults.clear()


def test_a_mark_that_a_learner_disputes_comes_into_the_review_set(chromium: Any, teaching: Running) -> None:
    with opened(chromium, teaching, "infer") as watched:
        page = watched.page
        page.goto(f"{teaching.url}/console/workbench")
        page.click("#ask")
        question = page.locator("#question").inner_text()
        page.fill("#answer", "123456")
        page.keyboard.press("Enter")
        page.locator(".feedback .judgement button").last.click()
        page.fill("#right-note", "I counted twice")
        page.click("dialog button:not(.ghost)")
        page.wait_for_selector(".judgement p")
    with teaching.client("operate") as client:
        (entry,) = client.get("/site/review").json()["entries"]
        assert (entry["agree"], entry["verdict"]) == (False, "wrong")
        found = client.get(f"/site/review/{entry['id']}").json()
        assert found["said"]["note"] == "I counted twice"
        assert (found["sample"]["content"]["question"], found["sample"]["content"]["answer"]) == (question, "123456")
