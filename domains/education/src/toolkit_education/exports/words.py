"""The few words that exports add to an item, in its language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.errors import DataError
from toolkit_education.exports.items import Item, clean, unit


@dataclass(frozen=True)
class Words:
    """Of a sheet and around an answer, in one language."""

    unit: str
    sheet: str
    key: str
    name: str
    date: str
    answer: str
    level: str
    solution: str


WORDS: Mapping[str, Words] = {
    "en": Words(
        unit="(Answer in {unit}.)", sheet="Worksheet", key="Answer key", name="Name", date="Date", answer="Answer",
        level="level {level}", solution="Solution",
    ),
    "zh": Words(
        unit="（单位：{unit}）", sheet="练习", key="参考答案", name="姓名", date="日期", answer="答",
        level="第 {level} 级", solution="解答",
    ),
}  # fmt: skip


def words(language: str) -> Words:
    """The words of a language.

    Raises:
        DataError: there are none.
    """
    if language not in WORDS:
        raise DataError(f"no export speaks {language!r}", hint=f"There are {', '.join(WORDS)}.")
    return WORDS[language]


def asked(item: Item) -> str:
    """The problem, and in which unit the answer is to be: for formats that have no place for it beside the answer."""
    said, problem, measure = words(item.language), clean(item.problem).strip(), unit(item)
    return f"{problem}\n{said.unit.replace('{unit}', measure)}" if measure else problem
