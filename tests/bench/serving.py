"""`make bench-serving`: our server beside ONNX Runtime without one, MLServer and BentoML, in one run on one machine.

    python tests/bench/serving.py [--quick] [--rounds 3] [--seconds 5] [--models heavy small] [--threads N]

All servers of a model stand at once, and are asked turn by turn, so that a busy machine slows all alike: a figure is
the median of the rounds, a ratio the median of the rounds' ratios. The clients (serving_load.py) are a process of their
own on the same machine; what they cost is the row `trivial`, a server that looks at nothing. `bare` is the better of
two ways to use ONNX Runtime alone: as many threads of one inference as there are cores, or one. MLServer and BentoML
have the session options of ours and environments of their own, made once below .venv/peers. Writes
tests/bench/results/serving.json = {machine, versions, rows, ratios} and prints one table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from serving_models import Served, make
from serving_servers import HERE, ROOT, Up, bentoml, environment, mlserver, ours, refused, trivial

RESULTS = HERE / "results" / "serving.json"
PICTURES = ROOT.parent / "shared" / "data" / "industry" / "neu-det"
CLIENTS = (1, 8, 32)
BODIES = ("jpeg", "tensor")
FIGURES = ("per_second", "p50_ms", "p95_ms", "p99_ms", "errors", "client_cpu")

Figures = dict[str, float]
Ask = Callable[[int], Figures]
"""`ask(clients)`: one measurement."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds: whether all of it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--models", nargs="+", default=["heavy", "small"], choices=["heavy", "small"])
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--threads", type=int, default=1, help="of one inference, in every server")
    parser.add_argument(
        "--serve", nargs="*", default=[], help="further options of `toolkit serve`, without their dashes"
    )
    parser.add_argument("--without", nargs="+", default=[], choices=["mlserver", "bentoml"])
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.seconds = 1, 2.0
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.models:
            served = make(name, Path(folder), next(iter(sorted(PICTURES.rglob("*.jpg"))), None))
            rows += measured(served, Path(folder), asked, skipped)
    record = machine() | {"skipped": skipped, "rows": rows, "ratios": ratios(rows)}
    show(record)
    if not asked.quick:
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def measured(served: Served, folder: Path, asked: argparse.Namespace, skipped: dict[str, str]) -> list[dict[str, Any]]:
    """Every server of one model, each kind of body, each number of clients, in turn."""
    options = [f"--{word}" if not word.isdigit() else word for word in asked.serve]
    starts: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(served, folder / "ours" / served.name, "--threads", str(asked.threads), *options),
        "mlserver": lambda: mlserver(served, folder / "mlserver" / served.name, asked.threads),
        "bentoml": lambda: bentoml(served, folder / "bentoml" / served.name, asked.threads),
    }
    with contextlib.ExitStack() as stack:
        up: dict[str, Up] = {}
        for name in [name for name in starts if name not in asked.without]:
            try:
                up[name] = stack.enter_context(starts[name]())
            except OSError as error:
                skipped[f"{served.name} {name}"] = str(error)
        echo = stack.enter_context(trivial())
        rows = []
        for name, one in up.items():
            for body in BODIES:
                if said := refused(one.port, one.requests[body]):
                    skipped[f"{served.name} {body} {name}"] = said
        for body in BODIES:
            asks = {"trivial": by_load(echo, up["ours"].requests[body], asked.seconds)} if "ours" in up else {}
            asks["bare"] = by_bare(served, body, asked.seconds)
            asks |= {
                name: by_load(one.port, one.requests[body], asked.seconds)
                for name, one in up.items()
                if f"{served.name} {body} {name}" not in skipped
            }
            if "ours" in up and body == "jpeg":
                asks["empty"] = by_load(up["ours"].port, up["ours"].requests["empty"], asked.seconds)
            for clients in asked.clients:
                rows += in_turn(asks, clients, asked.rounds, {"model": served.name, "body": body, "clients": clients})
        return rows


def in_turn(asks: Mapping[str, Ask], clients: int, rounds: int, what: Mapping[str, Any]) -> list[dict[str, Any]]:
    told: dict[str, list[Figures]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            told[name].append(ask(clients))
    rows = []
    for name, figures in told.items():
        row: dict[str, Any] = {**what, "server": name, "requests": sum(one["requests"] for one in figures)}
        row |= {key: statistics.median(one.get(key, 0.0) for one in figures) for key in FIGURES}
        row["rounds"] = [one.get("per_second", 0.0) for one in figures]
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    return rows


def by_load(port: int, request: bytes, seconds: float) -> Ask:
    def ask(clients: int) -> Figures:
        return program("serving_load.py", port, clients, seconds, given=request)

    return ask


def by_bare(served: Served, body: str, seconds: float) -> Ask:
    buffer = io.BytesIO()
    np.save(buffer, served.array)
    given = served.jpeg if body == "jpeg" else buffer.getvalue()

    def ask(clients: int) -> Figures:
        ways = {1, cores()}
        tried = [program("serving_bare.py", served.model, clients, seconds, way, given=given) for way in ways]
        return max(tried, key=lambda one: one["per_second"])

    return ask


def program(name: str, *words: object, given: bytes) -> Figures:
    command = [sys.executable, str(HERE / name), *map(str, words)]
    found: Figures = json.loads(subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout)
    return found


def cores() -> int:
    return len(os.sched_getaffinity(0))


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Ours to others, by the rounds. `to_bare_at_8` is of the heavy model and tensors, the others of the small one and
    JPEGs, unless their names say otherwise."""
    found = {(row["model"], row["body"], row["clients"], row["server"]): row for row in rows}
    wanted = {
        "to_bare_at_8": ("heavy", "tensor", 8, "bare"), "to_bare_at_32": ("heavy", "tensor", 32, "bare"),
        "to_mlserver_at_8": ("small", "jpeg", 8, "mlserver"), "to_bentoml_at_8": ("small", "jpeg", 8, "bentoml"),
        "to_mlserver_at_8_tensor": ("small", "tensor", 8, "mlserver"),
        "to_bentoml_at_8_tensor": ("small", "tensor", 8, "bentoml"),
        "to_empty_handler": ("small", "jpeg", 8, "empty"),
    }  # fmt: skip
    told = {}
    for name, (model, body, clients, other) in wanted.items():
        mine, theirs = found.get((model, body, clients, "ours")), found.get((model, body, clients, other))
        if mine and theirs and all(theirs["rounds"]) and not mine["errors"]:
            each = [a / b for a, b in zip(mine["rounds"], theirs["rounds"], strict=True)]
            told[name] = round(statistics.median(each), 3)
    for other in ("mlserver", "bentoml"):
        p99 = [
            row["p99_ms"] / theirs["p99_ms"]
            for (model, body, clients, server), row in found.items()
            if server == "ours" and (theirs := found.get((model, body, clients, other))) and theirs["p99_ms"]
            and not row["errors"]
        ]  # fmt: skip
        if p99:
            told[f"worst_p99_to_{other}"] = round(max(p99), 3)
    return told


def machine() -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    told = describe_machine()
    versions = {name: told.pop(name) for name in ("python", "onnxruntime")}
    for name in ("mlserver", "bentoml"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            asked = f"from importlib.metadata import version; print(version({name!r}))"
            said = subprocess.run([environment(name), "-c", asked], stdout=subprocess.PIPE, text=True, check=True)
            versions[name] = said.stdout.strip()
    return {"machine": told, "versions": versions}


def show(record: Mapping[str, Any]) -> None:
    print("model  body    clients  server        req/s    p50 ms    p95 ms    p99 ms  errors  clients CPU")
    for row in record["rows"]:
        print(
            f"{row['model']:<6} {row['body']:<7} {row['clients']:>7}  {row['server']:<9} {row['per_second']:>9.1f}"
            f" {row['p50_ms']:>9.2f} {row['p95_ms']:>9.2f} {row['p99_ms']:>9.2f} {row['errors']:>7.0f}"
            f" {row['client_cpu']:>12.0%}"
        )
    for name, value in record["ratios"].items():
        print(f"{name:<26} {value:.2f}")
    for name, why in record["skipped"].items():
        print(f"skipped: {name}: {why}")


if __name__ == "__main__":
    main()
