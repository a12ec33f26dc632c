"""A line that runs in seconds: three classes of small textures, a teacher of a few thousand weights, and a context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from image_parts import encoded, put, texture

from toolkit import defaults
from toolkit.errors import ToolkitError
from toolkit.hookspecs import hookimpl
from toolkit.pipeline import check_plan, run_line
from toolkit.plan import Options, Plan
from toolkit.plugins import Plugins, load_plugins
from toolkit.protocols import Report, RunRecord, Teacher, TeacherRecord, TeacherSpec
from toolkit.registry.recorder import RegistryRecorder
from toolkit.registry.store import Registry
from toolkit.resolve import Layer, draft_layer, parse_assignments, resolve
from toolkit.stages.context import Context
from toolkit.workspace import Workspace

CLASSES = ("good", "bars", "rows")
SIDE = 40
TINY = (
    "teacher.name=tiny-teacher", "teacher.input_size=32", "teacher.epochs=2", "teacher.batch_size=8",
    "student.size=nano", "student.input_size=32",
    "recipe.epochs=3", "recipe.views=3", "recipe.batch_size=8",
    "data.minimum_per_class=5", "data.calibration_rows=8", "gate.small_sample=warn",
    "compute.threads=1", "compute.device=cpu",
)  # fmt: skip


def surface(label: str, seed: int, side: int = SIDE) -> np.ndarray:
    """A noisy grey picture [side, side]: plain, or with upright or level stripes of its own pitch and phase."""
    draw = np.random.default_rng([5, seed])
    across = np.arange(side) / side
    wave = 60 * np.sin(2 * np.pi * (draw.uniform(3, 5) * across + draw.uniform()))
    pattern = {"good": 0.0, "bars": wave[None, :], "rows": wave[:, None]}[label]
    return 0.35 * texture(seed, side, detail=2) + 80 + pattern


def small_lot(folder: Path, per_class: int = 16, *, seed: int = 0, split: str = "") -> Path:
    """`folder/CLASS/000.png` and so on, in `split` where the folder has splits."""
    for rank, label in enumerate(CLASSES):
        for index in range(per_class):
            number = 10_000 * seed + 1000 * rank + index
            put(folder / split / label / f"{index:03}.png", encoded(surface(label, number), ".png"))
    put(folder / "LICENSE", b"CC0-1.0\n")
    return folder


class TinyTeacher:
    """A convolution, a pool and a last layer: 3 planes of any size to the classes."""

    name = "tiny-teacher"
    tasks = frozenset({"image_classification"})
    gives = frozenset({"response", "features"})
    licence = "allowed"

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord("tiny", "CC0-1.0", "no rights reserved", self.licence)  # type: ignore[arg-type]

    def fingerprint(self, plan: Plan) -> str:
        return "0" * 64

    def load(self, plan: Plan, classes: Sequence[str]) -> TeacherSpec:
        return TeacherSpec(
            build=lambda: _network(len(classes)),
            mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), describe={"architecture": "tiny"},
        )  # fmt: skip


def _network(classes: int) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 12, 7, 2, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
    )  # fmt: skip


class TinyPlugin:
    """Offers the tiny teacher, as a plugin's module would."""

    @hookimpl
    def register_teachers(self) -> Iterable[Teacher]:
        return [TinyTeacher()]


def packages(folder: Path) -> Path:
    """The tiny teacher as a distribution, for processes that find it there."""
    info = folder / "tiny_teacher-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "tiny_teacher.py").write_text(
        "from line_parts import TinyPlugin\nregister_teachers = TinyPlugin().register_teachers\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-teacher\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[toolkit.plugins]\ntiny-teacher = tiny_teacher\n")
    return folder


def tiny_plugins() -> Plugins:
    plugins = load_plugins("industry", defaults)
    plugins.manager.register(TinyPlugin(), "tiny")
    return plugins


def quiet(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def tiny_context(
    home: Path, data: Path | None, *assignments: str, report: Report = quiet, override: str = "", recorded: bool = False
) -> Context:
    """A context of the domain industry with the tiny teacher; `assignments` win over the tiny settings."""
    plugins = tiny_plugins()
    layers = [
        parse_assignments(assignments),
        parse_assignments(TINY),
        Layer("command line", {"domain": "industry"} | ({"data": {"path": str(data)}} if data else {})),
        draft_layer(plugins.hook.draft_plan(options=Options("industry", data))),
    ]
    plan = resolve(layers, plugins.settings()).plan
    check_plan(plan, plugins)
    workspace = Workspace(home)
    number = len(list(workspace.runs.glob("*"))) if workspace.runs.is_dir() else 0
    run_id = f"run-{number:03}"
    if recorded:
        plugins.manager.register(RegistryRecorder(Registry(home)), "registry")
    return Context(
        plan=plan, plugins=plugins, workspace=workspace, run=RunRecord(run_id, plan, workspace.run_folder(run_id)),
        report=report, site=home / "site", override=override,
    )  # fmt: skip


def attempt(context: Context, until: str) -> tuple[dict[str, bool], ToolkitError | None]:
    """Run the line: stage name to whether it was kept, and what stopped it."""
    seen: dict[str, bool] = {}
    try:
        run_line(context, until=until, listen=lambda result: seen.update({result.stage: result.kept}))
    except ToolkitError as error:
        return seen, error
    return seen, None
