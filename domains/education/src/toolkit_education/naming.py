"""How a large model is asked which words of a problem are its people, things and places: in words, after examples.

It reads the problem itself, where the student sees signs. What it says is taken back to signs, and counts only where a
problem can be re-themed by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from toolkit.tasks.text_generation.translating import Translated
from toolkit.text import Completion, Message, Prompt
from toolkit.text_teachers import TextTeacher
from toolkit_education.generators.themes import themes
from toolkit_education.items import ItemModel
from toolkit_education.practising import Exercise
from toolkit_education.retheming import PARTS, draft_of, rethemed, source_of

MANNER = "namer 1"
EXAMPLES = 2
"""Problems that a teacher is shown."""

_SLOTS = {
    "en": "A, B: two people; thing, things: what is counted, one and several; other, others: a second such thing, one "
    "and several; box, boxes: what they are put into, one and several; group: several who share; place; stuff: what "
    "is weighed; strip: what is cut by its length; field: what has an area",
    "zh": "A、B：两个人；thing：所数的东西；other：第二种东西；box：装东西的容器；group：一起分的人；place：地点；"
    "stuff：称重的东西；strip：按长度剪的东西；field：有面积的地方",
}
_ASKED = {
    "en": "Which words of this problem name its people, things and places? Answer in one line, as slot=word; "
    "slot=word, with words exactly as the problem has them, and leave out slots that it has no word for. "
    "Slots: {slots}.\n\n{problem}",
    "zh": "这道题里哪些词是人物、东西和地点？只回答一行，写成“槽=词; 槽=词”，词要和题目里完全一样，"
    "题目里没有的槽不要写。槽：{slots}。\n\n{problem}",
}
_PAIR = re.compile(r"\s*([A-Za-z]+)\s*[=:：＝]\s*([^;；\n]+)")


@dataclass(frozen=True)
class Namer:
    """Asks about problems. `shown` are exercises by language whose words a teacher may be shown."""

    shown: Mapping[str, Sequence[Exercise]]

    @classmethod
    def of(cls, known: Iterable[Exercise]) -> Namer:
        """Shows the first ones that are learnt."""
        shown: dict[str, list[Exercise]] = {}
        for one in known:
            if one.split == "train" and len(shown.setdefault(one.model.language, [])) < EXAMPLES:
                shown[one.model.language].append(one)
        return cls(shown)

    def messages(self, model: ItemModel) -> tuple[Message, ...]:
        """A conversation in which other problems were answered, and then this one is asked about."""
        turns: list[Message] = []
        for one in self.shown.get(model.language, ()):
            said = "; ".join(f"{slot}={word}" for slot, word in one.words.items() if word in source_of(one.model))
            turns += [Message("user", _asked(one.model)), Message("assistant", said)]
        return (*turns, Message("user", _asked(model)))


def _asked(model: ItemModel) -> str:
    problem = source_of(model).replace(PARTS, "\n")
    return _ASKED[model.language].format(slots=_SLOTS[model.language], problem=problem)


def draft_from(model: ItemModel, said: str) -> str:
    """What a teacher named, as a student is to say it; empty where it named nothing of the problem."""
    known = next(iter(themes().values())).words[model.language]
    words = {slot: word.strip().strip(".。'\"“”") for slot, word in _PAIR.findall(said.rpartition("</think>")[2])}
    return draft_of(model, {slot: word for slot, word in words.items() if slot in known and word})


def naming_teacher(teacher: TextTeacher, models: Mapping[str, ItemModel], namer: Namer) -> Translated:
    """A teacher that names words. `models` are problems by what a student is asked about them."""

    asked: dict[str, ItemModel] = {}

    def put(prompt: Prompt) -> Prompt:
        asked[prompt.id] = models[prompt.messages[-1].content]
        return replace(prompt, messages=namer.messages(asked[prompt.id]))

    def read(answer: Completion) -> Completion:
        model = asked[answer.prompt_id]
        draft = draft_from(model, answer.text)
        theme = next(iter(themes().values()))
        if not isinstance(rethemed(model, draft, theme.words[model.language], theme.id), ItemModel):
            return replace(answer, finish="content_filter")
        return replace(answer, text=draft)

    return Translated(teacher, MANNER, put, read)
