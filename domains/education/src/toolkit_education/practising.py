"""What the embedded student practises on: the generators' own sentences, dressed in many words, and with marks instead.

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
from toolkit_education.retheming import MARK, PARTS, prompt_of

KEPT = 4
"""One word of so many is kept for test, and one template of twice as many."""

KNOWN, NEW = "known-template", "new-template"


@dataclass(frozen=True)
class Exercise:
    """A problem dressed in words, and the sentences with marks that it came from."""

    id: str
    model: ItemModel
    words: Mapping[str, str]
    marked: str
    split: str
    kind: str

    @property
    def prompt(self) -> str:
        return prompt_of(self.model)


def exercises(seed: int, *, dressings: int, tested: int) -> Iterator[Exercise]:
    """Of every template with a story, in both languages: so many dressings to learn from, and so many to test with."""
    for language in LANGUAGES:
        for place, template in enumerate(_stories(language)):
            new = place % (2 * KEPT) == 2 * KEPT - 1
            for number in range(tested if new else dressings + tested):
                split = "test" if new or number >= dressings else "train"
                rng = random.Random(f"{seed}/{template.key}/{language}/{number}")
                words = _words(language, rng, kept=split == "test")
                theme = Theme("given", MappingProxyType({language: words}))
                yield Exercise(
                    f"{template.key}:{language}:{number}", build(template, template.levels[0], language, theme), words,
                    PARTS.join(line for line in getattr(template, language) if line), split, NEW if new else KNOWN,
                )  # fmt: skip


@lru_cache(maxsize=2)
def _stories(language: str) -> Sequence[Template]:
    """The templates that have something to re-theme."""
    found = [template for several in templates().values() for template in several]
    return [template for template in found if MARK.search(getattr(template, language)[0])]


def _words(language: str, rng: random.Random, *, kept: bool) -> Mapping[str, str]:
    """A theme drawn from the vocabulary, out of the words that are kept for test or out of the others."""

    def pick(name: str, many: int = 1) -> list[Any]:
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


@lru_cache(maxsize=1)
def _vocabulary() -> Mapping[str, Any]:
    text = resources.files("toolkit_education").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
