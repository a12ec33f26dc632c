"""What texts say of attributes: a pack knows how each value of an attribute may be put, and finds it in a text.

Own patterns, in packs that anybody may edit; nothing here is learnt. What a pack does not describe is looked for as it
is written.
"""

from __future__ import annotations

import functools
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from toolkit.errors import DataError
from toolkit_content.products import Product

Fault = Literal["missing", "wrong", "invented"]

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Slot:
    """An attribute.

    Args:
        values: how each known value may be put; in a text the first one that fits a place has it. Any other value is
            said as it is written.
        also: values that a value makes true too: whoever is rated 5 out of 5 is rated high.
        copied: a model is not shown the values; they are put into its text, as they are written or in their phrases.
        cue: where a text speaks of the attribute at all, though no known value fits.
    """

    name: str
    values: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    also: Mapping[str, frozenset[str]] = field(default_factory=dict)
    copied: bool = True
    cue: re.Pattern[str] | None = None


@dataclass(frozen=True, eq=False)
class Pack:
    """The attributes of a kind of product, in the order in which they are put to a model; and `templates`' sentences by
    place, with `phrases` for values by attribute."""

    name: str
    language: str
    version: str
    slots: Mapping[str, Slot]
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    phrases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def slot(self, name: str) -> Slot:
        return self.slots.get(name) or Slot(name)

    def phrases_of(self, name: str, values: Sequence[str]) -> Sequence[str]:
        """How values of an attribute are put."""
        known = self.phrases.get(name, {})
        return [known.get(value, value) for value in values]


@dataclass(frozen=True)
class SlotFault:
    """An attribute that a text does not say, says otherwise, or makes up. `span` is where, empty for what is
    missing."""

    fault: Fault
    slot: str
    value: str
    span: tuple[int, int] = (0, 0)


def load_pack(source: Path | str) -> Pack:
    """A pack by the name of one that is built in, or from a TOML file.

    Raises:
        DataError: it is none.
    """
    built_in = resources.files("toolkit_content") / "packs" / f"{source}.toml"
    try:
        text = built_in.read_text(encoding="utf-8") if isinstance(source, str) else source.read_text(encoding="utf-8")
        return pack_of(text)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"there is no pack {source}", hint="Name a built-in pack, or a TOML file.") from error


def pack_of(text: str) -> Pack:
    """Raises DataError where it is no pack."""
    try:
        table = tomllib.loads(text)
        slots = {name: _slot(name, stated) for name, stated in table["slots"].items()}
        sentences = {place: tuple(_list(found)) for place, found in table.get("sentences", {}).items()}
        phrases = {
            slot: {value: str(said) for value, said in found.items()}
            for slot, found in table.get("phrases", {}).items()
        }
        return Pack(str(table["name"]), str(table["language"]), str(table["version"]), slots, sentences, phrases)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, re.error) as error:
        raise DataError(f"a pack cannot be read: {error}", hint="Compare it with a built-in one.") from error


def faults_of(product: Product, text: str, pack: Pack) -> Sequence[SlotFault]:
    """What the text gets wrong of the product, slot by slot.

    Values that are said as they are written are found first, and what they cover says nothing else: near the Raja
    Indian Cuisine need not be Indian food.
    """
    found: list[SlotFault] = []
    left = text
    for name, values in product.attributes.items():
        written = [value for value in values if value not in pack.slot(name).values]
        spans = [hit.span() for value in written for hit in literal(value).finditer(text)]
        if written and not spans and len(written) == len(values):
            found.append(SlotFault("missing", name, values[0]))
        left = _blanked(left, spans)
    for name, slot in {**pack.slots, **{name: pack.slot(name) for name in product.attributes}}.items():
        found += _slot_faults(slot, product.attributes.get(name, ()), left)
    return [*found, *_numbers(product, left, pack)]


def slot_errors(product: Product, text: str, pack: Pack) -> tuple[int, int]:
    """How many slots are missing, wrong or invented, each once, and how many were to be said."""
    return len({fault.slot for fault in faults_of(product, text, pack)}), len(product.attributes)


def _slot_faults(slot: Slot, values: tuple[str, ...], text: str) -> Iterator[SlotFault]:
    said, left = _said(slot, text)
    known = [value for value in values if value in slot.values]
    if known and not any(value in said for value in known):
        yield SlotFault("missing", slot.name, known[0])
    true = {*values, *(also for value in values for also in slot.also.get(value, ()))}
    for value, span in said.items():
        if value not in true:
            yield SlotFault("wrong" if values else "invented", slot.name, value, span)
    if not values and slot.cue and (hit := slot.cue.search(left)):
        yield SlotFault("invented", slot.name, hit[0], hit.span())


def _said(slot: Slot, text: str) -> tuple[Mapping[str, tuple[int, int]], str]:
    """The values that a text states, and where first; and the text without those places."""
    found: dict[str, tuple[int, int]] = {}
    for value, pattern in slot.values.items():
        if spans := [hit.span() for hit in pattern.finditer(text)]:
            found[value] = spans[0]
            text = _blanked(text, spans)
    return found, text


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + "\N{FULL BLOCK}" * (end - start) + text[end:]
    return text


def _numbers(product: Product, text: str, pack: Pack) -> Iterator[SlotFault]:
    """Numbers that no attribute states: the most harmful thing to make up."""
    stated = {_plain(number) for values in product.attributes.values() for v in values for number in _NUMBER.findall(v)}
    for slot in pack.slots.values():
        text = _said(slot, text)[1]
    for hit in _NUMBER.finditer(text):
        if _plain(hit[0]) not in stated:
            yield SlotFault("invented", "number", hit[0], hit.span())


def _plain(number: str) -> str:
    """12,000 and 12000 are one; 1.70 and 1.7 too."""
    plain = re.sub(r",(?=\d{3}(?:\D|$))", "", number).replace(",", ".")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@functools.lru_cache(maxsize=4096)
def literal(value: str) -> re.Pattern[str]:
    """The value as it is written, in any case and spacing, not inside another word."""
    words = [re.escape(word) for word in re.split(r"[\s-]+", unicodedata.normalize("NFC", value)) if word]
    joined = r"[\s-]+".join(words)
    edge = "[A-Za-z0-9]"
    before = rf"(?<!{edge})" if value[:1].isascii() and value[:1].isalnum() else ""
    after = rf"(?!{edge})" if value[-1:].isascii() and value[-1:].isalnum() else ""
    return re.compile(before + joined + after, re.IGNORECASE)


def _slot(name: str, stated: Mapping[str, object]) -> Slot:
    if unknown := set(stated) - {"values", "also", "copied", "cue"}:
        raise KeyError(f"the slot {name} has {', '.join(sorted(unknown))}")
    values, also, cue = stated.get("values", {}), stated.get("also", {}), stated.get("cue")
    if not isinstance(values, Mapping) or not isinstance(also, Mapping):
        raise TypeError(f"values and also of the slot {name} are tables")
    patterns = {
        value: re.compile("|".join(f"(?:{one})" for one in _list(said)), re.IGNORECASE)
        for value, said in values.items()
    }
    return Slot(
        name, patterns, {value: frozenset(_list(true)) for value, true in also.items()},
        bool(stated.get("copied", not values)), re.compile(str(cue)) if cue else None,
    )  # fmt: skip


def _list(said: object) -> Sequence[str]:
    if not isinstance(said, list) or not said or not all(isinstance(one, str) and one for one in said):
        raise TypeError("a value's patterns are a list of texts")
    return said
