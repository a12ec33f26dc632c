"""The conformance suites find what they are there to find: each broken promise, by its own message."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from teacher_parts import Tutor

from toolkit.errors import ToolkitError
from toolkit.executors import told
from toolkit.plan import Plan
from toolkit.protocols import (
    CompiledForm,
    HardwareProfile,
    PredictorFacts,
    TensorPredictor,
    Tensors,
)
from toolkit.testing.domains import check_domain
from toolkit.testing.executors import check_executor
from toolkit.testing.images import image_folder, picture_model, pictures
from toolkit.testing.targets import check_target
from toolkit.testing.teachers import check_teacher
from toolkit.testing.text_domains import check_text_domain

HEAD = """
from toolkit.artifacts import Dataset, Evaluation, Metric, Violation
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan
from toolkit.tasks.base import task_of

"""

BROKEN_DOMAINS = {
    "implements no hook": "",
    "does not fit: unknown hook 'draft_plam'": "@hookimpl\ndef draft_plam(options): ...",
    "are declared in the hookimpl but can not be found": "@hookimpl\ndef draft_plan(options, colour): ...",
    "is for 'other'": "@hookimpl\ndef draft_plan(options): return Plan(domain='other')",
    "the task juggling is none of": "@hookimpl\ndef draft_plan(options): return Plan(domain='mine', task='juggling')",
    "importing mine imports torch": "import torch\n@hookimpl\ndef check_release(): return []",
    "each readable row is a test row": """
@hookimpl
def prepare_data(plan, source, purpose, workspace, classes, report):
    if purpose == "evaluate" and source.name == "test":
        return task_of(plan).prepare(plan, source.parent, purpose, workspace, classes, report)
""",
    "must be refused": """
@hookimpl
def prepare_data(plan, source, purpose, workspace, classes, report):
    if "never-seen" in [folder.name for folder in source.iterdir()]:
        return Dataset(workspace, "")
""",
    "accuracy lies outside its own interval": """
@hookimpl
def evaluate(plan, dataset, predictor):
    found = task_of(plan).evaluate(plan, dataset, predictor)
    return Evaluation.found({"accuracy": Metric(0.5, 0.6, 0.7, 9)}, per_row=found.per_row)
""",
    "every domain reports an accuracy": """
@hookimpl
def evaluate(dataset): return Evaluation.found({})
""",
    "one record a test row": """
@hookimpl
def evaluate(dataset): return Evaluation.found({"accuracy": Metric(1, 1, 1, 9)})
""",
    "check_release gives a str": "@hookimpl\ndef check_release(): return ['no']",
}


def module_of(source: str, folder: Path) -> ModuleType:
    """A module `mine` of that source, as an import would make it."""
    path = folder / "mine.py"
    path.write_text(HEAD + source)
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("says", BROKEN_DOMAINS)
def test_a_broken_domain_is_found_out(says: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        check_domain("mine", module_of(BROKEN_DOMAINS[says], tmp_path), tmp_path)


TEXT = """
from toolkit.artifacts import BundleFile
from toolkit.plan import TextPlan

@hookimpl
def draft_plan(options):
    return Plan(domain="mine", task="text_generation", text=TextPlan(max_tokens=48, answer_tokens=8))
"""
BROKEN_TEXT_DOMAINS = {
    "the plan's task is image_classification": "@hookimpl\ndef draft_plan(options): return Plan(domain='mine')",
    "nothing is kept back for training": TEXT
    + """
@hookimpl
def prepare_data(plan, source, purpose, workspace, classes, report):
    return task_of(plan).prepare(plan, source, "train", workspace, classes, report)
""",
    "one record a test row": TEXT
    + """
@hookimpl
def evaluate(dataset): return Evaluation.found({"accuracy": Metric(1, 1, 1, 9)})
""",
    "a row's record lacks hits, text": TEXT
    + """
@hookimpl
def evaluate(plan, dataset, predictor):
    found = task_of(plan).evaluate(plan, dataset, predictor)
    rows = [{name: row[name] for name in row if name not in ("text", "hits")} for row in found.per_row]
    return Evaluation.found(found.metrics, per_row=rows)
""",
    "does better than silence": TEXT
    + """
@hookimpl
def evaluate(plan, dataset, predictor):
    found = task_of(plan).evaluate(plan, dataset, predictor)
    return Evaluation.found(found.metrics, per_row=[row | {"right": True} for row in found.per_row])
""",
    "'mine/rules.toml' cannot be a role": TEXT
    + """
@hookimpl
def package(plan): return [BundleFile("mine/rules.toml", b"")]
""",
    "each file has a role of its own": TEXT
    + """
@hookimpl
def package(plan): return [BundleFile("rules", b""), BundleFile("rules", b"")]
""",
    "serve gives a?n? ?int": TEXT + "@hookimpl\ndef serve(site): return 3",
    "check_release gives a str": TEXT + "@hookimpl\ndef check_release(): return ['no']",
}


def rows_to_count(folder: Path) -> Path:
    """Rows whose answers are known."""
    folder.mkdir()
    lines = [json.dumps({"prompt": f"after {n}?", "completion": f"it is {n + 1}", "answer": n + 1}) for n in range(40)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder


def test_a_domain_of_text_that_keeps_its_promises_passes(tmp_path: Path) -> None:
    check_text_domain("mine", module_of(TEXT, tmp_path), rows_to_count(tmp_path / "rows"), tmp_path)


@pytest.mark.parametrize("says", BROKEN_TEXT_DOMAINS)
def test_a_broken_domain_of_text_is_found_out(says: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        check_text_domain(
            "mine", module_of(BROKEN_TEXT_DOMAINS[says], tmp_path), rows_to_count(tmp_path / "rows"), tmp_path
        )


@dataclass(frozen=True)
class Answers:
    """A predictor that gives every picture the same probabilities."""

    facts: PredictorFacts
    probabilities: tuple[float, ...] = (0.2, 0.3, 0.5)

    def predict(self, inputs: Tensors) -> Tensors:
        return {"probabilities": np.tile(np.float32(self.probabilities), (len(inputs["image"]), 1))}


@dataclass(frozen=True)
class Constant:
    """A target whose every promise can be broken by itself."""

    name: str = "constant"
    names: tuple[str, ...] = ("constant",)
    forms: tuple[str, ...] = ("int8", "fp32")
    probabilities: tuple[float, ...] = (0.2, 0.3, 0.5)
    picky: bool = True

    def profiles(self) -> Iterable[HardwareProfile]:
        return [HardwareProfile(name, self.name, "Always the same", ("here",)) for name in self.names]

    def compile(
        self, exported: bytes, calibration: Iterable[Tensors], profile: HardwareProfile, folder: Path
    ) -> Iterable[CompiledForm]:
        return [CompiledForm(form, exported) for form in self.forms]

    def load(self, model: bytes, profile: HardwareProfile, facts: PredictorFacts) -> TensorPredictor:
        from toolkit.errors import EnvironmentUnfit

        if self.picky and profile.arch != ("here",):
            raise EnvironmentUnfit("not here", hint="Elsewhere.")
        return Answers(replace(facts, provider="constant"), self.probabilities)


BROKEN_TARGETS = {
    "no profile of its own name": Constant(names=("other",)),
    "two profiles of constant have one name": Constant(names=("constant", "constant")),
    "compile\\(\\) built nothing": Constant(forms=()),
    "fp32 comes last": Constant(forms=("fp32", "int8")),
    "another-box does not run here": Constant(picky=False),
    "do not sum to 1": Constant(probabilities=(0.2, 0.3, 0.6)),
    "not the reference": Constant(),
}


@pytest.mark.parametrize("says", BROKEN_TARGETS)
def test_a_broken_target_is_found_out(says: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        check_target(BROKEN_TARGETS[says], tmp_path)


def test_a_target_without_its_hardware_must_say_so(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="constant does not run here"):
        check_target(Constant(), tmp_path, runs_here=False)


@dataclass(frozen=True)
class Crooked:
    """An executor, and its workers, whose every promise can be broken by itself."""

    name: str = "crooked"
    threads: int = 1
    breaks: str = ""
    left: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def check(self, plan: Plan) -> None:
        """Works by any plan."""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Crooked]:
        if self.breaks == "leaves":
            self.left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        yield self

    def map(self, prepare: Callable[[], Callable[[int], Any]], pieces: Iterable[int]) -> Iterator[Any]:
        if self.breaks == "eager":
            pieces = list(islice(pieces, 1000))
        return self._results(prepare, pieces)

    def _results(self, prepare: Callable[[], Callable[[int], Any]], pieces: Iterable[int]) -> Iterator[Any]:
        work = prepare() if self.breaks == "prepares" else None
        for number, piece in enumerate(pieces):
            work = prepare() if work is None or self.breaks == "forgets" else work
            if self.breaks == "loses" and number == 9:
                continue
            try:
                with nullcontext() if self.breaks == "raw" else told(number):
                    made = work(piece)
            except ToolkitError as error:
                if self.breaks == "swallows":
                    continue
                if self.breaks == "plain":
                    raise ToolkitError(error.message, hint=error.hint) from error
                raise
            yield made


BROKEN_EXECUTORS = {
    "is no name to type": Crooked(name="Crooked One"),
    "a worker may use a thread": Crooked(threads=0),
    "results in order of the pieces": Crooked(breaks="loses"),
    "calls prepare\\(\\) once, not for each": Crooked(breaks="forgets"),
    "nothing is prepared for no work": Crooked(breaks="prepares"),
    "nothing is read before a result is wanted": Crooked(breaks="eager"),
    "an error in a piece \\(data\\) is raised": Crooked(breaks="swallows"),
    "a ToolkitError arrives, not a DataError": Crooked(breaks="plain"),
    "processes are left behind: python": Crooked(breaks="leaves"),
}


@pytest.mark.parametrize("says", BROKEN_EXECUTORS)
def test_a_broken_executor_is_found_out(says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.testing.executors.SETTLE_S", 0.2)
    broken = BROKEN_EXECUTORS[says]
    try:
        with pytest.raises(AssertionError, match=says):
            check_executor(broken, Plan(domain="mine"), tmp_path, apart=False)
    finally:
        for process in broken.left:
            process.kill()
            process.wait()


def test_an_executor_that_lets_a_strangers_error_through_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        check_executor(Crooked(breaks="raw"), Plan(domain="mine"), tmp_path, apart=False)


def test_an_executor_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    check_executor(Crooked(), Plan(domain="mine"), tmp_path, apart=False)


def test_a_teacher_that_keeps_the_contract_passes() -> None:
    check_teacher(Tutor(), Plan(domain="mine"))


BROKEN_TEACHERS = {
    "no name to type": Tutor(name="My Teacher"),
    "teaches tasks that do not exist": Tutor(tasks=frozenset({"juggling"})),
    "gives what no recipe knows": Tutor(gives=frozenset({"advice"})),
    "without a licence": Tutor(licence=""),
    "two builds hold the same weights": Tutor(forgets=True),
    "never reaches for the network": Tutor(calls=True),
    "three classes": Tutor(outputs=5),
}


@pytest.mark.parametrize("says", BROKEN_TEACHERS)
def test_a_broken_teacher_is_found_out(says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_teacher(BROKEN_TEACHERS[says], Plan(domain="mine"))


def test_the_pictures_of_a_seed_are_always_the_same(tmp_path: Path) -> None:
    first = image_folder(tmp_path / "a", ("good", "pit"), per_class=3, test_per_class=2)
    second = image_folder(tmp_path / "b", ("good", "pit"), per_class=3, test_per_class=2)
    found = {path.relative_to(first): path.read_bytes() for path in first.rglob("*.png")}
    assert found == {path.relative_to(second): path.read_bytes() for path in second.rglob("*.png")}
    assert len(set(found.values())) == 10, "no two of them are the same"
    assert picture_model() == picture_model()
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(pictures(3), pictures(3), strict=True))
