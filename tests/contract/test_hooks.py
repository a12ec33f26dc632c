"""Each hook, through the managers that runs use: who is asked, in which order, and what becomes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from toolkit.artifacts import (
    Artifact,
    BundleFile,
    CompiledModel,
    Dataset,
    Evaluation,
    HardwareBudget,
    Metric,
    StudentSpec,
    TeacherLabels,
    Violation,
)
from toolkit.errors import DataError
from toolkit.executors import LocalExecutor, LocalWorkers
from toolkit.hookspecs import hookimpl
from toolkit.plan import DataPlan, Options, Plan, Section, StudentPlan, TargetPlan
from toolkit.plugins import Plugins
from toolkit.protocols import HardwareProfile, Host, Objective, PredictorFacts, RunRecord, Settings, TeacherRecord
from toolkit.resolve import parse_assignments, plan_model, resolve
from toolkit.services import Service
from toolkit.testing.domains import Stub, alone
from toolkit.testing.images import image_folder
from toolkit.text_teachers import AskedTeacher

CLASSES = ("good", "pit")
ENOUGH = DataPlan(minimum_per_class=8)


def silent(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def nobody(name: str, tables: Mapping[str, Mapping[str, Any]] | None = None) -> AskedTeacher:
    raise AssertionError(f"{name} is asked")


@pytest.fixture
def dataset(tmp_path: Path, load: Callable[..., Plugins]) -> Dataset:
    """Two classes of small pictures, prepared by core."""
    source = image_folder(tmp_path / "pictures", CLASSES, per_class=12, test_per_class=3)
    return prepared(load("industry"), Plan(domain="mine", data=ENOUGH), source, tmp_path / "prepared")


def prepared(plugins: Plugins, plan: Plan, source: Path | None, workspace: Path, purpose: str = "train") -> Any:
    workspace.mkdir()
    return plugins.hook.prepare_data(
        plan=plan, source=source, purpose=purpose, workspace=workspace, classes=(), report=silent
    )


# --- offered -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parrot:
    """A teacher of no ability at all."""

    name: str = "parrot"
    tasks: frozenset[str] = frozenset({"image_classification"})
    gives: frozenset[str] = frozenset({"response"})

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord("parrot", "MIT", "", "allowed")


def test_hook_register_teachers() -> None:
    class Mine:
        @hookimpl
        def register_teachers(self) -> Iterable[Parrot]:
            return [Parrot()]

    teachers = alone("mine", Mine()).teachers()
    assert teachers["parrot"].name == "parrot"
    assert "efficientnet-lite0" in teachers, "what is installed beside it is still offered"


def test_hook_register_recipes() -> None:
    @dataclass(frozen=True)
    class LabelsOnly:
        name: str = "labels-only"

        def objectives(self, plan: Plan) -> list[Objective]:
            return [Objective("hard-label", 1.0)]

    class Mine:
        @hookimpl
        def register_recipes(self) -> Iterable[LabelsOnly]:
            return [LabelsOnly()]

    recipes = alone("mine", Mine()).recipes()
    ours = {"feature-maps", "soft-labels", "white-box", "sequence", "on-policy", "self", "grpo"}
    assert set(recipes) == {"labels-only", *ours}
    assert recipes["labels-only"].objectives(Plan(domain="mine"))[0].weight == 1.0


def test_hook_register_targets() -> None:
    @dataclass(frozen=True)
    class Abacus:
        name: str = "abacus"

        def profiles(self) -> list[HardwareProfile]:
            names = ("abacus", "abacus-13-rods")
            return [HardwareProfile(name, "abacus", "Beads on rods", ("beech",)) for name in names]

    class Mine:
        @hookimpl
        def register_targets(self) -> Iterable[Abacus]:
            return [Abacus()]

    profiles = alone("mine", Mine()).profiles()
    assert profiles["abacus-13-rods"][1].name == "abacus"
    assert profiles["cpu"][1].name == "cpu"


def test_hook_register_executors() -> None:
    @dataclass(frozen=True)
    class NightShift:
        name: str = "night-shift"

        def check(self, plan: Plan) -> None:
            """Works by any plan."""

        def open(self, plan: Plan) -> AbstractContextManager[LocalWorkers]:
            return LocalExecutor().open(plan)

    class Mine:
        @hookimpl
        def register_executors(self) -> Iterable[NightShift]:
            return [NightShift()]

    plugins = alone("mine", Mine())
    assert {"local", "night-shift"} <= set(plugins.executors())
    with plugins.executors()["night-shift"].open(Plan(domain="mine")) as workers:
        assert list(workers.map(lambda: lambda row: row + 1, [1, 2])) == [2, 3]


def test_hook_register_key_providers(tmp_path: Path) -> None:
    from toolkit.seal.custody import Access
    from toolkit.seal.keyfile import create_signing_key, load_signing_key

    @dataclass(frozen=True)
    class Backwards:
        """Guards nothing: it writes a secret backwards."""

        name: str = "backwards"

        def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
            return {"sealed": secret[::-1].hex()}

        def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
            return bytes.fromhex(record["sealed"])[::-1]

    class Mine:
        @hookimpl
        def register_key_providers(self) -> Iterable[Backwards]:
            return [Backwards()]

    plugins = alone("mine", Mine())
    assert {"backwards", "development", "passphrase"} <= set(plugins.key_providers())
    by = Access(None, plugins.key_providers, "backwards")
    made = create_signing_key(tmp_path / "key.json", "site", by)
    assert made.custody == "backwards"
    assert load_signing_key(tmp_path / "key.json", "site", Access(None, plugins.key_providers)) == made


def test_hook_register_cipher_suites(tmp_path: Path) -> None:
    from seal_parts import Home

    from toolkit.errors import EnvironmentUnfit, PlanError
    from toolkit.seal.cipher import COB256, Cobblestone
    from toolkit.seal.custody import Access
    from toolkit.seal.keys import ensure_development_keys, load_keys
    from toolkit.seal.open import open_bundle
    from toolkit.seal.rotation import rotate

    @dataclass(frozen=True)
    class Mine(Cobblestone):
        """Core's own under another name."""

        name: str = "mine"

    class Plugin:
        @hookimpl
        def register_cipher_suites(self) -> Iterable[Mine]:
            return [Mine()]

    plugins = alone("mine", Plugin())
    assert {COB256.name, "mine"} <= set(plugins.cipher_suites())
    keys, by = tmp_path / "keys", Access(ciphers=plugins.cipher_suites)
    home = Home(tmp_path, ensure_development_keys(keys), plugins.cipher_suites()["mine"])
    with pytest.raises(PlanError, match="does not allow the suite mine"):
        home.seal()
    rotate(keys, "publisher", by, suite="mine+xwing+ed25519")
    home = Home(tmp_path, load_keys(keys, None), home.cipher)
    sealed, site = home.granted(home.site(), b"weights"), home.site()
    assert sealed.manifest.suite == "mine+xwing+ed25519"
    with open_bundle(sealed.path, home.keys.trust, site.recipient_key(), unlock=by) as opened:
        assert opened.read("model") == b"weights"
    with pytest.raises(EnvironmentUnfit, match="needs the cipher mine"):
        open_bundle(sealed.path, home.keys.trust, site.recipient_key())


def test_hook_register_commands(toolkit: Callable[..., CompletedProcess[str]], packages: Path) -> None:
    def bring(name: str, verb: str) -> None:
        (packages / f"{name}.py").write_text(
            "from toolkit.hookspecs import hookimpl\n@hookimpl\ndef register_commands(cli):\n"
            f"    cli.command('{verb}')(lambda: print('{name} says so'))\n    cli.callback()(lambda: None)\n"
        )
        facts = packages / f"{name}-1.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (facts / "entry_points.txt").write_text(f"[toolkit.plugins]\n{name} = {name}\n")

    bring("baker", "knead")
    assert toolkit("knead").stdout == "baker says so\n"
    bring("miller", "knead")
    said = toolkit("knead")
    assert (said.returncode, "brings the verb knead, which is plugins:" in said.stderr) == (5, True)


class MinePlan(Section):
    """The table [mine]."""

    depth_mm: float = 2.5


def test_hook_register_settings() -> None:
    class Mine:
        @hookimpl
        def register_settings(self) -> Iterable[Settings]:
            return [Settings("mine", MinePlan, read_by={"gate": ("depth_mm",)})]

    plugins = alone("mine", Mine())
    layers = [parse_assignments(["domain=mine", "mine.depth_mm=4"])]
    plan = resolve(layers, plugins.settings()).plan
    assert plugins.section_values(plan, "gate") == {"mine.depth_mm": 4.0}
    assert plugins.section_values(plan, "label") == {}, "a stage that does not read the key is not run again for it"


# --- asked -------------------------------------------------------------------------------------------------------


class Silent:
    """A domain that leaves everything to core; hooks that return None pass the question on."""

    @hookimpl
    def draft_plan(self) -> None:
        return None


def test_hook_draft_plan() -> None:
    class Mine:
        @hookimpl
        def draft_plan(self, options: Options) -> Plan:
            return Plan(domain=options.domain, student=StudentPlan(size="nano"))

    options = Options("mine")
    assert alone("mine", Mine()).hook.draft_plan(options=options).student.size == "nano"
    assert alone("mine", Silent()).hook.draft_plan(options=options) == Plan(domain="mine"), "core answers the rest"


def test_hook_prepare_data(tmp_path: Path) -> None:
    asked: list[tuple[Path | None, str]] = []

    class Mine:
        @hookimpl
        def prepare_data(self, source: Path | None, purpose: str, workspace: Path) -> Dataset | None:
            asked.append((source, purpose))
            return Dataset(workspace, "", facts={"classes": ["rendered"]}) if source is None else None

    plugins, plan = alone("mine", Mine()), Plan(domain="mine", data=ENOUGH)
    source = image_folder(tmp_path / "pictures", CLASSES, per_class=12, test_per_class=3)
    assert prepared(plugins, plan, None, tmp_path / "a").classes == ("rendered",)
    assert prepared(plugins, plan, source, tmp_path / "b").classes == CLASSES, "core reads what the domain does not"
    assert asked == [(None, "train"), (source, "train")]
    with pytest.raises(DataError, match="renders no sample"):
        prepared(alone("mine", Silent()), plan, None, tmp_path / "c")


def test_hook_build_student(dataset: Dataset) -> None:
    mine = StudentSpec(build=lambda: None, inputs={}, outputs={}, describe={"family": "mine"})

    class Mine:
        @hookimpl
        def build_student(self, plan: Plan, dataset: Dataset) -> StudentSpec | None:
            return mine if plan.student.size == "large" else None

    hook = alone("mine", Mine()).hook
    large, small = (Plan(domain="mine", student=StudentPlan(size=size)) for size in ("large", "small"))
    assert hook.build_student(plan=large, dataset=dataset) is mine
    assert hook.build_student(plan=small, dataset=dataset).describe["family"] == "ds-cnn"


def test_hook_label(dataset: Dataset, tmp_path: Path) -> None:
    class Mine:
        @hookimpl
        def label(self, dataset: Dataset, teacher: Parrot, workspace: Path) -> TeacherLabels:
            facts = {"name": teacher.name, "rows": len(dataset.split("train"))}
            return TeacherLabels(workspace, "", facts=facts)

    labels = alone("mine", Mine()).hook.label(
        plan=Plan(domain="mine"), dataset=dataset, teacher=Parrot(), workspace=tmp_path, journal=tmp_path,
        report=silent, executor=LocalExecutor(),
    )  # fmt: skip
    assert labels.facts == {"name": "parrot", "rows": len(dataset.split("train"))}


def test_hook_evaluate(dataset: Dataset) -> None:
    class Mine:
        @hookimpl
        def evaluate(self, predictor: Stub) -> Evaluation | None:
            exact = Metric(1.0, 1.0, 1.0, 1)
            return Evaluation.found({"accuracy": exact}) if predictor.facts.form == "teacher" else None

    hook, plan = alone("mine", Mine()).hook, Plan(domain="mine")
    teacher = Stub(CLASSES, facts=PredictorFacts("teacher", "stub", ""))
    assert hook.evaluate(plan=plan, dataset=dataset, predictor=teacher, ask=nobody).metrics["accuracy"].value == 1.0
    clueless = hook.evaluate(plan=plan, dataset=dataset, predictor=Stub(CLASSES), ask=nobody).metrics["accuracy"]
    assert (clueless.value, clueless.n) == (0.5, 6), "core's metrics: always the first of two classes, three rows each"


def test_hook_require_hardware(dataset: Dataset) -> None:
    class Mine:
        @hookimpl
        def require_hardware(self) -> HardwareBudget:
            return HardwareBudget(latency_p95_ms=3)

    plan = Plan(domain="mine", target=TargetPlan(latency_p95_ms=9, size_mb=2))
    assert alone("mine", Mine()).hook.require_hardware(plan=plan, dataset=dataset) == HardwareBudget(latency_p95_ms=3)
    core = alone("mine", Silent()).hook.require_hardware(plan=plan, dataset=dataset)
    assert (core.latency_p95_ms, core.size_mb, core.memory_mb) == (9, 2, None)


def test_hook_serve(tmp_path: Path) -> None:
    from fastapi import APIRouter

    @dataclass(frozen=True)
    class Served:
        facts: PredictorFacts = PredictorFacts("installed", "stub", "")  # noqa: RUF009

        async def predict(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            return Stub(CLASSES).predict(inputs)

    routes = APIRouter()

    class Mine:
        @hookimpl
        def serve(self, site: Path, bundle: Mapping[str, Any]) -> Service | None:
            return Service(routes=routes) if bundle["product"] == "mine" else None

    bundle = {"id": "b", "product": "mine", "plan": {"task": "image_classification"}, "classes": list(CLASSES),
              "thresholds": {}, "good_class": "good", "channels": 1}  # fmt: skip
    hook = alone("mine", Mine()).hook
    assert hook.serve(site=tmp_path, bundle=bundle, predictor=Served(), ask=nobody).routes is routes
    core = hook.serve(site=tmp_path, bundle=bundle | {"product": "other"}, predictor=Served(), ask=nobody)
    assert [route.path for route in core.routes.routes] == ["/v1/inspect"]
    image = np.zeros((1, 8, 8, 1), np.uint8)
    assert asyncio.run(Served().predict({"image": image}))["probabilities"].tolist() == [[0.5, 0.5]]


# --- collected ---------------------------------------------------------------------------------------------------


def test_hook_package(tmp_path: Path) -> None:
    class Mine:
        @hookimpl
        def package(self, compiled: CompiledModel) -> Iterable[BundleFile]:
            yield BundleFile("calibration", compiled.form.encode())

    class Another:
        @hookimpl
        def package(self) -> Iterable[BundleFile]:
            yield BundleFile("prompts", b"hello", secret=False)

    plugins = alone("mine", Mine())
    plugins.manager.register(Another())
    compiled, dataset = CompiledModel(tmp_path, "", form="int8"), Dataset(tmp_path, "")
    groups = plugins.hook.package(plan=Plan(domain="mine"), dataset=dataset, compiled=compiled)
    assert {file.role: file.data for group in groups for file in group} == {"calibration": b"int8", "prompts": b"hello"}


def test_hook_check_release() -> None:
    class Mine:
        @hookimpl
        def check_release(self, teacher: Evaluation, student: Evaluation) -> Iterable[Violation]:
            if student.metrics["accuracy"].value < teacher.metrics["accuracy"].value:
                yield Violation("mine", "worse than its teacher")

    hook, plan = alone("mine", Mine()).hook, Plan(domain="mine")
    good, bad = (Evaluation.found({"accuracy": Metric(value, 0, 1, 10)}) for value in (0.9, 0.8))
    found = hook.check_release(plan=plan, teacher=good, student=bad)
    assert [violation.because for group in found for violation in group] == ["worse than its teacher"]
    assert [*(one for group in hook.check_release(plan=plan, teacher=good, student=good) for one in group)] == []


def test_hook_check_install(tmp_path: Path) -> None:
    from toolkit.site.fit import plugin_check

    class Mine:
        @hookimpl
        def check_install(self, manifest: Mapping[str, Any], host: Host) -> Iterable[Violation]:
            if host.free_bytes < 1 << 60:
                yield Violation("mine", f"no room for {manifest['product']}", f"{host.free_bytes}", "an exabyte")

    host = Host("x86_64", "Linux", {}, free_bytes=10)
    found = alone("mine", Mine()).hook.check_install(manifest={"product": "seams"}, host=host)
    assert [violation.because for group in found for violation in group] == ["no room for seams"]
    assert callable(plugin_check(lambda domain: alone(domain, Mine()), tmp_path))


# --- told --------------------------------------------------------------------------------------------------------


class Listener:
    """Hears everything, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    @hookimpl
    def run_started(self, run: RunRecord) -> None:
        self.heard.append(("started", run.id))

    @hookimpl
    def stage_finished(self, run: RunRecord, stage: str, artifact: Artifact, kept: bool) -> None:
        self.heard.append(("stage", stage, kept, len(artifact.digest)))

    @hookimpl
    def run_finished(self, run: RunRecord) -> None:
        self.heard.append(("finished", run.id))

    @hookimpl
    def run_failed(self, run: RunRecord, stage: str, error: BaseException) -> None:
        self.heard.append(("failed", stage, type(error).__name__))


def run_prepare(load: Callable[..., Plugins], home: Path, source: Path) -> list[tuple[object, ...]]:
    """The line up to `prepare`, with a listener that only listens."""
    from toolkit.pipeline import run_line
    from toolkit.stages.context import Context
    from toolkit.workspace import Workspace

    plugins, listener = load("industry"), Listener()
    plugins.manager.register(listener)
    plan = plan_model(plugins.settings()).model_validate(
        {"domain": "industry", "data": {"path": source, "minimum_per_class": 8}}
    )
    workspace = Workspace(home)
    context = Context(
        plan, plugins, workspace, RunRecord("r1", plan, workspace.run_folder("r1")), silent, home / "site"
    )
    try:
        run_line(context, until="prepare", listen=lambda result: None)
    except DataError:
        assert listener.heard[-1][0] == "failed"
    return listener.heard


def test_hook_run_started(load: Callable[..., Plugins], toolkit_home: Path, tmp_path: Path) -> None:
    source = image_folder(tmp_path / "pictures", CLASSES, per_class=12, test_per_class=3)
    assert run_prepare(load, toolkit_home, source)[0] == ("started", "r1")


def test_hook_stage_finished(load: Callable[..., Plugins], toolkit_home: Path, tmp_path: Path) -> None:
    source = image_folder(tmp_path / "pictures", CLASSES, per_class=12, test_per_class=3)
    assert run_prepare(load, toolkit_home, source)[1] == ("stage", "prepare", False, 64)
    assert run_prepare(load, toolkit_home, source)[1] == ("stage", "prepare", True, 64), "it was there already"


def test_hook_run_finished(load: Callable[..., Plugins], toolkit_home: Path, tmp_path: Path) -> None:
    source = image_folder(tmp_path / "pictures", CLASSES, per_class=12, test_per_class=3)
    assert run_prepare(load, toolkit_home, source)[-1] == ("finished", "r1")


def test_hook_run_failed(load: Callable[..., Plugins], toolkit_home: Path, tmp_path: Path) -> None:
    source = image_folder(tmp_path / "pictures", CLASSES, per_class=3)
    assert run_prepare(load, toolkit_home, source) == [("started", "r1"), ("failed", "prepare", "DataError")]
