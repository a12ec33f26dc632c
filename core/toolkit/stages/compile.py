"""Compile the student for its hardware, choose the form to ship, and prove that it answers as the torch student did."""

from __future__ import annotations

import platform
from pathlib import Path

from toolkit.artifacts import CompiledModel, Dataset, Facts, Student
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.tasks.base import task_of
from toolkit.workspace import Stored


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Build every form the target offers, try each on validation, keep one."""
    plan, dataset = context.plan, take(upstream, "prepare", Dataset)
    profile, target = context.profile
    student, spec = take(upstream, "distil", Student), context.student_spec(dataset)
    found = task_of(plan).compile_student(plan, dataset, student, spec, target, profile, folder, context.report)
    runs_here = platform.machine() in profile.arch
    return {
        "profile": profile.name,
        "rung": "verified_on_device" if runs_here else "verified_proxy",
        "opset": profile.opset,
        **found,
    }


def load(context: Context, stored: Stored) -> CompiledModel:
    facts = stored.facts
    return CompiledModel(
        stored.path,
        stored.digest,
        stored.parents,
        facts,
        profile=facts["profile"],
        form=facts["form"],
        rung=facts["rung"],
        parity=facts["parity"],
    )


STAGE = Stage(
    name="compile",
    kind="compiled",
    keys=("target.profile", "target.precision", "target.margin", "data.calibration_rows"),
    needs=("prepare", "distil"),
    code=("toolkit.compile", "toolkit.tasks", "toolkit.stages.compile"),
    run=run,
    load=load,
    uses=lambda context: (context.profile[1],),
)
