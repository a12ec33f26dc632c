"""Fixtures of the contract tests: the command line in a process of its own, and distributions to install for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder of packages that only processes started through `python` and `toolkit` see."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def python(packages: Path, toolkit_home: Path, tmp_path: Path) -> Run:
    """`python("-c", ...)`: this interpreter in an empty folder, with `packages` beside what is installed."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(packages), "TOOLKIT_HOME": str(toolkit_home)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=work, env=environment, capture_output=True, text=True, timeout=timeout
        )

    return run


@pytest.fixture
def toolkit(python: Run) -> Run:
    """`toolkit("plugins", "--json")`: the command line."""

    def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return python("-m", "toolkit.cli.main", *arguments, timeout=timeout)

    return run


@pytest.fixture
def pip_install(packages: Path, tmp_path: Path) -> Callable[[Path], None]:
    """Install a project's folder into `packages`, as `pip install FOLDER` does, with nothing downloaded."""

    def install(folder: Path) -> None:
        copy = tmp_path / "sources" / folder.name
        shutil.copytree(folder, copy)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-index", "--no-build-isolation", "--target", str(packages), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    return install


@pytest.fixture
def put_distribution(packages: Path) -> Callable[..., None]:
    """`put_distribution("lost-driver", source)`: one more plugin of one module, as pip leaves it."""

    def put(distribution: str, source: str, *, group: str = "toolkit.plugins") -> None:
        module = distribution.replace("-", "_")
        (packages / f"{module}.py").write_text(source)
        info = packages / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{distribution} = {module}\n")

    return put


@pytest.fixture
def invoke(
    toolkit_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """`invoke("plan", ...)`: the command line in this process, which is quicker; `packages` are not seen."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        from toolkit.cli.main import main

        with pytest.raises(SystemExit) as left:
            main(arguments)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(left.value.code or 0), out, err)

    return run
