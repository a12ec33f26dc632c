"""`make bench-distil`: the distillation of language beside TRL's GKDTrainer: speed, memory, and what is learnt.

    python tests/bench/distil.py [--quick] [--seeds 0 1 2] [--students pruned random] [--variants gkd hidden ...]

Teacher: SmolLM2-135M-Instruct. Students: its pruned copy of about 30 million parameters, and one of 11 million with
weights by chance. It completes GSM8K problems once; every run learns these completions in the same steps, by AdamW and
the same learning rates, in single precision, in a process of its own. `gkd` is GKDTrainer with forward KL on given text
(lmbda=0 beta=0), `hidden` and `topk` are ours from the cache; `gkd-defaults` has TRL's lmbda and beta, `on-policy` the
same of ours; `gkd-lean` is `gkd` in micro-batches of one and with activations computed twice, the least it can take.
Seconds are those of steps, the first left out, and of labelling; CPU seconds stand beside them, for a machine that has
other work. Peak memory is that of the process, with labelling in it. Writes tests/bench/results/distil.json = {machine,
versions, sizes, rows, ratios} and prints a table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from distil_data import Lot, Sizes, describe, folder_of
from distil_runs import Job, missing

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "education" / "gsm8k"
RESULTS = Path(__file__).parent / "results" / "distil.json"
VARIANTS = ("gkd", "hidden", "topk", "gkd-defaults", "on-policy", "gkd-lean")
ONCE = ("gkd-lean",)
"""Run with the first seed alone: what it is for does not depend on the seed."""

NOT_OF_RANDOM = ("gkd-defaults", "on-policy", "gkd-lean")
"""Not run with the student whose weights are drawn: writing takes half of the bench's time, and it writes noise."""

BESIDE = {"hidden": "gkd", "topk": "gkd", "on-policy": "gkd-defaults"}
EPOCHS = (1, 3, 5)
"""After which speeds and answers are compared."""

LEFT_OUT = {"DistillKit": "not in the Python package index: it installs from its repository alone"}
PACKAGES = ("python", "torch", "transformers", "trl", "accelerate", "datasets", "gguf")


@dataclass(frozen=True)
class Plan:
    """Sizes of the whole bench."""

    train: int = 32
    held_out: int = 16
    batch: int = 8
    epochs: int = 5
    learning_rate: float = 5e-4


QUICK = Plan(train=16, held_out=4, batch=4, epochs=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few minutes: one seed, one student, few rows")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--students", nargs="+", choices=("pruned", "random"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS)
    parser.add_argument("--train", type=int, help="problems to learn")
    parser.add_argument("--held-out", type=int, help="problems to be scored on")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-distil",
                        help="where the teacher's completions are kept for the next time")  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"no data in {given.data}: name the folder with GSM8K's train.jsonl and test.jsonl with --data")
    if missing():
        sys.exit(f"not installed: {', '.join(missing())}; `make bench-distil` installs what is needed")
    changes = {name: value for name in ("train", "held_out", "epochs") if (value := getattr(given, name))}
    plan = Plan(**asdict(QUICK if given.quick else Plan()) | changes)
    lot = prepared(given.folder, Sizes(str(given.data), plan.train, plan.held_out), given.threads)
    rows = []
    for job in jobs(given, plan, lot):
        rows.append(done(job, plan, given.threads))
        print(json.dumps(rows[-1]), flush=True)
    rows = [row | beside(row, rows) for row in rows]
    show(rows)
    given.results.parent.mkdir(exist_ok=True)
    given.results.write_text(json.dumps(record(rows, plan, lot), indent=1) + "\n")


def prepared(home: Path, sizes: Sizes, threads: int) -> Lot:
    """The lot of these sizes, made where there is none."""
    lot = Lot(folder_of(home, sizes))
    script("distil_data.py", str(lot.folder), json.dumps(asdict(sizes)), threads=threads)
    return lot


def jobs(given: argparse.Namespace, plan: Plan, lot: Lot) -> Sequence[Job]:
    """Interleaved: the variants one after the other, each seed beginning with another."""
    seeds = given.seeds or ([0] if given.quick else [0, 1, 2])
    students = given.students or (["pruned"] if given.quick else ["pruned", "random"])
    variants = given.variants or (["gkd", "hidden", "topk"] if given.quick else list(VARIANTS))
    made = []
    for number, seed in enumerate(seeds):
        turned = variants[number % len(variants) :] + variants[: number % len(variants)]
        for student in students:
            for variant in turned:
                if (number and variant in ONCE) or (student == "random" and variant in NOT_OF_RANDOM):
                    continue
                folder = lot.folder / "runs" / f"{variant}-{student}-{seed}"
                made.append(
                    Job(variant, student, seed, str(lot.folder), str(folder), plan.epochs, plan.batch, given.threads,
                        plan.learning_rate)
                )  # fmt: skip
    return made


def done(job: Job, plan: Plan, threads: int) -> dict[str, Any]:
    """Train and score, a fresh process each; the run's figures."""
    folder = Path(job.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    script("distil_runs.py", str(folder / "job.json"), threads=threads)
    script("distil_scores.py", str(folder / "job.json"), threads=threads)
    run, scores = (json.loads((folder / f"{name}.json").read_text()) for name in ("run", "scores"))
    shutil.rmtree(folder)
    return {"variant": job.variant, "student": job.student, "seed": job.seed} | figures(run, scores, plan)


def figures(run: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """Seconds and CPU seconds by epoch, with labelling; samples a second; divergence and right answers by epoch."""
    found: dict[str, Any] = {name: value for name, value in run.items() if not name.startswith("step_")}
    for clock in ("seconds", "cpu_seconds"):
        step = mean(run[f"step_{clock}"][1:])
        each = len(run[f"step_{clock}"]) // plan.epochs
        labelled = run.get(f"labelling_{clock}", 0.0)
        found[f"step_{clock}"] = step
        found[clock] = {str(epoch): labelled + epoch * each * step for epoch in range(1, plan.epochs + 1)}
    found["samples_per_s"] = {epoch: int(epoch) * plan.train / seconds for epoch, seconds in found["seconds"].items()}
    found["kl"] = {str(score["epoch"]): score["kl"] for score in scores}
    found["right"] = {str(score["epoch"]): score["right"] for score in scores if "right" in score}
    return found


def beside(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one of ours had learnt by the seconds in which the run beside it had done its epochs: the last whole epoch
    by then. Ours ends sooner, and then does not go on learning."""
    same = [
        other for other in rows
        if other["variant"] == BESIDE.get(row["variant"])
        and (other["student"], other["seed"]) == (row["student"], row["seed"])
    ]  # fmt: skip
    if not same:
        return {}
    found = {}
    for epoch, seconds in same[0]["seconds"].items():
        over = [mine for mine, ended in row["seconds"].items() if ended <= seconds]
        last = max(over, key=int, default="0")
        answered = max((mine for mine in row["right"] if int(mine) <= int(last)), key=int, default=None)
        found[epoch] = {
            "epoch": int(last), "kl": row["kl"][last], "kl_beside": same[0]["kl"][epoch],
            "right": None if answered is None else row["right"][answered], "right_beside": same[0]["right"].get(epoch),
        }  # fmt: skip
    return {"at_equal_seconds": found}


def record(rows: Sequence[Mapping[str, Any]], plan: Plan, lot: Lot) -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    machine = describe_machine()
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES if name not in versions}
    return {
        "machine": machine, "versions": versions, "sizes": asdict(plan) | describe(lot), "left_out": LEFT_OUT,
        "rows": list(rows), "ratios": ratios(rows),
    }  # fmt: skip


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`hidden` over `gkd` with the pruned student; by student and variant, each over the run it is compared to."""
    students = dict.fromkeys(row["student"] for row in rows)
    each = {
        f"{student}, {variant}": over(rows, student, variant, other) for student in students
        for variant, other in BESIDE.items() if {variant, other} <= names(rows, student)
    }  # fmt: skip
    return each.get("pruned, hidden", {}) | {"each": each}


def names(rows: Sequence[Mapping[str, Any]], student: str) -> set[str]:
    return {row["variant"] for row in rows if row["student"] == student}


def over(rows: Sequence[Mapping[str, Any]], student: str, variant: str, other: str) -> dict[str, float]:
    """Means over seeds, divided."""

    def ratio(*path: str) -> float:
        sums = []
        for name in (variant, other):
            found = [row for row in rows if (row["student"], row["variant"]) == (student, name)]
            sums.append(mean(float(value(row, path)) for row in found))
        return sums[0] / sums[1]

    last = [epoch for epoch in EPOCHS if str(epoch) in rows[0]["seconds"]]
    made = {"peak_memory": ratio("peak_bytes")}
    for epoch in last:
        made[f"samples_per_s_at_{epoch}_epochs"] = ratio("samples_per_s", str(epoch))
        made[f"cpu_seconds_at_{epoch}_epochs"] = ratio("cpu_seconds", str(epoch))
        made[f"kl_at_{epoch}_epochs"] = ratio("kl", str(epoch))
    return made


def value(row: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = row
    for name in path:
        found = found[name]
    return found


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    epochs = [str(epoch) for epoch in EPOCHS if str(epoch) in rows[0]["seconds"]]
    heads = "".join(f"{f'{what} @{epoch}':>10}" for what in ("row/s", "KL", "right") for epoch in epochs)
    print(f"\n{'':13} {'student':8} {'seed':>4} {'GB':>6} {'B/token':>8} {'label s':>8} {'step s':>7}{heads}")
    for row in rows:
        told = [f"{row['samples_per_s'][epoch]:10.3f}" for epoch in epochs]
        told += [f"{row['kl'][epoch]:10.4f}" for epoch in epochs]
        told += [f"{row['right'].get(epoch, ''):>10}" for epoch in epochs]
        print(
            f"{row['variant']:13} {row['student']:8} {row['seed']:4} {row['peak_bytes'] / 1e9:6.2f} "
            f"{row.get('bytes_a_token', 0.0):8.1f} {row.get('labelling_seconds', 0.0):8.1f} "
            f"{row['step_seconds']:7.2f}{''.join(told)}"
        )
    for name, found in ratios(rows)["each"].items():
        print(f"{name} over {BESIDE[name.rpartition(' ')[2]]}: "
              + ", ".join(f"{what} {ratio:.3f}" for what, ratio in found.items()))  # fmt: skip
    for name, why in LEFT_OUT.items():
        print(f"{name} is left out: {why}")


def script(name: str, *arguments: str, threads: int) -> None:
    """Run a script beside this one; a failure ends the bench."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    ended = subprocess.run([sys.executable, str(Path(__file__).with_name(name)), *arguments], env=environment)
    if ended.returncode:
        sys.exit(f"{name} ended with {ended.returncode}")


if __name__ == "__main__":
    main()
