"""How every verb speaks: one JSON object with `--json`, else a text for people."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one machine-readable JSON object and nothing else.")]

PIPED_WIDTH = 10_000
"""A file or a pipe has no edge: nothing is cut there."""


def emit(record: Mapping[str, Any], *, as_json: bool, text: Callable[[Console], None]) -> None:
    """Print what a verb found: `record` for machines, or `text(console)` for people.

    The console takes no markup: paths, class names and reasons come from outside.
    """
    if as_json:
        sys.stdout.write(jsonlib.dumps(record, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        text(Console(highlight=False, soft_wrap=True, width=width, markup=False))
