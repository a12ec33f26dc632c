"""What distilling adds, and how: one teacher's label store, several ways to use it, the same student, rows and seed.

    toolkit deploy --domain industry --data FOLDER --until label --set recipe.soft_labels=per-view --set recipe.views=40
    python tests/bench/soft_labels.py [--home FOLDER] [--epochs 80]

Trains a student a row of VARIANTS on the labels that lie in the home, and prints its accuracy on the test rows, the
baseline's on the labels alone among them. Single-threaded, so that the figures do not depend on the machine's cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from toolkit.artifacts import Dataset, Student, TeacherLabels
from toolkit.distil.recipes import SoftLabels
from toolkit.plan import ComputePlan, Plan, RecipePlan, toolkit_home
from toolkit.resolve import thaw
from toolkit.tasks.base import task_of
from toolkit.workspace import MANIFEST, Workspace

VARIANTS = (("per-view", 0.5, 2.0), ("per-view", 0.8, 4.0), ("row-mean", 0.7, 2.0))
"""(soft_labels, teacher_weight, temperature)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=toolkit_home())
    parser.add_argument("--epochs", type=int, default=80)
    arguments = parser.parse_args()
    dataset, labels = prepared(arguments.home)
    for number, (soft_labels, weight, temperature) in enumerate(VARIANTS):
        recipe = RecipePlan(
            epochs=arguments.epochs, soft_labels=soft_labels, teacher_weight=weight, temperature=temperature,
            baseline=number == 0,
        )  # fmt: skip
        plan = Plan(domain="industry", recipe=recipe, compute=ComputePlan(threads=1))
        for name, accuracy in trained(plan, dataset, labels).items():
            told = (
                "labels alone" if name == "baseline" else f"{soft_labels}, weight {weight}, temperature {temperature}"
            )
            print(f"{accuracy:7.2%}  {told}", flush=True)


def prepared(home: Path) -> tuple[Dataset, TeacherLabels]:
    """The newest data set and label store of that home."""
    workspace, found = Workspace(home), {}
    for kind in ("dataset", "labels"):
        newest = max((home / "store" / kind).glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime).parent
        found[kind] = workspace.find(kind, newest.name)
    dataset, labels = found["dataset"], found["labels"]
    task = task_of(thaw({"domain": "industry"}, {}))
    return (
        task.open_dataset(dataset.path, dataset.digest, dataset.facts),
        TeacherLabels(labels.path, labels.digest, labels.parents, labels.facts),
    )


def trained(plan: Plan, dataset: Dataset, labels: TeacherLabels) -> dict[str, float]:
    """Accuracy on the test rows of the student, and of the baseline where the plan wants one."""
    task = task_of(plan)
    with tempfile.TemporaryDirectory() as folder:
        facts = task.train(
            plan, dataset, labels, task.build_student(plan, dataset), SoftLabels().objectives(plan), Path(folder),
            lambda what, done, total: None,
        )  # fmt: skip
        student = Student(Path(folder), "", facts=facts)
        names = [name for name in ("baseline", "student") if name in facts]
        return {
            name: task.evaluate(plan, dataset, task.student_predictor(student, name)).metrics["accuracy"].value
            for name in names
        }


if __name__ == "__main__":
    main()
