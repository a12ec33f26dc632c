"""Several workers write one site's records: nothing is lost with one that is killed, and limits count for all."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
from serving_parts import picture
from test_serving_cli import install_domain, make_site, serving
from test_serving_workers import wait_for_workers, workers_of

from toolkit.serving.access import add_key
from toolkit.site.inference_chain import FOLDER, latest, segments, verify
from toolkit.site.layout import open_site

SEND = picture((230, 20, 20))


def ask(url: str, key: str, path: str = "/v1/inspect", **more: object) -> httpx.Response:
    """By a connection of its own, so that any worker may take it."""
    sent = more or {"content": SEND}
    headers = {"X-API-Key": key} | ({} if more else {"Content-Type": "image/png"})
    return httpx.post(url + path, timeout=20, headers=headers, **sent)  # type: ignore[arg-type]


def test_workers_write_one_record_share_limits_and_judge_each_others_answers(tmp_path: Path) -> None:
    site, packages = make_site(tmp_path), install_domain(tmp_path / "packages", seconds=0)
    key, limited = add_key(site, "line-1", "operate"), add_key(site, "slow", "infer", "10/h")
    with serving(site, packages, "--workers", "2") as (process, told):
        url = told["url"]
        wait_for_workers(url, key, 2)
        asked = [ask(url, key).headers["x-request-id"] for _ in range(30)]
        seen = Counter(ask(url, limited).status_code for _ in range(14))
        assert seen == {200: 10, 429: 4}
        for request in asked[-6:]:  # whoever takes it, the input is found by who has it
            body = {"request_id": request, "agree": False, "label": "dent"}
            assert ask(url, key, "/site/review", json=body).status_code == 201
        deadline = time.monotonic() + 20
        held: set[bool] = set()
        while held != {True} and time.monotonic() < deadline:
            entries = httpx.get(url + "/site/review", headers={"X-API-Key": key}).json()["entries"]
            held = {one["held"] for one in entries}
        assert (len(entries), held) == (6, {True})
        assert len(segments(site / FOLDER)) == 2
        workers_of(process)[0].send_signal(signal.SIGKILL)
        wait_for_workers(url, key, 2, restarts=1)
        for _ in range(10):
            with contextlib.suppress(httpx.HTTPError):
                ask(url, key)
        process.terminate()
        assert process.wait(timeout=60) == 0
    found = verify(site / FOLDER, open_site(site).audit.read())
    assert (found.streams, found.unsealed) == (3, 0)
    lines = Counter(record["request_id"] for record in latest(site / FOLDER))
    assert set(asked) <= set(lines)
    assert max(lines.values()) == 1
