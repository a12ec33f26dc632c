"""How a folder of good parts and, to test with, faulty ones is laid out (MVTec AD, Bergmann et al. 2019): good parts
in train/good, both kinds in test/GOOD and test/DEFECT, masks in ground_truth/DEFECT.

Every kind of defect is one class here, ANOMALY; which kind it was stays in a row's id. Opens no picture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from toolkit.errors import DataError
from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.image_classification.layout import Layout, scan_any
from toolkit.workspace import digest_of, file_digest

ANOMALY = "anomaly"
MASKS = "ground_truth"
MASK_NAMES = ("{}_mask.png", "{}.png", "{}_mask.bmp", "{}.bmp", "{}_mask.tif", "{}_mask.tiff")
_HINT = "Lay it out as train/good/*.jpg, test/good/*.jpg and test/DEFECT/*.jpg."


def scan_parts(source: Path, *, purpose: str, good_classes: Collection[str]) -> Layout:
    """`source` with two classes: the good one, by its folder's name, and ANOMALY, all others.

    Raises:
        DataError: what `scan_any` refuses; for `train` also: no folders train and test, defects to train on, no good
            parts, or nothing to test with.
    """
    layout = scan_any(source, unlabelled=False)
    known = {name.lower() for name in good_classes}
    good = [name for name in layout.classes if name.lower() in known]
    if purpose == "train":
        _check_trainable(layout, good, good_classes)
    entries = tuple(entry if entry.label in good else replace(entry, label=ANOMALY) for entry in layout.entries)
    folders = {
        split: tuple(sorted({label if label in good else ANOMALY for label in labels}))
        for split, labels in layout.folders.items()
    }
    ignored = [finding for finding in layout.findings if finding.kind != "ignored-folder"]
    return replace(layout, entries=entries, folders=folders, findings=tuple(ignored))


def learns_from_good_alone(source: Path, good_classes: Collection[str]) -> bool:
    """Whether a folder has good parts and nothing else to train on, and defects to test with."""
    try:
        layout = scan_any(source, unlabelled=False)
    except DataError:
        return False
    train, test = (layout.folders.get(split, ()) for split in ("train", "test"))
    known = {name.lower() for name in good_classes}
    return len(train) == 1 and train[0].lower() in known and len(test) > 1


def kind_of(row: str, split_folders: Collection[str] = ("test", "train", "validation", "valid", "val")) -> str:
    """The folder that a row's id names: which defect it shows."""
    parts = PurePosixPath(row).parts
    inside = parts[1:] if parts[0].lower() in split_folders and len(parts) > 2 else parts
    return inside[0] if len(inside) > 1 else ""


def masks_of(layout: Layout) -> tuple[dict[str, str], list[Finding]]:
    """Where each faulty test row's mask lies, by the row's id, relative to the source; and what is to be said."""
    folder = layout.source / MASKS
    if not folder.is_dir():
        return {}, [Finding("no-masks", "note", f"there is no {MASKS}/, so places in pictures are not scored")]
    found: dict[str, str] = {}
    without: list[str] = []
    for entry in layout.entries:
        if entry.label != ANOMALY:
            continue
        mask = _mask_of(layout.source, entry.path)
        if mask:
            found[entry.path] = mask
        else:
            without.append(entry.path)
    if not without:
        return found, []
    message = f"{len(without)} faulty pictures have no mask, and their places are not scored: {listed(without)}"
    return found, [Finding("no-mask", "warning", message, tuple(without))]


def masks_digest(source: Path) -> str:
    """SHA-256 over the masks' paths and contents."""
    layout = scan_any(source, unlabelled=False)
    every = replace(layout, entries=tuple(replace(entry, label=ANOMALY) for entry in layout.entries))
    masks, _ = masks_of(every)
    return digest_of(sorted([path, file_digest(source / path)] for path in masks.values()))


def _mask_of(source: Path, row: str) -> str:
    parts = PurePosixPath(row).parts
    kind = kind_of(row)
    if not kind:
        return ""
    inside = PurePosixPath(*parts[parts.index(kind) + 1 :])
    for pattern in MASK_NAMES:
        path = PurePosixPath(MASKS, kind, inside.with_name(pattern.format(inside.stem)))
        file = source / path
        if file.is_file() and file.resolve().is_relative_to(source.resolve()):
            return str(path)
    return ""


def _check_trainable(layout: Layout, good: Sequence[str], good_classes: Collection[str]) -> None:
    folders: Mapping[str, Sequence[str]] = layout.folders
    train, test = folders.get("train", ()), folders.get("test", ())
    if not train or not test:
        raise DataError(f"{layout.source} has no folders train and test", hint=_HINT)
    if len(good) != 1:
        said = f"{listed(good)} all mean good" if good else f"none of {listed(layout.classes)} means good"
        raise DataError(
            f"{layout.source}: {said}; names of good parts are {listed(good_classes)}",
            hint="Name the folder of good parts: --set 'data.good_classes=[\"NAME\"]'.",
        )
    if faulty := [name for name in train if name not in good]:
        raise DataError(
            f"train holds {listed(faulty)}, but anomaly_maps learns from good parts alone",
            hint="Move them under test/, or tell classes apart: --set task=image_classification.",
        )
    if good[0] not in train:
        raise DataError(f"train has no good parts ({good[0]})", hint=_HINT)
    if good[0] not in test or len(test) < 2:
        raise DataError(
            f"test has {listed(test) or 'nothing'}: good parts and faulty ones are needed to test with", hint=_HINT
        )
