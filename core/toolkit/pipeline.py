"""The line itself: stages in order, each kept where its digest is known, and events told as they end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.artifacts import Artifact, Evaluation
from toolkit.distil.recipes import carriers, objectives_of
from toolkit.errors import EnvironmentUnfit, PlanError, unknown_name
from toolkit.plan import Plan
from toolkit.plugins import Plugins
from toolkit.report.page import write_report
from toolkit.stages import check, compile, distil, evaluate, gate, install, label, prepare, seal
from toolkit.stages.context import Context, Stage
from toolkit.stages.summary import run_facts
from toolkit.workspace import digest_of, folder_lock

LINE: tuple[Stage, ...] = (
    prepare.STAGE,
    label.STAGE,
    distil.STAGE,
    evaluate.STAGE,
    compile.STAGE,
    gate.STAGE,
    seal.STAGE,
    install.STAGE,
    check.STAGE,
)

HERE_ONLY = ("install", "check")
"""Stages that change or ask this machine's site: they need a model that runs here, and follow what was made anew."""


@dataclass(frozen=True)
class StageResult:
    """A stage of this run: its artifact, whether it was there already, and how long it took (s)."""

    stage: str
    artifact: Artifact
    kept: bool
    seconds: float


Listener = Callable[[StageResult], None]


def check_plan(plan: Plan, plugins: Plugins) -> None:
    """Refuse a plan whose names nobody offers, or whose parts do not fit, before anything runs.

    Raises:
        PlanError: naming what is offered (exit 2).
    """
    _known("teacher", plan.teacher.name, plugins.teachers())
    _known("recipe", plan.recipe.name, plugins.recipes())
    _known("target", plan.target.profile, plugins.profiles())
    _known("executor", plan.compute.executor, plugins.executors())
    teacher, recipe = plugins.teachers()[plan.teacher.name], plugins.recipes()[plan.recipe.name]
    if plan.task not in teacher.tasks:
        raise PlanError(f"the teacher {teacher.name} does not teach {plan.task}", hint="See `toolkit teachers`.")
    if missing := carriers(objectives_of(plan, recipe)) - teacher.gives:
        raise PlanError(
            f"the recipe {recipe.name} needs {', '.join(sorted(missing))}, which {teacher.name} does not give",
            hint="Use --set recipe.name=soft-labels, or another teacher.",
        )
    plugins.executors()[plan.compute.executor].check(plan)
    label.check_licence(plan, teacher)


def run_line(context: Context, *, until: str, listen: Listener) -> Sequence[StageResult]:
    """Run every stage up to `until`; one process a home at a time.

    Raises:
        ToolkitError: what a stage found; the artifacts made so far stay.
    """
    hook = context.plugins.hook
    results: list[StageResult] = []
    with folder_lock(context.workspace.home / "store", purpose="run the line"):
        hook.run_started(run=context.run)
        upstream: dict[str, Artifact] = {}
        for stage in LINE:
            if stage.name in HERE_ONLY and not _runs_here(upstream):
                break
            try:
                made = {result.stage for result in results if not result.kept}
                anew = stage.name in HERE_ONLY and not made.isdisjoint(stage.needs)
                result = _run_stage(context, stage, upstream, anew=anew)
                upstream[stage.name] = result.artifact
                results.append(result)
                hook.stage_finished(run=context.run, stage=stage.name, artifact=result.artifact, kept=result.kept)
                listen(result)
                if stage.name == "gate":
                    _publish_report(context, result.artifact, results)
                    assert isinstance(result.artifact, Evaluation)
                    gate.enforce(context, result.artifact)
            except BaseException as error:
                hook.run_failed(run=context.run, stage=stage.name, error=error)
                raise
            if stage.name == until:
                break
        _publish_report(context, upstream.get("gate"), results)
        hook.run_finished(run=context.run)
    return results


def stage_digest(context: Context, stage: Stage, upstream: Mapping[str, Artifact]) -> str:
    """What the stage's artifact is called: the plan's part, its parents, its inputs and the code that makes it."""
    offered = [context.plugins.source_of(item) for item in stage.uses(context)]
    domain = [package for package in (context.plugins.domain_package(),) if package]
    return digest_of(
        {
            "stage": stage.name,
            "plan": context.plan.part(stage.keys),
            "sections": context.plugins.section_values(context.plan, stage.name),
            "parents": [upstream[name].digest for name in stage.needs],
            "inputs": dict(stage.inputs(context)),
            "code": context.plugins.code_version(*stage.code, *offered, *domain),
        }
    )


def _run_stage(context: Context, stage: Stage, upstream: Mapping[str, Artifact], *, anew: bool) -> StageResult:
    started = time.monotonic()
    digest = stage_digest(context, stage, upstream)
    stored = None if anew else context.workspace.find(stage.kind, digest)
    if stored is not None:
        artifact = stage.load(context, stored)
        if stage.stands(context, artifact):
            return StageResult(stage.name, artifact, True, time.monotonic() - started)
        context.workspace.reopen(stage.kind, digest)
    folder = context.workspace.scratch(stage.kind, digest)
    try:
        facts = stage.run(context, upstream, folder)
        stored = context.workspace.commit(
            stage.kind, digest, parents=tuple(upstream[name].digest for name in stage.needs), facts=facts
        )
    except OSError as error:
        raise EnvironmentUnfit(
            f"the stage {stage.name} cannot use {error.filename or folder}: {error.strerror}",
            hint="Check free space and rights; what was finished is kept.",
        ) from error
    return StageResult(stage.name, stage.load(context, stored), False, time.monotonic() - started)


def _runs_here(upstream: Mapping[str, Artifact]) -> bool:
    compiled = upstream.get("compile")
    return compiled is None or compiled.facts["rung"] == "verified_on_device"


def _publish_report(context: Context, made: Artifact | None, results: Sequence[StageResult]) -> None:
    """The report of this run, with its stages and their times, in the run's own folder."""
    if made is None:
        return
    measured: dict[str, Any] = json.loads((made.path / "report.json").read_bytes())
    stages = [{"name": r.stage, "seconds": round(r.seconds, 2), "kept": r.kept} for r in results]
    write_report(context.run.folder, measured | {"run": run_facts(context, measured), "stages": stages})


def _known(kind: str, name: str, offered: Collection[str]) -> None:
    if name not in offered:
        raise unknown_name(kind, name, sorted(offered))
