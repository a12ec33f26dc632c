"""The sample catalogue: things that nobody sells, in English and Chinese, for a newcomer who brings no products.

Every product follows from its number alone. Its texts are made of a pack's own sentences, drawn anew for each; some
products have none, and the teacher writes about those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit_content.drafting import Brief, prompt_of
from toolkit_content.products import Product
from toolkit_content.slots import Pack, load_pack
from toolkit_content.templates import composed, for_title

PACKS = ("household-en", "household-zh")
FORMS = ("description", "title", "bullets", "post")
PATTERN, AS_PEOPLE = "pattern", 0.3
"""The tone of a pack's own sentences, and the share of them that is put as people's texts are."""

TEXTS = 3
"""Different texts of a product to learn from."""

_SYLLABLES = ("nor", "dal", "vi", "ka", "lum", "bre", "sol", "ti", "ma", "ren", "ost", "el", "fjo", "ran", "ku", "mi")
_RANGES: Mapping[str, Mapping[str, tuple[int, int, int, str, str]]] = {
    "kettle": {"capacity": (8, 25, 1, "{:.1f} L", "{:.1f} 升"), "power": (1000, 3000, 100, "{:.0f} W", "{:.0f} 瓦")},
    "headphones": {
        "battery": (8, 60, 1, "{:.0f} hours", "{:.0f} 小时"),
        "power": (5, 40, 5, "{:.0f} mW", "{:.0f} 毫瓦"),
    },
    "backpack": {"capacity": (10, 45, 1, "{:.0f} litres", "{:.0f} 升")},
    "desk lamp": {"power": (4, 20, 1, "{:.0f} W", "{:.0f} 瓦"), "battery": (4, 40, 1, "{:.0f} hours", "{:.0f} 小时")},
    "vacuum flask": {"capacity": (300, 1200, 50, "{:.0f} ml", "{:.0f} 毫升")},
    "office chair": {},
}
_WEIGHT, _WARRANTY = (150, 9800, 50, "{:.0f} g", "{:.0f} 克"), (1, 10, 1, "{:.0f} years", "{:.0f} 年")
_TENTHS = 10.0


@dataclass(frozen=True)
class Sampled:
    """A row of the sample: a product, what is wanted of it, and a draft; empty where the teacher is to write it."""

    product: Product
    brief: Brief
    split: str
    draft: str = ""

    def prompt(self, pack: Pack) -> str:
        return prompt_of(self.product, self.brief, pack)


def sampled(seed: int, *, products: int, tested: int, untold: int) -> Iterator[Sampled]:
    """The rows of so many products with texts in each language, of so many to test with, and of so many, in English,
    about which the teacher is to write a description."""
    for pack in map(load_pack, PACKS):
        for number in range(products + tested):
            split = "train" if number < products else "test"
            draw = np.random.default_rng((seed, PACKS.index(pack.name), number))
            product = _product(pack, f"{pack.language}-{number}", draw)
            for form in FORMS:
                brief = Brief(form=form, language=pack.language)
                about = for_title(product, pack) if form == "title" else product
                texts = {composed(about, brief, pack, draw) for _ in range(TEXTS if split == "train" else 1)}
                yield from (Sampled(about, brief, split, text) for text in sorted(texts))
    pack = load_pack(PACKS[0])
    for number in range(untold):
        draw = np.random.default_rng((seed, len(PACKS), number))
        yield Sampled(_product(pack, f"untold-{number}", draw), Brief(), "unlabelled")


def practised(pack: Pack, seed: int, many: int) -> Iterator[Sampled]:
    """Products of any attributes of a pack, in its own sentences: so a student meets what few texts speak of. Most bear
    a tone of their own, so that it writes as people do where it is asked for another."""
    for number in range(many):
        draw = np.random.default_rng((seed, 7, number))
        names = [name for place, name in enumerate(pack.slots) if place == 0 or draw.random() < 0.5]
        attributes = {
            name: (str(draw.choice(list(pack.slots[name].values))) if pack.slots[name].values else f"some {name}",)
            for name in names
        }
        tone = "plain" if draw.random() < AS_PEOPLE else PATTERN
        product, brief = (
            Product(f"pattern-{pack.language}-{number}", attributes),
            Brief(tone=tone, language=pack.language),
        )
        yield Sampled(product, brief, "train", composed(product, brief, pack, draw))


def _product(pack: Pack, identity: str, draw: np.random.Generator) -> Product:
    """A thing with a made-up name and some attributes."""
    zh = pack.language == "zh"
    category = str(draw.choice(list(_RANGES)))
    found = {
        "brand": "".join(draw.choice(_SYLLABLES, 2)).capitalize(),
        "model": f"{draw.choice(list('ABEKMSTX'))}{draw.integers(1, 990)}",
        "category": category,
    }
    for name in ("colour", "material", "use"):
        if draw.random() < 0.75:
            found[name] = str(draw.choice(list(pack.slots[name].values)))
    for name, span in _RANGES[category].items():
        if draw.random() < 0.8:
            found[name] = _measured(span, draw, tenths=name == "capacity" and category == "kettle", zh=zh)
    if draw.random() < 0.5:
        found["weight"] = _measured(_WEIGHT, draw, zh=zh)
    if draw.random() < 0.4:
        found["warranty"] = _measured(_WARRANTY, draw, zh=zh)
    for name in ("waterproof", "foldable"):
        if (chance := draw.random()) < 0.5:
            found[name] = "yes" if chance < 0.4 else "no"
    ordered = {name: (found[name],) for name in pack.slots if name in found}
    return Product(identity, ordered, pack.name)


def _measured(
    span: tuple[int, int, int, str, str], draw: np.random.Generator, *, tenths: bool = False, zh: bool
) -> str:
    low, high, step, english, chinese = span
    value = int(draw.integers(low // step, high // step + 1)) * step
    return (chinese if zh else english).format(value / _TENTHS if tenths else value)


README = """# sample: a catalogue of things that nobody sells

This is a **sample**, made by the toolkit's content domain; seed {seed}. Brands, models and figures are made up. Its
texts are drawn from the packs' own sentences, so a score on it says nothing about copy for your products.

Licence: CC0-1.0.
"""


def languages(rows: Sequence[Sampled]) -> Sequence[str]:
    """Those of the rows, each once."""
    return sorted({row.brief.language for row in rows})
