"""What a real server on a real site writes down of its answers, and who may read it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from seal_parts import make_home
from serving_parts import Running, picture, running
from test_serving_cli import run_here

from toolkit.serving.ledger import open_ledger
from toolkit.site.contents import Body, Contents
from toolkit.site.inference_chain import FOLDER, latest
from toolkit.site.layout import Site

GREEN = (20, 230, 20)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_home(tmp_path / "home").site()


@pytest.fixture
def server(site: Site) -> Iterator[Running]:
    with running(site.path, ledger=open_ledger(site)) as it:
        yield it


def test_every_inference_is_written_down_and_nothing_of_its_content(server: Running) -> None:
    named = {"X-Request-Id": "part-4711", "Content-Type": "image/png"}
    with server.client() as client, server.client("operate") as operator:
        client.post("/v1/inspect", content=picture(GREEN), headers=named)
        client.post("/v1/inspect", content=b"no picture", headers={"Content-Type": "image/png"})
        client.post("/v1/nowhere", content=b"x")
        client.get("/readyz")
        assert client.get("/site/inferences").status_code == 403
        told = operator.get("/site/inferences").json()
        assert [(one["status"], one["route"]) for one in told["entries"]] == [
            (404, "other"), (422, "/v1/inspect"), (200, "/v1/inspect"),
        ]  # fmt: skip
        first = told["entries"][-1]
        facts = {
            name: first[name] for name in ("request_id", "key", "role", "product", "bundle", "version", "verdicts")
        }
        assert facts == {
            "request_id": "part-4711", "key": "infer", "role": "infer", "product": "tiny", "bundle": "b-123",
            "version": "1.7", "verdicts": ["scratch"],
        }  # fmt: skip
        assert first["ms"] > 0
        assert first["bytes"] == len(picture(GREEN))
        page = operator.get("/site/inferences", params={"limit": 2}).json()
        rest = operator.get("/site/inferences", params={"limit": 2, "before": page["next"]}).json()
        assert [*page["entries"], *rest["entries"]] == told["entries"]
        assert rest["next"] is None
        (found,) = operator.get("/site/inferences", params={"request_id": "part-4711"}).json()["entries"]
        assert found == first
    written = b"".join(path.read_bytes() for path in (server.site / FOLDER).iterdir())
    assert b"no picture" not in written
    assert server.keys["infer"].encode() not in written


def test_pages_miss_none_of_one_microsecond_and_a_clock_set_back_changes_no_order(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = ["2026-11-28T12:00:00.000001Z"]
    monkeypatch.setattr("toolkit.site.inferences._now", lambda: now[0])
    logs = [open_ledger(site).trail for _ in range(2)]
    for log in logs:
        log.begin()
    for name in "abcdef":
        logs["abcdef".index(name) % 2].append({"request_id": name})
    now[0] = "2026-11-28T11:59:59.000001Z"
    logs[0].append({"request_id": "g"})
    with running(site.path, ledger=open_ledger(site)) as server, server.client("operate") as operator:
        found, page = [], {"next": ""}
        while page["next"] is not None:
            page = operator.get("/site/inferences", params={"limit": 1, "before": page["next"]}).json()
            found += [one["request_id"] for one in page["entries"]]
        assert sorted(found) == list("abcdefg")
        assert found.index("g") < found.index("e") < found.index("c") < found.index("a")
        at = operator.get("/site/inferences", params={"before": "2026-11-28T12:00:00.000002Z"}).json()
        assert len(at["entries"]) == 7
        assert operator.get("/site/inferences", params={"before": "then~x~y"}).status_code == 422
    for log in logs:
        log.close()


def test_the_signed_trail_is_read_in_pages(server: Running) -> None:
    with server.client("operate") as operator:
        first = operator.get("/site/audit", params={"limit": 1}).json()
        rest = operator.get("/site/audit", params={"after": first["next"]}).json()
    events = [entry["event"] for entry in [*first["entries"], *rest["entries"]]]
    assert events == ["site.init", "inferences.begun"]
    assert rest["next"] is None


def test_the_command_shows_and_verifies_and_finds_a_change(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--site", str(site.path))
    with running(site.path, ledger=open_ledger(site)) as server, server.client() as client:
        for number in range(3):
            headers = {"X-Request-Id": f"part-{number}", "Content-Type": "image/png"}
            client.post("/v1/inspect", content=picture(GREEN), headers=headers)
    code, out, _err = run_here(capsys, "audit", "verify", *at, "--json")
    assert (code, json.loads(out)["inferences"]) == (0, {"streams": 1, "lines": 3, "unsealed": 0, "removed": 0})
    assert "part-1" in run_here(capsys, "audit", "inferences", *at)[1]
    code, out, _err = run_here(capsys, "audit", "inferences", *at, "--last", "1", "--json")
    assert [one["request_id"] for one in json.loads(out)["inferences"]] == ["part-2"]
    (path,) = (site.path / FOLDER).iterdir()
    path.write_bytes(path.read_bytes().replace(b"scratch", b"good"))
    code, _out, err = run_here(capsys, "audit", "verify", *at)
    assert (code, "was altered" in err, err.count("\n")) == (4, True, 2)
    assert run_here(capsys, "verify", str(site.path))[0] == 4


def test_what_cannot_be_written_down_is_not_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(site.path, ledger=open_ledger(site)) as server, server.client() as client:
        send = {"content": picture(GREEN), "headers": {"Content-Type": "image/png"}}
        assert client.post("/v1/inspect", **send).status_code == 200
        while not list(latest(site.path / FOLDER)):  # it is written once the answer has gone
            time.sleep(0.01)
        monkeypatch.setattr("toolkit.site.inferences.os.write", lambda file, data: 0)
        client.post("/v1/inspect", **send)
        time.sleep(0.1)
        refused = client.post("/v1/inspect", **send)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "environment")
        assert client.get("/readyz").status_code == 200
        monkeypatch.undo()
        assert client.post("/v1/inspect", **send).status_code == 200
    assert len(list(latest(site.path / FOLDER))) == 3


def test_many_threads_write_one_chain(site: Site) -> None:
    ledger = open_ledger(site)
    with running(site.path, ledger=ledger) as server:

        def ask() -> None:
            with server.client() as client:
                for _ in range(25):
                    client.post("/v1/inspect", content=picture(GREEN), headers={"Content-Type": "image/png"})

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(list(latest(site.path / FOLDER))) == 100


def test_content_is_kept_where_the_site_asks_for_it_and_encrypted(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at, out = ("--site", str(site.path)), tmp_path / "out"
    (site.path / "settings.toml").write_text("[inferences]\ncontent = true\n")
    sent = picture(GREEN)
    with running(site.path, ledger=open_ledger(site)) as server, server.client() as client:
        headers = {"X-Request-Id": "part-1", "Content-Type": "image/png"}
        answer = client.post("/v1/inspect", content=sent, headers=headers)
    written = b"".join(path.read_bytes() for path in site.path.rglob("*") if path.is_file())
    assert sent[20:60] not in written
    code, told, _err = run_here(capsys, "audit", "content", "part-1", str(out), *at, "--json")
    assert (code, json.loads(told)["asked"]["media_type"]) == (0, "image/png")
    assert (out / "asked").read_bytes() == sent
    assert (out / "answered").read_bytes() == answer.content
    assert [entry.event for entry in site.audit.read()][-1] == "content.opened"
    assert run_here(capsys, "audit", "content", "part-2", str(out), *at)[0] == 2
    (parcel,) = (path for path in (site.path / FOLDER / "content").rglob("*") if path.is_file())
    parcel.write_bytes(parcel.read_bytes()[:-1] + b"x")
    assert run_here(capsys, "audit", "content", "part-1", str(out), *at)[0] == 4
    parcel.unlink()
    assert run_here(capsys, "audit", "content", "part-1", str(out), *at)[0] == 2


def test_the_oldest_hours_of_content_go(site: Site) -> None:
    kept = Contents(site.path, keep_bytes=5000, keep_days=2)
    place = kept.keep(Body("text/plain", b"x" * 2000), Body("text/plain", b"y"))["place"]
    folder = site.path / FOLDER / "content"
    now = place.partition("/")[0]
    for hour in ("2020010100", f"{int(now) - 2:010}", f"{int(now) - 1:010}"):
        shutil.copytree(folder / now, folder / hour)
    kept.clear()
    assert sorted(path.name for path in folder.iterdir()) == [now]
