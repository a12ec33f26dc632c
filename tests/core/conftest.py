"""Fixtures of the core tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from case_parts import case_bundle, case_home
from seal_parts import Home

from toolkit.seal.bundle import SealedBundle

RAM = Path("/dev/shm")
ENOUGH = 256 * 1024 * 1024


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Tests that flush hundreds of small files work in RAM where the machine has a disk there."""
    small = ("test_registry_", "test_seal_", "test_site_", "test_workspace_", "test_cases_", "test_carriage")
    wanted = request.node.path.name.startswith(small)
    if not wanted or not RAM.is_dir() or shutil.disk_usage(RAM).free < ENOUGH:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="toolkit-test-", dir=RAM) as folder:
        yield Path(folder)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training saves its state after each step."""
    monkeypatch.setattr("toolkit.distil.checkpoints.EVERY_SECONDS", 0.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Of the numbered cases: a toolkit home with its keys and a site."""
    return case_home(tmp_path, monkeypatch)


@pytest.fixture
def sealed(home: Home) -> SealedBundle:
    """Of the numbered cases: a bundle of that home, whose weights hold the canary."""
    return case_bundle(home)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of one file. It goes with the file, for it holds the thread's event loop."""
    from console_parts import browser

    with browser() as found:
        yield found


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language student that counts, as save_pretrained writes it; nobody changes it."""
    from counting_parts import save_counter

    return save_counter(tmp_path_factory.mktemp("counter"))


@pytest.fixture(scope="session")
def counter_forms(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Its compiled forms by their names, as the target cpu builds them."""
    pytest.importorskip("onnxruntime_genai", reason="what compiles language models is not installed")
    from toolkit_target_cpu import CpuTarget

    target, folder = CpuTarget(), tmp_path_factory.mktemp("forms")
    return {form.form: form for form in target.compile_language(counter, next(iter(target.profiles())), folder)}
