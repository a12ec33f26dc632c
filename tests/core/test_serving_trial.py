"""Two versions compared on live requests, one that faults taken back, and the site's own routes."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from seal_parts import Home, make_home
from test_serving_cli import DOMAIN, install_domain, serving
from test_serving_following import Asking, put, seal, told_of, until
from typer.testing import CliRunner

from toolkit.cli.main import build_app
from toolkit.serving.access import add_key
from toolkit.serving.trial import Tally, summed
from toolkit.site.verify import verify_site

FAULTY = """
from toolkit.serving.refusals import ModelFault

class Faulty:
    def __init__(self, predictor, every):
        self.predictor, self.facts, self.every, self.asked = predictor, predictor.facts, every, 0
    async def predict(self, inputs):
        self.asked += 1
        if self.asked % self.every == 0:
            raise ModelFault("a node gave up")
        return await self.predictor.predict(inputs)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A domain whose model fails each so many times, as a file of the bundle says."""
    folder = install_domain(tmp_path / "packages", seconds=0)
    text = DOMAIN.replace("Slow(predictor) if SECONDS else predictor", "predictor").replace("SECONDS", "0")
    asks = """    every = bundle["files"].get("every")
    predictor = Faulty(predictor, int(every)) if every else predictor
    return inspection"""
    (folder / "tiny_domain.py").write_text(FAULTY + text.replace("    return inspection", asks))
    return folder


def versions_at(url: str, key: str) -> dict[str, dict[str, Any]]:
    found = httpx.get(url + "/site/versions", headers={"X-API-Key": key}, timeout=20).json()
    return {version["bundle"]: version for product in found["products"] for version in product["versions"]}


@pytest.mark.parametrize("permille", [1000, 300])
def test_a_version_that_faults_is_taken_back(home: Home, packages: Path, permille: int) -> None:
    one, key = put(home, seal(home)), add_key(home.site().path, "line", "operate")
    with serving(home.site().path, packages, "--workers", "1") as (process, told):
        asking = Asking(told["url"], key)
        with asking.all_the_time(2):
            bad = put(home, seal(home, every=b"3"), permille)
            until(lambda: verify_site(home.site().path).state.failed != (), 60)
            time.sleep(1)
        asking.seen.clear()
        with asking.client() as client:
            for _ in range(20):
                asking.once(client)
        asking.all_right(one)
        shown = versions_at(told["url"], key)
        assert (shown[one]["state"], shown[one]["share"], shown[bad]["state"]) == ("serving", 1.0, "failed")
        assert "answers here were faults" in shown[bad]["why"]
        figures = httpx.get(told["url"] + "/metrics", headers={"X-API-Key": key}).text
        assert f'toolkit_versions_taken_back_total{{bundle="{bad}"}} 1.0' in figures
        process.terminate()
        assert "was taken back on the site" in process.communicate(timeout=20)[1]
    assert [(told["by"], told["from"]) for told in told_of(home.site(), "rollback.done")] == [("server", bad)]


def test_a_trial_by_the_sites_own_routes(home: Home, packages: Path) -> None:
    site = home.site().path
    one = put(home, seal(home))
    other = seal(home, thresholds=json.dumps({"good": 0.99}).encode())
    shutil.copytree(other, site / "incoming" / "new")
    (site / "incoming" / "broken").mkdir()
    (site / "incoming" / "broken" / "bundle.dsse").write_bytes(b"{}")
    keys = {role: add_key(site, f"{role}-1", role) for role in ("infer", "operate", "admin")}  # type: ignore[arg-type]
    with contextlib.ExitStack() as opened:
        _process, told = opened.enter_context(serving(site, packages, "--workers", "2"))
        clients = {
            role: opened.enter_context(httpx.Client(base_url=told["url"], headers={"X-API-Key": key}, timeout=30))
            for role, key in keys.items()
        }
        admin = clients["admin"]
        listed = clients["operate"].get("/site/incoming").json()["bundles"]
        assert [(row["name"], row.get("bundle"), "problem" in row) for row in listed] == [
            ("broken", None, True), ("new", other.name, False),
        ]  # fmt: skip
        body = {"name": "new", "share": 0.5}
        assert [clients[role].post("/site/install", json=body).status_code for role in ("infer", "operate")] == [
            403
        ] * 2
        assert clients["infer"].get("/site/versions").status_code == 403
        for name in ("../new", "nothing", ".", "broken/../new"):
            assert admin.post("/site/install", json={"name": name}).status_code == 404
        assert admin.post("/site/install", json={"name": "broken"}).status_code == 409
        assert admin.post("/site/install", json=body).json() == {
            "bundle": other.name, "product": "tiny", "changed": True,
        }  # fmt: skip

        asking = Asking(told["url"], keys["infer"])
        with asking.all_the_time(2):
            until(lambda: versions_at(told["url"], keys["operate"])[other.name]["state"] == "canary", 30)
            trial = lambda: versions_at(told["url"], keys["operate"])[other.name]["metrics"] or {"compared": 0}  # noqa: E731
            until(lambda: trial()["compared"] >= 5, 60)
        shown = versions_at(told["url"], keys["operate"])
        assert (shown[other.name]["share"], shown[other.name]["metrics"]["agreement"]) == (0.5, 0.0)
        assert set(shown[one]["metrics"]["verdicts"]) == {"good"}
        assert set(shown[other.name]["metrics"]["verdicts"]) == {"scratch"}
        assert shown[other.name]["metrics"]["error_share"] == 0
        until(lambda: (site / "trial.json").exists(), 20)
        said = CliRunner().invoke(build_app(), ["status", "--site", str(site), "--json"]).stdout
        told_by_status = {row["bundle"]: row for row in json.loads(said)["products"][0]["versions"]}
        assert told_by_status[other.name]["metrics"]["agreement"] == 0.0
        assert "agree with the other version" in CliRunner().invoke(build_app(), ["status", "--site", str(site)]).stdout
        assert shown[other.name]["metrics"]["p95_ms"] >= shown[other.name]["metrics"]["p50_ms"] > 0

        with asking.client() as client:  # what belongs together is answered by one version
            for number in range(8):
                session = {"X-Toolkit-Session": f"lot-{number}"}
                assert len({asking.once(client, **session).json()["bundle"] for _ in range(4)}) == 1

        refused = admin.post(f"/site/versions/{other.name}/promote", json={"share": 7})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid")
        assert admin.post(f"/site/versions/{other.name}/promote", json={}).json()["changed"]
        until(lambda: versions_at(told["url"], keys["operate"])[other.name]["state"] == "serving", 20)
        with asking.client() as client:  # what is said to serve has the share that is said, in every worker
            assert {asking.once(client).json()["bundle"] for _ in range(20)} == {other.name}
        assert admin.post("/site/rollback", json={}).json()["bundle"] == one
        asking.wait_for(one)
        assert {status for status, _, _ in asking.seen} == {200}
    entries = verify_site(site).site.audit.read()
    assert [entry.details.get("by") for entry in entries if entry.event == "rollback.done"] == ["admin-1"]
    assert {entry.event for entry in entries if entry.details.get("by") == "admin-1"} >= {
        "install.done", "install.refused", "promote.done",
    }  # fmt: skip


def test_tallies_of_several_workers_are_those_of_one() -> None:
    tally = Tally(requests=4, faults=1, compared=2, agreed=1)
    tally.verdicts.update(["good", "good", "scratch"])
    tally.spans[10] = 4
    found = summed([tally.as_record(), Tally(requests=4, spans=tally.spans).as_record()])
    assert (found["requests"], found["error_share"], found["agreement"]) == (8, 0.125, 0.5)
    assert found["verdicts"] == {"good": 2, "scratch": 1}
    assert found["p50_ms"] == found["p95_ms"] == pytest.approx(0.5 * 1.25**10, abs=0.01)
    assert summed([])["p95_ms"] is None
