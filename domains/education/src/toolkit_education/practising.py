"""What the embedded student practises on: the curriculum's own sentences, and which signs of them are what.

Some templates are kept for test, so that it is seen what a student makes of sentences that it never met.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from toolkit_education.generators import templates
from toolkit_education.generators.template import Template, build
from toolkit_education.generators.themes import Theme, themes
from toolkit_education.items import ItemModel
from toolkit_education.numerals import LANGUAGES
from toolkit_education.retheming import draft_of, prompt_of, signs_of
from toolkit_education.signs import MARK

KEPT = 4
"""One template of so many is kept for test."""


_SENTENCE = re.compile(r"[^.?。？]+[.?。？]?")


@dataclass(frozen=True)
class Exercise:
    """A problem dressed in words, and which of them it says, by slot in the order of the theme."""

    id: str
    model: ItemModel
    words: Mapping[str, str]
    split: str

    @property
    def template(self) -> str:
        return self.id.rpartition(":")[0]

    @property
    def prompt(self) -> str:
        return prompt_of(self.model)

    @property
    def draft(self) -> str:
        """What a student is to say."""
        return draft_of(self.model, self.words)


def exercises(seed: int, *, dressings: int, tested: int) -> Iterator[Exercise]:
    """Of every template with a story, in both languages: so many dressings to learn from, or so many to test with."""
    for language in LANGUAGES:
        stories = _stories(language)
        learnt = [template for place, template in enumerate(stories) if place % KEPT < KEPT - 1]
        for template in stories:
            train = template in learnt
            for number in range(dressings if train else tested):
                identity = f"{template.key}:{language}:{number}"
                rng = random.Random(f"{seed}/{identity}")
                words = _words(language, rng)
                other = rng.choice(learnt) if train and number % 2 else template
                model = _mixed(template, other, language, words, rng) if train else _built(template, language, words)
                told = said(template, language, words) | said(other, language, words)
                left = {slot: word for slot, word in told.items() if signs_of(model, word)}
                if left:
                    yield Exercise(identity, model, left, "train" if train else "test")


def _mixed(
    template: Template, other: Template, language: str, words: Mapping[str, str], rng: random.Random
) -> ItemModel:
    """Some sentences of one template, or of two: so no sentence is known by what stands beside it."""
    model, second = _built(template, language, words), _built(other, language, words)
    texts = [model.text] if other is template else [model.text, second.text]
    sentences = [one.strip() for text in texts for one in _SENTENCE.findall(text) if rng.random() < 0.8]
    steps = model.steps if other is template else [*model.steps, *second.steps]
    joint = " " if language == "en" else ""
    return replace(
        model, text=joint.join(sentences) or model.text, steps=tuple(step for step in steps if rng.random() < 0.5)
    )


def _built(template: Template, language: str, words: Mapping[str, str]) -> ItemModel:
    theme = Theme("given", MappingProxyType({language: words}))
    return build(template, template.levels[0], language, theme)


def said(template: Template, language: str, words: Mapping[str, str]) -> dict[str, str]:
    """Those of a theme's words that a template says."""
    marks = {mark for line in getattr(template, language) for mark in MARK.findall(line)}
    marks |= {mark[:1].lower() + mark[1:] for mark in marks - set(words)}
    return {slot: word for slot, word in words.items() if slot in marks}


@lru_cache(maxsize=2)
def _stories(language: str) -> Sequence[Template]:
    """The templates that have something to re-theme."""
    found = [template for several in templates().values() for template in several]
    return [template for template in found if MARK.search(getattr(template, language)[0])]


def _words(language: str, rng: random.Random) -> Mapping[str, str]:
    """A theme drawn from the vocabulary."""

    def pick(name: str, many: int = 1) -> list[Any]:
        return rng.sample(_vocabulary()[language][name], many)

    first, second = pick("people", 2)
    (thing, second_form), (other, other_form) = pick("things", 2)
    (box, box_form), group = pick("boxes")[0], pick("groups")[0]
    plain = {
        "A": first, "B": second, "thing": thing, "other": other, "box": box, "place": pick("places")[0],
        "stuff": pick("stuff")[0], "strip": pick("strips")[0], "field": pick("fields")[0],
    }  # fmt: skip
    if language == "zh":
        return plain | {"m": second_form, "om": other_form, "bm": box_form, "group": group[0], "gm": group[1]}
    return plain | {"things": second_form, "others": other_form, "boxes": box_form, "group": group}


@lru_cache(maxsize=2)
def known_words(language: str) -> Mapping[str, frozenset[str]]:
    """Every word that a slot may be said with, in the themes and in practice."""
    found: dict[str, set[str]] = {}
    for theme in themes().values():
        for slot, word in theme.words[language].items():
            found.setdefault(slot, set()).add(word)
    listed = _vocabulary()[language]
    pairs = {"things": (("thing", "things"), ("other", "others")), "boxes": (("box", "boxes"),)}
    if language == "zh":
        pairs = {"things": (("thing", "m"), ("other", "om")), "boxes": (("box", "bm"),), "groups": (("group", "gm"),)}
    for name, several in pairs.items():
        for slots in several:
            for words in listed[name]:
                for slot, word in zip(slots, words, strict=True):
                    found.setdefault(slot, set()).add(word)
    alone = {
        "people": ("A", "B"),
        "places": ("place",),
        "stuff": ("stuff",),
        "strips": ("strip",),
        "fields": ("field",),
    }
    alone |= {"groups": ("group",)} if language == "en" else {}
    for name, slots in alone.items():
        for slot in slots:
            found.setdefault(slot, set()).update(listed[name])
    return MappingProxyType({slot: frozenset(words) for slot, words in found.items()})


@lru_cache(maxsize=1)
def _vocabulary() -> Mapping[str, Any]:
    text = resources.files("toolkit_education").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
