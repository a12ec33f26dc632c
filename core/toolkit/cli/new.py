"""`toolkit new`: the skeleton of a plugin of your own."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.errors import UsageError
from toolkit.workspace import write_file

app = typer.Typer(help="Write the skeleton of a plugin of your own.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Write the skeleton of a plugin of your own."""


@app.command()
def domain(
    name: Annotated[str, typer.Argument(help="The domain's name: what --domain will take.")],
    folder: Annotated[Path, typer.Option("--in", help="Where to write it.")] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Write a domain: a package that pip installs, with its test."""
    if re.fullmatch(r"[a-z][a-z0-9-]{0,38}", name) is None:
        raise UsageError(
            f"{name!r} cannot be a domain's name", hint="Use lower-case letters, digits and dashes, a letter first."
        )
    root = folder / f"toolkit-domain-{name}"
    if root.exists():
        raise UsageError(f"{root} is there already", hint="Choose another name or folder.")
    package = f"toolkit_{name.replace('-', '_')}"
    names = {"name": name, "package": package, "distribution": f"toolkit-domain-{name}"}
    templates = files("toolkit.cli") / "skeleton"
    places = {
        "pyproject.toml.tmpl": root / "pyproject.toml",
        "README.md.tmpl": root / "README.md",
        "domain.py.tmpl": root / "src" / package / "__init__.py",
        "test_domain.py.tmpl": root / "tests" / f"test_{package}.py",
    }
    for template, place in places.items():
        write_file(place, Template((templates / template).read_text(encoding="utf-8")).substitute(names).encode())
    record = {"folder": str(root), "files": [str(place.relative_to(root)) for place in places.values()]}
    hint = f"pip install -e {root}  &&  toolkit deploy --domain {name} --data FOLDER"
    emit(record, as_json=as_json, text=lambda console: console.print(f"{root}\nnext: {hint}", markup=False))
