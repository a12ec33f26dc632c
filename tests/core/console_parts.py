"""What the tests of the console share: sites served in this process with each kind of panel, and a browser.

The student of a text domain is a writer that says what a test gives it; everything around it is the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import os
import shutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from serving_parts import Files, Running, bundle_files, facts_of

from toolkit.plan import Plan
from toolkit.protocols import PredictorFacts
from toolkit.services import Service
from toolkit.serving.access import Access, Role, add_key
from toolkit.serving.app import build_app
from toolkit.serving.fleet import Fleet, Line
from toolkit.serving.gateway import Limits
from toolkit.serving.ledger import Ledger
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import BundleFacts, ServedModel
from toolkit.serving.runner import in_background, listen
from toolkit.text import GenerationRequest, TextDelta, Usage

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""No sandbox: tests run as root in containers. The others keep the browser from calling home."""

for_the_documents = pytest.mark.skipif(
    "CONSOLE_PICTURES" not in os.environ, reason="CONSOLE_PICTURES names no folder for screenshots: `make pictures`"
)

ROLES: tuple[Role, ...] = ("infer", "operate", "admin")
SERIOUS = {"serious", "critical"}
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def metric(value: float, low: float, high: float, n: int = 360, unit: str = "share") -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "unit": unit, "higher_is_better": True}


REFERENCE = {
    "metrics": {
        "accuracy": metric(0.975, 0.953, 0.987), "log_loss": metric(0.101, 0.07, 0.14, unit="nats"),
        "recall/good": metric(1.0, 0.94, 1.0, 60), "recall/scratch": metric(0.95, 0.863, 0.983, 60),
    }
}  # fmt: skip
GATE = {
    "judged": "accuracy", "outcome": "pass", "because": "",
    "teacher": {"name": "efficientnet-lite0", "metrics": {"accuracy": metric(0.978, 0.957, 0.989)}}, "ratios": {},
}  # fmt: skip


@dataclass
class Scripted:
    """A student that writes the drafts one after the other, some letters at a time."""

    drafts: Sequence[str] = ("",)
    asked: int = 0
    pause: float = 0.0
    waiting: int = 0
    closed: bool = False
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "CPUExecutionProvider", ""))

    def check(self, request: GenerationRequest) -> None:
        """Anything goes."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        draft = self.drafts[self.asked % len(self.drafts)]
        self.asked += 1
        for start in range(0, len(draft), 5):
            await asyncio.sleep(self.pause)
            yield TextDelta(request.id, draft[start : start + 5])
        yield TextDelta(request.id, "", "stop", Usage(3, len(draft) // 4))

    async def stop(self) -> None:
        self.closed = True


def inspecting_files(classes: Sequence[str] = ("good", "scratch")) -> Files:
    """A bundle whose figures and whose teacher's are known."""
    labels = {"classes": list(classes), "good_class": "good", "channels": 3}
    return Files(
        bundle_files(
            classes=json.dumps(labels).encode(),
            reference=json.dumps(REFERENCE).encode(),
            gate=json.dumps(GATE).encode(),
        )
    )


def tutoring(site: Path, student: Scripted) -> tuple[BundleFacts, Service]:
    from toolkit_education.domain import EducationPlan
    from toolkit_education.service import education_service

    bundle = _bundle("education", "tutor", EducationPlan(), {"bank": b""})
    return bundle, education_service(site, record_of(bundle), student, lambda *_: None)  # type: ignore[arg-type, return-value]


def writing(site: Path, student: Scripted) -> tuple[BundleFacts, Service]:
    from toolkit_content.domain import ContentPlan
    from toolkit_content.service import content_service

    root = importlib.resources.files("toolkit_content")
    files = {f"pack-{code}.toml": (root / "packs" / f"household-{code}.toml").read_bytes() for code in ("en", "zh")}
    files |= {
        f"lexicon-{code}.toml": (root / "lexicon" / f"{code}-advertising.toml").read_bytes() for code in ("en", "zh")
    }
    bundle = _bundle("content", "copy desk", ContentPlan(), files)
    return bundle, content_service(site, record_of(bundle), student)


def record_of(bundle: BundleFacts) -> dict[str, Any]:
    """What a domain's `serve` is given."""
    return {name: getattr(bundle, name) for name in BundleFacts.__dataclass_fields__}


def _bundle(domain: str, product: str, own: Any, files: Mapping[str, bytes]) -> BundleFacts:
    plan = Plan(domain=domain, task="text_generation").model_dump(mode="json") | {domain: own.model_dump(mode="json")}
    facts = facts_of(Files(bundle_files()))
    return replace(
        facts, product=product, domain=domain, plan=plan, files=files, classes=(), good_class=None, channels=None
    )  # fmt: skip


@contextlib.contextmanager
def serving_text(
    site: Path, facts: BundleFacts, service: Service, student: Scripted, ledger: Ledger | None = None
) -> Iterator[Running]:
    """A real server on a free port around a text domain's real service."""
    keys: dict[Role, str] = {role: add_key(site, role, role) for role in ROLES}
    model = ServedModel(facts, student, service)
    metrics = Metrics()
    metrics.serve(model)
    app = build_app(
        models=Fleet([Line(model)]), access=Access(site), metrics=metrics, limits=Limits(), ledger=ledger
    )  # fmt: skip
    with in_background(app, listen("127.0.0.1", 0), Limits()) as url:
        yield Running(url, site, keys)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium; the test is skipped where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which(CHROMIUM):
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield chromium
        finally:
            chromium.close()


def sign_in(page: Any, running: Running, role: Role) -> None:
    page.goto(f"{running.url}/console")
    page.fill("#key", running.keys[role])
    page.click("form button")
    page.wait_for_url(f"{running.url}/console")


class Watched:
    """A page, and what went wrong on it or left the host."""

    def __init__(self, page: Any, home: str) -> None:
        self.page, self.faults, self.asked = page, [], 0
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self._look(request.url, home))

    def _look(self, url: str, home: str) -> None:
        self.asked += 1
        if not url.startswith((home + "/", "data:", "blob:")):
            self.faults.append(f"asked {url}")

    def check(self) -> None:
        assert self.asked
        assert self.faults == [], self.faults


@contextlib.contextmanager
def opened(chromium: Any, site: Running, role: Role, **how: Any) -> Iterator[Watched]:
    context = chromium.new_context(**({"locale": "en-GB", "viewport": {"width": 1280, "height": 860}} | how))
    context.set_default_timeout(20_000)
    try:
        watched = Watched(context.new_page(), site.url)
        sign_in(watched.page, site, role)
        yield watched
        watched.check()
    finally:
        context.close()


def settle(page: Any) -> None:
    page.wait_for_function("() => document.readyState === 'complete' && !document.querySelector('.loading')")


def axe(page: Any) -> None:
    """No serious fault that axe-core finds (WCAG 2.2, A and AA), once what fades in has done so."""
    fading = "document.getAnimations().filter((one) => one.effect.getComputedTiming().endTime < 5000)"
    page.evaluate(f"() => Promise.all({fading}.map((one) => one.finished))")
    found = (
        pytest.importorskip("axe_playwright_python.sync_playwright")
        .Axe()
        .run(page, options={"resultTypes": ["violations"]})
    )
    faults = [
        f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}"
        for one in found.response["violations"]
        if one["impact"] in SERIOUS
    ]
    assert faults == [], faults


def take(page: Any, name: str, *, whole: bool = False) -> None:
    """A picture for the documents, once what fades in has done so; `whole`: on a screen as high as the page."""
    if whole:
        page.set_viewport_size({
            "width": page.viewport_size["width"], "height": page.evaluate("document.documentElement.scrollHeight")
        })  # fmt: skip
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)
    page.screenshot(path=Path(os.environ["CONSOLE_PICTURES"]) / f"{name}.png")
