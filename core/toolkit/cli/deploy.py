"""`toolkit deploy`: the whole line, from data to a served answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, open_registry, site_folder, unlock
from toolkit.cli.planning import (
    ConfigOption,
    DataOption,
    DomainOption,
    Planned,
    SetOption,
    TargetOption,
    TeacherOption,
    make_plan,
)
from toolkit.cli.progress import ProgressReporter
from toolkit.cli.torchrun import join
from toolkit.plan import STAGES, Options, toolkit_home
from toolkit.report.wording import milliseconds, size
from toolkit.workspace import CURVES

if TYPE_CHECKING:
    from toolkit.distil.processes import Processes
    from toolkit.pipeline import StageResult
    from toolkit.protocols import Report
    from toolkit.stages.context import Context
    from toolkit.tasks.base import Task

Until = Literal["prepare", "label", "distil", "evaluate", "compile", "gate", "seal", "install", "check"]


def deploy(
    domain: DomainOption,
    data: DataOption = None,
    teacher: TeacherOption = None,
    target: TargetOption = None,
    site: SiteOption = None,
    until: Annotated[Until, typer.Option(help="Stop after this stage.")] = "check",
    assignments: SetOption = None,
    config: ConfigOption = None,
    override: Annotated[
        str, typer.Option(metavar="REASON", help="Go on past a gate that refuses; recorded and signed.")
    ] = "",
    suite: Annotated[str, typer.Option("--suite", help="Seal in this suite, which the trust root must allow.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Distil, measure, compile, seal, install and check a student. What was done before is kept."""
    from toolkit.tasks.base import check_processes

    planned = make_plan(Options(domain, data, teacher, target), assignments or [], config)
    processes = join()
    check_processes(planned.resolved.plan, processes.size)
    if not processes.first:
        _follow(planned, site_folder(site), processes)
        return
    with ProgressReporter() as progress:
        context = _context(planned, site_folder(site), progress, processes, override, suite)
        results = _run(context, until, progress, quiet=as_json)
    run_folder = context.run.folder
    record = _record(results, run_folder)
    emit(record, as_json=as_json, text=lambda console: _show(console, record, results, site_folder(site)))


def _context(
    planned: Planned, site: Path, report: Report, processes: Processes, override: str = "", suite: str = ""
) -> Context:
    from toolkit.protocols import RunRecord
    from toolkit.stages.context import Context
    from toolkit.workspace import Workspace

    plan = planned.resolved.plan
    workspace = Workspace(toolkit_home())
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{plan.domain}-{secrets.token_hex(2)}"
    return Context(
        plan=plan,
        plugins=planned.plugins,
        workspace=workspace,
        run=RunRecord(run_id, plan, workspace.runs / run_id),
        report=report,
        site=site.absolute(),
        passphrase=unlock(),
        override=override,
        suite=suite,
        processes=processes,
    )


def _run(context: Context, until: str, progress: ProgressReporter, *, quiet: bool) -> Sequence[StageResult]:
    from toolkit.pipeline import run_line
    from toolkit.registry.recorder import RegistryRecorder
    from toolkit.tasks.base import task_of

    task = task_of(context.plan)
    context.workspace.run_folder(context.run.id)
    context.plugins.manager.register(RegistryRecorder(open_registry()), "registry")

    def tell(result: StageResult) -> None:
        progress.clear()
        if not quiet:
            progress.say(_stage_line(task, result))
            for line in _gate_table(result):
                progress.say(line)

    return run_line(context, until=until, listen=tell)


def _follow(planned: Planned, site: Path, processes: Processes) -> None:
    """Train with the first process, which runs the line and alone speaks and writes."""
    from toolkit.pipeline import follow_line

    follow_line(_context(planned, site, lambda what, done, total: None, processes))


def _stage_line(task: Task, result: StageResult) -> str:
    state = "kept" if result.kept else f"{result.seconds:.1f} s"
    return f"{STAGES.index(result.stage) + 1}/{len(STAGES)} {result.stage:<9} {state:>8}  {_headline(task, result)}"


def _gate_table(result: StageResult) -> list[str]:
    """The table that says why, where the gate refuses."""
    if result.stage != "gate" or not result.artifact.facts["gate"]["refuses"]:
        return []
    rows = result.artifact.facts["gate"]["table"]
    width = max(len(name) for name, _, _ in rows)
    return [f"      {name:<{width}}  {value:>14}  {beside}".rstrip() for name, value, beside in rows]


def _headline(task: Task, result: StageResult) -> str:
    """The one figure of a stage that a user wants to see go by."""
    facts = result.artifact.facts
    match result.stage:
        case "prepare" | "label" | "distil" | "evaluate":
            mended = () if result.kept else facts.get("mended", ())
            again = f"; labelled again, for they were damaged: {', '.join(mended)}" if mended else ""
            return task.headline(result.stage, facts) + again
        case "compile":
            return f"{facts['form']} for {facts['profile']}, {facts['size_bytes'] / 1000:.0f} kB, {facts['rung']}"
        case "gate":
            return f"{facts['gate']['outcome']}; compiled {facts['metrics']['compiled'][facts['judged']]['value']:.1%}"
        case "seal":
            return str(facts["bundle_id"]) + (" (development keys)" if facts["development_keys"] else "")
        case "install":
            return str(facts["site"])
        case _:
            return f"{facts['row']}: {facts['verdict']} in {facts['latency_ms']:.1f} ms"


def _record(results: Sequence[StageResult], folder: Path) -> dict[str, Any]:
    by_name = {result.stage: result for result in results}
    record: dict[str, Any] = {
        "run": folder.name,
        "stages": [
            {
                "name": r.stage,
                "state": "kept" if r.kept else "done",
                "seconds": round(r.seconds, 3),
                "digest": r.artifact.digest,
                "path": str(r.artifact.path),
            }
            for r in results
        ],
    }
    if "gate" in by_name:
        facts = by_name["gate"].artifact.facts
        record |= {
            "report": str(folder / "report.html"),
            "gate": facts["gate"]["outcome"],
            "metrics": facts["metrics"]["compiled"],
            "judged": facts["judged"],
            "ratios": facts["ratios"],
            "costs": facts["costs"],
        }
    if "seal" in by_name:
        record |= {name: by_name["seal"].artifact.facts[name] for name in ("bundle_id", "rung", "development_keys")}
        record["bundle"] = by_name["seal"].artifact.facts["path"]
    if "check" in by_name:
        record["answer"] = dict(by_name["check"].artifact.facts)
    return record


def _show(console: Console, record: dict[str, Any], results: Sequence[StageResult], site: Path) -> None:
    by_name = {result.stage: result for result in results}
    if "gate" in by_name:
        console.print(_ratios(record, by_name["evaluate"].artifact.facts["metrics"]))
        console.print(f"report   {record['report']}", markup=False)
    if "distil" in by_name:
        console.print(f"curves   tensorboard --logdir {by_name['distil'].artifact.path / CURVES}", markup=False)
    if "bundle" in record:
        keys = "development keys" if record["development_keys"] else "your keys"
        console.print(f"bundle   {record['bundle']} ({keys})", markup=False)
        if "install" not in by_name and record["rung"] != "verified_on_device":
            console.print(f"built for another box, {record['rung']}: carry the bundle there and install it")
    if "check" in by_name:
        _show_next(console, record["answer"], site)


def _ratios(record: dict[str, Any], scored: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    name, ratios = record["judged"], record["ratios"]
    ours, teacher = record["metrics"][name], scored["teacher"][name]
    interval = f"({ours['low']:.1%} to {ours['high']:.1%}, n {ours['n']})"
    table.add_row(name.replace("_", " "), f"{ours['value']:.1%} {interval}, teacher {teacher['value']:.1%}")
    if "baseline" in scored:
        table.add_row("labels alone", f"{scored['baseline'][name]['value']:.1%}, the same student undistilled")
    for cost, words, told in (
        ("latency", "faster", milliseconds), ("size", "smaller", size), ("memory", "less", size),
        ("energy", "less", None),
    ):  # fmt: skip
        if ratio := ratios[cost]:
            table.add_row(cost, f"{ratio['value']:.1f} times {words} than its teacher")
        elif told is not None:
            table.add_row(cost, f"{told(record['costs'][cost])}, its teacher's was not measured")
        else:
            table.add_row(cost, "not measured here")
    return table


def _show_next(console: Console, answer: dict[str, Any], site: Path) -> None:
    console.print(f"checked  the server answered {answer['row']} with: {answer['verdict']}", markup=False)
    console.print("\nServe it:", style="bold")
    for line in (
        f"toolkit access add {answer['product']}-1 --role infer --site {site}      # prints KEY, once",
        f"toolkit serve --site {site}",
        f"curl {answer['curl']}",
    ):
        console.print(f"  {line}", markup=False)
