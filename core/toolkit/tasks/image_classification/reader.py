"""An image folder becomes a data set: rows with labels, groups and splits, findings, and facts for the report.

Decides what is a row and what it takes to train. Looks at images through `checks`, at folders through `layout`; knows
no model. `rows` reads back what this module writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.artifacts import SPLITS
from toolkit.errors import DataError
from toolkit.plan import DataPlan
from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.image_classification import checks
from toolkit.tasks.image_classification.checks import Inspected
from toolkit.tasks.image_classification.duplicates import group_near_duplicates, near_duplicates
from toolkit.tasks.image_classification.layout import (
    UNLABELLED,
    Layout,
    digest_of_files,
    scan_folder,
    source_digest,
)
from toolkit.tasks.image_classification.rows import RowRecord, load_rows, write_rows
from toolkit.tasks.image_classification.unlabelled import join_unlabelled
from toolkit.tasks.licence import licence_of
from toolkit.tasks.splits import Member, Splits, split_rows
from toolkit.workspace import write_file

__all__ = ["load_rows", "prepare_image_folder", "source_digest"]

FINDINGS = "findings.json"

Pair = tuple[int, int, float]
Leak = tuple[str, str, float]


def prepare_image_folder(
    source: Path, *, purpose: str, settings: DataPlan, seed: int, folder: Path, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """`prepare_layout` of the classes that are to be told apart. Raises DataError as that and `scan_folder` do."""
    layout = scan_folder(source, purpose=purpose)
    return prepare_layout(layout, purpose=purpose, settings=settings, seed=seed, folder=folder, classes=classes)


def prepare_layout(
    layout: Layout, *, purpose: str, settings: DataPlan, seed: int, folder: Path, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Check, group and split the images of `layout`; write rows.jsonl and findings.json into `folder`.

    `train`: unusable images are left out and listed; near-duplicates share a group, and no group is spread over splits
    made here. Images without labels become rows of `unlabelled`, with an empty label, unless they show what a
    validation or test row shows or are copies of a training row. `evaluate`: every image is a test row, those of a
    folder's own splits too; an unusable one becomes a row that is not readable; only exact copies share a group.
    `classes` are then the model's; a label beyond them is an error.

    Returns:
        The facts of the data set, JSON-serialisable.
    Raises:
        DataError: no usable images, an unknown label, or a class with too few images.
    """
    if purpose == "evaluate" and (unknown := sorted(set(layout.classes) - set(classes or layout.classes))):
        raise DataError(
            f"{layout.source} has labels the model does not know: {listed(unknown)}; it knows {listed(classes)}",
            hint="Rename or remove those folders, or train a model on these classes.",
        )
    every = checks.inspect_files(layout.source, layout.entries, fingerprints=purpose == "train")
    files = [file for file in every if not checks.is_stray(file)]
    usable = [file for file in files if not file.problem]
    if not any(file.entry.label for file in usable):
        labelled = [file for file in every if file.entry.label]
        raise DataError(
            f"none of the {len(labelled)} files under {layout.source} is a usable image: {_problems(labelled)}",
            hint="Check that the files open in an image viewer.",
        )
    findings = [*layout.findings, *checks.check_files(every), *checks.check_sizes(files)]
    licence = licence_of(layout.licence_file, settings.licence)
    if not licence.stated:
        findings.append(Finding("licence", "warning", "no licence is stated for these data"))
    if purpose == "train":
        records, leaks, more = _train_rows(layout, usable, settings, seed)
    else:
        records, leaks, more = _test_rows(files)
    findings += more
    labels = list(classes) if purpose == "evaluate" and classes else list(layout.classes)
    rows = {record.id for record in records}
    grey = all(file.grey for file in usable if file.entry.path in rows)
    facts = _facts(layout, records, labels, settings.good_classes) | {
        "licence": asdict(licence),
        "source_digest": digest_of_files(layout, {file.entry.path: file.sha256 for file in every}),
        "colour": "grey" if grey else "rgb",
        "channels": 1 if grey else 3,
        "leaks": [list(leak) for leak in leaks],
        "findings": dict(sorted(Counter(finding.severity for finding in findings).items())),
    }
    shown = {"findings": [finding.as_record() for finding in findings]}
    write_file(folder / FINDINGS, json.dumps(shown, indent=1, ensure_ascii=False).encode())
    write_rows(folder, records)
    return facts


def _train_rows(
    layout: Layout, usable: Sequence[Inspected], settings: DataPlan, seed: int
) -> tuple[list[RowRecord], list[Leak], list[Finding]]:
    files = [file for file in usable if file.entry.label]
    counts = _enough(layout, files, settings.minimum_per_class)
    ids = [file.entry.path for file in files]
    labels = [file.entry.label for file in files]
    given = {file.entry.path: file.entry.split for file in files}
    copies = checks.same_pixels(files)
    scored = _related(files, copies)
    pairs = [(first, second) for first, second, _ in scored]
    groups = _group_names(ids, pairs)
    leaks = [(ids[a], ids[b], score) for a, b, score in scored if given[ids[a]] != given[ids[b]]]
    members = [Member(*row) for row in zip(ids, labels, groups, given.values(), strict=True)]
    splits = split_rows(
        members,
        seed=seed,
        test_share=settings.test_share,
        validation_share=settings.validation_share,
        calibration_rows=settings.calibration_rows,
    )
    if empty := [split for split in ("validation", "test") if split not in splits.of.values()]:
        raise DataError(
            f"no image is left for {empty[0]}: within each class the images are too much alike to be parted",
            hint="Add images of other parts, or lay out train/, validation/ and test/ yourself.",
        )
    unlabelled = [file for file in usable if not file.entry.label]
    joined = join_unlabelled(files, unlabelled, pairs=pairs, split_of=splits.of)
    findings = [
        *checks.check_balance(counts),
        *checks.check_copies(files, copies),
        *checks.check_groups(labels, groups, ids),
        *checks.check_leaks(leaks, given),
        *_missing(layout, splits, files),
        *joined.findings,
    ]
    split_of = {file.entry.path: UNLABELLED for file in unlabelled} | dict(splits.of)
    return _records(joined.files, joined.groups, split_of, splits.calibration), leaks, findings


def _related(files: Sequence[Inspected], copies: Iterable[Sequence[int]]) -> list[Pair]:
    """Pairs of indices that show the same, with a score: exact copies (1.0) and near-duplicates.

    Of copies, only the first of each split is compared with other images; so every pair of splits is still seen.
    """
    sides = sorted({file.entry.split for file in files})
    pairs: list[Pair] = []
    spare: set[int] = set()
    for members in copies:
        first_on: dict[str, int] = {}
        for index in members:
            if first_on.setdefault(files[index].entry.split, index) != index:
                spare.add(index)
        pairs += [(a, b, 1.0) for n, a in enumerate(members) for b in members[n + 1 :]]
    compared = [index for index in range(len(files)) if index not in spare]
    prints = [files[index].fingerprint for index in compared]
    matches = near_duplicates(
        [taken for taken in prints if taken is not None],  # all are, in train
        [sides.index(files[index].entry.split) for index in compared],
    )
    known = {(a, b) for a, b, _ in pairs}
    for match in matches:
        pair = compared[match.first], compared[match.second]
        if pair not in known:
            pairs.append((*pair, match.score))
    return sorted(pairs)


def _group_names(ids: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """A group is named by its first row's id."""
    return [ids[index] for index in group_near_duplicates(len(ids), pairs)]


def _test_rows(files: Sequence[Inspected]) -> tuple[list[RowRecord], list[Leak], list[Finding]]:
    copies = checks.same_pixels(files)
    ids = [file.entry.path for file in files]
    groups = _group_names(ids, [(members[0], other) for members in copies for other in members[1:]])
    records = _records(files, groups, dict.fromkeys(ids, "test"), frozenset())
    return records, [], checks.check_copies(files, copies)


def _records(
    files: Sequence[Inspected], groups: Sequence[str], split_of: Mapping[str, str], calibration: frozenset[str]
) -> list[RowRecord]:
    records = [
        RowRecord(
            id=file.entry.path,
            path=file.entry.path,
            sha256=file.sha256,
            label=file.entry.label,
            group=group,
            split=split_of[file.entry.path],
            calibration=file.entry.path in calibration,
            width=file.width,
            height=file.height,
            mode=file.mode,
            readable=not file.problem,
        )
        for file, group in zip(files, groups, strict=True)
    ]
    return sorted(records, key=lambda record: record.id)


def _enough(layout: Layout, files: Sequence[Inspected], minimum: int) -> dict[str, int]:
    """Usable training images of each class that is learnt, if there are enough."""
    found = Counter(file.entry.label for file in files if file.entry.split in ("", "train"))
    counts = {label: found[label] for label in layout.folders["train" if layout.has_splits else ""]}
    few = [f"{label} ({count})" for label, count in counts.items() if count < minimum]
    if few:
        raise DataError(
            f"too few usable training images in {listed(few)}; each class needs {minimum}",
            hint="Add images, remove the class, or lower minimum_per_class.",
        )
    return counts


def _missing(layout: Layout, splits: Splits, files: Sequence[Inspected]) -> list[Finding]:
    """Classes without a row in a split: made here (all of the class is one group), or so in the folder."""
    missing = list(splits.missing)
    given = {(file.entry.split, file.entry.label) for file in files}
    for split in sorted(set(layout.folders) - {"", "train"}):
        missing += [(split, c) for c in layout.classes if (split, c) not in given and (split, c) not in missing]
    return [
        Finding("missing-class", "warning", f"{split} has no image of {label}, so nothing is measured on it there")
        for split, label in missing
    ]


def _facts(
    layout: Layout, records: Sequence[RowRecord], classes: list[str], good_classes: Iterable[str]
) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        rows = [record for record in records if record.belongs_to(split)]
        if rows and split != UNLABELLED:
            found = Counter(row.label for row in rows)
            counts[split] = {label: found[label] for label in classes}
    sizes = np.array([(record.width, record.height) for record in records if record.readable])
    by_lower = {label.lower(): label for label in reversed(classes)}
    good = next((by_lower[name.lower()] for name in good_classes if name.lower() in by_lower), "")
    return {
        "source": str(layout.source),
        "classes": classes,
        "counts": counts,
        "unlabelled": sum(record.split == UNLABELLED for record in records),
        "unreadable": sum(not record.readable for record in records),
        "sizes": {
            "min": sizes.min(axis=0).tolist(),
            "median": np.median(sizes, axis=0).round().astype(int).tolist(),
            "max": sizes.max(axis=0).tolist(),
        },
        "good_class": good,
    }


def _problems(files: Iterable[Inspected]) -> str:
    return listed(f"{count} {kind}" for kind, count in Counter(file.kind for file in files).most_common())
