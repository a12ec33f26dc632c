"""`make bench-anomaly`: good magnetic tiles alone are learnt, and defects found: student beside its teacher, by picture
and by place, over seeds. Writes results/anomaly.json and prints a table.

Every seed is a deployment up to its gate, exactly as a user types it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from toolkit.stages.summary import describe_machine

REPOSITORY = Path(__file__).parents[2]
TILES = REPOSITORY.parent / "shared" / "data" / "industry" / "magnetic-tile"
RESULTS = Path(__file__).parent / "results" / "anomaly.json"
METRICS = ("auroc", "pixel_auroc", "aupro", "accuracy", "escapes", "overkill")
MODELS = ("teacher", "compiled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=TILES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"there is no {options.data}: name a folder with --data")
    rows = []
    for seed in options.seeds:
        rows.append({"seed": seed, **_deployed(options.data, seed, options.settings)})
        _write(options, rows)
    print(_table(rows))


def _deployed(data: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    words = [word for one in (f"compute.seed={seed}", *settings) for word in ("--set", one)]
    command = [sys.executable, "-m", "toolkit.cli.main", "deploy", "--domain", "industry", "--data", str(data), *words]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "TOOLKIT_HOME": home}
        said = subprocess.run(
            [*command, "--until", "gate", "--override", "a bench", "--json"],
            env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        record = json.loads(said.stdout)
        report = json.loads(Path(record["report"]).with_suffix(".json").read_bytes())
        scored = json.loads((_stage(record, "gate") / "compiled.json").read_bytes())
    return {
        "gate": record["gate"],
        "ratios": {name: ratio and ratio["value"] for name, ratio in record["ratios"].items()},
        "seconds": {stage["name"]: stage["seconds"] for stage in record["stages"]},
        **{model: {name: report[model]["metrics"].get(name) for name in METRICS} for model in MODELS},
        "found": {kind: part["found"] for kind, part in scored["slices"].items() if "found" in part},
    }


def _stage(record: dict[str, Any], name: str) -> Path:
    return next(Path(stage["path"]) for stage in record["stages"] if stage["name"] == name)


def _write(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    found = {"machine": describe_machine(), "data": options.data.name, "settings": options.settings, "rows": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'seed':>4}  {'model':<8}  " + "  ".join(f"{name:>22}" for name in METRICS)]
    for row in rows:
        for model in MODELS:
            cells = [_cell(row[model][name]) for name in METRICS]
            lines.append(f"{row['seed']:>4}  {model:<8}  " + "  ".join(f"{cell:>22}" for cell in cells))
        lines.append(f"      {row['gate']}; times teacher: " + ", ".join(f"{k} {v}" for k, v in row["ratios"].items()))
    return "\n".join(lines)


def _cell(metric: dict[str, Any] | None) -> str:
    return "-" if metric is None else f"{metric['value']:.3f} ({metric['low']:.3f}-{metric['high']:.3f})"


if __name__ == "__main__":
    main()
