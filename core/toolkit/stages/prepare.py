"""Read, check and split the data: DATA PREP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.artifacts import Dataset, Facts
from toolkit.errors import DataError
from toolkit.stages.context import Context, Stage, Upstream
from toolkit.tasks.base import task_of
from toolkit.workspace import Stored


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Ask the domain, then core, for a data set."""
    plan = context.plan
    dataset: Dataset = context.plugins.hook.prepare_data(
        plan=plan, source=plan.data.path, purpose="train", workspace=folder, classes=(), report=context.report
    )
    return dataset.facts


def inputs(context: Context) -> Mapping[str, Any]:
    """The data's own digest; a rendered sample's is that of the domain's code."""
    path = context.plan.data.path
    if path is None:
        return {}
    check_folder(path)
    return {"source": task_of(context.plan).source_digest(path)}


def check_folder(path: Path) -> None:
    """Refuse a data path that is no folder. Raises DataError (exit 2)."""
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise DataError(
            f"the data folder {path} {found}", hint="--data names a folder: of one folder a class, or of JSON lines."
        )


def load(context: Context, stored: Stored) -> Dataset:
    return task_of(context.plan).open_dataset(stored.path, stored.digest, stored.facts)


STAGE = Stage(
    name="prepare",
    kind="dataset",
    keys=("domain", "task", "data", "text.system", "compute.seed"),
    needs=(),
    code=("toolkit.tasks", "toolkit.stages.prepare"),
    run=run,
    load=load,
    inputs=inputs,
)
