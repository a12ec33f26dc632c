"""The label store: a teacher's logits for every view of every training row, one shard a view.

A shard is written whole or not at all, so labelling that was killed goes on with the next view; the index, written
last, holds each shard's SHA-256. The store never asks what a view looks like: the task labels it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from toolkit.errors import IntegrityError
from toolkit.protocols import Report
from toolkit.workspace import file_digest, write_file

INDEX = "labels.json"

_HINT = "Remove the label store; run again."


def fill(folder: Path, *, views: int, rows: int, label_view: Callable[[int], np.ndarray], report: Report) -> None:
    """Label every view that is not there yet.

    Args:
        label_view: logits float32 [rows, classes] of one view.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for view in range(views):
        report("label", view * rows, views * rows)
        path = _shard(folder, view)
        if not path.exists():
            write_file(path, _encoded(label_view(view)))
    report("label", views * rows, views * rows)
    shards = {_shard(folder, view).name: file_digest(_shard(folder, view)) for view in range(views)}
    write_file(folder / INDEX, json.dumps({"views": views, "rows": rows, "shards": shards}).encode())


def load(folder: Path) -> np.ndarray:
    """Logits float16 [views, rows, classes].

    Raises:
        IntegrityError: a shard is not what was written.
    """
    try:
        shards = dict(json.loads((folder / INDEX).read_bytes())["shards"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder / INDEX} is damaged", part=INDEX, hint=_HINT) from error
    for name, digest in shards.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            raise IntegrityError(f"{path} is damaged", part=name, hint=_HINT)
    return np.stack([np.load(folder / name) for name in shards])


def _encoded(logits: np.ndarray) -> bytes:
    if not np.abs(logits).max() <= np.finfo(np.float16).max:
        raise IntegrityError(
            "the teacher's logits are not finite in half precision",
            part="teacher logits",
            hint="Its training diverged: lower teacher.learning_rate.",
        )
    buffer = io.BytesIO()
    np.save(buffer, logits.astype(np.float16))
    return buffer.getvalue()


def _shard(folder: Path, view: int) -> Path:
    return folder / f"view-{view:05d}.npy"
