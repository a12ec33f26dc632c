"""The command line: help of every verb, one JSON object, documented exit codes, two-line errors, and progress."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_parts import Run, Said
from image_parts import put
from line_parts import small_lot

from toolkit.cli import progress as progress_module
from toolkit.cli.main import build_app, main
from toolkit.cli.progress import ProgressReporter
from toolkit.errors import GateRefused, IntegrityError
from toolkit.plan import STAGES
from toolkit.workspace import folder_lock


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toolkit home of this test's own, and an empty current folder."""
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.fixture
def toolkit(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(int(left.value.code or 0), out, err)

    return run


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb and group of the command line, as it is typed."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            yield from walk(inner, (*path, name))

    yield from walk(typer.main.get_command(build_app()), ())


@pytest.mark.parametrize("verb", list(verbs()), ids=" ".join)
def test_every_verb_has_help(toolkit: Run, verb: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        said = toolkit(*verb, flag)
        assert said.code == 0
        assert "Usage:" in said.out
        assert said.err == ""


def test_every_verb_that_says_something_can_say_it_in_json() -> None:
    whole: Any = typer.main.get_command(build_app())
    for verb in verbs():
        command = whole
        for name in verb:
            command = command.commands[name]
        if not hasattr(command, "commands"):
            assert "--json" in {option for parameter in command.params for option in parameter.opts}, verb


def test_the_version_is_said(toolkit: Run) -> None:
    said = toolkit("--version")
    assert said.code == 0
    assert re.fullmatch(r"toolkit \d+\.\d+\.\d+\S*\n", said.out)


QUIET = (
    ("plugins",), ("teachers",), ("targets",), ("doctor",), ("runs",), ("data", "list"),
    ("plan", "--domain", "industry"), ("new", "domain", "bakery"),
)  # fmt: skip


@pytest.mark.parametrize("verb", QUIET, ids=" ".join)
def test_json_is_one_object_and_nothing_else(toolkit: Run, verb: tuple[str, ...]) -> None:
    said = toolkit(*verb, "--json")
    assert said.code == 0, said.err
    assert isinstance(said.record, dict)
    assert said.err == ""


@pytest.mark.parametrize("verb", QUIET, ids=" ".join)
def test_people_get_text_and_no_escape_codes_in_a_pipe(toolkit: Run, verb: tuple[str, ...]) -> None:
    said = toolkit(*verb)
    assert said.code == 0, said.err
    assert said.out.strip()
    assert "\x1b" not in said.out + said.err


def test_the_plan_shows_every_value_and_where_it_came_from(toolkit: Run, home: Path) -> None:
    Path("toolkit.toml").write_text("[recipe]\ntemperature = 3.5\n")
    said = toolkit("plan", "--domain", "industry", "--set", "recipe.epochs=7", "--target", "cpu", "--json")
    shown = {row["key"]: (row["value"], row["from"]) for row in said.record["plan"]}
    assert shown["recipe.epochs"] == (7, "--set")
    assert shown["target.profile"] == ("cpu", "command line")
    assert shown["recipe.temperature"] == (3.5, "toolkit.toml")
    assert shown["compute.seed"][1] == "default"
    assert said.record["stages"] == list(STAGES)
    estimate = said.record["estimate"]
    assert estimate["total_seconds"] == pytest.approx(sum(estimate["seconds"].values()), abs=1)
    assert estimate["last_run_seconds"] is None


def test_data_are_checked_as_deploy_would(toolkit: Run, tmp_path: Path) -> None:
    lot = small_lot(tmp_path / "lot", 12)
    put(lot / "good" / "torn.png", b"\x89PNG\r\n\x1a\n torn")
    said = toolkit("data", "check", lot, "--json")
    assert said.code == 0, said.err
    assert set(said.record["classes"]) == {"good", "bars", "rows"}
    assert any("torn.png" in json.dumps(finding) for finding in said.record["findings"])
    assert "torn.png" in toolkit("data", "check", lot).out


def test_texts_are_checked_too(toolkit: Run, tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"What is {n}+1?", "completion": str(n + 1)}) for n in range(40)]
    put(tmp_path / "rows" / "train.jsonl", "\n".join(rows).encode())
    words = ("data", "check", tmp_path / "rows", "--domain", "content")
    said = toolkit(*words, "--json")
    assert said.code == 0, said.err
    train, test = said.record["counts"]["train"]["en"], said.record["counts"]["test"]["en"]
    shown = toolkit(*words).out
    assert re.search(rf"^en +{train} .*{test} *$", shown, re.MULTILINE)
    assert shown.startswith("task")


def test_a_plan_whose_parts_do_not_fit_is_refused_before_anything_runs(toolkit: Run, tmp_path: Path) -> None:
    for name in ("sequence", "on-policy", "self", "grpo"):
        assert_refused(toolkit("plan", "--domain", "industry", "--set", f"recipe.name={name}"), 2, "learns from texts")
    assert_refused(toolkit("plan", "--domain", "industry", "--set", "domain=education"), 2, "for the domain education")
    no = ("plan", "--domain", "industry", "--set")
    assert_refused(toolkit(*no, "student.checkpoint=nowhere"), 2, "begins from nothing")
    alone = ("--set", "recipe.batch_size=1")
    assert_refused(toolkit(*no, 'recipe.objective=[{name="relation-distance"}]', *alone), 2, "recipe.batch_size is 1")
    unscored = ("--set", "task=text_generation", "--set", "recipe.teacher_weight=0", "--set", "teacher.checkpoint=x")
    assert_refused(toolkit(*no, "recipe.name=on-policy", "--teacher", "transformers", *unscored), 2, "score")


def test_images_of_a_class_that_are_all_alike_cannot_be_split(toolkit: Run, tmp_path: Path) -> None:
    lot = small_lot(tmp_path / "lot", 12)
    for folder in (path for path in lot.iterdir() if path.is_dir()):
        first = (folder / "000.png").read_bytes()
        for path in folder.iterdir():
            path.write_bytes(first)
    assert_refused(toolkit("data", "check", lot), 2, "too much alike")


def lot_without(kind: str, folder: Path) -> Path:
    """A data path that cannot be used."""
    if kind == "file":
        return put(folder / "data", b"text")
    if kind == "empty":
        (folder / "data").mkdir()
    elif kind == "broken":
        for index in range(12):
            put(folder / "data" / "good" / f"{index}.png", b"no picture")
            put(folder / "data" / "bad" / f"{index}.png", b"no picture")
    elif kind == "one class":
        small_lot(folder / "data", 12)
        for name in ("bars", "rows"):
            for path in (folder / "data" / name).iterdir():
                path.unlink()
            (folder / "data" / name).rmdir()
    elif kind == "few":
        small_lot(folder / "data", 3)
    return folder / "data"


def assert_refused(said: Said, code: int, *words: str) -> None:
    """Two lines on standard error, the documented code, no traceback."""
    assert said.code == code, said
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 2, said.err
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err


DEPLOY = ("deploy", "--domain", "industry", "--until", "prepare")


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "broken", "one class", "few"])
def test_data_that_cannot_be_used_are_bad_input(toolkit: Run, tmp_path: Path, kind: str) -> None:
    data = lot_without(kind, tmp_path)
    assert_refused(toolkit(*DEPLOY, "--data", data), 2, str(data) if kind != "few" else "good")
    assert_refused(toolkit("data", "check", data), 2)


BAD_USAGE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("deploi",), "deploi"),
    (("deploy",), "--domain"),
    (("deploy", "--domain", "industy"), "industry"),
    ((*DEPLOY, "--teacher", "efficientnet-lite1"), "efficientnet-lite0"),
    ((*DEPLOY, "--target", "cpuu"), "cpu"),
    ((*DEPLOY, "--set", "recipe.name=soft"), "soft-labels"),
    ((*DEPLOY, "--set", "recipe.epoch=1"), "recipe.epochs"),
    ((*DEPLOY, "--set", "recipe.epochs"), "key=value"),
    ((*DEPLOY, "--set", "recipe.epochs=x"), "recipe.epochs"),
    ((*DEPLOY, "--config", "nowhere.toml"), "nowhere.toml"),
    (("deploy", "--domain", "industry", "--until", "lunch"), "lunch"),
    (("plan", "--domain", "industry", "--no-such-option"), "--no-such-option"),
    (("report", "no-such-run"), "no-such-run"),
    (("report",), "no run"),
    (("runs", "--limit", "0"), "limit"),
    (("new", "domain", "Not A Name"), "Not A Name"),
    (("evaluate", "--data", "nowhere"), "nowhere"),
    (("verify", "nowhere"), "root"),
    (("serve", "--site", "nowhere"), "nowhere"),
    (("status", "--site", "nowhere"), "nowhere"),
)


@pytest.mark.parametrize(("arguments", "word"), BAD_USAGE, ids=[" ".join(arguments) for arguments, _ in BAD_USAGE])
def test_bad_usage_is_two_lines_and_2(toolkit: Run, arguments: tuple[str, ...], word: str) -> None:
    assert_refused(toolkit(*arguments), 2, word)


@pytest.mark.parametrize(("arguments", "word"), BAD_USAGE, ids=[" ".join(arguments) for arguments, _ in BAD_USAGE])
def test_bad_usage_in_json_is_one_object(toolkit: Run, arguments: tuple[str, ...], word: str) -> None:
    said = toolkit(*arguments, "--json")
    assert said.code == 2
    assert set(said.record) == {"error"}
    assert word in said.record["error"]["message"] + said.record["error"]["hint"]
    assert said.err == ""


def test_an_unknown_key_in_the_configuration_names_file_and_nearest(toolkit: Run) -> None:
    Path("toolkit.toml").write_text("[recipe]\nepoch = 3\n")
    assert_refused(toolkit("plan", "--domain", "industry"), 2, "recipe.epoch in toolkit.toml", "recipe.epochs")
    Path("toolkit.toml").write_text("[recipe\nepochs = 3\n")
    assert_refused(toolkit("plan", "--domain", "industry"), 2, "line 1")


def test_evaluating_a_folder_that_is_no_site_is_bad_usage(toolkit: Run, tmp_path: Path) -> None:
    data = small_lot(tmp_path / "lot", 2)
    (tmp_path / "site").mkdir()
    assert_refused(toolkit("evaluate", "--data", data, "--site", tmp_path / "site"), 2, "site")


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a distribution with one plugin module, for this test alone."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def install(module: str, source: str) -> None:
        put(packages / f"{module}.py", source.encode())
        info = packages / f"{module}-1.0.dist-info"
        put(info / "METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n".encode())
        put(info / "entry_points.txt", f"[toolkit.plugins]\n{module} = {module}\n".encode())
        importlib.invalidate_caches()

    return install


FORBIDDEN = """
from line_parts import TinyTeacher
from toolkit.hookspecs import hookimpl
class Forbidden(TinyTeacher):
    name = "forbidden"
    licence = "forbidden"
@hookimpl
def register_teachers():
    return [Forbidden()]
"""


BRINGING = """
from pathlib import Path
from toolkit.hookspecs import hookimpl
from toolkit.protocols import TeacherRecord
class Bringing:
    name, tasks, gives = "bringing", frozenset({"text_generation"}), frozenset({"response", "text"})
    def record(self, plan):
        return TeacherRecord("bringing", "mit", "", "allowed")
    def fingerprint(self, plan):
        return "0" * 64
    def source(self, plan):
        return Path(__file__).with_name("its-own.gguf")
@hookimpl
def register_teachers():
    return [Bringing()]
"""


def test_a_teacher_that_brings_its_checkpoint_is_one_to_prune_a_student_from(
    toolkit: Run, strangers: Callable[[str, str], None]
) -> None:
    strangers("stranger", BRINGING)
    typed = ("plan", "--domain", "industry", "--teacher", "bringing", "--set", "task=text_generation",
             "--set", "recipe.name=sequence", "--json")  # fmt: skip
    own = next(one for one in toolkit(*typed).record["plan"] if one["key"] == "teacher.checkpoint")
    assert (Path(own["value"]).name, own["from"]) == ("its-own.gguf", "teacher")
    named = toolkit(*typed, "--set", "teacher.checkpoint=mine.gguf").record["plan"]
    assert next(one for one in named if one["key"] == "teacher.checkpoint")["from"] == "--set"


def test_a_licence_that_forbids_is_refused_with_3(toolkit: Run, strangers: Callable[[str, str], None]) -> None:
    strangers("stranger", FORBIDDEN)
    assert_refused(toolkit(*DEPLOY, "--teacher", "forbidden"), 3, "licence")


def test_two_plugins_of_one_name_are_an_environment_that_does_not_fit(
    toolkit: Run, strangers: Callable[[str, str], None]
) -> None:
    strangers("stranger_one", FORBIDDEN)
    strangers("stranger_two", FORBIDDEN)
    assert_refused(toolkit("teachers"), 5, "stranger_one", "stranger_two")


def test_a_broken_plugin_is_named_and_the_verbs_work(toolkit: Run, strangers: Callable[[str, str], None]) -> None:
    strangers("stranger", "import a_package_that_is_not_there\n")
    said = toolkit("plugins", "--json")
    broken = {one["name"]: one["broken"] for one in said.record["plugins"] if one["broken"]}
    assert broken == {"stranger": "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"}
    assert "stranger" in toolkit("plugins").out
    assert toolkit("targets").code == 0
    assert toolkit("plan", "--domain", "industry").code == 0
    doctor = toolkit("doctor", "--json").record
    assert not doctor["ok"]
    assert any(check["name"] == "stranger" for check in doctor["checks"])


def test_a_home_that_is_a_file_is_the_environments_fault(toolkit: Run, home: Path) -> None:
    home.write_text("")
    assert_refused(toolkit(*DEPLOY), 5, str(home), "TOOLKIT_HOME")
    assert_refused(toolkit("runs"), 5, str(home))


def test_a_damaged_registry_is_the_environments_fault(toolkit: Run, home: Path) -> None:
    put(home / "registry.db", b"this is no database " * 200)
    for verb in (("runs",), ("plan", "--domain", "industry"), DEPLOY):
        assert_refused(toolkit(*verb), 5, str(home / "registry.db"))


def test_a_home_in_use_is_the_environments_fault(toolkit: Run, home: Path, tmp_path: Path) -> None:
    data = small_lot(tmp_path / "lot", 12)
    with folder_lock(home / "store", purpose="run the line"):
        assert_refused(toolkit(*DEPLOY, "--data", data), 5, "in use")
    assert toolkit(*DEPLOY, "--data", data).code == 0


def test_a_device_that_is_not_here_is_the_environments_fault(toolkit: Run, tmp_path: Path) -> None:
    data = small_lot(tmp_path / "lot", 12)
    for device in ("cuda:7", "nonsense"):
        said = toolkit(
            "deploy", "--domain", "industry", "--data", data, "--until", "label", "--set", f"compute.device={device}",
            "--set", "teacher.input_size=32",
        )  # fmt: skip
        lines = [line for line in said.err.splitlines() if line.startswith(("error:", "hint:"))]
        assert said.code == 5
        assert device in lines[0]
        assert "Traceback" not in said.err


def test_deploy_to_prepare_and_what_it_leaves(toolkit: Run, home: Path, tmp_path: Path) -> None:
    data = small_lot(tmp_path / "lot", 12)
    first = toolkit(*DEPLOY, "--data", data, "--json")
    assert first.code == 0, first.err
    (stage,) = first.record["stages"]
    assert (stage["name"], stage["state"]) == ("prepare", "done")
    assert Path(stage["path"]).is_dir()
    second = toolkit(*DEPLOY, "--data", data)
    assert second.out == ""
    assert re.search(r"^1/9 prepare +kept +3 classes; train", second.err, re.MULTILINE)
    (listed,) = toolkit("data", "list", "--json").record["datasets"]
    assert listed["source"] == str(data)
    assert sum(listed["rows"][split] for split in ("train", "validation", "test")) == 36
    runs = toolkit("runs", "--json").record["runs"]
    assert [run["outcome"] for run in runs] == ["done", "done"]
    assert [run["stages"][0]["kept"] for run in runs] == [True, False]
    estimate = toolkit("plan", "--domain", "industry", "--json").record["estimate"]
    assert estimate["last_run_seconds"] > 0


def test_a_markup_character_in_what_a_user_typed_is_shown_as_it_is(toolkit: Run, tmp_path: Path) -> None:
    data = small_lot(tmp_path / "lot [bold] [/red]", 12)
    for verb in (("plan", "--domain", "industry", "--data", data), (*DEPLOY, "--data", data), ("data", "list")):
        said = toolkit(*verb)
        assert said.code == 0, said.err
    assert "[bold] [/red]" in toolkit("data", "list").out
    assert "[bold] [/red]" in toolkit("plan", "--domain", "industry", "--data", data).out


def test_debug_shows_the_traceback_and_keeps_the_code(toolkit: Run) -> None:
    for arguments in (("--debug", "report", "none"), ("report", "none", "--debug")):
        said = toolkit(*arguments)
        assert said.code == 2
        assert "Traceback (most recent call last)" in said.err
        assert "error: no report of the run none" in said.err


def test_a_bug_is_said_to_be_one(toolkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a mistake of ours: the platform's answer is no number."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: None)
    said = toolkit("doctor")
    assert said.code == 1
    assert "this is a bug" in said.err
    assert "--debug" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in toolkit("doctor", "--debug").err
    in_json = toolkit("doctor", "--json")
    assert in_json.code == 1
    assert "this is a bug" in in_json.record["error"]["message"]


@pytest.mark.parametrize(("error", "code"), [
    (GateRefused("not good enough", hint="more data"), 3), (IntegrityError("torn", part="model", hint="again"), 4),
    (KeyboardInterrupt(), 130), (BrokenPipeError(), 0), (OSError(36, "File name too long", "xx"), 5),
])  # fmt: skip
def test_what_ends_a_verb_decides_its_code(
    toolkit: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("shutil.disk_usage", fail)
    said = toolkit("doctor")
    assert said.code == code
    assert "Traceback" not in said.err
    if code in (3, 4):
        assert_refused(said, code)
        assert toolkit("doctor", "--json").record["error"]["code"] in ("gate", "integrity")
    if code == 5:
        assert "xx: File name too long" in said.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("verb", [("targets",), ("targets", "--json"), ("verify", "nowhere", "--json")])
def test_an_output_that_takes_nothing_is_no_traceback(home: Path, verb: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(
            [sys.executable, "-m", "toolkit.cli.main", *verb], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert said.returncode == (2 if "verify" in verb else 5)
    assert "Traceback" not in said.stderr


def test_a_name_that_is_no_text_is_told_in_json_and_in_words(home: Path, tmp_path: Path) -> None:
    for encoding in ("utf-8:strict", "ascii:strict"):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        for words in (["status", "--site", b"\xff\xe4"], ["status", "--site", b"\xff\xe4", "--json"]):
            said = subprocess.run(
                [sys.executable, "-m", "toolkit.cli.main", *words], capture_output=True, env=environment, cwd=tmp_path
            )
            assert said.returncode == 2, said.stderr
            assert b"Traceback" not in said.stderr
            if "--json" in words:
                assert "\udcff" in json.loads(said.stdout)["error"]["message"]


def test_a_skeleton_is_written_once(toolkit: Run) -> None:
    said = toolkit("new", "domain", "cold-rolling", "--json")
    folder = Path(said.record["folder"])
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(said.record["files"])
    for path in folder.rglob("*"):
        if path.is_file():
            assert "$" not in path.read_text().replace("${", "")
    compile((folder / "src" / "toolkit_cold_rolling" / "__init__.py").read_text(), "domain", "exec")
    assert_refused(toolkit("new", "domain", "cold-rolling"), 2, "there already")


@pytest.mark.parametrize("verb", [("--help",), ("plugins",), ("targets",), ("runs",), ("plan", "--domain", "industry")])
def test_looking_around_loads_no_training_library(home: Path, verb: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom toolkit.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code, left.code\n"
        "heavy = sorted({'torch', 'transformers', 'onnx', 'scipy', 'fastapi'} & set(sys.modules))\n"
        "sys.stderr.write(f'HEAVY {heavy}')\n"
    )
    said = subprocess.run([sys.executable, "-c", script, *verb], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stderr.endswith("HEAVY []")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_without_a_terminal_progress_is_a_plain_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    with ProgressReporter() as told:
        for second in range(301):
            clock.now = 1000.0 + second
            told("train the student", second * 10, 6000)
        told.clear()
        told.say("x" * 300 + " [bold]end[/bold]")
    out, err = capsys.readouterr()
    *lines, last = err.splitlines()
    assert out == ""
    assert "\x1b" not in err
    assert 4 <= len(lines) <= 6
    assert all(
        re.fullmatch(r"train the student: [\d,]+ of 6,000 \(10\.0/s, about \d+ s left\)", line) for line in lines
    )
    assert last == "x" * 300 + " [bold]end[/bold]"


def test_on_a_terminal_progress_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressReporter() as told:
        for done in range(5):
            told("label", done, 5)
        told("train the student", 1, 2)
        told.clear()
        told.say("1/9 prepare")
    assert "label" in screen.getvalue()
    assert "1/9 prepare" in screen.getvalue()
