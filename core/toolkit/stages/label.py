"""Adapt the teacher to the task at hand and store its answers to the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, Dataset, Facts, TeacherLabels
from toolkit.distil.cache import shelf
from toolkit.errors import Refused
from toolkit.plan import Plan
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.text_teachers import AnyTeacher, TextTeacher
from toolkit.workspace import Stored, is_whole


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Label, or take up labelling that was interrupted."""
    labels = begin(context, upstream, folder)
    for done, _ in enumerate(labels.filling or ()):
        context.report("the teacher answers", done, labels.facts["units"])
    return labels.facts


def begin(context: Context, upstream: Upstream, folder: Path) -> TeacherLabels:
    """Label; a teacher that may answer beside training has only begun when this returns."""
    check_licence(context.plan, context.teacher)
    labels: TeacherLabels = context.plugins.hook.label(
        plan=context.plan,
        dataset=take(upstream, "prepare", Dataset),
        teacher=context.teacher,
        workspace=folder,
        journal=context.journal,
        report=context.report,
        executor=context.executor,
    )
    return labels


def check_licence(plan: Plan, teacher: AnyTeacher) -> None:
    """Refuse a teacher whose licence does not allow its answers to train a model.

    Raises:
        Refused: it forbids that, or nobody knows and nobody took it upon themselves.
    """
    record = teacher.record(plan)
    if record.distillation == "forbidden":
        raise Refused(
            f"the licence of the teacher {record.id} ({record.licence}) forbids training a model on its output",
            hint="Choose another teacher; no override lifts this.",
        )
    if record.distillation == "unknown" and not plan.teacher.accept_unknown_licence:
        raise Refused(
            f"the teacher {record.id} states no licence that is known to allow training a model on its output",
            hint='Find out, then --set teacher.accept_unknown_licence="REASON"; the reason is recorded.',
        )


def inputs(context: Context) -> Mapping[str, Any]:
    teacher, plan = context.teacher, context.plan
    found: dict[str, Any] = {"checkpoint": teacher.fingerprint(plan)}
    if not isinstance(teacher, TextTeacher):
        return found
    return found | {"sampling": asdict(teacher.sampling(plan)), "licence": teacher.record(plan).licence}


def stands(context: Context, artifact: Artifact) -> bool:
    """Whether all that a student learns from is what was written; a shard that is not is labelled again, and text is
    taken out of the journal again."""
    return not shelf.damaged(artifact.path) and is_whole(artifact.path, artifact.facts.get("files", {}))


def load(context: Context, stored: Stored) -> TeacherLabels:
    return TeacherLabels(stored.path, stored.digest, stored.parents, stored.facts)


TEXT_KEYS = (
    "max_tokens", "completions", "samples", "answer_tokens", "temperature", "knowledge", "top_k", "vocabulary"
)  # fmt: skip
"""Of the plan's table for text, what a teacher is asked by."""

STAGE = Stage(
    name="label",
    kind="labels",
    keys=(
        "teacher",
        "recipe.views",
        "recipe.mixup",
        "student.input_size",
        "maps",
        *(f"text.{key}" for key in TEXT_KEYS),
        "compute.seed",
        "compute.device",
    ),
    needs=("prepare",),
    code=("toolkit.distil", "toolkit.tasks", "toolkit.compile.export"),
    run=run,
    begin=begin,
    load=load,
    uses=lambda context: (context.teacher,),
    inputs=inputs,
    stands=stands,
)
