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
            buffer = io.BytesIO()
            np.save(buffer, label_view(view).astype(np.float16))
            write_file(path, buffer.getvalue())
    report("label", views * rows, views * rows)
    shards = {_shard(folder, view).name: file_digest(_shard(folder, view)) for view in range(views)}
    write_file(folder / INDEX, json.dumps({"views": views, "rows": rows, "shards": shards}).encode())


def load(folder: Path) -> np.ndarray:
    """Logits float16 [views, rows, classes].

    Raises:
        IntegrityError: a shard is not what was written.
    """
    index = json.loads((folder / INDEX).read_bytes())
    for name, digest in index["shards"].items():
        if file_digest(folder / name) != digest:
            raise IntegrityError(f"{folder / name} is damaged", part=name, hint="Remove the label store; run again.")
    return np.stack([np.load(folder / name) for name in index["shards"]])


def _shard(folder: Path, view: int) -> Path:
    return folder / f"view-{view:05d}.npy"
