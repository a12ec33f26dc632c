"""`make bench-records`: what writing down, watching and limiting add to a request.

    python tests/bench/records.py [--requests 300] [--rounds 5]

Two servers of one small model in one process, one with a ledger and a key with a rate, one without; they are asked turn
by turn, one request at a time, so that a busy machine slows both alike. What is reported is the median. Writes
tests/bench/results/records.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from seal_parts import make_home
from serving_parts import picture, running

from toolkit.serving.access import add_key
from toolkit.serving.ledger import open_ledger
from toolkit.site.inferences import InferenceLog
from toolkit.tasks.image_classification.appearance import appearance

RESULTS = Path(__file__).parent / "results" / "records.json"
LINES = 20_000
SEND = picture((230, 20, 20), "JPEG", size=224)


def ask(client: httpx.Client, requests: int) -> list[float]:
    """Seconds of each request."""
    seconds = []
    for _ in range(requests):
        started = time.perf_counter()
        client.post("/v1/inspect", content=SEND, headers={"Content-Type": "image/jpeg"}).raise_for_status()
        seconds.append(time.perf_counter() - started)
    return seconds


def microseconds_a_line(folder: Path) -> float:
    """Of the trail alone."""
    site = make_home(folder).site()
    log = InferenceLog(site.path / "inferences", lambda: site.audit, keep_bytes=10**10, keep_days=9)
    log.begin()
    record = {"request_id": "a" * 16, "key": "line-1", "bundle": "b" * 12, "status": 200, "verdicts": ["scratch"]}
    started = time.perf_counter()
    for _ in range(LINES):
        log.append(record)
    return (time.perf_counter() - started) / LINES * 1e6


def microseconds_a_picture(side: int) -> float:
    """Of how a picture looks."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    started = time.perf_counter()
    for _ in range(50):
        appearance(pixels)
    return (time.perf_counter() - started) / 50 * 1e6


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    plain: list[float] = []
    kept: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        site = make_home(Path(folder) / "home").site()
        bare = Path(folder) / "bare"
        bare.mkdir()
        with running(site.path, ledger=open_ledger(site)) as recorded, running(bare) as other:
            key = add_key(site.path, "limited", "infer", "9999/s")
            with httpx.Client(base_url=recorded.url, headers={"X-API-Key": key}) as one, other.client() as two:
                for _ in range(options.rounds):
                    kept += ask(one, options.requests)
                    plain += ask(two, options.requests)
        line = microseconds_a_line(Path(folder) / "lines")
    medians = [statistics.median(seconds) * 1e6 for seconds in (plain, kept)]
    found = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "rows": [
            {"what": "request without records", "us": round(medians[0])},
            {"what": "request with all of them", "us": round(medians[1])},
            {"what": "a line of the trail", "us": round(line, 1)},
            {"what": "appearance, 224 pixels", "us": round(microseconds_a_picture(224))},
            {"what": "appearance, 2048 pixels", "us": round(microseconds_a_picture(2048))},
        ],
        "ratios": {"records_to_none": round(medians[1] / medians[0], 3)},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for row in found["rows"]:
        print(f"{row['us']:>10} us  {row['what']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
