"""The label store: what a teacher says of every view of every training row, one shard a view and carrier.

A shard is written whole or not at all, so labelling that was killed goes on with the next view; the index, written
last, holds each shard's SHA-256, so one that was damaged since is found, named, and labelled again alone. Shards are
read by memory map. The store never asks what a view looks like: the task labels it. It is free of torch, so that a run
which has nothing to do checks its shards in no time.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.errors import IntegrityError
from toolkit.protocols import Report
from toolkit.workspace import file_digest, write_file

INDEX = "labels.json"
LOGITS, FEATURES = "logits", "features"

Arrays = Mapping[str, np.ndarray]
"""What a teacher says of one view: `logits` float32 [rows, classes] and, where it shows them, `features` [rows, d]."""

_HINT = "Run again: what is damaged is labelled again."


def fill(
    folder: Path,
    *,
    views: int,
    rows: int,
    carriers: Sequence[str],
    label_views: Callable[[Sequence[int]], Iterable[Arrays]],
    report: Report,
) -> Sequence[str]:
    """Label every view that is not there yet, or was damaged since.

    Args:
        carriers: which of the arrays are kept: `logits`, `features`.
        label_views: what the teacher says under each of these views, in their order; each is stored as it comes.

    Returns:
        The shards that were damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = damaged(folder)
    for name in found:
        (folder / name).unlink(missing_ok=True)
    missing = [view for view in range(views) if not all((folder / _shard(one, view)).exists() for one in carriers)]
    done = (views - len(missing)) * rows
    report("label", done, views * rows)
    for view, arrays in zip(missing, label_views(missing) if missing else (), strict=True):
        for carrier in carriers:
            write_file(folder / _shard(carrier, view), _encoded(arrays[carrier], carrier))
        done += rows
        report("label", done, views * rows)
    names = [_shard(carrier, view) for view in range(views) for carrier in carriers]
    shards = {name: file_digest(folder / name) for name in names}
    index = {"views": views, "rows": rows, "carriers": list(carriers), "shards": shards}
    write_file(folder / INDEX, json.dumps(index).encode())
    return found


def damaged(folder: Path) -> Sequence[str]:
    """Shards of a finished store that are not what was written; all of them where the index cannot vouch for any. Of an
    unfinished store there is nothing to say."""
    if not (folder / INDEX).exists():
        return ()
    try:
        shards = _index(folder).shards
    except IntegrityError:
        # The index comes last: mending that is killed half way must still find the others unvouched for.
        return (*sorted(path.name for path in folder.glob("*.npy")), INDEX)
    return [name for name, digest in shards.items() if not _is(folder / name, digest)]


def load(folder: Path) -> Sequence[Arrays]:
    """All of it, a view after the other, float16 and by memory map.

    Raises:
        IntegrityError: a shard is not what was written.
    """
    index = _index(folder)
    for name in damaged(folder):
        raise IntegrityError(f"{folder / name} is damaged", part=name, hint=_HINT)
    return [
        {carrier: np.load(folder / _shard(carrier, view), mmap_mode="r") for carrier in index.carriers}
        for view in range(index.views)
    ]


@dataclass(frozen=True)
class _Index:
    views: int
    carriers: Sequence[str]
    shards: Mapping[str, str]


def _index(folder: Path) -> _Index:
    try:
        index = json.loads((folder / INDEX).read_bytes())
        return _Index(int(index["views"]), list(index["carriers"]), dict(index["shards"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder / INDEX} is damaged", part=INDEX, hint=_HINT) from error


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def _encoded(array: np.ndarray, carrier: str) -> bytes:
    if not np.abs(array).max() <= np.finfo(np.float16).max:
        raise IntegrityError(
            f"the teacher's {carrier} are not finite in half precision",
            part=f"teacher {carrier}",
            hint="Its training diverged: lower teacher.learning_rate.",
        )
    buffer = io.BytesIO()
    np.save(buffer, array.astype(np.float16))
    return buffer.getvalue()


def _shard(carrier: str, view: int) -> str:
    return f"{carrier}-{view:05d}.npy"
