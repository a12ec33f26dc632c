"""What runs on a worker: a piece of work, by what was prepared once for all pieces that this worker gets.

A worker is a process of Ray's. It must have the same code and libraries as who asks, or it would answer something else
without a word; so they are compared before anything is done.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ray

from toolkit.errors import EnvironmentUnfit, ToolkitError
from toolkit.executors import told
from toolkit.plugins import source_files

LIBRARIES = ("numpy", "onnxruntime", "pillow", "torch", "transformers")
"""What an answer's last bits depend on."""


@dataclass(frozen=True)
class Shared:
    """What all pieces of one map have in common. `prepare` lies in Ray's store: a node fetches it once."""

    key: str
    prepare: tuple[Any, ...] = field(compare=False)  # a reference inside a record is handed on, not fetched
    environment: Mapping[str, str] = field(compare=False)


@dataclass(frozen=True)
class Outcome:
    """What became of a piece: an error is a value, so that Ray does not take it for a worker's death."""

    made: Any = None
    error: ToolkitError | None = None


def do(shared: Shared, number: int, piece: Any) -> Outcome:
    """Work on one piece."""
    try:
        with told(number):
            return Outcome(prepared(shared)(piece))
    except ToolkitError as error:
        return Outcome(error=_portable(error))


@functools.lru_cache(maxsize=1)
def prepared(shared: Shared) -> Callable[[Any], Any]:
    """The work of this map, prepared when its first piece comes; that of the map before is dropped."""
    here = environment(shared.environment)
    if differing := [name for name, wanted in shared.environment.items() if here[name] != wanted]:
        name = differing[0]
        raise EnvironmentUnfit(
            f"a worker on {platform.node()} has {name} {here[name]}, and who asks has {shared.environment[name]}",
            hint="Install the same versions on every node of the cluster.",
        )
    prepare: Callable[[], Callable[[Any], Any]] = ray.get(shared.prepare[0])
    return prepare()


def packages() -> list[str]:
    """The toolkit and those of its plugins and domains that are loaded here; not what was removed since."""
    loaded = {name.partition(".")[0] for name in sys.modules if name.startswith("toolkit")}
    return sorted(name for name in loaded if all(path.is_file() for path in source_files(name)))


def environment(names: Iterable[str]) -> dict[str, str]:
    """Version, or digest of the sources, of Python, of libraries and of the toolkit's packages."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    if name == "python":
        return platform.python_version()
    if name.startswith("toolkit"):
        digest = hashlib.sha256()
        for path in source_files(name):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:12]
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _portable(error: ToolkitError) -> ToolkitError:
    """The error with where it happened; one that cannot travel, as the nearest that can."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever a stranger's error does there, its words must arrive
        nearest = next(kind for kind in type(error).__mro__ if kind.__module__ == ToolkitError.__module__)
        found = ToolkitError if not issubclass(nearest, ToolkitError) else nearest
        return found(error.message, hint=error.hint, plugin=error.plugin)
    return error
