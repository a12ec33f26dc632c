"""What is learnt to say to each prompt: the completion its row came with, or what the teacher wrote to it.

What a teacher wrote is kept only where it came to its end and, of a row whose answer is known, gives that answer:
verified chains of thought (DeepSeek-R1, arXiv 2501.12948). Knows no tokens; `labelling` decides who is asked what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
    """A row with its completion, and by whom it was said."""

    row: Row
    by: str = GIVEN


@dataclass(frozen=True)
class Unit:
    """What is learnt of one row of a split: one completion, or as many as the teacher's answers are good for."""

    split: str
    learnt: tuple[Learnt, ...]


def prompts_of(rows: Iterable[Row], samples: int) -> Sequence[Prompt]:
    """What a teacher is asked of these rows, each several times."""
    return [
        Prompt(row.id if number == 0 else f"{row.id}#{number}", row.messages, number)
        for row in rows
        for number in range(samples)
    ]


@dataclass
class Judge:
    """Keeps what can be learnt of a teacher's answers; counts those asked for, cut off and wrong, and their cost."""

    by: str
    asked: int = 0
    kept: int = 0
    cut_off: int = 0
    wrong: int = 0
    cost: float = 0.0

    def unit(self, row: Row, split: str, answers: Iterable[Completion]) -> Unit:
        """The good ones among the answers to a row, each once."""
        learnt: dict[str, Learnt] = {}
        for answer in answers:
            self.asked += 1
            self.cost += answer.cost
            text = said(answer)
            if answer.finish != "stop" or not answer.text.strip():
                self.cut_off += 1
            elif row.answer and not answers_right(answer.text, row.answer):
                self.wrong += 1
            else:
                learnt.setdefault(text, Learnt(replace(row, id=answer.prompt_id, completion=text), self.by))
        self.kept += len(learnt)
        return Unit(split, tuple(learnt.values()))

    def counts(self) -> Mapping[str, float]:
        """For the report."""
        return {name: value for name, value in asdict(self).items() if name != "by"}

    def check(self) -> None:
        """Refuse a teacher of whom nothing can be learnt.

        Raises:
            DataError: nothing was kept.
        """
        if self.asked and not self.kept:
            raise DataError(
                f"of {self.asked:,} answers of the teacher none can be learnt: {self.cut_off:,} were cut off, "
                f"{self.wrong:,} wrong",
                hint="Let it write more (text.answer_tokens), ask it several times (text.samples), or choose another.",
            )


def said(answer: Completion) -> str:
    """What is learnt of an answer: how a reasoning model thought before it, in the form that R1 writes it, and the
    answer."""
    text = answer.text.strip()
    return f"<think>\n{answer.reasoning.strip()}\n</think>\n\n{text}" if answer.reasoning.strip() else text


def write(folder: Path, units: Iterable[Unit]) -> None:
    """Into completions.jsonl, one unit a line."""
    lines = (json.dumps(asdict(unit), ensure_ascii=False) + "\n" for unit in units)
    write_file(folder / FILE, "".join(lines).encode())


def read(folder: Path) -> Sequence[Unit]:
    """What `write` wrote."""
    records = [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").split("\n") if line]
    return [Unit(one["split"], tuple(_learnt(**learnt) for learnt in one["learnt"])) for one in records]


def _learnt(row: dict[str, Any], by: str) -> Learnt:
    messages = tuple(Message(**turn) for turn in row.pop("messages"))
    return Learnt(Row(messages=messages, **row), by)
