"""The plan: layers and where values came from, errors that name key and layer, what a bundle's plan becomes here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from toolkit.cli.planning import make_plan
from toolkit.errors import PlanError
from toolkit.plan import Options, Plan, RecipePlan, Section, passphrase_from_environment, toolkit_home
from toolkit.resolve import Layer, draft_layer, parse_assignments, plan_model, read_config, resolve, thaw
from toolkit.workspace import canonical_json, digest_of

ORDER = ("--set", "command line", "toolkit.toml", "domain")


class CameraPlan(Section):
    """A plugin's own table."""

    exposure_ms: float = Field(2.0, gt=0)
    names: tuple[str, ...] = ("left", "right")


def resolved(*layers: Layer, sections: Mapping[str, type[Section]] | None = None) -> Any:
    return resolve([*layers, Layer("test", {"domain": "tiny"})], sections or {})


def refusal(*layers: Layer, sections: Mapping[str, type[Section]] | None = None) -> PlanError:
    with pytest.raises(PlanError) as caught:
        resolved(*layers, sections=sections)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("highest", range(len(ORDER) + 1))
def test_the_highest_layer_that_speaks_wins_and_is_named(highest: int) -> None:
    layers = [Layer(name, {"recipe": {"epochs": 10 + rank}}) for rank, name in enumerate(ORDER) if rank >= highest]
    found = resolved(*layers)
    if highest == len(ORDER):
        assert found.origins["recipe.epochs"] == "default"
        assert found.plan.recipe.epochs == RecipePlan().epochs
    else:
        assert found.origins["recipe.epochs"] == ORDER[highest]
        assert found.plan.recipe.epochs == 10 + highest


def test_layers_mix_key_by_key_within_a_table() -> None:
    found = resolved(
        Layer("--set", {"recipe": {"epochs": 3}}), Layer("toolkit.toml", {"recipe": {"epochs": 4, "batch_size": 5}})
    )
    assert (found.plan.recipe.epochs, found.plan.recipe.batch_size) == (3, 5)
    assert found.origins["recipe.epochs"] == "--set"
    assert found.origins["recipe.batch_size"] == "toolkit.toml"
    assert found.origins["recipe.temperature"] == "default"


def test_every_key_has_an_origin_and_every_origin_a_key() -> None:
    found = resolved(sections={"camera": CameraPlan})
    values = found.plan.model_dump()
    leaves = {f"{t}.{k}" for t, v in values.items() if isinstance(v, dict) for k in v}
    assert set(found.origins) == leaves | {t for t, v in values.items() if not isinstance(v, dict)}
    assert "camera.exposure_ms" in found.origins


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("recipe.epoch", "recipe.epochs"),
        ("recpie.epochs", "recipe.epochs"),
        ("target.precison", "target.precision"),
        ("retain", "gate.retain"),
        ("camera.exposure", "camera.exposure_ms"),
    ],
)
def test_an_unknown_key_names_its_layer_and_the_nearest_known_one(typed: str, meant: str) -> None:
    error = refusal(parse_assignments([f"{typed}=1"]), sections={"camera": CameraPlan})
    assert f"unknown key {typed} in --set" in error.message
    assert meant in error.hint


def test_a_key_like_no_other_points_at_the_list() -> None:
    error = refusal(parse_assignments(["zzzzzzzz=1"]))
    assert "toolkit plan" in error.hint


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("recipe.epochs=many", "recipe.epochs"),
        ("recipe.epochs=0", "recipe.epochs"),
        ("recipe.epochs=1.5", "recipe.epochs"),
        ("student.size=huge", "student.size"),
        ("student.input_size=33", "student.input_size"),
        ("gate.small_sample=maybe", "gate.small_sample"),
        ("data.good_classes=[1, 2]", "data.good_classes"),
        ("compute.seed=-1", "compute.seed"),
        ("product=Not A Slug", "product"),
    ],
)
def test_a_value_that_does_not_fit_names_key_and_layer(assignment: str, key: str) -> None:
    error = refusal(parse_assignments([assignment]))
    assert error.message.startswith(f"{key} (from --set): ")
    assert error.hint


def test_of_two_layers_the_one_whose_value_is_wrong_is_named() -> None:
    error = refusal(Layer("--set", {"recipe": {"epochs": 5}}), Layer("toolkit.toml", {"recipe": {"batch_size": "x"}}))
    assert error.message.startswith("recipe.batch_size (from toolkit.toml): ")


def test_a_table_where_a_value_belongs_and_a_value_where_a_table_belongs() -> None:
    assert "recipe.epochs" in refusal(Layer("toolkit.toml", {"recipe": {"epochs": {"x": 1}}})).message
    assert "unknown key recipe in toolkit.toml" in refusal(Layer("toolkit.toml", {"recipe": 5})).message
    assert "unknown key nonsense in toolkit.toml" in refusal(Layer("toolkit.toml", {"nonsense": {}})).message


@pytest.mark.parametrize("text", ["recipe.epochs", "=5", " =5", ""])
def test_an_assignment_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="key=value"):
        parse_assignments([text])


def test_assignments_are_toml_or_else_text() -> None:
    layer = parse_assignments(
        ["recipe.epochs=7", "teacher.name=big one", 'data.good_classes=["ok"]', "recipe.baseline=false", "a.b.c = 1e-3"]
    )
    assert layer.values == {
        "recipe": {"epochs": 7, "baseline": False},
        "teacher": {"name": "big one"},
        "data": {"good_classes": ["ok"]},
        "a": {"b": {"c": 1e-3}},
    }


def test_a_key_under_a_value_is_refused() -> None:
    with pytest.raises(PlanError, match="recipe is a value"):
        parse_assignments(["recipe=1", "recipe.epochs=2"])


def test_a_toml_error_names_the_file_and_the_line(tmp_path: Path) -> None:
    config = tmp_path / "toolkit.toml"
    config.write_text("[recipe]\nepochs = 3\nbatch_size == 4\n")
    with pytest.raises(PlanError, match=r"toolkit.toml.*line 3"):
        read_config(config)


@pytest.mark.parametrize("kind", ["missing", "folder", "bytes"])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    config = tmp_path / "toolkit.toml"
    if kind == "folder":
        config.mkdir()
    elif kind == "bytes":
        config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=str(config)):
        read_config(config)


def test_paths_in_a_configuration_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "line.toml").write_text('[data]\npath = "parts"\n[teacher]\ncheckpoint = "vit"\n')
    monkeypatch.chdir(elsewhere)
    found = make_plan(Options("industry"), [], project / "line.toml", settled=False).resolved
    assert found.plan.data.path == project / "parts"
    assert found.plan.teacher.checkpoint == project / "vit"
    assert found.origins["data.path"] == "line.toml"


def test_a_relative_path_from_the_command_line_is_relative_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flagged = make_plan(Options("industry", Path("parts")), [], None, settled=False).resolved
    assigned = make_plan(Options("industry"), ["data.path=parts"], None, settled=False).resolved
    assert flagged.plan.data.path == assigned.plan.data.path == tmp_path / "parts"
    assert flagged.origins["data.path"] == "command line"
    assert assigned.origins["data.path"] == "--set"


def test_the_configuration_of_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toolkit.toml").write_text("[recipe]\nepochs = 17\n")
    monkeypatch.chdir(tmp_path)
    found = make_plan(Options("industry"), [], None, settled=False).resolved
    assert (found.plan.recipe.epochs, found.origins["recipe.epochs"]) == (17, "toolkit.toml")


def test_a_drafts_own_values_form_its_layer_and_its_defaults_do_not() -> None:
    draft = Plan(domain="tiny", recipe=RecipePlan(epochs=RecipePlan().epochs, views=3))
    layer = draft_layer(draft)
    assert layer.values == {"recipe": {"epochs": RecipePlan().epochs, "views": 3}}
    assert resolved(layer).origins["recipe.epochs"] == "domain"


def test_a_plugins_table_is_part_of_the_plan() -> None:
    sections = {"camera": CameraPlan}
    found = resolved(Layer("toolkit.toml", {"camera": {"exposure_ms": 3}}), sections=sections)
    assert found.plan.camera == CameraPlan(exposure_ms=3.0)
    assert found.origins["camera.exposure_ms"] == "toolkit.toml"
    assert found.origins["camera.names"] == "default"
    wrong = refusal(Layer("toolkit.toml", {"camera": {"exposure_ms": -1}}), sections=sections)
    assert wrong.message.startswith("camera.exposure_ms (from toolkit.toml): ")
    assert "unknown key camera.exposure_ms" in refusal(Layer("toolkit.toml", {"camera": {"exposure_ms": 3}})).message


def test_thawing_leaves_out_what_no_plugin_here_knows() -> None:
    sections = {"camera": CameraPlan}
    frozen = resolved(Layer("--set", {"camera": {"exposure_ms": 9}, "gate": {"retain": 0.9}}), sections=sections)
    values = json.loads(json.dumps(frozen.plan.model_dump(mode="json")))
    bare = thaw(values, {})
    assert not hasattr(bare, "camera")
    assert bare.gate.retain == 0.9
    assert thaw(values, sections).model_dump() == frozen.plan.model_dump()
    assert thaw({"domain": "tiny"}, sections).model_dump() == plan_model(sections)(domain="tiny").model_dump()


def test_a_part_is_json_and_the_same_whatever_the_order() -> None:
    plan = resolved(Layer("--set", {"data": {"path": "/parts"}})).plan
    keys = ["recipe", "data", "compute.seed", "domain"]
    part = plan.part(keys)
    assert json.loads(canonical_json(part)) == part
    assert part["data"]["path"] == "/parts"
    assert digest_of(part) == digest_of(plan.part(reversed(keys)))
    assert set(part) == set(keys)


def test_a_part_changes_with_what_it_covers_and_with_nothing_else() -> None:
    one = resolved().plan
    other = resolved(Layer("--set", {"gate": {"retain": 0.5}})).plan
    assert one.part(["recipe", "data"]) == other.part(["recipe", "data"])
    assert one.part(["gate"]) != other.part(["gate"])
    with pytest.raises(KeyError):
        one.part(["recipe.nothing"])


@given(st.integers(1, 10_000), st.floats(0.01, 100, allow_nan=False), st.booleans())
def test_what_was_typed_comes_back(epochs: int, temperature: float, baseline: bool) -> None:
    layer = parse_assignments(
        [f"recipe.epochs={epochs}", f"recipe.temperature={temperature!r}", f"recipe.baseline={str(baseline).lower()}"]
    )
    recipe = resolved(layer).plan.recipe
    assert (recipe.epochs, recipe.temperature, recipe.baseline) == (epochs, temperature, baseline)


def test_a_plan_cannot_be_changed() -> None:
    plan = resolved().plan
    with pytest.raises(ValueError, match="frozen"):
        plan.recipe.epochs = 5


def test_a_secret_is_nowhere_in_plan_or_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pass").write_text("correct horse\nsecond line\n")
    monkeypatch.setenv("TOOLKIT_PASSPHRASE_FILE", str(tmp_path / "pass"))
    monkeypatch.chdir(tmp_path)
    assert passphrase_from_environment() == "correct horse"
    found = make_plan(Options("industry"), [], None).resolved
    shown = found.plan.model_dump_json() + repr(found)
    assert "correct horse" not in shown
    assert str(tmp_path / "pass") not in shown
    named = [key for key in found.origins if not key.endswith("_file")]  # the plan may say where a secret lies
    for key in named:
        assert not any(word in key for word in ("passphrase", "password", "secret", "api_key"))
        assert not key.endswith("token")


def test_a_wrong_secret_is_not_repeated_in_the_error() -> None:
    error = refusal(parse_assignments(["recipe.epochs=hunter2"]))
    assert "hunter2" not in error.message + error.hint


def test_a_passphrase_file_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_PASSPHRASE_FILE", str(tmp_path / "none"))
    with pytest.raises(PlanError, match="passphrase"):
        passphrase_from_environment()
    monkeypatch.delenv("TOOLKIT_PASSPHRASE_FILE")
    assert passphrase_from_environment() is None


def test_home_is_the_environments_or_the_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "own"))
    assert toolkit_home() == tmp_path / "own"
    monkeypatch.delenv("TOOLKIT_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert toolkit_home() == tmp_path / "data" / "toolkit"


def test_what_does_not_fit_is_said_to_come_from_where_it_was_set() -> None:
    given = [parse_assignments(['recipe.objective=[{name="response",wieght=2}]']), Layer("domain", {"domain": "x"})]
    with pytest.raises(PlanError, match=r"^recipe\.objective\.wieght \(from --set\)"):
        resolve(given, {})
    layers = [
        Layer("toolkit.toml", {"recipe": {"mixup": 0.5}}),
        Layer("domain", {"domain": "x", "recipe": {"epochs": 3}}),
    ]
    with pytest.raises(PlanError, match=r"^recipe \(from toolkit\.toml\): mixup needs"):
        resolve(layers, {})
