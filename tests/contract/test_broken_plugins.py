"""What is broken, unknown or doubled is named in one line with a hint; everything else goes on working."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from toolkit.testing.images import image_folder

Run = Callable[..., CompletedProcess[str]]

TEACHER = """
from toolkit.hookspecs import hookimpl


class Twin:
    \"\"\"A teacher whose name is taken.\"\"\"

    name, tasks, gives = "twin", frozenset({"image_classification"}), frozenset({"response"})


@hookimpl
def register_teachers():
    return [Twin()]
"""


def two_lines(done: CompletedProcess[str], code: int) -> str:
    """The error as a user sees it: what, and what to do, and nothing else."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], done.stderr
    return done.stderr


def test_a_broken_plugin_is_named_and_the_line_still_works(
    toolkit: Run, put_distribution: Callable[..., None], tmp_path: Path
) -> None:
    put_distribution("lost-driver", "import a_driver_that_is_not_here\n")
    listed = toolkit("plugins", "--json")
    assert listed.returncode == 0, listed.stderr
    by_name = {plugin["name"]: plugin for plugin in json.loads(listed.stdout)["plugins"]}
    assert "a_driver_that_is_not_here" in by_name["lost-driver"]["broken"]
    assert by_name["target-cpu"]["broken"] is None
    text = toolkit("plugins").stdout
    assert "lost-driver" in text
    assert "a_driver_that_is_not_here" in text

    data = image_folder(tmp_path / "parts", ("good", "pit"), per_class=12, test_per_class=3)
    done = toolkit("deploy", "--domain", "industry", "--data", str(data), "--until", "prepare", "--json")
    assert done.returncode == 0, done.stderr
    assert [stage["state"] for stage in json.loads(done.stdout)["stages"]] == ["done"]


def test_a_broken_domain_stops_only_those_who_ask_for_it(toolkit: Run, put_distribution: Callable[..., None]) -> None:
    put_distribution("rusty", "raise RuntimeError('the licence server is away')\n", group="toolkit.domains")
    says = two_lines(toolkit("plan", "--domain", "rusty"), 5)
    assert "the licence server is away" in says
    assert "rusty" in says
    assert toolkit("plan", "--domain", "industry").returncode == 0


def test_two_teachers_of_one_name_are_both_named(toolkit: Run, put_distribution: Callable[..., None]) -> None:
    put_distribution("first-school", TEACHER)
    put_distribution("second-school", TEACHER)
    for verb in (["plugins"], ["teachers"], ["plan", "--domain", "industry"]):
        says = two_lines(toolkit(*verb), 5)
        assert "first-school" in says
        assert "second-school" in says


@pytest.mark.parametrize(
    ("arguments", "says", "hints"),
    [
        (["--domain", "industy"], "no domain named industy", "industry"),
        (["--domain", "industry", "--target", "edge-x86"], "no target is named edge-x86", "edge-x86-2"),
        (
            ["--domain", "industry", "--teacher", "efficientnet"],
            "no teacher is named efficientnet",
            "efficientnet-lite0",
        ),
        (["--domain", "industry", "--set", "recipe.name=soft"], "no recipe is named soft", "soft-labels"),
        (["--domain", "industry", "--set", "recipe.epoch=3"], "unknown key recipe.epoch", "recipe.epochs"),
        (["--domain", "industry", "--set", "recipe.epochs=many"], "recipe.epochs", "toolkit plan"),
        (["--domain", "industry", "--config", "nowhere.toml"], "nowhere.toml", "--config"),
        (["--domain", "industry", "--data", "nowhere"], "nowhere", "--data"),
        (["--domain", "industry", "--until", "lunch"], "lunch", "--help"),
        (["--domain", "industry", "--no-such-option"], "--no-such-option", "--help"),
        (["--domain", "industry", "--teacher", "transformers"], "needs a checkpoint", "teacher.checkpoint"),
    ],
)
def test_a_wrong_name_is_one_line_and_a_hint(invoke: Run, arguments: list[str], says: str, hints: str) -> None:
    told = two_lines(invoke("deploy", *arguments), 2)
    error, hint = told.strip().splitlines()
    assert says in error
    assert hints in hint


def test_a_wrong_key_in_the_configuration_names_the_file(invoke: Run, tmp_path: Path) -> None:
    config = tmp_path / "line.toml"
    config.write_text("[teacher]\nepoch = 3\n")
    told = two_lines(invoke("plan", "--domain", "industry", "--config", str(config)), 2)
    assert "unknown key teacher.epoch in line.toml" in told
    assert "teacher.epochs" in told


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("jinja2", "distil", "plan --domain industry"),
        ("fastapi", "serve", "serve --site nowhere"),
    ],
)
def test_a_missing_extra_is_named_with_what_installs_it(python: Run, module: str, extra: str, arguments: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None\nfrom toolkit.cli.main import main; main({arguments.split()})"
    assert f"pip install 'distil-toolkit[{extra}]'" in two_lines(python("-c", code), 5)
