"""A folder of problems as item models: GSM8K's files, and item models as the toolkit writes them.

What cannot be taken is counted with its reason, and the rest is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import DataError
from toolkit_education.gsm8k import convert_rows
from toolkit_education.items import ItemModel, draw
from toolkit_education.records import model_from_record
from toolkit_education.verify import verify

MOST = 200_000
"""Problems of a folder."""


def read_bank(source: Path) -> tuple[Sequence[ItemModel], Sequence[str]]:
    """The item models of a folder's .jsonl files, or of one, each of which draws an item that is verified; and a reason
    for every problem that was left out.

    Raises:
        DataError: there is no file, or not one problem can be used.
    """
    files = [source] if source.is_file() else sorted(source.glob("*.jsonl"))
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
    rows: list[tuple[str, str, str]] = []
    models: list[ItemModel] = []
    left: list[str] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            left.append("a line is no JSON")
            continue
        if isinstance(record, dict) and {"question", "answer"} <= record.keys():
            rows.append((f"{path.stem}-{number}", str(record["question"]), str(record["answer"])))
            continue
        try:
            models.append(model_from_record(record))
        except DataError:
            left.append("a line is neither a problem nor an item model")
    converted = convert_rows(rows)
    left += [reason for reason, many in converted.left_out.items() for _ in range(many)]
    good = [model for model in (*models, *converted.models) if _draws(model)]
    left += ["no verified item could be drawn"] * (len(models) + len(converted.models) - len(good))
    return good, left


def _draws(model: ItemModel) -> bool:
    try:
        return not verify(draw(model, 0), model)
    except DataError:
        return False
