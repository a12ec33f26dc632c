"""A folder of good parts, checked, split and read back: pictures as image_classification reads them, and masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Dataset, Facts, Row, Rows
from toolkit.errors import DataError
from toolkit.plan import Plan
from toolkit.tasks.anomaly_maps.layout import ANOMALY, masks_digest, masks_of, scan_parts
from toolkit.tasks.anomaly_maps.marks import all_marked
from toolkit.tasks.image_classification import reader
from toolkit.tasks.image_classification.images import decode_image, to_channels
from toolkit.tasks.image_classification.rows import load_rows
from toolkit.workspace import digest_of, file_digest, write_file

MASKS = "masks.json"
MASKED = 127
"""A mask's grey value above which a place is faulty: MVTec's and others' have soft edges."""


def source_digest(source: Path) -> str:
    """SHA-256 over pictures and masks."""
    return digest_of([reader.source_digest(source), masks_digest(source)])


def prepare(plan: Plan, source: Path, purpose: str, folder: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    """Read, check and split `source` into `folder`; the data set's facts."""
    known = tuple(name for name in classes if name != ANOMALY) or plan.data.good_classes
    layout = scan_parts(source, purpose=purpose, good_classes=known)
    masks, said = masks_of(layout)
    layout = replace(layout, findings=(*layout.findings, *said))
    facts = reader.prepare_layout(
        layout, purpose=purpose, settings=plan.data, seed=plan.compute.seed, folder=folder, classes=classes
    )
    found = {row: {"path": path, "sha256": file_digest(layout.source / path)} for row, path in masks.items()}
    write_file(folder / MASKS, json.dumps(found, ensure_ascii=False).encode())
    findings = json.loads((folder / reader.FINDINGS).read_bytes())["findings"]
    good = next(name for name in facts["classes"] if name != ANOMALY)
    return facts | {"findings": findings, "good_class": good, "masks": len(found)}


def open_dataset(folder: Path, digest: str, facts: Facts) -> Dataset:
    """A prepared data set with its rows behind it."""
    return Dataset(folder, digest, facts=facts, reader=lambda split: load_rows(folder, split, facts))


@dataclass(frozen=True)
class Masks:
    """The places where test pictures are faulty."""

    source: Path
    files: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, dataset: Dataset) -> Masks:
        """Those of a prepared data set."""
        files = json.loads((dataset.path / MASKS).read_bytes())
        return cls(dataset.path / dataset.facts["source"], files)

    def mask(self, row: Row) -> NDArray[np.bool_] | None:
        """[height, width] of the row's picture; all false for a good part; None where nobody marked the places.

        Raises:
            DataError: the mask has changed, cannot be read, or is not as large as the picture.
        """
        size = row.inputs["image"].shape[:2]
        if row.label != ANOMALY:
            return np.zeros(size, dtype=bool)
        if row.id not in self.files:
            return None
        file = self.files[row.id]
        path = self.source / file["path"]
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise DataError(f"{path} has changed since it was prepared", hint="Run the command again.")
        mask = to_channels(decode_image(data), 1)[:, :, 0] > MASKED
        if mask.shape != size:
            raise DataError(
                f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels, its picture {size[1]} x {size[0]}",
                hint="Export the mask in the size of its picture.",
            )
        return mask if mask.any() else None


def with_marks(dataset: Dataset, seed: int) -> Dataset:
    """The same data set, whose validation rows stand a second time in it with marks, as anomalies: what a form of the
    student must still tell apart, since validation has good parts alone."""

    def read(split: str) -> Rows:
        rows = dataset.split(split)
        return _Marked(rows, seed) if split == "validation" else rows

    return Dataset(dataset.path, dataset.digest, facts=dataset.facts, reader=read)


class _Marked:
    """Good rows, and after them the same with marks."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self._good = [row for row in rows if row.label != ANOMALY and "image" in row.inputs]
        self._seed = seed

    def __len__(self) -> int:
        return 2 * len(self._good)

    def __iter__(self) -> Iterator[Row]:
        return (self._row(index) for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._row(place) for place in range(*index.indices(len(self)))]
        return self._row(index)

    @property
    def ids(self) -> Sequence[str]:
        return [row.id for row in self]

    @property
    def labels(self) -> Sequence[str]:
        return [row.label for row in self._good] + [ANOMALY] * len(self._good)

    def _row(self, index: int) -> Row:
        if index < len(self._good):
            return self._good[index]
        row = self._good[index - len(self._good)]
        planes = row.inputs["image"].transpose(2, 0, 1)[None]
        image = all_marked(planes, self._seed + index)[0].transpose(1, 2, 0)
        return Row(f"{row.id} marked", {"image": np.ascontiguousarray(image)}, ANOMALY, row.group)
