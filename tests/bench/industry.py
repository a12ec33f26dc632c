"""`make bench-industry`: the whole line on real steel, in numbers.

For each seed a fresh home, one `toolkit deploy` on NEU-DET, the same command again, and a server on one core.
Writes tests/bench/results/industry.json = {machine, versions, rows, ratios} and prints a table.

    python tests/bench/industry.py [--seeds 0 1 2] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "industry" / "neu-det"
RESULTS = Path(__file__).parent / "results" / "industry.json"
REQUESTS = 1000
TOOLKIT = [sys.executable, "-m", "toolkit.cli.main"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no data in {arguments.data}: name the NEU-DET folder with --data")
    rows, report = [], {}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as home:
            row, report = measure(seed, arguments.data, Path(home))
        rows.append(row)
        print(json.dumps(row))
    machine = report["machine"]
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    ratios = {name: statistics.median(row[f"{name}_ratio"] for row in rows) for name in ("latency", "size", "memory")}
    RESULTS.parent.mkdir(exist_ok=True)
    record = {"machine": machine, "versions": versions, "rows": rows, "ratios": ratios}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    show(rows)


def measure(seed: int, data: Path, home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """One deploy from nothing, the same again, and a server on one core."""
    command = ["deploy", "--domain", "industry", "--data", str(data), "--set", f"compute.seed={seed}"]
    first, seconds = run(home, *command)
    again, seconds_again = run(home, *command)
    report = json.loads(Path(first["report"]).with_suffix(".json").read_bytes())
    ratios = report["costs"]["ratios"]
    row = {
        "seed": seed,
        "teacher": report["teacher"]["metrics"]["accuracy"]["value"],
        "baseline": report["baseline"]["metrics"]["accuracy"]["value"],
        "student": report["student"]["metrics"]["accuracy"]["value"],
        "compiled": report["compiled"]["metrics"]["accuracy"]["value"],
        "gate": first["gate"],
        "form": report["compiled"]["form"],
        "seconds": round(seconds, 1),
        "seconds_again": round(seconds_again, 1),
        "kept_again": sum(stage["state"] == "kept" for stage in again["stages"]),
        "stages": {stage["name"]: round(stage["seconds"], 1) for stage in first["stages"]},
    }
    row |= {f"{name}_ratio": ratios[name]["value"] for name in ("latency", "size", "memory")}
    row |= served(home, data)
    return row, report


def run(home: Path, *arguments: str) -> tuple[dict[str, Any], float]:
    """One verb with --json in that home; a failure ends the bench."""
    started = time.monotonic()
    done = subprocess.run(
        [*TOOLKIT, *arguments, "--json"], env=os.environ | {"TOOLKIT_HOME": str(home)}, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"toolkit {' '.join(arguments)} ended with {done.returncode}: {done.stdout.decode()}")
    return json.loads(done.stdout), time.monotonic() - started


def served(home: Path, data: Path) -> dict[str, float]:
    """End to end in ms, one request after another: a JPEG in, a verdict out, the server pinned to one core."""
    key, _ = run(home, "access", "add", "bench", "--role", "infer")
    picture = next((data / "test").rglob("*.jpg")).read_bytes()
    headers = {"Authorization": f"Bearer {key['key']}", "Content-Type": "image/jpeg"}
    times = []
    with server(home) as url, httpx.Client(headers=headers, timeout=30) as client:
        for count in range(REQUESTS + 50):
            started = time.perf_counter()
            client.post(f"{url}/v1/inspect", content=picture).raise_for_status()
            if count >= 50:
                times.append(1000 * (time.perf_counter() - started))
    times.sort()
    return {"served_p50_ms": times[len(times) // 2], "served_p95_ms": times[int(0.95 * len(times))]}


@contextmanager
def server(home: Path) -> Iterator[str]:
    core = str(min(os.sched_getaffinity(0)))
    process = subprocess.Popen(
        ["taskset", "-c", core, *TOOLKIT, "serve", "--port", "0", "--json"],
        env=os.environ | {"TOOLKIT_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            text += process.stdout.readline()
        yield json.loads(text)["url"]
    finally:
        process.terminate()
        process.wait(30)


def show(rows: list[dict[str, Any]]) -> None:
    print("seed  teacher  baseline  student  compiled  gate  latency  size  memory  served p95  seconds  again")
    for row in rows:
        print(
            f"{row['seed']:>4}  {row['teacher']:7.2%}  {row['baseline']:8.2%}  {row['student']:7.2%}"
            f"  {row['compiled']:8.2%}  {row['gate']}  {row['latency_ratio']:6.1f}x  {row['size_ratio']:.0f}x"
            f"  {row['memory_ratio']:5.1f}x  {row['served_p95_ms']:7.1f} ms  {row['seconds']:7.0f}"
            f"  {row['seconds_again']:5.1f}"
        )


if __name__ == "__main__":
    main()
