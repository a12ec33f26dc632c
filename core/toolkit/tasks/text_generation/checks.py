"""Copies and leaks among rows, and which rows are trained on, validated with and tested on.

Two prompts are the same where their normalised text is: compatibility forms, case and white space do not count. Rows of
the same prompt are one group, so no prompt is learnt and tested; rows that name a group say themselves what belongs
together. Knows no files and no tokens.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.splits import Member, split_rows
from toolkit.tasks.text_generation.rows import Corpus, Row
from toolkit.workspace import digest_of

_STRICTNESS = {"test": 0, "validation": 1, "train": 2, "": 2, "unlabelled": 3}
"""Who keeps a prompt that lies in two splits: the one whose score would be a lie."""


@dataclass(frozen=True)
class Placed:
    """`of` maps each id that is used to train, validation, test or unlabelled; `calibration` are ids out of train;
    `findings` tell what was left out, and which tasks have no test or validation row."""

    of: Mapping[str, str]
    calibration: frozenset[str]
    findings: tuple[Finding, ...]

    def ids(self, split: str) -> Sequence[str]:
        """In their order."""
        return [identity for identity, where in self.of.items() if where == split]


def normalised(text: str) -> str:
    """For comparing: NFKC, without case, white space made one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def group_of(row: Row) -> str:
    """The digest of the group that it names, or of its normalised prompt, system message and all."""
    return digest_of(row.group) if row.group else _prompt(row)


def _prompt(row: Row) -> str:
    return digest_of([[message.role, normalised(message.content)] for message in row.messages])


def without_copies(corpus: Corpus) -> Corpus:
    """Each row once, and no group in two splits: it stays in test before validation before train.

    Several different completions of one prompt are no copies: they are several answers.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in corpus.rows:
        groups[group_of(row)].append(row)
    copies: list[tuple[Row, Row]] = []
    leaks: list[tuple[Row, Row]] = []
    for rows in groups.values():
        first: dict[tuple[str, str, str], Row] = {}
        kept = min(rows, key=lambda row: _STRICTNESS[row.given])
        for row in rows:
            twin = first.setdefault((row.given, _prompt(row), normalised(row.completion)), row)
            if row.given != kept.given:
                leaks.append((row, kept))
            elif twin is not row:
                copies.append((row, twin))
    out = {row.id for row, _ in (*copies, *leaks)}
    return Corpus(
        tuple(row for row in corpus.rows if row.id not in out),
        (*corpus.findings, *_told("copies", "warning", "are there already", copies), *_told(
            "leak", "error", "have the prompt of another split and are left out of theirs", leaks)),
    )  # fmt: skip


def _told(kind: str, severity: str, what: str, pairs: Sequence[tuple[Row, Row]]) -> list[Finding]:
    if not pairs:
        return []
    shown = listed(f"{row.where} = {other.where}" for row, other in pairs)
    rows = tuple(row.id for row, _ in pairs)
    number = "1 row" if len(pairs) == 1 else f"{len(pairs)} rows"
    return [Finding(kind, "error" if severity == "error" else "warning", f"{number} {what}: {shown}", rows)]


def place(
    rows: Sequence[Row], *, seed: int, test_share: float, validation_share: float, calibration_rows: int = 0
) -> Placed:
    """Split rows by chance where their files do not say: task by task, and whole groups of one prompt.

    A row with neither completion nor answer can be scored by nobody: it is unlabelled unless its file says otherwise,
    and where rows to test with are drawn from those to train on, there too.
    The same rows and seed give the same splits in any order. Call it with rows `without_copies`.
    """
    drawn_from = ("",) if any(row.given == "test" for row in rows) else ("", "train")
    loose = {
        row.id for row in rows
        if row.given == "unlabelled" or (row.given in drawn_from and not (row.labelled or row.answer))
    }  # fmt: skip
    members = [Member(row.id, row.task, group_of(row), row.given) for row in rows if row.id not in loose]
    splits = split_rows(
        members, seed=seed, test_share=test_share, validation_share=validation_share, calibration_rows=calibration_rows
    )
    tested = {member.group for member in members if splits.of[member.id] in ("test", "validation")}
    shown = [row for row in rows if row.id in loose and group_of(row) in tested]
    of = dict(splits.of) | {row.id: "unlabelled" for row in rows if row.id in loose and row not in shown}
    findings = []
    if shown:
        message = f"{len(shown)} unlabelled rows have a prompt of test or validation and are left out"
        findings.append(Finding("leak", "error", message, tuple(row.id for row in shown)))
    for split, task in splits.missing:
        message = f"no {split} row{f' of the task {task}' if task else ''}: give one in {split}.jsonl, or more rows"
        findings.append(Finding("empty-split", "warning", message))
    ordered = {row.id: of[row.id] for row in rows if row.id in of}
    return Placed(ordered, splits.calibration, tuple(findings))
