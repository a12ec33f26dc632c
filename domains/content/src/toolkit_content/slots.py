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
from toolkit_content.negation import is_denied
from toolkit_content.products import Product
from toolkit_content.quantities import plain, quantities

Fault = Literal["missing", "wrong", "invented"]

YES, NO = "yes", "no"
"""Values of an attribute that is either so or not."""

_PAUSE = re.compile(r"[。！？；，\n]|[.!?;:,](?=\s|$)|\s(?:and|but)\s")
"""What ends a clause."""


@dataclass(frozen=True)
class Slot:
    """An attribute.

    Args:
        values: how each known value may be put; in a text the first one that fits a place has it. Any other value is
            said as it is written.
        also: values that a value makes true too: whoever is rated 5 out of 5 is rated high.
        copied: a model is not shown the values; they are put into its text, as they are written or in their phrases.
        cue: where a text speaks of the attribute at all, though no known value fits. A quantity belongs to the nearest
            cue of its clause.
        alternatives: of several values, one is to be said; elsewhere all are.
        other: what is a value too, but none that the pack describes; it may only be said as it is written.
    """

    name: str
    values: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    also: Mapping[str, frozenset[str]] = field(default_factory=dict)
    copied: bool = True
    cue: re.Pattern[str] | None = None
    other: re.Pattern[str] | None = None
    alternatives: bool = False


@dataclass(frozen=True, eq=False)
class Pack:
    """The attributes of a kind of product, in the order in which they are put to a model; and `templates`' sentences by
    place, with `phrases` for values by attribute. What fits `claims` is to be in some attribute.
    Values that are `plural`, by attribute, make the thing several."""

    name: str
    language: str
    version: str
    slots: Mapping[str, Slot]
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    phrases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    claims: re.Pattern[str] | None = None
    plural: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def slot(self, name: str) -> Slot:
        return self.slots.get(name) or Slot(name)

    def phrased(self, name: str, values: Sequence[str]) -> str:
        """How the values of an attribute are put where a text speaks of it."""
        known, said = self.phrases.get(name, {}), values[:1] if self.slot(name).alternatives else values
        words = [known.get(value, value) for value in said]
        if self.language == "zh":
            return "、".join(words)
        return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


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
        plural = {slot: frozenset(_list(found)) for slot, found in table.get("plural", {}).items()}
        return Pack(
            str(table["name"]), str(table["language"]), str(table["version"]), slots, sentences, phrases,
            _pattern(table.get("claims")), plural,
        )  # fmt: skip
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, re.error) as error:
        raise DataError(f"a pack cannot be read: {error}", hint="Compare it with a built-in one.") from error


def faults_of(product: Product, text: str, pack: Pack) -> Sequence[SlotFault]:
    """What the text gets wrong of the product, slot by slot.

    Values that are said as they are written are found first, and what they cover says nothing else: near the Raja
    Indian Cuisine need not be Indian food. What a text denies it does not say.
    """
    found: list[SlotFault] = []
    left = text
    for name, values in product.attributes.items():
        slot, free, spans = pack.slot(name), text, list[tuple[int, int]]()
        missing = [value for value in values if value not in slot.values]
        for value in sorted(missing, key=len, reverse=True):
            hits = list(said_spans(name, value, free))
            free, spans = _blanked(free, hits), [*spans, *hits]
            wrong = [hit for hit in hits if is_denied(text, hit) or _belongs_elsewhere(slot, text, hit, product, pack)]
            found += [SlotFault("wrong", name, value, hit) for hit in wrong]
            if len(wrong) < len(hits):
                missing.remove(value)
        found += _missing(slot, values, missing)
        left = _blanked(left, spans)
    for name, slot in {**pack.slots, **{name: pack.slot(name) for name in product.attributes}}.items():
        found += _slot_faults(slot, product.attributes.get(name, ()), left)
    names = " ".join(product.attributes).casefold()
    claims = pack.claims.finditer(left) if pack.claims else ()
    found += [SlotFault("invented", "claim", hit[0], hit.span()) for hit in claims if hit[0].casefold() not in names]
    return [*found, *_numbers(product, left, pack)]


def slot_errors(product: Product, text: str, pack: Pack) -> tuple[int, int]:
    """How many slots are missing, wrong or invented, each once, and how many were to be said."""
    return len({fault.slot for fault in faults_of(product, text, pack)}), len(product.attributes)


def _missing(slot: Slot, values: Sequence[str], missing: Sequence[str]) -> Iterator[SlotFault]:
    if not slot.alternatives or len(missing) == len(values):
        yield from (SlotFault("missing", slot.name, value) for value in missing)


def _slot_faults(slot: Slot, values: tuple[str, ...], text: str) -> Iterator[SlotFault]:
    said, denied, left = _said(slot, text)
    yield from _missing(slot, values, [value for value in values if value in slot.values and value not in said])
    true = {*values, *(also for value in values for also in slot.also.get(value, ()))}
    for value, span in said.items():
        if value not in true:
            yield SlotFault("wrong" if values else "invented", slot.name, value, span)
    for value, span in denied.items():
        yield SlotFault("wrong" if values else "invented", slot.name, f"not {value}", span)
    for pattern in [slot.other] if values else [slot.cue, slot.other]:
        if pattern and (hit := pattern.search(left)):
            yield SlotFault("wrong" if values else "invented", slot.name, hit[0], hit.span())


def _said(slot: Slot, text: str) -> tuple[Mapping[str, tuple[int, int]], Mapping[str, tuple[int, int]], str]:
    """The values that a text states, and those that it denies, and where first; and the text without those places.
    Where an attribute is either so or not, to deny the one is to state the other."""
    found: dict[str, tuple[int, int]] = {}
    denied: dict[str, tuple[int, int]] = {}
    left = text
    for value, pattern in slot.values.items():
        spans = [hit.span() for hit in pattern.finditer(left)]
        for span in spans:
            if value == NO or not is_denied(left, span):
                found.setdefault(value, span)
            elif value == YES and NO in slot.values:
                found.setdefault(NO, span)
            else:
                denied.setdefault(value, span)
        left = _blanked(left, spans)
    return found, denied, left


def _belongs_elsewhere(slot: Slot, text: str, span: tuple[int, int], product: Product, pack: Pack) -> bool:
    """Whether a quantity is said of another attribute: its clause's nearest cue, no other quantity between, is not its
    own."""
    value = text[slice(*span)]
    if slot.cue is None or next(quantities(value), None) is None:
        return False
    before = _PAUSE.split(text[: span[0]])[-1]
    after = _PAUSE.split(text[span[1] :])[0]
    cues = [(other.name, other.cue) for other in pack.slots.values() if other.cue]
    gaps = [(before[hit.end() :], name) for name, cue in cues for hit in cue.finditer(before + value)]
    gaps += [(after[: hit.start()], name) for name, cue in cues for hit in cue.finditer(after)]
    near = [(gap, name) for gap, name in gaps if next(quantities(gap), None) is None]
    nearest = min(near, key=lambda one: len(one[0]), default=("", slot.name))[1]
    return nearest != slot.name and value not in product.attributes.get(nearest, ())


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + "\N{FULL BLOCK}" * (end - start) + text[end:]
    return text


def _numbers(product: Product, text: str, pack: Pack) -> Iterator[SlotFault]:
    """Numbers that no attribute states, or with another unit: the most harmful thing to make up."""
    values = [value for values in product.attributes.values() for value in values]
    stated = {(one.number, unit) for value in values for one in quantities(value) for unit in ("", one.unit)}
    bare = {plain(value) for value in values if re.fullmatch(r"[\d.,]+", value)}
    for slot in pack.slots.values():
        text = _said(slot, text)[2]
    for one in quantities(text):
        if (one.number, one.unit) not in stated and one.number not in bare:
            yield SlotFault("invented", "number", text[slice(*one.span)], one.span)


def said_spans(name: str, value: str, text: str) -> Iterator[tuple[int, int]]:
    """Where a text says a value as it is written; a mere yes or no beside the attribute's name, as it says nothing
    alone."""
    for hit in literal(value).finditer(text):
        beside = re.search(rf"{re.escape(name)}\W{{0,3}}$", text[: hit.start()], re.IGNORECASE)
        if value not in (YES, NO) or beside:
            yield hit.span()


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
    if unknown := set(stated) - {"values", "also", "copied", "cue", "other", "alternatives"}:
        raise KeyError(f"the slot {name} has {', '.join(sorted(unknown))}")
    values, also = stated.get("values", {}), stated.get("also", {})
    if not isinstance(values, Mapping) or not isinstance(also, Mapping):
        raise TypeError(f"values and also of the slot {name} are tables")
    patterns = {
        value: re.compile("|".join(f"(?:{one})" for one in _list(said)), re.IGNORECASE)
        for value, said in values.items()
    }
    return Slot(
        name, patterns, {value: frozenset(_list(true)) for value, true in also.items()},
        bool(stated.get("copied", not values)), _pattern(stated.get("cue")), _pattern(stated.get("other")),
        bool(stated.get("alternatives", False)),
    )  # fmt: skip


def _pattern(stated: object) -> re.Pattern[str] | None:
    return re.compile(str(stated)) if stated else None


def _list(said: object) -> Sequence[str]:
    if not isinstance(said, list) or not said or not all(isinstance(one, str) and one for one in said):
        raise TypeError("a value's patterns are a list of texts")
    return said
