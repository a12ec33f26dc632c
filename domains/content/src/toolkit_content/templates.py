"""Copy out of a pack's own sentences: what answers where no draft passes, and what the sample's texts are made of.

Every attribute is said once, by a sentence that says it or several; what no sentence says is put plainly. It writes no
better than its sentences.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from toolkit_content.drafting import MARK, Brief
from toolkit_content.products import Product
from toolkit_content.slots import Pack

_NUMBER = re.compile(r"\(([^()|]*)\|([^()|]*)\)")
"""Words for one thing, and for several."""

_PHRASE = re.compile(r"\{([^{}]{1,64})\}")

TITLE_FACTS = 2
"""Attributes of a title beside those that name the product."""

LINES = "\n"


@functools.lru_cache(maxsize=4096)
def _needs(sentence: str, pack: Pack) -> Mapping[str, str | None]:
    """The attributes that a sentence says; of one that it says in its own words, the value."""
    sentence = _NUMBER.sub(r"\1", sentence)
    found: dict[str, str | None] = dict.fromkeys([*MARK.findall(sentence), *_PHRASE.findall(sentence)])
    words = _PHRASE.sub(" ", MARK.sub(" ", sentence))
    for name, slot in pack.slots.items():
        for value, pattern in slot.values.items():
            if name not in found and pattern.search(words):
                found[name] = value
    return found


def _fits(sentence: str, product: Product, pack: Pack) -> bool:
    """Whether all that it says is true of the product."""
    return all(
        name in product.attributes and (value is None or value in product.attributes[name])
        for name, value in _needs(sentence, pack).items()
    )


def composed(product: Product, brief: Brief, pack: Pack, draw: np.random.Generator | None = None) -> str:
    """A draft, with marks for what is copied: sentences that say as much as they can, or drawn by chance."""
    left = set(product.attributes)
    said = [_chosen(pack.sentences.get(form, ()), left, product, pack, draw) for form in _openings(brief)]
    sentences = [one for one in said if one]
    while left and brief.form != "title":
        sentence = _chosen(pack.sentences.get("body", ()), left, product, pack, draw)
        if sentence is None:
            break
        sentences.append(sentence)
    sentences += [_plainly(name, product, pack) for name in product.attributes if name in left]
    joint = LINES if brief.form == "bullets" else "" if pack.language == "zh" else " "
    return joint.join(_phrased(sentence, product, pack) for sentence in sentences)


def for_title(product: Product, pack: Pack) -> Product:
    """Of a product what a title says: what every title of the pack names, and the first attributes beside it."""
    titles = [frozenset(_needs(sentence, pack)) for sentence in pack.sentences.get("title", ())]
    names = frozenset.intersection(*titles) if titles else frozenset()
    extra = [name for name in product.attributes if name not in names and any(name in needs for needs in titles)]
    kept = names | set(extra[:TITLE_FACTS])
    best = max(
        (needs for needs in titles if needs <= kept & set(product.attributes)), key=len, default=frozenset(names)
    )
    chosen = {name: values[:1] for name, values in product.attributes.items() if name in best}
    return replace(product, attributes=chosen or dict(list(product.attributes.items())[:TITLE_FACTS]))


def _openings(brief: Brief) -> Sequence[str]:
    return {"title": ("title",), "post": ("post",)}.get(brief.form, ("lead",))


def _chosen(
    sentences: Sequence[str], left: set[str], product: Product, pack: Pack, draw: np.random.Generator | None
) -> str | None:
    """A sentence that says only what is left to say; it is left no more. What names the product may be said again."""
    says = {one: frozenset(_needs(one, pack)) for one in sentences if _fits(one, product, pack)}
    fitting = [one for one, needs in says.items() if needs & left and needs - left <= _names(product)]
    if not fitting:
        return None
    if draw is None:
        sentence = max(fitting, key=lambda one: len(says[one] & left))
    else:  # as the attributes come, which is what a student can follow; one of their sentences by chance
        first = next(name for name in product.attributes if any(name in says[one] & left for one in fitting))
        fitting = [one for one in fitting if first in says[one]]
        sentence = fitting[int(draw.integers(len(fitting)))]
    left -= says[sentence]
    return sentence


def _names(product: Product) -> frozenset[str]:
    return frozenset({"brand", "name"} & set(product.attributes))


def _plainly(name: str, product: Product, pack: Pack) -> str:
    told = f"[{name}]" if pack.slot(name).copied else "{" + name + "}"
    return f"{name}：{told}。" if pack.language == "zh" else f"{name[:1].upper()}{name[1:]}: {told}."


def _phrased(sentence: str, product: Product, pack: Pack) -> str:
    def phrase(found: re.Match[str]) -> str:
        if pack.slot(found[1]).copied:
            return f"[{found[1]}]"
        return pack.phrased(found[1], product.attributes.get(found[1], ()))

    several = any(value in pack.plural.get(name, ()) for name, values in product.attributes.items() for value in values)
    return _PHRASE.sub(phrase, _NUMBER.sub(r"\2" if several else r"\1", sentence))
