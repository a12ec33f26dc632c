"""`make bench-ablation`: what each carrier of knowledge adds on real steel, and what unlabelled pictures do.

    python tests/bench/ablation.py [--seeds 0 1 2] [--data FOLDER] [--epochs N] [--part carriers few-labels]
                                   [--variants NAME ...]

`carriers`: one teacher and its label store; the same student, rows and steps with one objective more each time, a
student a seed. `few-labels`: five labels a class, every other training picture in `unlabelled/`, a teacher a seed.
Writes tests/bench/results/ablation.json = {machine, versions, rows, ratios} and prints tables. Students train on one
thread each, so that the figures do not depend on the number of cores. With `--variants`, to ask some of them of more
seeds, nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "industry" / "neu-det"
RESULTS = Path(__file__).parent / "results" / "ablation.json"
TOOLKIT = [sys.executable, "-m", "toolkit.cli.main"]
LABELS_A_CLASS = 5
DRAWS = 10_000


@dataclass(frozen=True)
class Variant:
    """Changes to the recipe and to the precision, and the variant whose figures it is compared to."""

    recipe: Mapping[str, Any]
    precision: str = "fp32"
    beside: str = "hard labels"


VARIANTS: Mapping[str, Variant] = {
    "hard labels": Variant({"objective": [{"name": "hard-label"}]}),
    "+ response": Variant({"name": "soft-labels"}),
    "+ feature": Variant({"name": "white-box"}),
    "+ relation": Variant({"name": "white-box", "relation_weight": 3.0}),
    "+ difficulty": Variant({"name": "white-box", "weighting": "difficulty"}),
    "+ task weights": Variant({"name": "white-box", "task_weighting": "loss-ratio"}),
    "fp8 (emulated)": Variant({"name": "white-box"}, "fp8", "+ feature"),
}
"""Each of the first four has what the one before it has; the next two weigh `+ feature` anew, the last is `+ feature`
trained in another number format."""


@dataclass(frozen=True)
class Job:
    """One student to train on a prepared home."""

    variant: str
    seed: int
    home: str
    epochs: int | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--epochs", type=int, help="of each student; as the plan says, if not given")
    parser.add_argument("--part", nargs="+", choices=("carriers", "few-labels"), default=["carriers", "few-labels"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no data in {arguments.data}: name the NEU-DET folder with --data")
    rows: list[dict[str, Any]] = []
    if "carriers" in arguments.part:
        rows += carriers(arguments.data, arguments.seeds, arguments.epochs, arguments.variants)
        show(rows)
    if "few-labels" in arguments.part:
        few = [few_labels(arguments.data, seed) for seed in arguments.seeds]
        rows += few
        show_few(few)
    if arguments.variants == list(VARIANTS):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record(rows), indent=1) + "\n")


def carriers(data: Path, seeds: Sequence[int], epochs: int | None, variants: Sequence[str]) -> list[dict[str, Any]]:
    """A row a variant: its students' figures, and the difference to what it is compared to, over all of them."""
    trained = [name for name in VARIANTS if name in variants or name in {VARIANTS[one].beside for one in variants}]
    with tempfile.TemporaryDirectory() as home:
        toolkit(home, "deploy", "--domain", "industry", "--data", str(data), "--until", "label")
        jobs = [Job(variant, seed, home, epochs) for variant in trained for seed in seeds]
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            scored = dict(zip(jobs, pool.map(train_and_score, jobs), strict=True))
    students = {name: [scores for job, scores in scored.items() if job.variant == name] for name in trained}
    return [summary(name, students[name], students[VARIANTS[name].beside], seeds) for name in variants]


def train_and_score(job: Job) -> dict[str, list[float]]:
    """Train that student; for each test row whether it is right and its log loss."""
    import torch

    torch.set_num_threads(1)
    from toolkit import defaults
    from toolkit.artifacts import Student, TeacherLabels
    from toolkit.distil.recipes import objectives_of
    from toolkit.plan import ComputePlan, Plan, RecipePlan
    from toolkit.plugins import load_plugins
    from toolkit.tasks.base import task_of

    variant = VARIANTS[job.variant]
    changes = {"weighting": "even", "baseline": False} | dict(variant.recipe)
    changes |= {"epochs": job.epochs} if job.epochs else {}
    compute = ComputePlan(seed=job.seed, threads=1, precision=variant.precision)
    plan = Plan(domain="industry", recipe=RecipePlan.model_validate(changes), compute=compute)
    task, recipes = task_of(plan), load_plugins("industry", defaults).recipes()
    data, labels = stored(job.home, "dataset"), stored(job.home, "labels")
    dataset = task.open_dataset(data.path, data.digest, data.facts)
    spec = task.build_student(plan, dataset)
    with tempfile.TemporaryDirectory() as folder:
        facts = task.train(
            plan, dataset, TeacherLabels(labels.path, labels.digest, labels.parents, labels.facts), spec,
            objectives_of(plan, recipes[plan.recipe.name]), Path(folder), lambda what, done, total: None,
        )  # fmt: skip
        predictor = task.student_predictor(Student(Path(folder), "", facts=facts), spec, "student")
        right, losses = [], []
        for row in dataset.split("test"):
            told = predictor.predict({"image": row.inputs["image"][None]})["probabilities"][0]
            truth = dataset.classes.index(row.label)
            right.append(float(told.argmax() == truth))
            losses.append(float(-np.log(max(told[truth], 1e-6))))
    print(f"{job.variant}, seed {job.seed}: {np.mean(right):.2%}, log loss {np.mean(losses):.3f}", flush=True)
    return {"right": right, "log_loss": losses}


def stored(home: str, kind: str) -> Any:
    """The one artifact of that kind in a home."""
    from toolkit.workspace import MANIFEST, Workspace

    (manifest,) = (Path(home) / "store" / kind).glob(f"*/{MANIFEST}")
    return Workspace(Path(home)).find(kind, manifest.parent.name)


def summary(
    name: str, students: Sequence[Mapping[str, list[float]]], others: Sequence[Mapping[str, list[float]]],
    seeds: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    """Means over seeds; differences to the other students with 95% intervals by bootstrap over the test rows."""
    row: dict[str, Any] = {"part": "carriers", "variant": name, "beside": VARIANTS[name].beside, "seeds": list(seeds)}
    for figure in ("right", "log_loss"):
        mine, theirs = (np.mean([scores[figure] for scores in group], axis=0) for group in (students, others))
        drawn = np.random.default_rng(0).integers(0, len(mine), (DRAWS, len(mine)))
        low, high = np.quantile((mine - theirs)[drawn].mean(axis=1), (0.025, 0.975))
        row[figure] = {
            "each": [float(np.mean(scores[figure])) for scores in students],
            "mean": float(mine.mean()),
            "difference": {"value": float((mine - theirs).mean()), "low": float(low), "high": float(high)},
        }
    return row


def few_labels(data: Path, seed: int) -> dict[str, Any]:
    """The whole line to `evaluate` on five labels a class, chosen by the seed, and all other pictures unlabelled."""
    with tempfile.TemporaryDirectory() as folder:
        lot, home = Path(folder) / "lot", Path(folder) / "home"
        shutil.copytree(data / "test", lot / "test")
        random = np.random.default_rng(seed)
        (lot / "unlabelled").mkdir()
        for group in sorted((data / "train").iterdir()):
            pictures = sorted(group.iterdir())
            kept = set(random.permutation(len(pictures))[:LABELS_A_CLASS])
            (lot / "train" / group.name).mkdir(parents=True)
            for number, picture in enumerate(pictures):
                goal = lot / "train" / group.name if number in kept else lot / "unlabelled"
                shutil.copy(picture, goal / picture.name)
        told = toolkit(
            str(home), "deploy", "--domain", "industry", "--data", str(lot), "--until", "evaluate",
            "--set", f"compute.seed={seed}", "--set", "data.minimum_per_class=2",
        )  # fmt: skip
        path = next(Path(stage["path"]) for stage in told["stages"] if stage["name"] == "evaluate")
        read = {form: json.loads((path / f"{form}.json").read_bytes()) for form in ("teacher", "baseline", "student")}
    return {"part": "few-labels", "seed": seed} | {
        form: scores["metrics"]["accuracy"]["value"] for form, scores in read.items()
    }


def toolkit(home: str, *arguments: str) -> dict[str, Any]:
    """One verb with --json in that home; a failure ends the bench."""
    done = subprocess.run(
        [*TOOLKIT, *arguments, "--json"], env=os.environ | {"TOOLKIT_HOME": home}, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"toolkit {' '.join(arguments)} ended with {done.returncode}: {done.stdout.decode()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def record(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from toolkit.stages.summary import describe_machine

    machine = describe_machine()
    versions = {name: machine.pop(name) for name in ("python", "onnxruntime", "torch")}
    few = [row["student"] - row["baseline"] for row in rows if row["part"] == "few-labels"]
    return {
        "machine": machine,
        "versions": versions,
        "rows": list(rows),
        "ratios": {"few_labels_points": 100 * float(np.mean(few))} if few else {},
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'':16} {'beside':>12} {'accuracy':>9} {'points':>28} {'log loss':>10} {'nats':>26}")
    for row in rows:
        right, loss = row["right"], row["log_loss"]
        gain, fall = right["difference"], loss["difference"]
        points = f"{100 * gain['value']:+.2f} ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"
        nats = f"{fall['value']:+.3f} ({fall['low']:+.3f} to {fall['high']:+.3f})"
        print(
            f"{row['variant']:16} {row['beside']:>12} {right['mean']:9.2%} {points:>28} {loss['mean']:10.3f} {nats:>26}"
        )


def show_few(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{LABELS_A_CLASS} labels a class, the rest unlabelled")
    for row in rows:
        print(f"seed {row['seed']}: teacher {row['teacher']:.1%}, labels alone {row['baseline']:.1%}, "
              f"distilled {row['student']:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
