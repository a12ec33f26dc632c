"""A learner's next problem: chosen, themed, drawn, verified, and never the same one twice.

Nothing unverified leaves: what cannot be verified is drawn again, then taken from another model, and a theme that a
student could not be trusted with is left out. Every answer says which. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from toolkit.errors import DataError, Refused
from toolkit.serving.written import look_at
from toolkit.text import GenerationRequest, Message, ServedText
from toolkit_education.curriculum import curriculum
from toolkit_education.generators import models as generated
from toolkit_education.generators import themed
from toolkit_education.generators.themes import Theme, themes
from toolkit_education.generators.themes import theme as theme_named
from toolkit_education.items import Item, ItemModel, as_record, draw
from toolkit_education.learner import Choice, choose
from toolkit_education.learner_records import LearnerRecords
from toolkit_education.marking import UNREADABLE, mark
from toolkit_education.numerals import show
from toolkit_education.own_words import OWN, with_words
from toolkit_education.records import item_from_record
from toolkit_education.relations import carried
from toolkit_education.retheming import prompt_of, rethemed
from toolkit_education.units import unit_name
from toolkit_education.verify import Finding, verified
from toolkit_education.working import first_wrong_step

RIGHT = ("right", "right_unit_missing")

FALLEN_BACK = "fallen-back"
"""Why a person should look at a draft: its theme was refused, and the problem is served without one."""

MOST_KEPT = 10_000
"""Items given to nobody in particular that are remembered."""


@dataclass(frozen=True)
class Wanted:
    """What a client asks for. Without a skill the learner model chooses; `words` are a learner's own, by slot."""

    language: str = "en"
    skill: str = ""
    level: int = 0
    theme: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Served:
    """A verified item, why it was chosen, and how it got its theme: generator, student, or none, with the reason."""

    item: Item
    choice: Choice
    theming: str
    because: str = ""

    def problem(self) -> dict[str, Any]:
        """What a learner sees: no answer and no steps."""
        item = self.item
        return {
            "item": item.id, "skill": item.skill, "level": item.level, "language": item.language, "theme": item.theme,
            "problem": item.problem, "unit": unit_name(item.unit, item.language),
            "chosen_because": self.choice.because,
            "theming": {"by": self.theming, "because": self.because},
            "provenance": {"model": item.model, "source": item.source, "checks": list(item.checks)},
        }  # fmt: skip


@dataclass(frozen=True)
class CurriculumSkills:
    """The built-in curriculum as the learner model sees it."""

    def ids(self) -> Sequence[str]:
        return list(curriculum())

    def prerequisites(self, skill: str) -> Sequence[str]:
        return curriculum()[skill].prerequisites

    def levels(self, skill: str) -> int:
        return len(curriculum()[skill].levels)


@dataclass
class Desk:
    """A site's tutor. `bank` are item models beside the generators', by skill, level and language; `drafts` keeps what
    the student wrote to each of the bank's: it holds no numbers and no theme, so it is written once.

    Args:
        request: makes a request of messages.
        mistrust: why the student's themes are not used; empty where they are.
        tries: draws of an item's numbers, before another model is taken.
        free: the free drafts that may be served, by place.
    """

    predictor: ServedText
    request: Callable[..., GenerationRequest]
    records: LearnerRecords
    bank: Mapping[tuple[str, int, str], Sequence[ItemModel]]
    mistrust: str = ""
    tries: int = 8
    free: Callable[[tuple[str, int, str]], Sequence[ItemModel]] = lambda place: ()
    drafts: dict[str, str] = field(default_factory=dict)
    nobodys: OrderedDict[str, Item] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def serve(self, learner: str, wanted: Wanted) -> Served:
        """The next problem of a learner; of nobody where `learner` is empty, and then it is not remembered.

        Raises:
            DataError: no such learner, skill, level, language or theme; or nothing is left to give.
        """
        now = datetime.now(UTC)
        choice = await asyncio.to_thread(self._choice, learner, wanted, now)
        rng = Random(secrets.randbits(64) if wanted.seed is None else wanted.seed)
        for model in await asyncio.to_thread(self._models, choice, wanted, rng):
            dressed, by, because = await self._themed(model, wanted)
            found = await asyncio.to_thread(self._drawn, learner, dressed, choice, rng, now)
            if found is not None:
                return Served(found, choice, by, because)
        raise DataError(
            f"nothing is left to give of {choice.skill} at level {choice.level}", hint="Choose another skill or level."
        )

    def answer(self, learner: str, item: Item, answer: str, working: str) -> dict[str, Any]:
        """The marking of a learner's answer; where there is a learner, their first to this item is remembered. What
        cannot be read is no answer: it is not remembered, and nothing of the solution is told."""
        found = mark(item, answer)
        right, read = found.verdict in RIGHT, found.verdict != UNREADABLE
        wrong = first_wrong_step(item, working) if working and read and not right else None
        if learner and read:
            self.records.answer(
                learner, item.id, item.skill, item.level, right=right, verdict=found.verdict, when=datetime.now(UTC)
            )
        return {
            "item": item.id, "verdict": found.verdict, "right": right, "reason": found.reason,
            "answer": str(item.answer) if read else None,
            "answer_text": show(item.answer, item.language) if read else None,
            "unit": unit_name(item.unit, item.language), "steps": list(item.steps) if read else [],
            "first_wrong_step": None if wrong is None else {
                "line": wrong.line, "text": wrong.text, "kind": wrong.kind, "explanation": wrong.explanation,
            },
        }  # fmt: skip

    def item(self, learner: str, identity: str) -> Item:
        """An item that a learner was given; nobody's, where it is among the last ones. Raises DataError where it is
        not."""
        content = self.records.content(learner, identity) if learner else None
        found = item_from_record(content) if content is not None else None if learner else self.nobodys.get(identity)
        if found is None:
            raise DataError(f"the item {identity} was not given here", hint="Ask for a problem first.")
        return found

    def drawn(self, wanted: Wanted, many: int) -> Iterator[Item]:
        """Different verified items of a skill and level, for a sheet or an export."""
        choice, rng = self._choice("", wanted, datetime.now(UTC)), Random(wanted.seed or 0)
        seen: set[str] = set()
        for _ in range(many * self.tries):
            if len(seen) == many:
                return
            for model in self._models(choice, wanted, rng):
                item = self._drawn("", model, choice, rng, datetime.now(UTC))
                if item is not None and item.problem not in seen:
                    seen.add(item.problem)
                    yield item
                    break

    def _choice(self, learner: str, wanted: Wanted, now: datetime) -> Choice:
        known = curriculum()
        if wanted.skill:
            if wanted.skill not in known:
                raise DataError(f"no skill is named {wanted.skill}", hint="GET /v1/skills lists them.")
            level = wanted.level or 1
            known[wanted.skill].range(level)
            return Choice(wanted.skill, level, "it was asked for")
        if not learner:
            raise DataError(
                "neither a skill nor a learner", hint="Name a skill, or a learner whose next one is chosen."
            )
        state, recent = self.records.state(learner), self.records.recent(learner)
        return choose(state, CurriculumSkills(), now, recent, seed=wanted.seed or 0)

    def _models(self, choice: Choice, wanted: Wanted, rng: Random) -> Sequence[ItemModel]:
        """Item models to try, in an order by chance: the bank's, drafts that may be served, and the generators' in the
        theme that is wanted."""
        theme = theme_named(wanted.theme).id if wanted.theme else rng.choice(list(themes()))
        place = choice.skill, choice.level, wanted.language
        found = [*self.bank.get(place, ()), *self.free(place)]
        found += generated(choice.skill, choice.level, wanted.language, theme)
        return rng.sample(found, len(found))

    async def _themed(self, model: ItemModel, wanted: Wanted) -> tuple[ItemModel, str, str]:
        """The model in the theme that is wanted, by whom, and why not where it is not."""
        words = dict(wanted.words)
        if wanted.theme and not words:
            if model.theme in ("", wanted.theme):
                return model, "generator" if model.theme else "none", ""
            words = dict(theme_named(wanted.theme).words[wanted.language])
        if not words:
            return model, "generator" if model.theme else "none", ""
        if not model.theme and model.source == "generator":
            return model, "none", "the problem has no story"
        base = theme_named(wanted.theme or model.theme or next(iter(themes())))
        theme = with_words(base, words, wanted.language, wanted.theme or OWN)
        found: ItemModel | tuple[Finding, ...]
        if model.source == "generator":  # which word stands where is known
            by, found = "generator", self._rebuilt(model, theme, wanted)
        elif self.mistrust:
            return model, "none", self.mistrust
        else:
            if model.id not in self.drafts:
                self.drafts[model.id] = await self._draft(model)
            by, found = "student", rethemed(model, self.drafts[model.id], theme.words[wanted.language], theme.id)
        if isinstance(found, ItemModel):
            return found, by, ""
        if by == "student":
            look_at(FALLEN_BACK)
        return model, "none", f"the theme was refused: {found[0].message}"

    @staticmethod
    def _rebuilt(model: ItemModel, theme: Theme, wanted: Wanted) -> ItemModel | tuple[Finding, ...]:
        """The model in other words, of which none may be more than a name."""
        heavy = next((word for word in wanted.words.values() if carried(word, wanted.language)), "")
        return (Finding("word", f"{heavy!r} carries arithmetic", "words"),) if heavy else themed(model, theme)

    async def _draft(self, model: ItemModel) -> str:
        asked = self.request((Message("user", prompt_of(model)),))
        return "".join([piece.text async for piece in self.predictor.generate(asked)])

    def _drawn(self, learner: str, model: ItemModel, choice: Choice, rng: Random, now: datetime) -> Item | None:
        """An item of the model that is verified and that the learner has not met; None where there is none."""
        for _ in range(self.tries):
            try:
                item = verified(draw(model, rng.randrange(2**31)), model)
            except (DataError, Refused):
                continue
            if not learner:
                return self._kept(item)
            content = as_record(item)
            if self.records.serve(learner, item.id, choice.skill, choice.level, when=now, content=content):
                return item
        return None

    def _kept(self, item: Item) -> Item:
        """Of nobody's items the last ones are remembered, so that an answer can be marked."""
        with self._lock:
            self.nobodys[item.id] = item
            while len(self.nobodys) > MOST_KEPT:
                self.nobodys.popitem(last=False)
        return item


def by_place(models: Sequence[ItemModel]) -> Mapping[tuple[str, int, str], Sequence[ItemModel]]:
    """Item models by skill, level and language."""
    found: dict[tuple[str, int, str], list[ItemModel]] = {}
    for model in models:
        found.setdefault((model.skill, model.level, model.language), []).append(model)
    return found
