"""How a kind of question is put to a model, and when its answer is right: numbers, choices and programs.

Prompts, stops and what counts as an answer follow lm-eval 0.4.13 (tasks gsm8k v3, mmlu v1, humaneval v1), so that
figures can be compared. Knows neither files nor models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from toolkit.benchmarks.sandbox import Sandbox

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Question:
    """A question and its key: a worked answer, a letter, or tests that raise where the answer is wrong.

    `part` is the subject of a choice; `entry` the function that a program is to define.
    """

    id: str
    asked: str
    key: str
    choices: tuple[str, ...] = ()
    part: str = ""
    entry: str = ""


Judge = Callable[[Sequence[Question], Sequence[str]], Sequence[Mapping[str, bool]]]
"""Whether each answer is right, by metric."""


@dataclass(frozen=True)
class Form:
    """A kind of question.

    Args:
        metrics: what is counted, the one to quote first.
        shots: examples that stand before a question, unless others are asked for.
        answer_tokens: most tokens of an answer.
        until: texts that end an answer, before which it is cut.
        put: a question as it is asked, without its answer.
        told: an example's answer.
        judge: None where the likeliest of the letters is the answer.
        opening: what stands before all, of a part.
    """

    name: str
    metrics: tuple[str, ...]
    shots: int
    answer_tokens: int
    until: tuple[str, ...]
    put: Callable[[Question], str]
    told: Callable[[Question], str]
    judge: Judge | None
    opening: Callable[[str], str] = lambda part: ""

    def prompt(self, question: Question, examples: Sequence[Question]) -> str:
        """The question behind its examples."""
        told = "".join(f"{self.put(one)}{self.told(one)}\n\n" for one in examples)
        return f"{self.opening(question.part)}{told}{self.put(question)}"

    def cut(self, text: str) -> str:
        """An answer up to the first text that ends it."""
        places = [place for place in (text.find(stop) for stop in self.until) if place >= 0]
        return text[: min(places)] if places else text


_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_LOOSE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_IGNORED = re.compile(r",|\$|.*#### |\.$", re.DOTALL)
_FENCE = re.compile(r"```(?:python)?\s*\n(.*?)(?:```|\Z)", re.DOTALL)


def _numbers(questions: Sequence[Question], texts: Sequence[str]) -> Sequence[Mapping[str, bool]]:
    """`strict_match`: the number behind the first ####. `flexible_extract`: the last number of the text."""

    def same(found: Sequence[str], place: int, key: str) -> bool:
        return bool(found) and _bare(found[place]) == _bare(key)

    return [
        {
            "strict_match": same(_STRICT.findall(text), 0, one.key),
            "flexible_extract": same(_LOOSE.findall(text), -1, one.key),
        }
        for one, text in zip(questions, texts, strict=True)
    ]


def _bare(number: str) -> str:
    return _IGNORED.sub("", number.strip()).lower()


def program_of(question: Question, text: str) -> str:
    """The program that an answer comes to: what it goes on with, or writes whole, between fences where it has any."""
    fenced = _FENCE.search(text)
    code = fenced[1] if fenced else text
    written = re.search(rf"^\s*(?:async )?def {re.escape(question.entry)}\b", code, re.MULTILINE)
    before = _head(question) if written else question.asked
    return f"{before}{code}\n\n{question.key}\n\ncheck({question.entry})\n"


def _head(question: Question) -> str:
    """What stands before the function that is asked for: imports, and functions that it may call."""
    return question.asked.partition(f"def {question.entry}")[0]


def _programs(questions: Sequence[Question], texts: Sequence[str]) -> Sequence[Mapping[str, bool]]:
    """`pass@1`: the program runs through its tests."""
    programs = [program_of(one, text) for one, text in zip(questions, texts, strict=True)]
    return [{"pass@1": ran.passed} for ran in Sandbox().run(programs)]


NUMBER = Form(
    "number", ("strict_match", "flexible_extract"), 5, 256, ("Question:", "</s>", "<|im_end|>"),
    put=lambda one: f"Question: {one.asked}\nAnswer:", told=lambda one: f" {one.key}", judge=_numbers,
)  # fmt: skip

CHOICE = Form(
    "choice", ("acc",), 5, 4, ("\n",),
    put=lambda one: "\n".join(
        [one.asked.strip(), *(f"{LETTERS[n]}. {text}" for n, text in enumerate(one.choices)), "Answer:"]
    ),
    told=lambda one: f" {one.key}", judge=None,
    opening=lambda part: f"The following are multiple choice questions (with answers) about {part}.\n\n",
)  # fmt: skip

PROGRAM = Form(
    "program", ("pass@1",), 0, 1024, ("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
    put=lambda one: one.asked, told=lambda one: one.key, judge=_programs,
)  # fmt: skip
