"""`toolkit doctor`: what this machine lacks, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass

from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.plan import toolkit_home

SPACE_GB = 2.0


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state` is ok, missing or note."""

    name: str
    state: str
    found: str
    hint: str = ""


def doctor(as_json: JsonFlag = False) -> None:
    """Look at this machine: Python, packages, plugins, disk, keys."""
    checks = [_python(), *_packages(), *_plugins(), _space(), _keys()]
    record = {"checks": [asdict(check) for check in checks], "ok": all(c.state != "missing" for c in checks)}
    emit(record, as_json=as_json, text=lambda console: _show(console, checks))


def _python() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("python", "ok", f"{platform.python_version()} on {platform.machine()}, {cores} cores")


def _packages() -> list[Check]:
    extras = {"torch": "distil", "onnx": "distil", "fastapi": "serve", "uvicorn": "serve", "onnxruntime": ""}
    checks = []
    for name, extra in extras.items():
        if importlib.util.find_spec(name):
            checks.append(Check(name, "ok", "installed"))
        else:
            wanted = f"distil-toolkit[{extra}]" if extra else "distil-toolkit"
            checks.append(Check(name, "missing", "not installed", f"{sys.executable} -m pip install '{wanted}'"))
    return checks


def _plugins() -> list[Check]:
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    loaded = load_plugins(None, defaults)
    checks = [
        Check(info.name, "missing", f"does not load: {info.broken}", f"Mend or reinstall {info.distribution}.")
        for info in loaded.infos
        if info.broken
    ]
    for kind, offered in (("teacher", loaded.teachers()), ("target", loaded.targets())):
        found = ", ".join(sorted(offered))
        checks.append(Check(f"{kind}s", "ok" if found else "missing", found or "none", f"Install a {kind} plugin."))
    domains = ", ".join(info.name for info in loaded.infos if info.group.endswith("domains"))
    checks.append(Check("domains", "ok" if domains else "missing", domains or "none", "Install a domain plugin."))
    return checks


def _space() -> Check:
    home = toolkit_home()
    free = shutil.disk_usage(next(folder for folder in (home, *home.parents) if folder.exists())).free / 1e9
    hint = f"A run needs about {SPACE_GB:.0f} GB; free some, or set TOOLKIT_HOME."
    return Check("disk", "ok" if free >= SPACE_GB else "missing", f"{free:.1f} GB free for {home}", hint)


def _keys() -> Check:
    from toolkit.seal.keys import custody_of

    custody = custody_of(toolkit_home() / "keys")
    if custody == "development":
        return Check("keys", "note", "development keys", "For production: toolkit keys init")
    return Check("keys", "note" if custody == "none" else "ok", custody, "The first deploy makes them.")


def _show(console: Console, checks: list[Check]) -> None:
    for check in checks:
        console.print(f"{check.state:<8}{check.name:<13}{check.found}", markup=False)
        if check.state != "ok" and check.hint:
            console.print(f"{'':<21}{check.hint}", markup=False)
