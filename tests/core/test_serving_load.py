"""Mixed load while versions come and go: no request fails, and no answer is of two versions."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from seal_parts import make_home
from serving_parts import picture
from test_serving_cli import install_domain, serving
from test_serving_following import put, seal

from toolkit.serving.access import add_key
from toolkit.site.rollback import promote, rollback
from toolkit.site.verify import verify_site

SINGLE = picture((230, 20, 20))
BATCH = [("images", ("a.png", picture((20, 230, 20)))), ("images", ("b.jpg", picture((230, 20, 20), "JPEG")))]


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_no_request_fails_while_versions_are_installed_promoted_and_rolled_back(seconds: int, tmp_path: Path) -> None:
    home, packages = make_home(tmp_path / "home"), install_domain(tmp_path / "packages", seconds=0)
    site = home.site()
    versions = {put(home, seal(home))}
    headers = {"X-API-Key": add_key(site.path, "line", "operate")}
    seen, wrong, end = Counter[str](), list[str](), threading.Event()

    def ask(kind: str, url: str) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            for number in itertools.count():
                if end.is_set():
                    return
                if kind == "batch":
                    answer = client.post("/v1/inspect", files=BATCH)
                elif kind == "lot":
                    answer = client.post("/v1/inspect", content=SINGLE, headers={"X-Toolkit-Session": f"{number // 5}"})
                else:
                    answer = client.get(kind) if kind.startswith("/") else client.post("/v1/inspect", content=SINGLE)
                seen[kind] += 1
                told = answer.headers.get("x-toolkit-bundle")
                if answer.status_code != 200 or answer.json().get("bundle", told) not in (told, None, *versions):
                    wrong.append(f"{kind}: {answer.status_code} {told} {answer.text[:200]}")
                elif told and (answer.json()["bundle"] != told or told not in versions):
                    wrong.append(f"{kind}: {told} and {answer.json()['bundle']}")

    with serving(site.path, packages, "--workers", "2") as (process, told):
        asking = [
            threading.Thread(target=ask, args=(kind, told["url"])) for kind in ("single", "batch", "lot", "/readyz")
        ]
        for thread in asking:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            bundle = seal(home)
            versions.add(bundle.name)
            put(home, bundle, 300)
            time.sleep(1)
            promote(site)
            time.sleep(1)
            rollback(site)
            time.sleep(1)
        end.set()
        for thread in asking:
            thread.join()
        assert process.poll() is None
    print(f"{seconds} s: {dict(seen)} requests, {len(versions)} versions")
    assert not wrong, wrong[:5]
    assert min(seen[kind] for kind in ("single", "batch", "lot", "/readyz")) > 5
    verify_site(site.path)
