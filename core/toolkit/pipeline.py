"""The line itself: stages in order, each kept where its digest is known, and events told as they end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, Evaluation, Filling, TeacherLabels
from toolkit.distil.recipes import OF_TEXTS, carriers, objectives_of
from toolkit.errors import EnvironmentUnfit, PlanError, unknown_name
from toolkit.plan import Plan
from toolkit.plugins import Plugins
from toolkit.report.page import write_report
from toolkit.stages import check, compile, distil, evaluate, gate, install, label, prepare, seal
from toolkit.stages.context import Context, Stage
from toolkit.stages.summary import run_facts
from toolkit.tasks.base import check_end, check_sharding, task_of
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


@dataclass(frozen=True)
class _Begun:
    """A stage whose artifact is still filling, while the next one works on what has come."""

    stage: Stage
    artifact: TeacherLabels
    filling: Filling
    started: float


Listener = Callable[[StageResult], None]


@dataclass(frozen=True)
class _Order:
    """What the first of several processes asks the others to run with it; artifacts by stage and digest."""

    stage: str
    digest: str
    upstream: Mapping[str, str]


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
    if recipe.name in OF_TEXTS and plan.task != "text_generation":
        raise PlanError(
            f"the recipe {recipe.name} learns from texts, and {plan.task} has none",
            hint="Leave out recipe.name: the task has its own; or see `toolkit plugins`.",
        )
    objectives = objectives_of(plan, recipe)
    task_of(plan).check(plan, teacher, objectives)
    if missing := carriers(objectives) - teacher.gives:
        raise PlanError(
            f"the recipe {recipe.name} needs {', '.join(sorted(missing))}, which {teacher.name} does not give",
            hint="Use --set recipe.name=soft-labels, or another teacher.",
        )
    for other in plugins.named_teachers(plan):
        if plan.task not in other.tasks:
            raise PlanError(f"the teacher {other.name} does not know {plan.task}", hint="See `toolkit teachers`.")
    plugins.executors()[plan.compute.executor].check(plan)
    check_sharding(plan)
    label.check_licence(plan, teacher)


def run_line(context: Context, *, until: str, listen: Listener) -> Sequence[StageResult]:
    """Run every stage up to `until`; one process a home at a time. Of several that work together this is the first, and
    the others `follow_line`.

    Raises:
        ToolkitError: what a stage found; the artifacts made so far stay.
    """
    check_end(context.plan, until)
    hook = context.plugins.hook
    results: list[StageResult] = []
    upstream: dict[str, Artifact] = {}

    def done(result: StageResult) -> None:
        upstream[result.stage] = result.artifact
        results.append(result)
        hook.stage_finished(run=context.run, stage=result.stage, artifact=result.artifact, kept=result.kept)
        listen(result)

    begun: _Begun | None = None
    with contextlib.ExitStack() as held:
        held.enter_context(folder_lock(context.workspace.home / "store", purpose="run the line"))
        hook.run_started(run=context.run)
        for stage in LINE:
            if stage.name in HERE_ONLY and not _runs_here(upstream):
                break
            try:
                made = {result.stage for result in results if not result.kept}
                anew = stage.name in HERE_ONLY and not made.isdisjoint(stage.needs)
                found = _run_stage(context, stage, upstream, anew=anew, last=stage.name == until)
                if isinstance(found, _Begun):
                    begun, upstream[stage.name] = found, found.artifact
                    held.enter_context(contextlib.closing(found.filling))
                    continue
                if begun is not None:
                    done(_complete(context, begun))
                    begun = None
                done(found)
                if stage.name == "gate":
                    _publish_report(context, found.artifact, results)
                    assert isinstance(found.artifact, Evaluation)
                    gate.enforce(context, found.artifact)
            except BaseException as error:
                hook.run_failed(run=context.run, stage=stage.name, error=error)
                raise
            if stage.name == until:
                break
        _publish_report(context, upstream.get("gate"), results)
        hook.run_finished(run=context.run)
    _ordered(context)
    return results


def follow_line(context: Context) -> None:
    """Take part in what the first of several processes runs, until it has done. Nothing is stored, nobody is told.

    Raises:
        EnvironmentUnfit: the first process is gone, or works in another home or by another plan.
    """
    while (order := _ordered(context)) is not None:
        stages = {stage.name: stage for stage in LINE}
        upstream = {name: _made(context, stages[name], digest) for name, digest in order.upstream.items()}
        stage = stages[order.stage]
        if stage_digest(context, stage, upstream) != order.digest:
            raise EnvironmentUnfit(
                "the processes of this run were given different plans or code",
                hint="Start all of them by one command, from the same installation.",
            )
        stage.run(context, upstream, context.workspace.scratch(stage.kind, order.digest))


def _ordered(context: Context, order: _Order | None = None) -> _Order | None:
    """What the first process orders, which it gives and the others wait for."""
    return context.processes.decide(lambda: order)


def _made(context: Context, stage: Stage, digest: str) -> Artifact:
    stored = context.workspace.find(stage.kind, digest)
    if stored is None:
        raise EnvironmentUnfit(
            f"the {stage.kind} that another process of this run made is not in {context.workspace.home}",
            hint="Point TOOLKIT_HOME at one folder that all machines share.",
        )
    return stage.load(context, stored)


def stage_digest(context: Context, stage: Stage, upstream: Mapping[str, Artifact]) -> str:
    """What the stage's artifact is called: the plan's part, its parents, its inputs and the code that makes it."""
    offered = [context.plugins.source_of(item) for item in stage.uses(context)]
    domain = [package for package in (context.plugins.domain_package(),) if package]
    return digest_of(
        {
            "stage": stage.name,
            "plan": context.plan.part(stage.keys),
            "sections": context.plugins.section_values(context.plan, stage.name),
            "parents": list(_parents(stage, upstream)),
            "inputs": dict(stage.inputs(context)),
            "code": context.plugins.code_version(*stage.code, *offered, *domain),
        }
    )


def _run_stage(
    context: Context, stage: Stage, upstream: Mapping[str, Artifact], *, anew: bool, last: bool
) -> StageResult | _Begun:
    """The stage's artifact: kept, made, or, where it is not the `last` and can be completed beside the next, begun; not
    where several processes take that one together, which read what is complete."""
    started = time.monotonic()
    digest = stage_digest(context, stage, upstream)
    stored = None if anew else context.workspace.find(stage.kind, digest)
    if stored is not None:
        artifact = stage.load(context, stored)
        if stage.stands(context, artifact):
            return StageResult(stage.name, artifact, True, time.monotonic() - started)
        context.workspace.reopen(stage.kind, digest)
    folder, parents = context.workspace.scratch(stage.kind, digest), _parents(stage, upstream)
    if stage.together:
        _ordered(context, _Order(stage.name, digest, {name: upstream[name].digest for name in stage.needs}))
    with _on_disk(stage, folder):
        if stage.begin is None or last or context.processes.several:
            facts = stage.run(context, upstream, folder)
        else:
            labels = stage.begin(context, upstream, folder)
            if labels.filling is not None:
                artifact = replace(labels, digest=digest, parents=parents)
                return _Begun(stage, artifact, labels.filling, started)
            facts = labels.facts
        stored = context.workspace.commit(stage.kind, digest, parents=parents, facts=facts)
    return StageResult(stage.name, stage.load(context, stored), False, time.monotonic() - started)


def _complete(context: Context, begun: _Begun) -> StageResult:
    """Wait for what has not come yet, and keep the artifact."""
    stage, artifact = begun.stage, begun.artifact
    with _on_disk(stage, artifact.path):
        for _ in begun.filling:
            pass
        stored = context.workspace.commit(stage.kind, artifact.digest, parents=artifact.parents, facts=artifact.facts)
    return StageResult(stage.name, stage.load(context, stored), False, time.monotonic() - begun.started)


def _parents(stage: Stage, upstream: Mapping[str, Artifact]) -> tuple[str, ...]:
    return tuple(upstream[name].digest for name in stage.needs)


@contextlib.contextmanager
def _on_disk(stage: Stage, folder: Path) -> Iterator[None]:
    """Say of an error of the file system which stage it kept from its end."""
    try:
        yield
    except OSError as error:
        raise EnvironmentUnfit(
            f"the stage {stage.name} cannot use {error.filename or folder}: {error.strerror}",
            hint="Check free space and rights; what was finished is kept.",
        ) from error


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
