"""A model that writes, watched: figures by vLLM's names, drift by lengths and scripts, and rows for a person."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from seal_parts import make_home
from test_text_generation_chat import compiled, sealed

from toolkit.serving.access import add_key
from toolkit.serving.assembly import Tuning, assemble
from toolkit.serving.ledger import open_ledger
from toolkit.serving.models import read_facts
from toolkit.serving.runner import in_background, listen
from toolkit.serving.written import text_measures
from toolkit.tasks.text_generation import task
from toolkit.text import Message

__all__ = ["compiled"]


def test_texts_are_counted_compared_and_kept_for_a_person(compiled: Path, tmp_path: Path) -> None:
    site = make_home(tmp_path / "home").site()
    (site.path / "settings.toml").write_text('[review]\ncollect = ["text"]\n')
    asked = [Message("user", f"one two {'three ' * (n % 5)}") for n in range(60)]
    rows = [{"predicted": None, "measures": text_measures([one], "four")} for one in asked]
    files = sealed(compiled, reference=json.dumps({"metrics": {}, "per_row": rows}).encode())
    facts = read_facts(files, bundle="b-1", version="1.1", product="counter", domain="counting", development_keys=True)
    key = add_key(site.path, "tester", "operate")
    app = assemble(
        files, facts, runtime=task, site=site.path, tuning=Tuning(), ask=task.serve, ledger=open_ledger(site)
    )
    with (
        in_background(app, listen("127.0.0.1", 0), Tuning().limits) as url,
        httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30) as client,
    ):
        for stream in (False, True):
            body = {"model": "counter", "messages": [{"role": "user", "content": "one two"}], "stream": stream}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        body = {"model": "counter", "messages": [{"role": "user", "content": "one"}], "max_tokens": 1}
        cut = client.post("/v1/chat/completions", json=body | {"temperature": 0.0})
        samples = {
            (sample.name, sample.labels.get("product", "")): sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
        }
        assert samples["toolkit_time_to_first_token_seconds_count", "counter"] >= 2
        assert samples["toolkit_generation_tokens_total", "counter"] >= 3
        assert samples["toolkit_prompt_tokens_total", "counter"] >= 3
        drift = client.get("/site/drift").json()["products"][0]
        assert drift["week"]["prompt_characters"] == 3
        assert drift["reference"] == dict.fromkeys(text_measures(asked, ""), 60)
        for _ in range(60):
            other = {"model": "counter", "messages": [{"role": "user", "content": "数到十" * 9}], "max_tokens": 1}
            client.post("/v1/chat/completions", json=other)
        drift = client.get("/site/drift").json()["products"][0]
        assert (drift["state"], drift["states"]["prompt_non_ascii"]) == ("alert", "alert")
        finish = cut.json()["choices"][0]["finish_reason"]
        request = client.post("/v1/chat/completions", json=body).headers["x-request-id"]
        said = {"request_id": request, "agree": False, "label": "two three"}
        assert client.post("/site/review", json=said).status_code == 201
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            kept = client.get("/site/review", params={"limit": 500}).json()["entries"]
            if {"person"} <= {why for one in kept for why in one["why"]}:
                break
            time.sleep(0.2)
        (judged,) = [one for one in kept if "person" in one["why"]]
        shown = client.get(f"/site/review/{judged['id']}").json()
    assert shown["said"]["label"] == "two three"
    assert shown["sample"]["content"]["messages"] == [{"role": "user", "content": "one"}]
    assert (finish == "length") == any("cut-off" in one["why"] for one in kept)


def test_measures_of_a_text_are_counted_by_hand() -> None:
    turns = [Message("system", "be kind"), Message("user", "ab12 数")]
    assert text_measures(turns, "four") == {
        "prompt_characters": 6.0, "answer_characters": 4.0, "prompt_non_ascii": pytest.approx(1 / 6, abs=1e-4),
        "prompt_digits": pytest.approx(2 / 6, abs=1e-4),
    }  # fmt: skip
