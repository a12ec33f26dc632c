"""What is looked at before a teacher labels and a student learns: do the two count in the same tokens, and do the
samples fit. Each failure names its fix. Knows tokenizers and numbers, no model."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, check_end, prompt_ids, rendered

SAMPLED = 64
"""Rows on which token ids are compared."""

RESERVE = 0.05
"""Share of the disk that a cache leaves free."""


@dataclass(frozen=True)
class Side:
    """A teacher or a student: its name for messages, its tokenizer, the rows of its embeddings and head
    (`config.vocab_size`), and the longest sequence it takes (`config.max_position_embeddings`)."""

    name: str
    tokenizer: Tokenizer
    vocabulary: int
    context: int


@dataclass(frozen=True)
class Fit:
    """`vocabulary` is what both heads are cut to; `longest` the sample that takes the most memory."""

    vocabulary: int
    longest: str
    tokens: int


def preflight(
    teacher: Side,
    student: Side,
    rows: Sequence[Row],
    samples: Sequence[Tokenised],
    *,
    vocabulary: int | None = None,
) -> Fit:
    """Check a white-box teacher against its student, on rows and on their tokens.

    Args:
        vocabulary: what both heads are cut to where one is padded more than the other; None: they must be equal.

    Raises:
        PlanError: they do not fit one another, with what would make them.
    """
    for side in (teacher, student):
        check_end(side.tokenizer)
        if len(side.tokenizer) > side.vocabulary:
            raise PlanError(
                f"the {side.name}'s tokenizer has {len(side.tokenizer):,} tokens, its model only {side.vocabulary:,}",
                hint="Use the tokenizer it was saved with, or enlarge it with model.resize_token_embeddings.",
            )
    sampled = spread(rows)
    check_ids(teacher, student, sampled)
    check_templates(teacher, student, sampled)
    shared = shared_vocabulary(teacher, student, vocabulary)
    longest = max(samples, key=len)
    for side in (teacher, student):
        if len(longest) > side.context:
            raise PlanError(
                f"the row {longest.id} has {len(longest):,} tokens, and the {side.name} takes {side.context:,}",
                hint=f"--set text.max_tokens={side.context}: longer rows are left out.",
            )
    return Fit(shared, longest.id, len(longest))


def shared_vocabulary(teacher: Side, student: Side, wanted: int | None) -> int:
    """The number of tokens both heads have, or are cut to: rows beyond the tokenizer are padding for fast products, and
    the same tokenizer is padded to 151,936 rows in one size of a family and to 152,064 in another.

    Raises:
        PlanError: the sizes differ and nothing was said, or what was said cuts real tokens.
    """
    real = max(len(teacher.tokenizer), len(student.tokenizer))
    least = min(teacher.vocabulary, student.vocabulary)
    if wanted is None:
        if teacher.vocabulary == student.vocabulary:
            return least
        sizes = f"the teacher's head has {teacher.vocabulary:,} rows, the student's {student.vocabulary:,}"
        raise PlanError(
            f"{sizes}, of which the tokenizer uses {real:,}",
            hint=f"Cut both to it: --set text.vocabulary={least}; what is cut is padding.",
        )
    if not real <= wanted <= least:
        raise PlanError(
            f"a vocabulary of {wanted:,} is not between the tokenizer's {real:,} and the smaller head's {least:,}",
            hint=f"Choose {least:,}.",
        )
    return wanted


def check_ids(teacher: Side, student: Side, rows: Sequence[Row]) -> None:
    """Both tokenizers make the same ids of the same text: special tokens, and every text of some rows.

    Raises:
        PlanError: they do not, with the first place where they part.
    """
    if teacher.tokenizer.eos_token_id != student.tokenizer.eos_token_id:
        raise PlanError(
            f"a sequence ends with the token {teacher.tokenizer.eos_token_id} for the teacher, and with "
            f"{student.tokenizer.eos_token_id} for the student",
            hint="Give the student the teacher's tokenizer.",
        )
    for row in rows:
        for text in (*(message.content for message in row.messages), row.completion):
            mine, theirs = (
                list(side.tokenizer(text, add_special_tokens=False)["input_ids"]) for side in (student, teacher)
            )
            if mine == theirs:
                continue
            at = next((i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(mine), len(theirs)) if at is None else at
            raise PlanError(
                f"teacher and student have different tokens for the row {row.id}: at token {at + 1} "
                f"{theirs[at : at + 1] or 'the end'} and {mine[at : at + 1] or 'the end'}",
                hint="Give the student the teacher's tokenizer, or learn by text alone: --set recipe.teacher_weight=0",
            )


def check_templates(teacher: Side, student: Side, rows: Sequence[Row]) -> None:
    """Both are asked in the same form: the teacher is scored on the student's prompts, and says little of sense to a
    form that it was not trained on.

    Raises:
        PlanError: one has a chat template and the other none, or they put a prompt differently.
    """
    has = [side for side in (teacher, student) if side.tokenizer.chat_template]
    if len(has) == 1:
        lacks = student if has[0] is teacher else teacher
        raise PlanError(
            f"the {has[0].name}'s tokenizer has a chat template, the {lacks.name}'s none",
            hint=f"Copy it: give the {lacks.name} the {has[0].name}'s chat_template.jinja, or remove both.",
        )
    for row in rows:
        if prompt_ids(row.messages, teacher.tokenizer) != prompt_ids(row.messages, student.tokenizer):
            first = rendered(row.messages, teacher.tokenizer)[:40]
            raise PlanError(
                f"teacher and student put the prompt of the row {row.id} differently; the teacher's begins {first!r}",
                hint="Give the student the teacher's chat_template.jinja.",
            )


def check_disk(folder: Path, tokens: int, bytes_per_token: int) -> None:
    """Whether what a teacher says of so many tokens fits on the disk of `folder`.

    Raises:
        EnvironmentUnfit: it does not.
    """
    needed = tokens * bytes_per_token
    place = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(place)
    if needed > usage.free - RESERVE * usage.total:
        raise EnvironmentUnfit(
            f"the teacher cache needs {needed / 1e6:,.0f} MB, and {place} has {usage.free / 1e6:,.0f} MB free",
            hint="Free some, keep fewer of the teacher's best tokens (k), or label fewer rows.",
        )


def spread(rows: Iterable[Row]) -> Sequence[Row]:
    """Some rows out of all, evenly."""
    rows = list(rows)
    return rows[:: max(1, len(rows) // SAMPLED)][:SAMPLED]
