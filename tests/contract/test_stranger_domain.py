"""A domain of somebody else's, installed by pip from its own folder, goes down the same line as ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from toolkit.testing.images import image_folder

CLASSES = ("gap", "good", "spatter")
SMALL = ("teacher.input_size=32", "teacher.epochs=1", "recipe.epochs=2", "recipe.views=2", "recipe.baseline=false")


def deploy(data: Path, *more: str) -> list[str]:
    settings = [word for assignment in SMALL for word in ("--set", assignment)]
    return ["deploy", "--domain", "weld", "--data", str(data), *settings, *more, "--json"]


def test_a_strangers_domain_is_served_an_answer(
    toolkit: Callable[..., CompletedProcess[str]], pip_install: Callable[[Path], None], repository: Path, tmp_path: Path
) -> None:
    pip_install(repository / "tests" / "contract" / "stranger")
    data = image_folder(tmp_path / "seams", CLASSES, per_class=16, test_per_class=8)

    refused = toolkit(*deploy(data))
    assert refused.returncode == 3, refused.stderr
    assert "weld refuses the release: gaps are missed" in json.loads(refused.stdout)["error"]["message"]

    done = toolkit(*deploy(data, "--override", "a test of the line"))
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert [stage["state"] for stage in record["stages"]] == ["kept"] * 6 + ["done"] * 3
    assert record["answer"]["verdict"] in CLASSES
    assert record["answer"]["bundle"] == record["bundle_id"]

    shown = json.loads(toolkit("bundle", "show", record["bundle_id"], "--json").stdout)
    assert (shown["domain"]["name"], shown["domain"]["versions"]) == ("weld", ">=2.1.0,<2.2")
    assert shown["overrides"] == ["a test of the line"]

    scored = json.loads(toolkit("evaluate", "--data", str(data / "test"), "--json").stdout)
    assert scored["metrics"]["accuracy"] == record["metrics"]["accuracy"]


def test_a_new_domain_is_installed_listed_and_passes_its_own_test(
    toolkit: Callable[..., CompletedProcess[str]],
    python: Callable[..., CompletedProcess[str]],
    pip_install: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    written = toolkit("new", "domain", "my-parts", "--in", str(tmp_path), "--json")
    assert written.returncode == 0, written.stderr
    folder = Path(json.loads(written.stdout)["folder"])
    pip_install(folder)

    listed = json.loads(toolkit("plugins", "--json").stdout)["plugins"]
    mine = next(plugin for plugin in listed if plugin["name"] == "my-parts")
    assert (mine["kind"], mine["distribution"], mine["broken"]) == ("domain", "toolkit-domain-my-parts", None)

    tested = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(folder / "tests"))
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
