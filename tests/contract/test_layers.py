"""Imports go one way, and what a site loads never brings torch."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

LINE = [
    "pipeline", "stages", "defaults", "tasks", "carriage", "registry", "plugins", "hookspecs", "text_teachers",
    "services", "text", "executors", "protocols", "key_providers", "cipher_suites", "workspace", "resolve", "plan",
    "artifacts", "errors",
]  # fmt: skip
"""The layers that stand alone, as the design and ADR 12, 17, 32, 38, 47 list them; siblings share the other three."""

LIGHT = [
    "toolkit.cli.main",
    "toolkit.defaults",
    "toolkit.tasks.image_classification.task",
    "toolkit.tasks.image_classification.service",
    "toolkit.tasks.image_classification.rows",
    "toolkit.tasks.image_classification.evaluate",
]
HEAVY = ("torch", "transformers", "onnx", "onnxscript")


def settings(repository: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]
    return found


def test_the_import_contracts_are_kept(repository: Path) -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_import_is_excused(repository: Path) -> None:
    assert "ignore_imports" not in (repository / "pyproject.toml").read_text()


def test_the_order_is_the_designs(repository: Path) -> None:
    contracts = settings(repository)["contracts"]
    assert isinstance(contracts, list)
    layers = next(contract for contract in contracts if contract["type"] == "layers")["layers"]
    line = [layer for layer in layers if "|" not in layer]
    assert line == LINE


@pytest.mark.parametrize("module", [*LIGHT, "toolkit.serving"])
def test_what_a_site_loads_brings_no_torch(module: str) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        f"module = importlib.import_module({module!r})\n"
        "for part in pkgutil.iter_modules(getattr(module, '__path__', [])):\n"
        "    importlib.import_module(f'{module.__name__}.{part.name}')\n"
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
