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


def plain(text: str) -> str:
    """A text from outside as a terminal may show it: what would move the cursor, colour or add a line is spelled."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def write_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object; in ASCII where the output takes no more, as of a name that is no text."""
    text = jsonlib.dumps(record, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = jsonlib.dumps(record, indent=2, allow_nan=False, default=str)
    sys.stdout.write(text + "\n")


def emit(record: Mapping[str, Any], *, as_json: bool, text: Callable[[Console], None]) -> None:
    """Print what a verb found: `record` for machines, or `text(console)` for people.

    The console takes no markup: paths, class names and reasons come from outside.
    """
    if as_json:
        write_json(record)
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        text(Console(highlight=False, soft_wrap=True, width=width, markup=False))
