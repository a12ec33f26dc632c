"""How a product and a brief are put to a model, and how its draft becomes a text.

What is copied (names, brands, sizes) a model is neither shown nor asked to spell: it writes a mark where the value
stands, and the value is put there as the catalogue has it. So no number and no name can be misspelt or made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from toolkit_content.products import Product
from toolkit_content.slots import Pack, SlotFault, faults_of, said_spans

MARK = re.compile(r"\[([^\[\]]{1,64})\]")
"""A place in a draft for an attribute: its name in square brackets."""

_LISTED = re.compile(r"(\[[^\[\]]+\])(?:(?:\s*[,，、;/&]\s*|\s*[,，]?\s*(?:\band\b|以及|和|及|与)\s*)\1)+")
"""Marks of one attribute in a row: its values, one after the other, which one mark stands for."""

SAID = ", "
"""Between several values of an attribute in a prompt."""


@dataclass(frozen=True)
class Brief:
    """What copy is wanted: of which form, in which tone, for which channel, and in which language."""

    form: str = "description"
    tone: str = "plain"
    channel: str = ""
    language: str = "en"
    must: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def prompt_of(product: Product, brief: Brief, pack: Pack) -> str:
    """The attributes in the pack's order, those that are copied as marks, after what is wanted."""
    names = [name for name in pack.slots if name in product.attributes]
    names += [name for name in product.attributes if name not in pack.slots]
    facts = [_fact(pack, name, product.attributes[name]) for name in names]
    return f"{brief.language} {brief.form}, {brief.tone}: {'; '.join(facts)}"


def _fact(pack: Pack, name: str, values: Sequence[str]) -> str:
    return f"[{name}]" if pack.slot(name).copied else f"{name}={SAID.join(values)}"


def marks_of(product: Product, pack: Pack) -> tuple[str, ...]:
    """The marks that a draft must hold: of every attribute that is copied."""
    return tuple(f"[{name}]" for name in product.attributes if pack.slot(name).copied)


def draft_of(product: Product, text: str, pack: Pack) -> str:
    """A text as a model should have drafted it: a mark for each copied value, its longest first."""
    draft = text
    copied = {name: values for name, values in product.attributes.items() if pack.slot(name).copied}
    for name, (value, *more) in copied.items():
        if value in pack.slot(name).values and not more:
            draft = pack.slot(name).values[value].sub(f"[{name}]", draft)
    literally = [(value, name) for name, values in copied.items() for value in values]
    for value, name in sorted(literally, key=lambda pair: -len(pair[0])):
        for start, end in reversed(list(said_spans(name, value, draft))):
            draft = f"{draft[:start]}[{name}]{draft[end:]}"
    return _LISTED.sub(r"\1", draft)


def text_of(product: Product, draft: str, pack: Pack) -> tuple[str, Sequence[SlotFault]]:
    """The draft with the values in place, and what is wrong with it, faults of the whole text included.

    A mark of no attribute is an invention. A sentence that begins with a value begins with a capital.
    """
    unknown = [SlotFault("invented", name, name) for name in MARK.findall(draft) if name not in product.attributes]
    text = _sentences(MARK.sub(lambda mark: _value(product.attributes, mark[1], pack), draft))
    return text, [*unknown, *faults_of(product, text, pack)]


def _value(attributes: Mapping[str, tuple[str, ...]], name: str, pack: Pack) -> str:
    """The attribute's values as they are written, or in the pack's phrases; without one, nothing."""
    return pack.phrased(name, attributes.get(name, ()))


def _sentences(text: str) -> str:
    """One space between words, lines as they are, and a capital at the beginning of every sentence."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    return re.sub(r"(?:^|(?<=[.!?] ))([a-zà-ÿ])", lambda first: first[1].upper(), text, flags=re.MULTILINE)


def spans_of(product: Product, text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where a text says an attribute's value as it is written, for a page that shows it."""
    for name, values in product.attributes.items():
        for value in values:
            yield from ((name, span) for span in said_spans(name, value, text))
