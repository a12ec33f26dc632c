"""Samples that came back from a site, as training data of their task: what people said is the label, and what nobody
judged stays without one.

Writes beside what a folder has, and never over it: bringing the same samples in twice changes nothing.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from toolkit.errors import DataError, UsageError
from toolkit.plan import DataPlan
from toolkit.site.returned import Returned
from toolkit.tasks.image_classification.images import FORMATS, decode_image
from toolkit.tasks.image_classification.layout import UNLABELLED
from toolkit.workspace import write_file

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp", "PPM": ".ppm"}
RESERVED = frozenset({"train", "test", "validation", "valid", "val", "unlabelled", "unlabeled", "ground_truth"})
"""Names of folders that mean something else than a class."""

LEFT, THERE, UNREADABLE = "left out", "there already", "unreadable"


def take_in(task: str, samples: Iterable[Returned], folder: Path) -> Counter[str]:
    """Put the samples of this task into `folder`, where they are data to train on; how many of each label there are.

    Raises:
        UsageError: samples of this task cannot be taken in, or the folder is not laid out for it.
    """
    if task not in _TAKERS:
        raise UsageError(f"samples of the task {task} cannot be taken in", hint=f"Tasks: {', '.join(_TAKERS)}.")
    return _TAKERS[task](samples, folder)


def _classes(samples: Iterable[Returned], folder: Path) -> Counter[str]:
    """Into the folder of each class, or `unlabelled`; within `train` where the folder has splits."""
    inside = folder / "train" if (folder / "train").is_dir() else folder
    told: Counter[str] = Counter()
    for sample in samples:
        label = _class_of(sample)
        told[_put(sample, inside / label if label else folder / UNLABELLED, label or UNLABELLED)] += 1
    return told


def _good_parts(samples: Iterable[Returned], folder: Path) -> Counter[str]:
    """Good parts are trained on, faulty ones tested with; what nobody judged teaches nothing here."""
    told: Counter[str] = Counter()
    good = DataPlan().good_classes
    for sample in samples:
        label = _class_of(sample)
        if not label:
            told[LEFT] += 1
        elif label.lower() in good:
            told[_put(sample, folder / "train" / label, label)] += 1
        else:
            told[_put(sample, folder / "test" / label, label)] += 1
    return told


def _rows(samples: Iterable[Returned], folder: Path) -> Counter[str]:
    """Texts with the completion that a person holds to be right, or without one, for the teacher to write it."""
    told: Counter[str] = Counter()
    for sample in samples:
        row = json.loads(sample.content) | {"id": f"site-{sample.id}"}
        given = row.pop("completion", "")
        completion = given if sample.agree else sample.label
        split = "train" if completion else UNLABELLED
        row |= {"completion": completion} if completion else {}
        path = folder / f"{split}.jsonl"
        before = path.read_bytes() if path.exists() else b""
        if f'"{row["id"]}"'.encode() in before:
            told[THERE] += 1
            continue
        before += b"\n" if before and not before.endswith(b"\n") else b""
        write_file(path, before + json.dumps(row, ensure_ascii=False).encode() + b"\n")
        told[split] += 1
    return told


_TAKERS: dict[str, Callable[[Iterable[Returned], Path], Counter[str]]] = {
    "image_classification": _classes, "anomaly_maps": _good_parts, "text_generation": _rows
}  # fmt: skip


def _class_of(sample: Returned) -> str:
    """The class that a person named. Raises DataError where no folder can bear its name."""
    label = sample.label.strip()
    if label.lower() in RESERVED or label.startswith(".") or any(c in '/\\:*?"<>|' or ord(c) < 32 for c in label):
        raise DataError(
            f"sample {sample.id} is labelled {label!r}, which cannot name a class's folder",
            hint="Judge it again under another name.",
        )
    return label[:100]


def _put(sample: Returned, folder: Path, label: str) -> str:
    """The picture's file under a name of its own; what it counts as."""
    try:
        decode_image(sample.content)
    except DataError:
        return UNREADABLE
    with Image.open(io.BytesIO(sample.content), formats=FORMATS) as image:
        suffix = SUFFIXES[str(image.format)]
    path = folder / f"site-{sample.id}{suffix}"
    if path.exists():
        return THERE
    write_file(path, sample.content)
    return label
