"""What the embedded student practises on: the curriculum's own sentences, and which signs of them are what.

Some templates are kept for test, so that it is seen what a student makes of sentences that it never met.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from toolkit_education.generators import templates
from toolkit_education.generators.template import Template, build
from toolkit_education.generators.themes import Theme
from toolkit_education.items import ItemModel
from toolkit_education.numerals import LANGUAGES
from toolkit_education.retheming import draft_of, prompt_of, signs_of
from toolkit_education.signs import MARK, SIGN

KEPT = 8
"""One template of so many is kept for test."""

MOST_SIGNS = 16

KNOWN, NEW = "known-template", "new-template"


@dataclass(frozen=True)
class Exercise:
    """A problem dressed in words, which of them it says by slot, and what a student is asked and is to say."""

    id: str
    model: ItemModel
    words: Mapping[str, str]
    prompt: str
    draft: str
    split: str
    kind: str


def exercises(seed: int, *, dressings: int, tested: int) -> Iterator[Exercise]:
    """Of every template with a story, in both languages: so many dressings to learn from, and so many to test with."""
    for language in LANGUAGES:
        for place, template in enumerate(_stories(language)):
            new = place % KEPT == KEPT - 1
            for number in range(tested if new else dressings + tested):
                train = not new and number < dressings
                identity = f"{template.key}:{language}:{number}"
                rng = random.Random(f"{seed}/{identity}")
                words = _words(language, rng)
                theme = Theme("given", MappingProxyType({language: words}))
                model = build(template, template.levels[0], language, theme)
                model = _shortened(model, rng) if train else model
                spelt = {slot: word for slot, word in said(template, language, words).items() if signs_of(model, word)}
                prompt, draft = prompt_of(model), draft_of(model, spelt)
                if train:
                    prompt, draft = _renumbered(prompt, draft, rng)
                yield Exercise(
                    identity, model, spelt, prompt, draft, "train" if train else "test", NEW if new else KNOWN
                )


def _shortened(model: ItemModel, rng: random.Random) -> ItemModel:
    """The problem without some of its steps, so that no sentence is known by what stands beside it."""
    return replace(model, steps=tuple(step for step in model.steps if rng.random() < 0.6))


def _renumbered(prompt: str, draft: str, rng: random.Random) -> tuple[str, str]:
    """Both with other numbers on the signs, so that a sign is known by its place in the sentence alone."""
    signs = sorted(set(SIGN.findall(prompt)))
    other = dict(zip(signs, rng.sample([f"W{n}" for n in range(1, MOST_SIGNS + 1)], len(signs)), strict=True))
    return SIGN.sub(lambda sign: other[sign[0]], prompt), SIGN.sub(lambda sign: other[sign[0]], draft)


def said(template: Template, language: str, words: Mapping[str, str]) -> Mapping[str, str]:
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


@lru_cache(maxsize=1)
def _vocabulary() -> Mapping[str, Any]:
    text = resources.files("toolkit_education").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
