"""What every domain promises, as one check: `check_domain(name, module, tmp_path)`.

Hooks that the domain leaves out are answered by core, as in a run, so the whole of what a run would see is checked.
It knows nothing of what a good answer is in the domain; that is for the domain's own tests.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pluggy

from toolkit import defaults
from toolkit.artifacts import (
    SPLITS,
    Dataset,
    Evaluation,
    HardwareBudget,
    Metric,
    StudentSpec,
    Violation,
)
from toolkit.errors import DataError
from toolkit.plan import Options, Plan
from toolkit.plugins import Plugins, load_plugins
from toolkit.protocols import PredictorFacts, Tensors
from toolkit.resolve import Layer, draft_layer, resolve
from toolkit.tasks.asking import ask_by
from toolkit.tasks.base import TASKS
from toolkit.testing.images import image_folder

NEEDED = {"id", "group", "truth", "predicted", "right"}
"""What the gate, the check and the report read of each row of an evaluation."""

HEAVY = ("torch", "transformers", "onnx", "onnxscript")


def check_domain(
    name: str, module: ModuleType, tmp_path: Path, *, classes: Sequence[str] = ("good", "pit", "scratch")
) -> None:
    """Run the conformance suite of domains.

    Args:
        name: what `--domain` takes.
        module: the module that the entry point names.
        classes: names for the folders of the suite's own pictures, where the domain wants particular ones.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    check_light(module)
    plugins = alone(name, module)
    plan = check_drafts(name, plugins)
    made = image_folder(
        tmp_path / "pictures", sorted(classes), per_class=plan.data.minimum_per_class + 4, test_per_class=3
    )
    dataset = _check_training_data(plugins, plan, made, tmp_path / "train")
    _check_evaluation_data(plugins, plan, dataset, made, tmp_path)
    _check_answers(plugins, plan, dataset)


def alone(name: str, module: object) -> Plugins:
    """Everything installed but the domains, and this module as the domain, whether it is installed or not.

    Raises:
        AssertionError: the module implements no hook, misspells one, or names an argument that the hook has not.
    """
    installed = load_plugins(None, defaults)
    manager = installed.manager
    for registered, _ in manager.list_name_plugin():
        if registered.startswith("domains:"):
            manager.unregister(name=registered)
    try:
        manager.register(module, f"domains:{name}")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise AssertionError(f"a hook of {name} does not fit: {error}") from error
    plugins = Plugins(manager, installed.infos, name)
    assert implemented(plugins), f"{name} implements no hook of the toolkit"
    return plugins


def implemented(plugins: Plugins) -> set[str]:
    """The names of the hooks that the domain answers itself."""
    domain = plugins.manager.get_plugin(f"domains:{plugins.domain}")
    return {caller.name for caller in plugins.manager.get_hookcallers(domain) or ()}


def check_light(module: ModuleType) -> None:
    """A site imports the domain without torch; so importing it must not ask for what only training needs."""
    code = f"import sys, {module.__name__}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    path = os.pathsep.join([str(_root(module)), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert asked.returncode == 0, f"{module.__name__} cannot be imported alone: {asked.stderr}"
    assert not asked.stdout.strip(), f"importing {module.__name__} imports {asked.stdout.strip()}: do it in functions"


def _root(module: ModuleType) -> Path:
    """The folder from which the module is imported."""
    file = Path(module.__file__ or "")
    depth = module.__name__.count(".") + (file.name == "__init__.py")
    return file.parents[depth]


def check_drafts(name: str, plugins: Plugins) -> Plan:
    """The drafts for no data and for own data resolve, as `deploy` resolves them; the latter is used on."""
    for data in (None, Path("pictures")):
        draft = plugins.hook.draft_plan(options=Options(name, data=data))
        assert isinstance(draft, Plan), f"draft_plan gives {type(draft).__name__}, not a Plan"
        assert draft.domain == name, f"draft_plan is for {draft.domain!r}: hand options.domain on"
        layers = [Layer("command line", {"domain": name}), draft_layer(draft)]
        plan = resolve(layers, plugins.settings()).plan
        assert plan.task in TASKS, f"the task {plan.task} is none of {', '.join(TASKS)}"
    return plan


def _check_training_data(plugins: Plugins, plan: Plan, source: Path, workspace: Path) -> Dataset:
    dataset = _prepare(plugins, plan, source, workspace, purpose="train")
    assert len(dataset.classes) >= 2, "a data set has two classes or more in facts['classes']"
    rows = {split: list(zip(dataset.split(split).ids, dataset.split(split), strict=True)) for split in SPLITS}
    for split, found in rows.items():
        assert found or split == "unlabelled", f"the split {split} is empty"
        assert [identity for identity, _ in found] == [row.id for _, row in found], (
            f"ids of {split} differ from its rows"
        )
        known = {""} if split == "unlabelled" else set(dataset.classes)
        assert {row.label for _, row in found} <= known, f"a label of {split} is not among {sorted(known)}"
    apart = ("train", "validation", "test")
    for what in ("id", "group"):
        sets = [{getattr(row, what) for _, row in rows[split]} for split in apart]
        assert sum(map(len, sets)) == len(set().union(*sets)), f"an {what} is in two of {', '.join(apart)}"
    held = {row.group for split in ("validation", "test") for _, row in rows[split]}
    assert held.isdisjoint(row.group for _, row in rows["unlabelled"]), "an unlabelled row shows what is held out"
    assert {i for i, _ in rows["calibration"]} <= {i for i, _ in rows["train"]}, "calibration rows are training rows"
    assert isinstance(plugins.hook.require_hardware(plan=plan, dataset=dataset), HardwareBudget), "no HardwareBudget"
    spec = plugins.hook.build_student(plan=plan, dataset=dataset)
    assert isinstance(spec, StudentSpec), f"build_student gives {type(spec).__name__}, not a StudentSpec"
    json.dumps(dict(spec.describe))
    return dataset


def _check_evaluation_data(plugins: Plugins, plan: Plan, trained: Dataset, source: Path, tmp_path: Path) -> None:
    """A site scores any labelled folder: all of it is test, by the classes the model knows."""
    folder, workspace = source / "test", tmp_path / "evaluate"
    dataset = _prepare(plugins, plan, folder, workspace, purpose="evaluate", classes=trained.classes)
    assert dataset.classes == trained.classes, "the classes are the model's, in the model's order"
    assert len(dataset.split("test")) == len(list(folder.rglob("*.png"))), "each readable row is a test row"
    assert not len(dataset.split("train")), "nothing is kept back for training"
    image_folder(tmp_path / "strange", [*trained.classes, "never-seen"], per_class=2)
    try:
        _prepare(plugins, plan, tmp_path / "strange", tmp_path / "refused", purpose="evaluate", classes=trained.classes)
    except DataError as error:
        refusal = error
    else:
        raise AssertionError("a label that the model does not know must be refused with a DataError")
    assert refusal.hint, "an unknown label is refused with a hint"


def _prepare(
    plugins: Plugins, plan: Plan, source: Path, workspace: Path, *, purpose: str, classes: tuple[str, ...] = ()
) -> Dataset:
    workspace.mkdir()
    dataset = plugins.hook.prepare_data(
        plan=plan, source=source, purpose=purpose, workspace=workspace, classes=classes, report=lambda *_: None
    )
    assert isinstance(dataset, Dataset), f"prepare_data gives {type(dataset).__name__}, not a Dataset"
    json.dumps(dict(dataset.facts))
    return dataset


@dataclass(frozen=True)
class Stub:
    """A predictor that no training made: it gives each picture the answer it is handed, or none more than another."""

    classes: tuple[str, ...]
    known: Mapping[bytes, str] = field(default_factory=dict)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("student", "stub", "0" * 64))

    def predict(self, inputs: Tensors) -> Tensors:
        answers = np.full((len(inputs["image"]), len(self.classes)), 1 / len(self.classes), np.float32)
        for index, image in enumerate(inputs["image"]):
            if label := self.known.get(image.tobytes()):
                answers[index] = np.eye(len(self.classes), dtype=np.float32)[self.classes.index(label)]
        return {"probabilities": answers}


def _check_answers(plugins: Plugins, plan: Plan, dataset: Dataset) -> None:
    """Score one predictor that knows nothing and one that knows every test row, and ask what stands in the way."""
    known = {row.inputs["image"].tobytes(): str(row.label) for row in dataset.split("test")}
    clueless, perfect = (
        plugins.hook.evaluate(plan=plan, dataset=dataset, predictor=predictor, ask=ask_by(plugins, plan))
        for predictor in (Stub(dataset.classes), Stub(dataset.classes, known))
    )
    for evaluation in (clueless, perfect):
        _check_evaluation(evaluation, dataset)
    assert perfect.metrics["accuracy"].value == 1, "who is right on every row has an accuracy of 1"
    for student in (clueless, perfect):
        for violation in chain.from_iterable(plugins.hook.check_release(plan=plan, teacher=perfect, student=student)):
            assert isinstance(violation, Violation), f"check_release gives a {type(violation).__name__}"
            assert violation.by, "a violation says who objects"
            assert violation.because, "a violation says why"


def _check_evaluation(evaluation: Any, dataset: Dataset) -> None:
    assert isinstance(evaluation, Evaluation), f"evaluate gives {type(evaluation).__name__}, not an Evaluation"
    assert "accuracy" in evaluation.metrics, "every domain reports an accuracy, the gate and the summary show it"
    for name, metric in chain(evaluation.metrics.items(), *(part.items() for part in evaluation.slices.values())):
        check_metric(name, metric)
    assert [row["id"] for row in evaluation.per_row] == list(dataset.split("test").ids), (
        "one record a test row, in order"
    )
    for row in evaluation.per_row:
        assert set(row) >= NEEDED, f"a row's record lacks {', '.join(sorted(NEEDED - set(row)))}"
    json.dumps([[dict(row) for row in evaluation.per_row], dict(evaluation.facts)])


def check_metric(name: str, metric: Any) -> None:
    assert isinstance(metric, Metric), f"{name} is a {type(metric).__name__}, not a Metric"
    assert all(map(math.isfinite, (metric.value, metric.low, metric.high))), f"{name} is not a number: {metric}"
    assert metric.low <= metric.value <= metric.high, f"{name} lies outside its own interval: {metric}"
    assert metric.n > 0, f"{name} rests on no row: {metric}"
    if metric.unit == "share":
        assert 0 <= metric.low <= metric.high <= 1, f"{name} is a share, its interval lies in 0..1: {metric}"
