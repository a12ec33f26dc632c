"""The line on a tiny lot: what is kept, what runs again and why, what stops it, and what an interruption costs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from case_parts import run
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from image_parts import encoded, put
from line_parts import CLASSES, TinyTeacher, attempt, quiet, small_lot, surface, tiny_context, tiny_plugins
from seal_parts import body_of, files_of

from toolkit.artifacts import BundleFile
from toolkit.errors import EnvironmentUnfit, GateRefused, IntegrityError, PlanError, Refused, ToolkitError
from toolkit.hookspecs import hookimpl
from toolkit.pipeline import LINE, StageResult, check_plan, run_line
from toolkit.plan import STAGES, Plan
from toolkit.registry.store import Registry
from toolkit.seal.verify import verify_bundle
from toolkit.stages.context import Context
from toolkit.stages.seal import compatible_range, publisher_keys
from toolkit.workspace import file_digest, folder_lock


@dataclass(frozen=True)
class Line:
    """A home whose line ran to the gate, and the data it ran on."""

    home: Path
    data: Path
    refusal: ToolkitError

    def context(self, *assignments: str, override: str = "", recorded: bool = False) -> Context:
        return tiny_context(self.home, self.data, *assignments, override=override, recorded=recorded)

    def remade(self, until: str, *assignments: str) -> list[str]:
        """The stages that do not stand when the line runs with these settings."""
        seen, _ = attempt(self.context(*assignments), until)
        assert list(seen) == list(STAGES[: STAGES.index(until) + 1])
        return [stage for stage, kept in seen.items() if not kept]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("line")
    data = small_lot(folder / "lot")
    seen, error = attempt(tiny_context(folder / "home", data, "gate.retain=1.0", "gate.small_sample=refuse"), "check")
    assert seen == dict.fromkeys(STAGES[: STAGES.index("gate") + 1], False)
    assert error is not None
    return Line(folder / "home", data, error)


REFUSED = ("gate.retain=1.0", "gate.small_sample=refuse")
LENIENT = ("gate.retain=0.001",)


def test_the_line_has_the_stages_that_the_plan_knows() -> None:
    assert tuple(stage.name for stage in LINE) == STAGES
    for place, stage in enumerate(LINE):
        assert set(stage.needs) <= set(STAGES[:place])
        Plan(domain="x").part(stage.keys)


def test_a_gate_that_is_not_met_refuses_and_leaves_its_report(line: Line) -> None:
    assert isinstance(line.refusal, GateRefused)
    assert line.refusal.exit_code == 3
    report = Path(line.refusal.hint.partition("Read ")[2].partition(";")[0])
    assert report.name == "report.html"
    assert "<html" in report.read_text()
    figures = json.loads(report.with_suffix(".json").read_bytes())
    assert figures["gate"]["refuses"]
    assert [stage["name"] for stage in figures["stages"]] == list(STAGES[: STAGES.index("gate") + 1])
    assert figures["run"]["overrides"] == []
    for kind in ("teacher", "student", "baseline"):
        assert len(figures[kind]["pace"]) == len(figures[kind]["history"])
        assert figures[kind]["pace"][-1]["rows_per_second"] > 0
        stage = "labels" if kind == "teacher" else "student"
        (folder,) = (line.home / "store" / stage).glob(f"*/curves/{kind}/training")
        assert len(list(folder.glob("*tfevents*"))) == 1


def test_a_second_time_every_stage_is_kept_and_the_gate_refuses_again(line: Line) -> None:
    seen, error = attempt(line.context(*REFUSED), "check")
    assert seen == dict.fromkeys(STAGES[: STAGES.index("gate") + 1], True)
    assert isinstance(error, GateRefused)
    assert error.message == line.refusal.message


@pytest.mark.parametrize(
    ("assignment", "until", "first"),
    [
        ("recipe.temperature=3.5", "distil", "distil"),
        ("student.size=micro", "distil", "distil"),
        ("recipe.views=2", "label", "label"),
        ("teacher.epochs=1", "label", "label"),
        ("compute.seed=5", "prepare", "prepare"),
        ("data.licence=MIT", "prepare", "prepare"),
    ],
)
def test_what_is_changed_runs_again_from_the_first_stage_that_reads_it(
    line: Line, assignment: str, until: str, first: str
) -> None:
    place = STAGES.index(first)
    assert line.remade(until, assignment) == list(STAGES[place : STAGES.index(until) + 1])


@pytest.mark.parametrize("assignment", ["cost.server_hour=9", "gate.retain=0.5", "target.latency_p95_ms=50"])
def test_what_the_gate_alone_reads_leaves_all_before_it(line: Line, assignment: str) -> None:
    assert line.remade("compile", assignment) == []


@pytest.mark.parametrize("assignment", ["compute.threads=2", "product=other", "industry.most_escapes=0.5"])
def test_what_no_training_reads_trains_nothing(line: Line, assignment: str) -> None:
    assert line.remade("compile", assignment) == []


def test_the_target_compiles_again_and_trains_nothing(line: Line) -> None:
    assert line.remade("compile", "target.precision=fp32") == ["compile"]


def test_changed_data_is_prepared_again_and_a_return_to_the_old_is_known(line: Line, tmp_path: Path) -> None:
    data = shutil.copytree(line.data, tmp_path / "copy")
    put(data / "good" / "new.png", encoded(surface("good", 999_999), ".png"))
    seen, _ = attempt(tiny_context(line.home, data), "label")
    assert seen == {"prepare": False, "label": False}
    seen, _ = attempt(tiny_context(line.home, data), "label")
    assert seen == {"prepare": True, "label": True}
    (data / "good" / "new.png").unlink()
    assert line.remade("label") == []


def test_data_changed_in_place_is_seen(line: Line, tmp_path: Path) -> None:
    """Same name, same size, another picture."""
    data = shutil.copytree(line.data, tmp_path / "copy")
    attempt(tiny_context(line.home, data), "prepare")
    file = data / "good" / "000.png"
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    seen, _ = attempt(tiny_context(line.home, data), "prepare")
    assert seen == {"prepare": False}


def test_an_override_goes_on_past_the_gate_and_is_written_down(line: Line) -> None:
    context = line.context(*REFUSED, override="a trial on the bench", recorded=True)
    results = run_line(context, until="seal", listen=lambda _: None)
    assert [result.stage for result in results if not result.kept] == ["seal"]
    report = json.loads((context.run.folder / "report.json").read_bytes())
    assert report["run"]["overrides"] == ["a trial on the bench"]
    manifest = verify_bundle(results[-1].artifact.path, publisher_keys(context).trust)
    assert manifest.overrides == ("a trial on the bench",)
    (run,) = Registry(line.home).runs(1)
    assert run.outcome == "done"
    assert [stage.name for stage in run.stages] == [result.stage for result in results]


def test_a_gate_that_is_met_lets_the_line_end_with_an_answer(line: Line) -> None:
    results = run_line(line.context(*LENIENT), until="check", listen=lambda _: None)
    assert [result.stage for result in results if not result.kept] == ["gate", "seal", "install", "check"]
    answer = results[-1].artifact.facts
    scored = json.loads((results[5].artifact.path / "compiled.json").read_bytes())["per_row"]
    assert answer["verdict"] == next(row["predicted"] for row in scored if row["id"] == answer["row"])
    seen, error = attempt(line.context(*LENIENT), "check")
    assert error is None
    assert seen == dict.fromkeys(STAGES, True)


def test_the_papers_say_what_was_made_and_nothing_that_is_secret(line: Line) -> None:
    context = line.context(*LENIENT)
    bundle = run_line(context, until="seal", listen=lambda _: None)[-1].artifact.path
    text = (bundle / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    model = json.loads(text)["metadata"]["component"]
    named = {one["type"] for one in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert {"teacher accuracy", "student accuracy", "quality kept", "teacher to student size (times)"} <= named
    parts = {one["name"]: one for one in json.loads(text)["components"]}
    assert {"onnxruntime", "fastapi", "distil-toolkit-industry", "LICENSES/data.txt"} <= set(parts)
    assert "torch" not in parts
    made = body_of(bundle / "provenance.dsse")["predicate"]["buildDefinition"]
    found = {one["name"]: one for one in made["resolvedDependencies"]}
    assert len(found["data"]["digest"]["sha256"]) == len(found["teacher"]["digest"]["sha256"]) == 64
    assert made["externalParameters"]["recipe"] == context.plan.recipe.name
    for said in (text, json.dumps(body_of(bundle / "provenance.dsse")), json.dumps(body_of(bundle / "bundle.dsse"))):
        assert not [secret for secret in ("bars", str(line.home), str(line.home.parent)) if secret in said]


class Packer:
    """A domain's packing: instructions that an operator should read, a template that nobody else may."""

    NOTES, TEMPLATE = b"Clean the lens on Mondays.\n", b"TEMPLATE-that-is-worth-money"

    @hookimpl
    def package(self) -> Iterable[BundleFile]:
        yield BundleFile("operator-notes.txt", self.NOTES, secret=False)
        yield BundleFile("operator-notes.en.txt", self.NOTES, secret=False)  # the same once more is no clash
        yield BundleFile("LICENSES/lens-maker.txt", b"Use as you like.\n", secret=False)
        yield BundleFile("template", self.TEMPLATE)


def test_hook_package_says_what_operators_read_and_what_nobody_does(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(line.home))
    context = line.context(*LENIENT, override="with the domain's own files")
    context.plugins.manager.register(Packer())
    bundle = run_line(context, until="seal", listen=lambda _: None)[-1].artifact.path
    assert not [path for path in files_of(bundle) if Packer.TEMPLATE in path.read_bytes()]
    for name, said in {"operator-notes.txt": Packer.NOTES, "LICENSES/lens-maker.txt": b"Use as you like.\n"}.items():
        assert run("bundle", "print", bundle, name).out.encode() == said
    assert run("bundle", "print", bundle, "template").code == 2
    listed = json.loads(run("verify", bundle, "--json").out)["papers"]["licences"]
    assert listed == ["LICENSES/data.txt", "LICENSES/lens-maker.txt", "LICENSES/teacher.txt"]
    parts = {one["name"]: one for one in json.loads((bundle / "sbom.cdx.json").read_text())["components"]}
    encrypted = {one["name"]: one["value"] for one in parts["template"]["properties"]}["distil-toolkit:encrypted"]
    assert (encrypted, "operator-notes.txt" in parts or "operator-notes.en.txt" in parts) == ("true", True)
    blob = bundle / "blobs" / "sha256" / hashlib.sha256(Packer.NOTES).hexdigest()
    blob.write_bytes(b"Clean the lens on Tuesdays.\n")
    refused = run("bundle", "print", bundle, "operator-notes.txt", "--trust", line.home / "keys" / "root.json")
    assert (refused.code, run("verify", bundle, "--json").code) == (4, 4)


def test_a_site_that_was_lost_is_installed_and_asked_again(line: Line) -> None:
    attempt(line.context(*LENIENT), "check")
    shutil.rmtree(line.home / "site")
    seen, error = attempt(line.context(*LENIENT), "check")
    assert error is None
    assert [stage for stage, kept in seen.items() if not kept] == ["install", "check"]


def test_a_bundle_that_was_damaged_is_sealed_again(line: Line) -> None:
    results = run_line(line.context(*LENIENT), until="seal", listen=lambda _: None)
    payload = max(results[-1].artifact.path.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.chmod(0o644)
    payload.write_bytes(data)
    assert list(line.remade("seal", *LENIENT)) == ["seal"]
    assert line.remade("seal", *LENIENT) == []


class Stop(Exception):
    """Stands for whatever ends a process."""


@dataclass
class StopAt:
    """A report that ends the run the `times`-th time that `what` is told."""

    what: str
    times: int

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == self.what:
            self.times -= 1
            if self.times == 0:
                raise Stop


def trained(home: Path, like: Path | None = None) -> dict[str, str]:
    """Digests of all that was labelled and trained, of the artifacts that lie in `like` too."""
    names = {folder.name for kind in ("labels", "student") for folder in ((like or home) / "store" / kind).glob("*")}
    return {
        f"{folder.name}/{path.relative_to(folder)}": file_digest(path)
        for kind in ("labels", "student")
        for folder in (home / "store" / kind).iterdir()
        if folder.name in names and not folder.name.startswith(".")
        for path in folder.rglob("*")
        if path.suffix in (".pt", ".npy", ".onnx") or path.name in ("student.json", "baseline.json")
    }


def test_interrupted_in_label_and_distil_it_ends_the_same(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.distil.checkpoints.EVERY_SECONDS", 0.0)
    home, stops = tmp_path / "home", [("adapt the teacher", 4), ("label", 2), ("train the student", 6)]
    stops += [("train the student", 3), ("train the baseline", 5)]
    for what, times in stops:
        with pytest.raises(Stop):
            attempt(tiny_context(home, line.data, report=StopAt(what, times)), "distil")
    seen, _ = attempt(tiny_context(home, line.data), "distil")
    assert seen == {"prepare": True, "label": True, "distil": False}
    found = trained(home)
    assert found == trained(line.home, like=home)
    assert len(found) > 6
    assert not list((home / "store").rglob("*.partial/*"))


def test_a_stopped_run_is_recorded_as_failed_where_it_stopped(line: Line, tmp_path: Path) -> None:
    context = tiny_context(tmp_path / "home", line.data, report=StopAt("adapt the teacher", 2), recorded=True)
    with pytest.raises(Stop):
        attempt(context, "distil")
    (run,) = Registry(tmp_path / "home").runs()
    assert (run.outcome, run.error) == ("failed", {"code": "Stop", "stage": "label"})
    assert [stage.name for stage in run.stages] == ["prepare"]


def test_one_process_a_home(line: Line) -> None:
    with folder_lock(line.home / "store", purpose="hold it"), pytest.raises(EnvironmentUnfit, match="in use") as caught:
        run_line(line.context(), until="prepare", listen=lambda _: None)
    assert caught.value.exit_code == 5
    assert line.remade("prepare") == []


def test_a_damaged_manifest_stops_the_line_and_says_what_to_remove(line: Line, tmp_path: Path) -> None:
    home = tmp_path / "home"
    attempt(tiny_context(home, line.data), "prepare")
    manifest = next((home / "store" / "dataset").glob("*/artifact.json"))
    manifest.write_bytes(b"{")
    _, error = attempt(tiny_context(home, line.data), "prepare")
    assert isinstance(error, IntegrityError)
    shutil.rmtree(manifest.parent)
    assert attempt(tiny_context(home, line.data), "prepare") == ({"prepare": False}, None)


@pytest.mark.parametrize(
    ("stage", "damaged"), [("label", "teacher.onnx"), ("label", "network.onnx"), ("distil", "student.pt")]
)
def test_a_network_that_was_damaged_is_made_again(line: Line, tmp_path: Path, stage: str, damaged: str) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")

    def ran() -> dict[str, StageResult]:
        results: list[StageResult] = []
        run_line(tiny_context(home, line.data), until="distil", listen=results.append)
        return {one.stage: one for one in results}

    path = ran()[stage].artifact.path / damaged
    whole = path.read_bytes()
    for data in (whole[:1000], whole[:-9] + bytes(9), b""):
        path.write_bytes(data)
        assert {name for name, one in ran().items() if not one.kept} == {stage}
        assert path.read_bytes() == whole


@pytest.mark.parametrize("damaged", ["logits-00001.npy", "features-00000.npy"])
def test_a_damaged_shard_is_named_and_labelled_again_alone(line: Line, tmp_path: Path, damaged: str) -> None:
    home = shutil.copytree(line.home, tmp_path / "home")
    *_, labelled = run_line(tiny_context(home, line.data), until="label", listen=lambda _: None)
    assert labelled.kept
    store = labelled.artifact.path / "labels"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.iterdir()}
    data = bytearray(before[damaged][0])
    data[-1] ^= 1
    (store / damaged).write_bytes(data)
    context = tiny_context(home, line.data)
    results: list[StageResult] = []
    run_line(context, until="distil", listen=results.append)
    assert {result.stage: result.kept for result in results} == {"prepare": True, "label": False, "distil": True}
    assert results[1].artifact.facts["mended"] == [damaged]
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.iterdir()}
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}
    view = damaged.partition("-")[2]
    untouched = {name for name in before if not name.endswith(view)} - {"labels.json"}
    assert all(after[name][1] == before[name][1] for name in untouched)


def test_a_second_student_asks_the_teacher_nothing(line: Line, tmp_path: Path) -> None:
    """Another recipe, another student, the same teacher: no stage that could ask it runs."""
    home = shutil.copytree(line.home, tmp_path / "home")
    context = tiny_context(home, line.data, "recipe.name=soft-labels", "student.size=nano", "recipe.temperature=7.5")
    seen, error = attempt(context, "distil")
    assert error is None
    assert seen == {"prepare": True, "label": True, "distil": False}


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("teacher.name", "tiny-teechr", "tiny-teacher"),
        ("recipe.name", "soft-label", "soft-labels"),
        ("target.profile", "cpus", "cpu"),
    ],
)
def test_a_name_that_nobody_offers_is_refused_with_the_nearest(line: Line, key: str, value: str, near: str) -> None:
    with pytest.raises(PlanError, match=value) as caught:
        line.context(f"{key}={value}")
    assert f"Did you mean {near}?" in caught.value.hint


def test_a_recipe_that_needs_more_than_the_teacher_gives_is_refused(line: Line) -> None:
    plugins, plan = tiny_plugins(), line.context().plan

    class Poor(TinyTeacher):
        name = "poor"
        gives = frozenset({"text"})

    class Other(TinyTeacher):
        name = "other"
        tasks = frozenset({"text_generation"})

    class Offer:
        from toolkit.hookspecs import hookimpl

        @hookimpl
        def register_teachers(self) -> list[TinyTeacher]:
            return [Poor(), Other()]

    plugins.manager.register(Offer(), "offer")
    for name, says in (("poor", "needs features, response"), ("other", "does not teach image_classification")):
        chosen = plan.model_copy(update={"teacher": plan.teacher.model_copy(update={"name": name})})
        with pytest.raises(PlanError, match=says):
            check_plan(chosen, plugins)


@pytest.mark.parametrize(("licence", "reason", "refused"), [
    ("forbidden", "", True), ("forbidden", "mine", True), ("unknown", "", True), ("unknown", "we asked them", False),
    ("conditional", "", False),
])  # fmt: skip
def test_a_licence_that_forbids_or_is_not_known_refuses(
    line: Line, monkeypatch: pytest.MonkeyPatch, licence: str, reason: str, refused: bool
) -> None:
    monkeypatch.setattr(TinyTeacher, "licence", licence)
    assignment = f'teacher.accept_unknown_licence="{reason}"'
    if refused:
        with pytest.raises(Refused) as caught:
            line.context(assignment)
        assert caught.value.exit_code == 3
    else:
        line.context(assignment)


def test_a_full_disk_is_the_environments_fault_and_says_where(line: Line) -> None:
    context = line.context("compute.seed=77")

    def full(what: str, done: int, total: int) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    with pytest.raises(EnvironmentUnfit, match=r"prepare cannot use /somewhere: No space left"):
        run_line(replace(context, report=full), until="prepare", listen=lambda _: None)


@pytest.mark.parametrize(("release", "range_"), [("0.1.3", ">=0.1.3,<0.2"), ("2.10", ">=2.10,<2.11"), ("odd", "==odd")])
def test_a_bundle_is_for_one_minor_release(release: str, range_: str) -> None:
    assert compatible_range(release) == range_


def test_the_parts_of_this_file_hold_what_they_say(line: Line) -> None:
    assert {path.name for path in line.data.iterdir() if path.is_dir()} == set(CLASSES)
    assert quiet("x", 0, 1) is None
