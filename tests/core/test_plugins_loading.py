"""Finding plugins: from real distributions on a path of their own; broken, clashing and foreign ones are named."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from toolkit import defaults
from toolkit.artifacts import HardwareBudget
from toolkit.errors import PluginError, UsageError
from toolkit.plan import Options, Plan
from toolkit.plugins import DOMAINS, PLUGINS, Plugins, load_plugins, source_files

HEAD = "from toolkit.hookspecs import hookimpl\n"


def install(folder: Path, distribution: str, module: str, source: str, *, group: str = PLUGINS, name: str = "") -> None:
    """A distribution with one entry point, as pip would leave it."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name or distribution} = {module}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that this test alone sees."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    importlib.invalidate_caches()
    return tmp_path


def broken(plugins: Plugins) -> dict[str, str]:
    return {info.name: info.broken for info in plugins.infos if info.broken}


def teacher(name: str, kind: str) -> str:
    return HEAD + (
        f"class {kind}:\n    '''A teacher.'''\n    name = {name!r}\n    tasks = frozenset()\n    gives = frozenset()\n"
        f"@hookimpl\ndef register_teachers():\n    return [{kind}()]\n"
    )


def test_what_is_installed_here_loads_whole() -> None:
    loaded = load_plugins(None, defaults)
    assert broken(loaded) == {}
    assert {"soft-labels"} <= set(loaded.recipes())
    assert "cpu" in loaded.profiles()
    assert loaded.profiles()["cpu"][1].name == "cpu"


def test_a_plugin_that_is_found_offers_by_name(packages: Path) -> None:
    install(packages, "acme-teacher", "acme_teacher", teacher("acme", "Acme"))
    loaded = load_plugins(None, defaults)
    assert loaded.teachers()["acme"].name == "acme"
    info = next(info for info in loaded.infos if info.name == "acme-teacher")
    assert (info.distribution, info.version, info.module) == ("acme-teacher", "1.2", "acme_teacher")
    assert loaded.offers_of(info) == ["teacher acme"]
    assert loaded.source_of(loaded.teachers()["acme"]) == "acme_teacher"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import a_package_that_is_not_there\n", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def broken(:\n", "SyntaxError"),
        (HEAD + "@hookimpl\ndef register_teacher():\n    return []\n", "register_teacher"),
        (HEAD + "@hookimpl\ndef evaluate(plan, model):\n    return None\n", "model"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
    ids=["import", "raises", "syntax", "misspelled hook", "unknown argument", "exits"],
)
def test_a_broken_plugin_is_named_and_the_others_work(packages: Path, source: str, says: str) -> None:
    install(packages, "acme-broken", "acme_broken", source)
    install(packages, "acme-teacher", "acme_teacher", teacher("acme", "Acme"))
    loaded = load_plugins(None, defaults)
    assert says in broken(loaded)["acme-broken"]
    assert set(broken(loaded)) == {"acme-broken"}
    assert "acme" in loaded.teachers()
    assert "soft-labels" in loaded.recipes()


def test_two_distributions_with_one_entry_name_are_both_named(packages: Path) -> None:
    install(packages, "acme-one", "acme_one", "", name="twin")
    install(packages, "acme-two", "acme_two", "", name="twin")
    with pytest.raises(PluginError) as caught:
        load_plugins(None, defaults)
    assert "acme-one" in caught.value.message
    assert "acme-two" in caught.value.message
    assert caught.value.exit_code == 5


def test_two_teachers_of_one_name_are_both_named(packages: Path) -> None:
    install(packages, "acme-one", "acme_one", teacher("acme", "One"))
    install(packages, "acme-two", "acme_two", teacher("acme", "Two"))
    with pytest.raises(PluginError, match="two teachers are named acme") as caught:
        load_plugins(None, defaults).teachers()
    assert "acme-one" in caught.value.message
    assert "acme-two" in caught.value.message


def test_two_plugins_cannot_share_a_table(packages: Path) -> None:
    table = HEAD + (
        "from toolkit.plan import Section\nfrom toolkit.protocols import Settings\n"
        "class Own(Section):\n    value: int = 1\n"
        "@hookimpl\ndef register_settings():\n    return [Settings('shared', Own)]\n"
    )
    install(packages, "acme-one", "acme_one", table)
    install(packages, "acme-two", "acme_two", table)
    with pytest.raises(PluginError, match=r"\[shared\]"):
        load_plugins(None, defaults).settings()


def test_a_plugin_cannot_take_a_table_that_is_the_cores(packages: Path) -> None:
    install(
        packages, "acme-one", "acme_one",
        HEAD + "from toolkit.plan import Section\nfrom toolkit.protocols import Settings\n"
        "class Own(Section):\n    value: int = 1\n"
        "@hookimpl\ndef register_settings():\n    return [Settings('recipe', Own)]\n",
    )  # fmt: skip
    with pytest.raises(PluginError, match=r"\[recipe\]"):
        load_plugins(None, defaults).settings()


def domain(answer: str) -> str:
    return HEAD + (
        "from toolkit.plan import Plan\n"
        f"@hookimpl\ndef draft_plan(options):\n    return Plan(domain=options.domain, product={answer!r})\n"
    )


def test_only_the_chosen_domain_answers(packages: Path) -> None:
    install(packages, "acme-bakery", "acme_bakery", domain("bread"), group=DOMAINS, name="bakery")
    install(packages, "acme-brewery", "acme_brewery", domain("beer"), group=DOMAINS, name="brewery")
    for name, product in (("bakery", "bread"), ("brewery", "beer")):
        loaded = load_plugins(name, defaults)
        assert loaded.hook.draft_plan(options=Options(name)).product == product
        assert loaded.domain_package() == f"acme_{name}"
    assert {"bakery", "brewery"} <= {info.name for info in loaded.infos}


def test_a_domain_that_is_not_there_lists_those_that_are(packages: Path) -> None:
    install(packages, "acme-bakery", "acme_bakery", domain("bread"), group=DOMAINS, name="bakery")
    with pytest.raises(UsageError, match="no domain named backery") as caught:
        load_plugins("backery", defaults)
    assert "bakery" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_broken_domain_fails_the_runs_that_need_it_and_no_others(packages: Path) -> None:
    install(packages, "acme-bakery", "acme_bakery", "1 / 0\n", group=DOMAINS, name="bakery")
    install(packages, "acme-brewery", "acme_brewery", domain("beer"), group=DOMAINS, name="brewery")
    with pytest.raises(PluginError, match="ZeroDivisionError") as caught:
        load_plugins("bakery", defaults)
    assert caught.value.plugin == "acme-bakery"
    assert load_plugins("brewery", defaults).hook.draft_plan(options=Options("brewery")).product == "beer"
    assert "ZeroDivisionError" in broken(load_plugins(None, defaults))["bakery"]


def test_each_load_has_a_manager_of_its_own() -> None:
    first, second = load_plugins(None, defaults), load_plugins(None, defaults)
    extra = ModuleType("extra")
    first.manager.register(extra, "extra")
    assert first.manager.has_plugin("extra")
    assert not second.manager.has_plugin("extra")


def test_the_domain_answers_before_plugins_and_core(packages: Path) -> None:
    install(packages, "acme-plugin", "acme_plugin", domain("from-a-plugin"))
    install(packages, "zz-bakery", "zz_bakery", domain("from-the-domain"), group=DOMAINS, name="zz-bakery")
    install(packages, "aa-bakery", "aa_bakery", domain("from-the-domain"), group=DOMAINS, name="aa-bakery")
    for name in ("aa-bakery", "zz-bakery"):
        hook = load_plugins(name, defaults).hook
        assert hook.draft_plan(options=Options(name)).product == "from-the-domain"
        assert hook.require_hardware(plan=Plan(domain=name), dataset=None) == HardwareBudget()


def test_the_code_version_is_that_of_the_sources(packages: Path) -> None:
    loaded = load_plugins(None, defaults)
    package = packages / "acme_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    (package / "deep.py").write_text("x = 1\n")
    before = loaded.code_version("acme_package", "toolkit.distil")
    assert before == loaded.code_version("toolkit.distil", "acme_package")
    assert [path.name for path in source_files("acme_package")] == ["__init__.py", "deep.py"]
    (package / "deep.py").write_text("x = 2\n")
    assert loaded.code_version("acme_package", "toolkit.distil") != before
    assert source_files("acme_nothing") == []


def test_the_verb_names_a_broken_plugin_whatever_its_error_says(tmp_path: Path) -> None:
    install(tmp_path, "acme-broken", "acme_broken", "raise ValueError('[/red] [bold] unbalanced')\n")
    command = [sys.executable, "-m", "toolkit.cli.main", "plugins"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "[/red] [bold] unbalanced" in said.stdout
    assert "target cpu" in said.stdout
    listed = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True)
    found = {one["name"]: one["broken"] for one in json.loads(listed.stdout)["plugins"]}
    assert found.pop("acme-broken") == "ValueError: [/red] [bold] unbalanced"
    assert set(found.values()) == {None}
