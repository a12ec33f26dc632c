"""Train the student on the labels by the plan's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, Dataset, Facts, Student, TeacherLabels
from toolkit.distil.recipes import objectives_of
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.tasks.base import task_of
from toolkit.workspace import CURVES, Stored, file_digest, file_digests, is_whole


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Train, or take up training that was interrupted, at its exact position."""
    plan, dataset = context.plan, take(upstream, "prepare", Dataset)
    facts = task_of(plan).train(
        plan,
        dataset,
        take(upstream, "label", TeacherLabels),
        context.student_spec(dataset),
        objectives_of(plan, context.plugins.recipes()[plan.recipe.name]),
        folder,
        context.report,
        context.processes,
    )
    if not context.processes.first:
        return facts
    made = [path for path in sorted(folder.rglob("*")) if path.is_file() and folder / CURVES not in path.parents]
    return {**facts, "files": file_digests(folder, made)}


def stands(context: Context, artifact: Artifact) -> bool:
    """Whether its files are what was written. Where one is not, all go, so that the student is trained anew."""
    files = artifact.facts["files"]
    if is_whole(artifact.path, files):
        return True
    for name in files:
        (artifact.path / name).unlink(missing_ok=True)
    return False


def inputs(context: Context) -> Mapping[str, Any]:
    """The files of the checkpoint that the student begins as."""
    folder = context.plan.student.checkpoint
    if folder is None:
        return {}
    return {"checkpoint": {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}}


def load(context: Context, stored: Stored) -> Student:
    return Student(stored.path, stored.digest, stored.parents, stored.facts)


STAGE = Stage(
    name="distil",
    kind="student",
    keys=(
        "recipe",
        "student",
        "practice",
        "maps",
        "text.row_tokens",
        "text.answer_tokens",
        "compute.seed",
        "compute.device",
        "compute.precision",
    ),
    needs=("prepare", "label"),
    code=("toolkit.distil", "toolkit.tasks"),
    run=run,
    load=load,
    inputs=inputs,
    stands=stands,
    together=True,
)
