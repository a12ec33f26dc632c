"""What the embedded student practises on: the generators' own sentences, dressed in many words, and which words
those are.

Some words and some templates are kept for test, so that it is seen what a student makes of words, and of sentences,
that it never met.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from toolkit_education.generators import templates
from toolkit_education.generators.template import Template, build
from toolkit_education.generators.themes import Theme
from toolkit_education.items import ItemModel
from toolkit_education.numerals import LANGUAGES
from toolkit_education.retheming import MARK, draft_of, prompt_of

KEPT = 4
"""One word of so many is kept for test, and one template of twice as many."""

_SYLLABLES = tuple(f"{a}{b}" for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "in", "or"))
_SIGNS = "山水火木金石田禾竹米虫鱼鸟马牛羊犬衣布丝门车舟刀弓玉贝云雨雪风电光星日月天地江河湖海花草果瓜豆茶酒盐糖饼面油"

KNOWN, NEW = "known-template", "new-template"


@dataclass(frozen=True)
class Exercise:
    """A problem dressed in words, and which of them it says, by slot in the order of the theme."""

    id: str
    model: ItemModel
    words: Mapping[str, str]
    split: str
    kind: str

    @property
    def prompt(self) -> str:
        return prompt_of(self.model)

    @property
    def draft(self) -> str:
        """What a student is to say."""
        return draft_of(self.words)


def exercises(seed: int, *, dressings: int, tested: int) -> Iterator[Exercise]:
    """Of every template with a story, in both languages: so many dressings to learn from, and so many to test with."""
    for language in LANGUAGES:
        for place, template in enumerate(_stories(language)):
            new = place % (2 * KEPT) == 2 * KEPT - 1
            for number in range(tested if new else dressings + tested):
                split = "test" if new or number >= dressings else "train"
                rng = random.Random(f"{seed}/{template.key}/{language}/{number}")
                words = _words(language, rng, kept=split == "test", made_up=split == "train" and number % 2 == 1)
                theme = Theme("given", MappingProxyType({language: words}))
                yield Exercise(
                    f"{template.key}:{language}:{number}", build(template, template.levels[0], language, theme),
                    said(template, language, words), split, NEW if new else KNOWN,
                )  # fmt: skip


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


def _words(language: str, rng: random.Random, *, kept: bool, made_up: bool) -> Mapping[str, str]:
    """A theme drawn from the vocabulary, out of the words that are kept for test or out of the others; or made up."""

    def pick(name: str, many: int = 1) -> list[Any]:
        if made_up:
            return [_made_up(name, language, rng) for _ in range(many)]
        words = _vocabulary()[language][name]
        border = len(words) - len(words) // KEPT
        return rng.sample(words[border:] if kept else words[:border], many)

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


def _made_up(name: str, language: str, rng: random.Random) -> Any:
    """A word that nobody knows, of the form that the vocabulary's have."""
    if language == "zh":
        word = "".join(rng.sample(_SIGNS, rng.choice((2, 2, 3))))
        return [word, rng.choice("个只张本支块颗枚件份")] if name in ("things", "boxes", "groups") else word
    word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3))))
    if name == "people":
        return word.capitalize()
    if name in ("things", "boxes"):
        several = f"{word} {rng.choice(_SYLLABLES)}{rng.choice(_SYLLABLES)}" if rng.random() < 0.25 else word
        return [several, f"{several}{'es' if several.endswith(('s', 'x')) else 's'}"]
    return f"{word}s" if name == "groups" else f"the {word}" if name == "places" else word


@lru_cache(maxsize=1)
def _vocabulary() -> Mapping[str, Any]:
    text = resources.files("toolkit_education").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
