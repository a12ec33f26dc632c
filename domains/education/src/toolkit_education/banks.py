"""A folder of problems as item models: GSM8K's and SVAMP's files, and item models as the toolkit writes them.

What cannot be taken is counted with its reason, and the rest is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.errors import DataError
from toolkit_education import gsm8k, svamp
from toolkit_education.items import ItemModel, draw
from toolkit_education.records import model_from_record
from toolkit_education.verify import verify

MOST = 200_000
"""Problems of a folder."""


def read_bank(source: Path) -> tuple[Sequence[ItemModel], Sequence[str]]:
    """The item models of a folder's .jsonl files and .json lists, or of one, each of which draws an item that is
    verified; and a reason for every problem that was left out.

    Raises:
        DataError: there is no file, or not one problem can be used.
    """
    files = [source] if source.is_file() else sorted([*source.glob("*.jsonl"), *source.glob("*.json")])
    if not files:
        raise DataError(f"{source} has no .jsonl file", hint="Give problems as GSM8K does, or item models, one a line.")
    models: list[ItemModel] = []
    left: list[str] = []
    for path in files:
        found, reasons = _read(path)
        models += found
        left += reasons
    if len(models) > MOST:
        raise DataError(f"{source} has {len(models):,} problems, more than {MOST:,}", hint="Give a part of them.")
    if not models:
        raise DataError(
            f"{source} has no problem that can be used: {left[0] if left else 'it is empty'}",
            hint='One JSON object a line: {"question": ..., "answer": "... <<2+3=5>> ... #### 5"}.',
        )
    return models, left


def _read(path: Path) -> tuple[list[ItemModel], list[str]]:
    rows: dict[str, list[tuple[str, str, str]]] = {gsm8k.SOURCE: [], svamp.SOURCE: []}
    models: list[ItemModel] = []
    left: list[str] = []
    for number, record in _records(path):
        keys = frozenset(record if isinstance(record, dict) else ())
        try:
            if record is None:
                left.append("a line is no JSON")
            elif keys >= {"question", "answer"}:
                rows[gsm8k.SOURCE].append((f"{path.stem}-{number}", str(record["question"]), str(record["answer"])))
            elif keys >= svamp.KEYS:
                rows[svamp.SOURCE].append((f"{path.stem}-{number}", *svamp.as_gsm8k(record)))
            else:
                models.append(model_from_record(record))
        except DataError as error:
            left.append(error.message if keys >= svamp.KEYS else "a line is neither a problem nor an item model")
    for origin, some in rows.items():
        converted = gsm8k.convert_rows(some)
        models += [replace(model, source=origin) for model in converted.models]
        left += [reason for reason, many in converted.left_out.items() for _ in range(many)]
    good = [model for model in models if _draws(model)]
    left += ["no verified item could be drawn"] * (len(models) - len(good))
    return good, left


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a file, or the elements of its list, with their numbers; None for a line that is no JSON."""
    if path.suffix == ".json":
        try:
            found = json.loads(path.read_bytes())
        except ValueError:
            found = [None]
        yield from enumerate(found if isinstance(found, list) else [found], 1)
        return
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            if line.strip():
                yield number, json.loads(line)
        except ValueError:
            yield number, None


def _draws(model: ItemModel) -> bool:
    try:
        return not verify(draw(model, 0), model)
    except DataError:
        return False
