"""A folder of JSON lines becomes a data set: rows with groups and splits, findings, and facts for the report.

Decides what is a row and what it takes to train. Reads lines through `rows`, finds copies through `checks`; knows no
tokens and no model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

from toolkit import artifacts
from toolkit.artifacts import SPLITS
from toolkit.errors import DataError
from toolkit.plan import DataPlan
from toolkit.tasks.findings import Finding
from toolkit.tasks.licence import NAMES, licence_of
from toolkit.tasks.text_generation.checks import Placed, group_of, place, without_copies
from toolkit.tasks.text_generation.rows import Corpus, Row, data_files, read_rows
from toolkit.text import Message
from toolkit.workspace import digest_of, file_digest, write_file

ROWS, FINDINGS = "rows.jsonl", "findings.json"

TABLES = (".csv", ".tsv", ".xlsx")
"""Kinds of files that this task does not read, and a domain may."""

LEAST = 8
"""Fewest rows to train on: with less there is nothing to learn from, and mostly a file was misnamed."""

_HINT = "Run the command again: it prepares the data anew."


def prepare_rows(
    source: Path, *, purpose: str, settings: DataPlan, seed: int, folder: Path, system: str = ""
) -> dict[str, Any]:
    """Check, group and split the rows under `source`; write rows.jsonl and findings.json into `folder`.

    `train`: copies are left out, and so is what would be trained and tested on; rows of one prompt share a group.
    `evaluate`: every row that can be read and scored is a test row.

    Args:
        system: put before every row that has no system message of its own.

    Returns:
        The facts of the data set, JSON-serialisable.
    Raises:
        DataError: no row can be used, or too few to train on.
    """
    corpus = read_rows(source)
    if system:
        corpus = replace(corpus, rows=tuple(_begun(row, system) for row in corpus.rows))
    if purpose == "train":
        corpus = without_copies(corpus)
        placed = place(
            corpus.rows,
            seed=seed,
            test_share=settings.test_share,
            validation_share=settings.validation_share,
            calibration_rows=settings.calibration_rows,
        )
        _check_enough(source, corpus, placed)
    else:
        placed = Placed({row.id: "test" for row in corpus.rows}, frozenset(), ())
    findings, licence = [*corpus.findings, *placed.findings], licence_of(_licence_file(source), settings.licence)
    if not licence.stated:
        findings.append(Finding("licence", "warning", "no licence is stated for these data"))
    write_file(folder / ROWS, "".join(_line(row, placed) for row in corpus.rows if row.id in placed.of).encode())
    shown = {"findings": [finding.as_record() for finding in findings]}
    write_file(folder / FINDINGS, json.dumps(shown, indent=1, ensure_ascii=False).encode())
    return _facts(source, corpus, placed) | {
        "licence": asdict(licence),
        "source_digest": source_digest(source),
        "findings": shown["findings"],
    }


def source_digest(source: Path) -> str:
    """SHA-256 over the sorted (name, SHA-256) list of the files that are read, of tables that a domain may read, and of
    the LICENSE file."""
    tables = [] if source.is_file() else [path for path in source.iterdir() if path.suffix.lower() in TABLES]
    files = tables if tables else [path for path, _ in data_files(source)[0]]
    if tables and any(path.suffix.lower() in (".jsonl", ".json") for path in source.iterdir()):
        files = [*tables, *(path for path, _ in data_files(source)[0])]
    if licence := _licence_file(source):
        files.append(licence)
    return digest_of(sorted([path.name, file_digest(path)] for path in files))


def load_corpus(folder: Path, split: str) -> Sequence[Row]:
    """The rows of `train`, `validation`, `calibration` (a part of train), `test` or `unlabelled`, in their order.

    Raises:
        DataError: `folder` holds no prepared data set.
    """
    return [_row(record) for record in _records(folder, split)]


def taught(folder: Path) -> Sequence[Row]:
    """The rows that are trained on: those of `train`, then those of `unlabelled`."""
    return [*load_corpus(folder, "train"), *load_corpus(folder, "unlabelled")]


def tasks_of(folder: Path) -> Sequence[str]:
    """The tasks of the rows that are trained on, where there are several; of a row without one it is empty."""
    found = sorted({row.task for row in taught(folder)})
    return found if len(found) > 1 else ()


def load_rows(folder: Path, split: str) -> TextRows:
    """The same as a domain sees them.

    Raises:
        KeyError: no such split. DataError: `folder` holds no prepared data set.
    """
    if split not in SPLITS:
        raise KeyError(f"no split {split!r}; splits are {', '.join(SPLITS)}")
    return TextRows(_records(folder, split))


@dataclass(frozen=True)
class TextRows:
    """A split's rows (`Rows` of artifacts.py). `inputs` is `{"messages": tuple[Message, ...], "task": str, "answer":
    str, "wanted": tuple[str, ...]}`, the label the completion, empty where there is none."""

    records: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[artifacts.Row]:
        return map(_seen, self.records)

    @overload
    def __getitem__(self, index: int) -> artifacts.Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[artifacts.Row]: ...
    def __getitem__(self, index: int | slice) -> artifacts.Row | Sequence[artifacts.Row]:
        found = self.records[index]
        return [_seen(record) for record in found] if isinstance(index, slice) else _seen(found)  # type: ignore[arg-type]

    @property
    def ids(self) -> Sequence[str]:
        return [record["id"] for record in self.records]

    @property
    def labels(self) -> Sequence[str]:
        return [record["completion"] for record in self.records]


def _seen(record: Mapping[str, Any]) -> artifacts.Row:
    row = _row(record)
    inputs = {"messages": row.messages, "task": row.task, "answer": row.answer, "wanted": row.wanted}
    return artifacts.Row(row.id, inputs, row.completion, record["group"])


def _begun(row: Row, system: str) -> Row:
    """The row with a system message."""
    if row.messages[0].role == "system":
        return row
    return replace(row, messages=(Message("system", system), *row.messages))


def _line(row: Row, placed: Placed) -> str:
    record = asdict(row) | {
        "group": group_of(row),
        "split": placed.of[row.id],
        "calibration": row.id in placed.calibration,
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(folder: Path, split: str) -> Sequence[Mapping[str, Any]]:
    try:
        lines = (folder / ROWS).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no prepared data set", hint=_HINT) from error
    found = [json.loads(line) for line in lines if line]
    return [one for one in found if (one["calibration"] if split == "calibration" else one["split"] == split)]


def _row(record: Mapping[str, Any]) -> Row:
    texts = {name: record[name] for name in ("id", "completion", "task", "answer", "given", "where")}
    messages = tuple(Message(message["role"], message["content"]) for message in record["messages"])
    return Row(messages=messages, wanted=tuple(record["wanted"]), **texts)


def _check_enough(source: Path, corpus: Corpus, placed: Placed) -> None:
    found = Counter(placed.of.values())
    if found["train"] + found["unlabelled"] < LEAST:
        raise DataError(
            f"{source} has {found['train'] + found['unlabelled']} rows to train on, of which {LEAST} are needed",
            hint="Give more rows in train.jsonl.",
        )
    if not any(placed.of.get(row.id) == "test" and (row.labelled or row.answer) for row in corpus.rows):
        raise DataError(
            f"{source} has no row to test with", hint="Give test.jsonl, or rows with a completion or an answer."
        )


def _facts(source: Path, corpus: Corpus, placed: Placed) -> dict[str, Any]:
    """`counts` by split and task, as the report shows classes of pictures."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in ("train", "validation", "test")}
    unlabelled = 0
    for row in corpus.rows:
        split = placed.of.get(row.id)
        if split in counts:
            counts[split][row.task] += 1
        unlabelled += split == "unlabelled"
    return {
        "source": str(source),
        "tasks": sorted({row.task for row in corpus.rows if row.task}),
        "counts": {split: dict(sorted(found.items())) for split, found in counts.items()},
        "unlabelled": unlabelled,
        "answers": sum(bool(row.answer) for row in corpus.rows if placed.of.get(row.id) == "test"),
    }


def _licence_file(source: Path) -> Path | None:
    folder = source if source.is_dir() else source.parent
    found = (path for path in sorted(folder.iterdir()) if path.name.upper().startswith(NAMES))
    return next((path for path in found if path.is_file() and not path.is_symlink()), None)
