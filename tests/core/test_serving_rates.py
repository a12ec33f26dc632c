"""How often a key may ask, who may make keys, and what a server never does or writes."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from seal_parts import make_home
from serving_parts import picture, running
from test_serving_cli import install_domain, make_site, run_here, serving

from toolkit.errors import UsageError
from toolkit.serving.access import WRONG, add_key
from toolkit.serving.ledger import open_ledger
from toolkit.serving.rates import FILE, Buckets, Rate
from toolkit.site.layout import Site

SEND = {"content": picture((230, 20, 20)), "headers": {"Content-Type": "image/png"}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_home(tmp_path / "home").site()


@pytest.mark.parametrize("text", ["", "20", "0/s", "20/d", "-1/s", "1e3/s", "20/s ", "99999999/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Rate.parse(text)


def test_a_bucket_fills_with_time_and_is_shared_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("toolkit.serving.rates.time.time", lambda: now)
    one, other = Buckets(tmp_path), Buckets(tmp_path)
    rate = Rate.parse("4/s")
    assert [one.take("a", rate), other.take("a", rate), one.take("a", rate), other.take("a", rate)] == [0.0] * 4
    assert one.take("a", rate) == pytest.approx(0.25)
    assert one.take("b", rate) == 0.0  # each has its own
    now += 0.5
    assert [other.take("a", rate), one.take("a", rate)] == [0.0, 0.0]
    assert other.take("a", rate) > 0
    now -= 5000  # a clock that was set back must not shut anybody out for as long
    assert one.take("a", rate) == 0.0


def test_the_disk_has_room_for_all_buckets_before_one_is_used(tmp_path: Path) -> None:
    """On a full disk a hole that is written through a map ends the process."""
    (tmp_path / FILE).touch()
    Buckets(tmp_path)
    status = (tmp_path / FILE).stat()
    assert status.st_blocks * 512 >= status.st_size > 0


def test_buckets_are_bounded_and_the_unused_give_way(tmp_path: Path) -> None:
    buckets = Buckets(tmp_path)
    for number in range(20_000):
        assert buckets.take(f"wrong 10.0.{number >> 8}.{number & 255}", WRONG) == 0.0
    assert (tmp_path / "rates").stat().st_size < 200_000
    assert b"10.0" not in (tmp_path / "rates").read_bytes()


def test_a_key_that_asks_too_often_is_told_when_to_come_back(site: Site) -> None:
    with running(site.path, ledger=open_ledger(site)) as server:
        slow = add_key(site.path, "slow", "infer", "3/m")
        with httpx.Client(base_url=server.url, headers={"X-API-Key": slow}, timeout=20) as client:
            answers = [client.post("/v1/inspect", **SEND) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
            assert answers[3].json()["error"]["code"] == "too_many_requests"
            assert 15 <= int(answers[3].headers["retry-after"]) <= 20
            assert client.get("/readyz").status_code == 200  # operations are not counted
        with server.client() as client, server.client("operate") as operator:
            assert client.post("/v1/inspect", **SEND).status_code == 200
            figures = operator.get("/metrics").text
            assert 'toolkit_key_rate_limit{key="slow"} 0.05' in figures
            assert 'status="429"' in figures


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(tmp_path: Path) -> None:
    with running(tmp_path) as server, httpx.Client(base_url=server.url, timeout=20) as stranger:
        seen = [stranger.get("/readyz", headers={"X-API-Key": "tk_wrong"}).status_code for _ in range(WRONG.count + 30)]
        assert seen[0] == 401
        assert seen[-1] == 429
        with server.client() as client:
            assert client.get("/readyz").status_code == 200


def test_a_session_asks_no_oftener_than_its_key(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        key = add_key(tmp_path, "slow", "infer", "5/m")
        own = {"origin": server.url}
        with httpx.Client(base_url=server.url, timeout=20) as browser:
            entered = browser.post("/console/sign-in", data={"key": key, "next": ""}, headers=own)
            assert entered.status_code == 303
            page = browser.get("/console").text
            token = re.search(r'data-csrf="([^"]+)"', page)
            assert token
            own |= {"X-CSRF-Token": token[1], "Content-Type": "image/png"}
            statuses = [browser.post("/v1/inspect", content=SEND["content"], headers=own).status_code for _ in range(8)]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 5


def test_administrators_make_and_take_back_keys_and_the_trail_says_so(site: Site) -> None:
    with running(site.path, ledger=open_ledger(site)) as server:
        with server.client("operate") as operator:
            for method, path in (("GET", "/site/keys"), ("POST", "/site/keys"), ("DELETE", "/site/keys/infer")):
                body = {"name": "x", "role": "admin"} if method == "POST" else None
                assert operator.request(method, path, json=body).status_code == 403
        with server.client("admin") as admin:
            made = admin.post("/site/keys", json={"name": "line-9", "role": "infer", "rate": "9/s"})
            assert made.status_code == 201
            key = made.json()["key"]
            headers = {"X-API-Key": key}
            assert httpx.get(server.url + "/readyz", headers=headers).status_code == 200
            listed = admin.get("/site/keys").json()["keys"]
            assert [one["name"] for one in listed] == ["infer", "operate", "admin", "line-9"]
            assert all(set(one) == {"name", "role", "rate", "created"} for one in listed)
            taken = {"name": "line-9", "role": "infer"}
            fast = {"name": "x", "role": "infer", "rate": "fast"}
            for body in (taken, taken | {"name": "a/b"}, taken | {"role": "god"}, fast, {"role": "infer"}):
                assert admin.post("/site/keys", json=body).status_code == 422
            assert admin.delete("/site/keys/nobody").status_code == 404
            assert admin.delete("/site/keys/admin").status_code == 422  # it would shut itself out
            assert admin.delete("/site/keys/line-9").status_code == 200
            assert httpx.get(server.url + "/readyz", headers=headers).status_code == 401
    told = [(e.event, e.details.get("name"), e.details.get("by")) for e in site.audit.read()]
    assert ("access.added", "line-9", "admin") in told
    assert ("access.removed", "line-9", "admin") in told
    assert key.encode() not in b"".join(path.read_bytes() for path in site.path.rglob("*") if path.is_file())


def test_the_command_takes_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--site", str(make_site(tmp_path)))
    assert run_here(capsys, "access", "add", "a", "--role", "infer", "--rate", "20/s", *at)[0] == 0
    assert run_here(capsys, "access", "add", "b", "--role", "infer", "--rate", "soon", *at)[0] == 2
    (key,) = json.loads(run_here(capsys, "access", "list", *at, "--json")[1])["keys"]
    assert key["rate"] == "20/s"


def test_no_address_in_a_request_is_ever_asked(site: Site) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as trap, running(site.path, ledger=open_ledger(site)) as server:

        def listen() -> None:
            while True:
                try:
                    asked.append(trap.accept()[0].recv(100))
                except OSError:
                    return

        threading.Thread(target=listen, daemon=True).start()
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/secret.png"
        svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
        judged = {"request_id": url[:60], "agree": False, "label": url}
        bodies: list[tuple[str, bytes, str]] = [
            ("/v1/inspect", svg.encode(), "image/svg+xml"), ("/v1/inspect", svg.encode(), "image/png"),
            ("/v1/inspect", json.dumps({"image_url": url}).encode(), "application/json"),
            ("/v1/inspect", url.encode(), "application/octet-stream"),
            ("/site/review", json.dumps(judged).encode(), "application/json"),
        ]  # fmt: skip
        with server.client() as client:
            for path, body, kind in bodies:
                answer = client.post(
                    path, content=body, headers={"Content-Type": kind, "X-Forwarded-For": url, "Referer": url}
                )
                assert 400 <= answer.status_code < 500
        time.sleep(0.5)
    assert asked == []


def test_a_server_writes_no_key_anywhere(tmp_path: Path) -> None:
    site, packages = make_site(tmp_path), install_domain(tmp_path / "packages", seconds=0)
    right, wrong = add_key(site, "line-1", "admin"), "tk_" + "w" * 43
    with serving(site, packages, "--log-requests") as (process, told):
        url = told["url"]
        for key in (right, wrong):
            for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
                httpx.post(
                    url + "/v1/inspect", content=SEND["content"], headers=headers | {"Content-Type": "image/png"}
                )
                httpx.get(url + f"/readyz?key={key}", headers=headers)
                httpx.get(url + f"/nowhere/{key}", headers=headers)
                httpx.post(url + "/site/review", json={"request_id": "x", "agree": True, "note": key}, headers=headers)
        made = httpx.post(url + "/site/keys", json={"name": "n", "role": "infer"}, headers={"X-API-Key": right})
        figures = httpx.get(url + "/metrics", headers={"X-API-Key": right}).text
        process.terminate()
        out, err = process.communicate(timeout=30)
    written = b"".join(path.read_bytes() for path in site.rglob("*") if path.is_file())
    everything = written + (out + err + figures).encode()
    for secret in (right, wrong, made.json()["key"]):
        assert secret.encode() not in everything
    assert '"key": "line-1"' in err
