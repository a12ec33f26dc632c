"""What the line lets a bundle's papers say: chosen here field by field, for papers are read by everybody.

A plan may hold prompts, class names and paths, an evaluation may name classes: so nothing is passed on as it stands.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires
from typing import Any

from packaging.requirements import Requirement

from toolkit.artifacts import BundleFile, CompiledModel, Dataset, Metric
from toolkit.plan import Plan
from toolkit.plugins import DOMAINS
from toolkit.seal.making import Making, Package
from toolkit.stages.context import Context, Upstream, take
from toolkit.tasks.licence import NAMES
from toolkit.text_teachers import TextTeacher

CORE = "distil-toolkit"
SERVED_WITH = {"text_generation": ("serve", "language")}
"""Extras of core that a site needs, by task."""
SHA256 = r"[0-9a-f]{64}"
MAX_TEXT = 1024 * 1024


def making_of(context: Context, upstream: Upstream) -> Making:
    """The facts for the bill of materials and the provenance."""
    plan, compiled = context.plan, take(upstream, "compile", CompiledModel)
    dataset, gate = take(upstream, "prepare", Dataset), upstream["gate"].facts
    domain = next(i.distribution for i in context.plugins.infos if i.group == DOMAINS and i.name == plan.domain)
    parts = (context.teacher, context.profile[1], context.executor)
    shipped = (context.plugins.distribution_of(part) for part in parts)
    makers = [CORE, domain, *(name for name in shipped if name != "toolkit")]  # which is core's package, not its name
    extras = SERVED_WITH.get(plan.task, ("serve",))
    return Making(
        task=plan.task,
        form=compiled.form,
        gate=gate["gate"]["outcome"],
        figures=_figures(gate),
        parameters={
            "task": plan.task, "teacher": plan.teacher.name, "recipe": plan.recipe.name,
            "executor": plan.compute.executor, "seed": str(plan.compute.seed), "retain": f"{plan.gate.retain:g}",
        },
        data_sha256=_digest(dataset.facts.get("source_digest")) or _digest(dataset.digest),
        teacher_sha256=_teacher_digest(context),
        line=tuple(_packages(makers)),
        runtime=tuple(_packages([*_needed(CORE, extras), *_needed(domain, ())])),
        run=context.run.id,
    )  # fmt: skip


def _figures(gate: Mapping[str, Any]) -> dict[str, Metric]:
    """What the gate decided by: quality of both, what was kept, and how many times smaller the student is."""
    compared, judged = gate["gate"]["comparison"], gate["judged"]
    found = {
        f"teacher {judged}": compared["teacher"], f"student {judged}": compared["student"],
        "quality kept": compared["retained"],
        **{f"teacher to student {name}": ratio for name, ratio in gate["ratios"].items()},
    }  # fmt: skip
    return {name: Metric.from_record(record) for name, record in found.items() if record}


def _teacher_digest(context: Context) -> str:
    """Of the weights, where they are here. Of a teacher that is only asked, a fingerprint is of little more than an
    address, and would confirm a guess of it."""
    asked = isinstance(context.teacher, TextTeacher)
    return "" if asked else _digest(context.teacher.fingerprint(context.plan))


def _digest(found: object) -> str:
    return found if isinstance(found, str) and re.fullmatch(SHA256, found) else ""


def _needed(distribution: str, extras: Iterable[str]) -> Iterator[str]:
    """The distributions that one asks for, with these extras."""
    for line in requires(distribution) or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one.name


def _packages(names: Iterable[str]) -> Iterator[Package]:
    """Those that are installed, each once."""
    for name in dict.fromkeys(names):
        try:
            found = metadata(name)
        except PackageNotFoundError:  # an extra that this machine goes without, so it was not proven to run with it
            continue
        yield Package(found["Name"], found["Version"], _licence(found))


def data_licence(plan: Plan, stated: Mapping[str, Any]) -> BundleFile | None:
    """The licence text that lay with the data when they were read, if it still does: it travels with the bundle."""
    folder = plan.data.path
    if folder is None or not stated.get("sha256") or not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.upper().startswith(NAMES) and path.stat().st_size <= MAX_TEXT:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == stated["sha256"]:
                return BundleFile("LICENSES/data.txt", data, secret=False)
    return None


def _licence(found: Any) -> str:
    """An SPDX expression where it states one; else its classifier's last words; else one line of its own."""
    if expression := found.get("License-Expression"):
        return str(expression)
    classified = [
        one.rpartition(" :: ")[2] for one in found.get_all("Classifier") or () if one.startswith("License ::")
    ]
    stated = (found.get("License") or "").strip()
    return classified[0] if classified else stated if "\n" not in stated and len(stated) <= 80 else ""
