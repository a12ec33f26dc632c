"""From what was typed to a validated plan and the plugins that serve it: shared by `deploy` and `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.errors import PlanError
from toolkit.plan import Options, Plan
from toolkit.plugins import Plugins, load_plugins
from toolkit.resolve import Layer, ResolvedPlan, draft_layer, parse_assignments, read_config, resolve
from toolkit.text_teachers import LocalTeacher

CONFIG = Path("toolkit.toml")
PATHS = (("data", "path"), ("teacher", "checkpoint"), ("student", "checkpoint"))
"""Keys that hold folders: relative to the file they stand in, or to where the command was typed."""

DomainOption = Annotated[str, typer.Option("--domain", help="An installed domain; see `toolkit plugins`.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of your data; without it the domain renders a sample.")
]
TeacherOption = Annotated[str | None, typer.Option("--teacher", help="A teacher; see `toolkit teachers`.")]
TargetOption = Annotated[str | None, typer.Option("--target", help="A hardware profile; see `toolkit targets`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the plan. Repeatable.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration; ./toolkit.toml if there is one.")]


@dataclass(frozen=True)
class Planned:
    """A resolved plan and its plugins."""

    resolved: ResolvedPlan
    plugins: Plugins


def make_plan(options: Options, assignments: Sequence[str], config: Path | None, *, settled: bool = True) -> Planned:
    """Load the domain's plugins and resolve the plan.

    Args:
        settled: also check that every name in the plan is offered and that the parts fit.
    """
    from toolkit import defaults
    from toolkit.pipeline import check_plan
    from toolkit.tasks.usual import DEFAULTS

    plugins = load_plugins(options.domain, defaults)
    layers = [_anchored(parse_assignments(assignments), Path()), Layer("command line", _flags(options))]
    if config is not None or CONFIG.exists():
        file = config or CONFIG
        layers.append(_anchored(read_config(file), file.parent))
    layers.append(draft_layer(plugins.hook.draft_plan(options=options)))
    resolved = resolve(layers, plugins.settings())
    if values := DEFAULTS.get(resolved.plan.task):
        layers.append(Layer("task", values))
        resolved = resolve(layers, plugins.settings())
    if settled:
        if found := _own_checkpoint(resolved.plan, plugins):
            resolved = resolve([*layers, found], plugins.settings())
        check_plan(resolved.plan, plugins)
    if options.domain is not None and resolved.plan.domain != options.domain:
        raise PlanError(
            f"the plan is for the domain {resolved.plan.domain} (from {resolved.origins['domain']}), and "
            f"{options.domain} was loaded",
            hint=f"Say --domain {resolved.plan.domain}.",
        )
    return Planned(resolved, plugins)


def _own_checkpoint(plan: Plan, plugins: Plugins) -> Layer | None:
    """The checkpoint that a local teacher brings itself, where nobody names one: students are pruned from it too."""
    teacher = plugins.teachers().get(plan.teacher.name)
    if plan.teacher.checkpoint is not None or not isinstance(teacher, LocalTeacher):
        return None
    return Layer("teacher", {"teacher": {"checkpoint": str(teacher.source(plan))}})


def _flags(options: Options) -> dict[str, Any]:
    flags: dict[str, Any] = {"domain": options.domain}
    if options.data is not None:
        flags["data"] = {"path": str(options.data.absolute())}
    if options.teacher is not None:
        flags["teacher"] = {"name": options.teacher}
    if options.target is not None:
        flags["target"] = {"profile": options.target}
    return flags


def _anchored(layer: Layer, folder: Path) -> Layer:
    """The layer with its relative paths, which start at `folder`, made absolute."""
    for table, key in PATHS:
        values = layer.values.get(table)
        if isinstance(values, dict) and isinstance(values.get(key), str):
            values[key] = str((folder / values[key]).absolute())
    return layer
