"""What is learnt to say to each prompt: the completion its row came with, or what the teacher wrote to it.

What a teacher wrote is kept only where it came to its end and, of a row whose answer is known, gives that answer:
verified chains of thought (DeepSeek-R1, arXiv 2501.12948). Knows no tokens; `labelling` decides who is asked what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from toolkit.errors import DataError
from toolkit.tasks.text_generation.answers import answers_right
from toolkit.tasks.text_generation.rows import Row
from toolkit.text import Completion, Message, Prompt
from toolkit.workspace import write_file

FILE = "completions.jsonl"

GIVEN = "data"
"""Who said a completion that came with its row."""


@dataclass(frozen=True)
class Learnt:
    """A row with its completion, the split it lies in, and by whom it was said."""

    row: Row
    split: str
    by: str = GIVEN


@dataclass(frozen=True)
class Judged:
    """What is learnt of a teacher's answers; how many there were, were cut off or wrong; and what they cost."""

    learnt: tuple[Learnt, ...] = ()
    asked: int = 0
    cut_off: int = 0
    wrong: int = 0
    cost: float = 0.0

    @property
    def counts(self) -> Mapping[str, float]:
        """All but what is learnt, for the report."""
        return {"asked": self.asked, "cut_off": self.cut_off, "wrong": self.wrong, "cost": self.cost}


def prompts_of(rows: Iterable[Row], samples: int) -> Sequence[Prompt]:
    """What a teacher is asked of these rows, each several times."""
    return [
        Prompt(row.id if number == 0 else f"{row.id}#{number}", row.messages, number)
        for row in rows
        for number in range(samples)
    ]


def judge(rows: Sequence[tuple[Row, str]], samples: int, answers: Iterable[Completion], by: str) -> Judged:
    """Keep what can be learnt of a teacher's answers to `prompts_of` these (row, split), in that order.

    Raises:
        DataError: nothing is left.
    """
    kept: list[Learnt] = []
    asked = cut_off = wrong = 0
    cost = 0.0
    asked_of = ((row, split) for row, split in rows for _ in range(samples))
    seen: set[tuple[str, str]] = set()
    for (row, split), answer in zip(asked_of, answers, strict=True):
        asked, cost, text = asked + 1, cost + answer.cost, said(answer)
        if answer.finish != "stop" or not answer.text.strip():
            cut_off += 1
        elif row.answer and not answers_right(answer.text, row.answer):
            wrong += 1
        elif (row.id, text) not in seen:
            seen.add((row.id, text))
            kept.append(Learnt(replace(row, id=answer.prompt_id, completion=text), split, by))
    if asked and not kept:
        raise DataError(
            f"of {asked:,} answers of the teacher none can be learnt: {cut_off:,} were cut off, {wrong:,} wrong",
            hint="Let it write more (text.answer_tokens), ask it several times (text.samples), or choose another.",
        )
    return Judged(tuple(kept), asked, cut_off, wrong, cost)


def said(answer: Completion) -> str:
    """What is learnt of an answer: how a reasoning model thought before it, in the form that R1 writes it, and the
    answer."""
    text = answer.text.strip()
    return f"<think>\n{answer.reasoning.strip()}\n</think>\n\n{text}" if answer.reasoning.strip() else text


def write(folder: Path, learnt: Iterable[Learnt]) -> None:
    """Into completions.jsonl, one JSON object a line."""
    lines = (json.dumps(asdict(one.row) | {"split": one.split, "by": one.by}, ensure_ascii=False) for one in learnt)
    write_file(folder / FILE, "".join(line + "\n" for line in lines).encode())


def read(folder: Path) -> Sequence[Learnt]:
    """What `write` wrote."""
    records = [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").split("\n") if line]
    return [_learnt(record, record.pop("split"), record.pop("by")) for record in records]


def _learnt(record: dict[str, object], split: str, by: str) -> Learnt:
    turns = record.pop("messages")
    assert isinstance(turns, list)
    messages = tuple(Message(**turn) for turn in turns)
    return Learnt(Row(messages=messages, **record), split, by)  # type: ignore[arg-type]
