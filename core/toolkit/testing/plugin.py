"""The pytest plugin `toolkit`: fixtures for authors of plugins (entry point `pytest11` of the distribution).

Every pytest run of an environment that has the toolkit loads this module, so it imports nothing of the toolkit before
a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pluggy

    from toolkit.plugins import Plugins

    Load = Callable[[str | None], Plugins]


@pytest.fixture
def toolkit_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty toolkit home for this test alone; processes that the test starts use it too."""
    home = tmp_path / "toolkit-home"
    home.mkdir()
    monkeypatch.setenv("TOOLKIT_HOME", str(home))
    monkeypatch.delenv("TOOLKIT_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("TOOLKIT_DATABASE_URL", raising=False)
    return home


@pytest.fixture
def plugin_manager() -> pluggy.PluginManager:
    """A fresh manager that knows every hook and core's own answers, and no installed plugin: register yours."""
    import pluggy

    from toolkit import defaults, hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(defaults, "core")
    return manager


@pytest.fixture
def load() -> Load:
    """`load("industry")`: everything installed, as a run sees it, in a fresh manager at each call."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    def load_domain(domain: str | None = None) -> Plugins:
        return load_plugins(domain, defaults)

    return load_domain
