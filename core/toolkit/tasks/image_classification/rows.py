"""A prepared image folder, read back row by row. Knows the files that `reader` writes, and opens images only when a
row is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from toolkit.artifacts import SPLITS, Row
from toolkit.errors import DataError
from toolkit.tasks.image_classification.images import decode_image, to_channels
from toolkit.workspace import write_file

ROWS = "rows.jsonl"

_HINT = "Run the command again: it prepares the data anew."


@dataclass(frozen=True)
class RowRecord:
    """One line of rows.jsonl. `id` is the path relative to the source; sizes are 0 where it is not `readable`."""

    id: str
    path: str
    sha256: str
    label: str
    group: str
    split: str
    calibration: bool
    width: int
    height: int
    mode: str
    readable: bool

    def belongs_to(self, split: str) -> bool:
        """Whether the row is in this split. Calibration rows are train rows too."""
        return self.calibration if split == "calibration" else self.split == split


class ImageRows:
    """A split's rows (`Rows` of artifacts.py). An image is read when its row is asked for, and must be what was
    prepared. `inputs` is `{"image": uint8 [height, width, channels]}`; it is empty for a row that was not readable."""

    def __init__(self, source: Path, channels: int, records: Sequence[RowRecord]) -> None:
        self._source = source
        self._channels = channels
        self._records = tuple(records)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Row]:
        return map(self._read, self._records)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self._read(record) for record in self._records[index]]
        return self._read(self._records[index])

    @property
    def ids(self) -> Sequence[str]:
        return [record.id for record in self._records]

    @property
    def labels(self) -> Sequence[str]:
        return [record.label for record in self._records]

    def _read(self, record: RowRecord) -> Row:
        inputs: dict[str, np.ndarray] = {}
        if record.readable:
            path = self._source / record.path
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path} cannot be read any more: {error.strerror}", hint=_HINT) from error
            if hashlib.sha256(data).hexdigest() != record.sha256:
                raise DataError(f"{path} has changed since it was prepared", hint=_HINT)
            inputs["image"] = to_channels(decode_image(data), self._channels)
        return Row(record.id, inputs, record.label, record.group)


def load_rows(folder: Path, split: str, facts: Mapping[str, Any]) -> ImageRows:
    """The rows of `train`, `validation`, `calibration` (a part of train), `test` or `unlabelled` (whose label is
    empty), sorted by id.

    `facts` are the data set's: `source` is where the images lie (relative to `folder`, where it holds them itself),
    `channels` (1 or 3) what they are read as.

    Raises:
        KeyError: no such split.
        DataError: `folder` holds no prepared data set.
    """
    if split not in SPLITS:
        raise KeyError(f"no split {split!r}; splits are {', '.join(SPLITS)}")
    try:
        lines = (folder / ROWS).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no prepared data set", hint=_HINT) from error
    records = [RowRecord(**json.loads(line)) for line in lines if line]
    chosen = [record for record in records if record.belongs_to(split)]
    return ImageRows(folder / facts["source"], facts["channels"], chosen)


def write_rows(folder: Path, records: Sequence[RowRecord]) -> None:
    """Write rows.jsonl, one JSON object a line."""
    lines = [json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records]
    write_file(folder / ROWS, "".join(lines).encode())
