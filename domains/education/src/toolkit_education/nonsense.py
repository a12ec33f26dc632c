"""Planted nonsense: human item models spoilt on purpose, to see whether a solver tells them from sense.

Each kind changes one thing of the text and leaves the program, so that a solver which only does sums with the numbers
it sees is found out. Deterministic by its seed. English only, as free drafts are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from toolkit.errors import DataError
from toolkit_education.items import ItemModel, compute
from toolkit_education.templates import PLACEHOLDER, placeholders
from toolkit_education.units import unit_named, unit_pattern, units

UNHEARD = ("umbrellas", "walruses", "lighthouses", "trombones", "igloos", "volcanoes", "periscopes", "accordions")
_TURNED: Mapping[str, str] = {
    "more": "fewer", "fewer": "more", "less": "more", "older": "younger", "younger": "older", "longer": "shorter",
    "shorter": "longer", "twice": "half", "half": "twice", "double": "half", "taller": "shorter", "faster": "slower",
}  # fmt: skip
_TURN = re.compile(rf"\b(?:{'|'.join(_TURNED)})\b", re.IGNORECASE)
_QUESTION = re.compile(r"(?:^|(?<=[.!?] ))[^.!?]*\?\s*$")
_SPOKEN = ("minute", "hour", "kg", "km", "l")
"""Units that a changed one becomes, each of another kind."""

Kind = Callable[[ItemModel, random.Random], ItemModel | None]


@dataclass(frozen=True)
class Planted:
    """A spoilt item model, and how."""

    kind: str
    model: ItemModel


def planted(models: Sequence[ItemModel], many: int, seed: int) -> Iterator[Planted]:
    """So many, of all kinds by turns, as far as the models carry them; none twice."""
    rng, seen = random.Random(f"{seed}/nonsense"), set[str]()
    order = rng.sample(list(models), len(models))
    for turn in range(20 * many if order else 0):
        if len(seen) == many:
            return
        kind = list(KINDS)[turn % len(KINDS)]
        model = order[turn // len(KINDS) % len(order)]
        spoilt = KINDS[kind](model, random.Random(f"{seed}/{kind}/{model.id}"))
        if spoilt is not None and f"{kind}/{model.id}" not in seen:
            seen.add(f"{kind}/{model.id}")
            yield Planted(kind, replace(spoilt, id=f"{model.id}!{kind.replace(' ', '-')}"))


def _unmentioned(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """The question is about something that was never mentioned."""
    asked = _QUESTION.search(model.text)
    things = [one for one in UNHEARD if one not in model.text]
    if asked is None or PLACEHOLDER.search(asked[0]) or not model.text[: asked.start()].strip():
        return None
    verb = rng.choice(("are on the roof", "did the mayor paint", "sing in the evening", "are still asleep"))
    return replace(model, text=f"{model.text[: asked.start()]}How many {rng.choice(things)} {verb}?")


def _turned(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """A relation says the contrary."""
    found = [one for one in _TURN.finditer(model.text) if not re.search(r"\bno $", model.text[: one.start()])]
    if not found:
        return None
    one = rng.choice(found)
    word = _TURNED[one[0].lower()]
    word = word.capitalize() if one[0][0].isupper() else word
    return replace(model, text=f"{model.text[: one.start()]}{word}{model.text[one.end() :]}")


def _unit(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """What is measured in one unit is said in one of another kind."""
    found = [(one, unit_named(one.group().strip(" -"), "en")) for one in unit_pattern("en").finditer(model.text)]
    spelt = [(one, unit) for one, unit in found if unit is not None and len(one.group().strip(" -")) > 3]
    if not spelt:
        return None
    one, unit = rng.choice(spelt)
    other = units()[rng.choice([code for code in _SPOKEN if units()[code].kind != unit.kind])]
    names = other.names["en"]
    word = names[-1] if len(names) < 3 else names[2]
    begin = one.start() + len(one.group()) - len(one.group().lstrip(" -"))
    return replace(model, text=f"{model.text[:begin]}{word}{model.text[one.end() :]}")


def _exchanged(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """Two quantities stand in each other's place, where that makes another answer."""
    names = list(dict.fromkeys(placeholders(model.text)))
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    values = model.original()
    for one, other in rng.sample(pairs, len(pairs)):
        try:
            swapped = compute(model, {**values, one: values[other], other: values[one]})
        except DataError:
            continue
        if swapped[model.answer] != compute(model, values)[model.answer]:
            turned = {one: other, other: one}
            text = PLACEHOLDER.sub(
                lambda mark, turned=turned: mark[0].replace(mark[1], turned.get(mark[1], mark[1]), 1), model.text
            )
            return replace(model, text=text)
    return None


def _dropped(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """A number that is needed is not said."""
    found = list(PLACEHOLDER.finditer(model.text))
    if not found:
        return None
    one = rng.choice(found)
    text = f"{model.text[: one.start()]}some{model.text[one.end() :]}"
    return replace(model, text=text) if one[1] not in placeholders(text) else None


def _unused(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """The key answers an earlier step, so that a number which is said plays no part."""
    values = compute(model, model.original())
    earlier = [step.name for step in model.steps[:-1] if values[step.name] != values[model.answer]]
    return replace(model, answer=rng.choice(earlier)) if earlier else None


KINDS: Mapping[str, Kind] = {
    "a thing never mentioned": _unmentioned, "a relation turned": _turned, "a unit changed": _unit,
    "quantities exchanged": _exchanged, "a quantity dropped": _dropped, "a quantity unused": _unused,
}  # fmt: skip
