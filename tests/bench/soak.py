"""`make soak`: serve for minutes at a share of the peak, while versions come and go, and see that memory stays flat.

    python tests/bench/soak.py [--minutes 10] [--share 0.8] [--clients 8] [--workers 0]

The server is `toolkit serve` on a site of its own with the tiny model of the tests, so that it is the server that is
measured, not a model. First the peak: as many requests as the clients can bring in ten seconds. Then open loop at the
share of it. Two versions take turns each minute. Memory is the resident set of the parent and all workers, every five
seconds; the mean of the first tenth after the first two switches is compared with the mean of the last tenth. Ends with
exit code 1 where it grew by more than 3 percent or any request failed. Writes tests/bench/results/soak.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from seal_parts import make_home
from serving_parts import picture
from test_serving_cli import install_domain, serving
from test_serving_following import put, seal

from toolkit.serving.access import add_key
from toolkit.site.rollback import promote

RESULTS = Path(__file__).parent / "results" / "soak.json"
FLAT = 0.03
PEAK_SECONDS = 10
SAMPLE_SECONDS = 5.0
SWITCH_SECONDS = 60.0
HOLD_MB = 1
"""Of inputs that a person may still judge: so little that it is full before memory is first looked at."""


def client(url: str, key: str, rate: float, seconds: float, told: Connection) -> None:
    """A client with one connection that asks `rate` times a second (0: without a pause); tells its counts."""
    where, body = urlsplit(url), picture((230, 20, 20))
    headers = {"X-API-Key": key, "Content-Type": "image/png"}
    line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    started, right, wrong, times = time.monotonic(), 0, 0, []
    while (now := time.monotonic()) < started + seconds:
        due = started + (right + wrong) / rate if rate else now
        if due > now:
            time.sleep(min(due - now, started + seconds - now))
            continue
        line.request("POST", "/v1/inspect", body, headers)
        answer = line.getresponse()
        said = json.loads(answer.read())
        if answer.status == 200 and said["bundle"] == answer.headers["x-toolkit-bundle"]:
            right += 1
        else:
            wrong += 1
        times.append(time.monotonic() - now)
        del times[:-1000]
    told.send((right, wrong, times))


Started = list[tuple[multiprocessing.Process, Connection]]


def load(url: str, key: str, clients: int, rate: float, seconds: float) -> Started:
    """Start clients that together ask `rate` times a second."""
    started = []
    for _ in range(clients):
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=client, args=(url, key, rate / clients, seconds, there))
        process.start()
        there.close()
        started.append((process, here))
    return started


def ended(started: Started) -> tuple[int, int, list[float]]:
    right, wrong, times = 0, 0, []
    for process, told in started:
        try:
            one = told.recv()
            right, wrong, times = right + one[0], wrong + one[1], times + one[2]
        except EOFError:
            wrong += 1  # it died of an error of its connection, which is on standard error
        process.join()
    return right, wrong, times


def held(parent: psutil.Process) -> float:
    """MB of the parent and its workers."""
    return sum(one.memory_info().rss for one in (parent, *parent.children())) / 1e6


def soak(minutes: float, share: float, clients: int, workers: int, folder: Path) -> dict[str, object]:
    home = make_home(folder / "home")
    packages, site = install_domain(folder / "packages", seconds=0), home.site()
    (site.path / "settings.toml").write_text(f"[review]\nhold_mb = {HOLD_MB}\n")
    versions = [put(home, seal(home)) for _ in range(2)]
    key = add_key(site.path, "soak", "infer")
    with serving(site.path, packages, "--workers", str(workers)) as (process, told):
        parent = psutil.Process(process.pid)
        right, wrong, _ = ended(load(told["url"], key, clients, 0, PEAK_SECONDS))
        peak = right / PEAK_SECONDS
        print(f"peak: {peak:.0f} requests/s with {clients} clients and {told['workers']} workers, {wrong} failed")
        seconds, started, memory = minutes * 60, time.monotonic(), []
        asking = load(told["url"], key, clients, peak * share, seconds)
        switches = 0
        while (passed := time.monotonic() - started) < seconds - 1:
            time.sleep(SAMPLE_SECONDS)
            memory.append((passed, held(parent)))
            if passed > (switches + 1) * min(SWITCH_SECONDS, seconds / 10):
                promote(site, versions[switches % 2])
                switches += 1
        right, wrong, times = ended(asking)
    begun = 3 * min(SWITCH_SECONDS, seconds / 10)
    first = statistics.mean(mb for at, mb in memory if begun <= at < begun + seconds / 10)
    last = statistics.mean(mb for at, mb in memory if at >= seconds * 0.9)
    times.sort()
    return {
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "platform": platform.platform()},
        "rows": [{
            "minutes": minutes, "clients": clients, "workers": told["workers"], "peak_rps": round(peak, 1),
            "rps": round(right / seconds, 1), "answers": right, "failed": wrong, "switches": switches,
            "p50_ms": round(times[len(times) // 2] * 1000, 2), "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 2),
            "first_mb": round(first, 1), "last_mb": round(last, 1),
        }],
        "ratios": {"memory_growth": round(last / first - 1, 4)},
    }  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--share", type=float, default=0.8)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--workers", type=int, default=0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="toolkit-soak-") as folder:
        found = soak(given.minutes, given.share, given.clients, given.workers, Path(folder))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    row, growth = found["rows"][0], found["ratios"]["memory_growth"]  # type: ignore[index]
    return int(row["failed"] > 0 or growth > FLAT)


if __name__ == "__main__":
    sys.exit(main())
