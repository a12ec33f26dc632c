"""The records of the domain: an item model, an item drawn from it, and both as JSON.

An item model is a problem with named quantities and a small program for its steps (automatic item generation:
Gierl and Haladyna, 2013). Its numbers are drawn and computed, never guessed. What makes an item fit to serve is not
known here (see verify), nor who it is for.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.expressions import ExpressionError, evaluate
from toolkit_education.numerals import decimal_places
from toolkit_education.templates import fill

POSITIVE, WHOLE = "positive", "whole"
LEVELS = (1, 2, 3, 4, 5)

TRIES = 1500  # of drawing all numbers at once; then as many of changing one or two of the original's
_ARTICLE = re.compile(
    r"\b(an?) (\d[\d,]*|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b)", re.I | re.A
)
_AN = re.compile(r"8|1[18](?!\d)|eight|eleven", re.A | re.I)  # 8, 80, 800; 11 and 11,000 but not 110


@dataclass(frozen=True)
class Quantity:
    """A number of the problem: `value` in the original; redrawn as low, low + step, ... up to high, in `unit`."""

    name: str
    value: Fraction
    unit: str
    low: Fraction
    high: Fraction
    step: Fraction


@dataclass(frozen=True)
class Step:
    """A step of the solution: `name` = `expression` of quantities and earlier steps, in `unit`.

    `words` is its sentence with {placeholders}; it is empty where a later step's sentence says it too.
    """

    name: str
    expression: str
    words: str
    unit: str


@dataclass(frozen=True)
class Constraint:
    """An expression of quantities and steps that `must` be positive or whole."""

    expression: str
    must: str


@dataclass(frozen=True)
class ItemModel:
    """A problem whose numbers can be drawn anew. `answer` names a step; `text` holds {placeholders} of quantities."""

    id: str
    skill: str
    level: int
    language: str
    theme: str
    text: str
    quantities: tuple[Quantity, ...]
    steps: tuple[Step, ...]
    answer: str
    constraints: tuple[Constraint, ...]
    source: str
    licence: str

    @property
    def unit(self) -> str:
        """The unit of the answer, empty where it is a bare number or a count."""
        return next(step.unit for step in self.steps if step.name == self.answer)

    def original(self) -> Mapping[str, Fraction]:
        """The original's quantities by name."""
        return MappingProxyType({quantity.name: quantity.value for quantity in self.quantities})


@dataclass(frozen=True)
class Item:
    """A problem with its numbers. `values` holds every quantity and every step's result; `steps` are sentences.

    `checks` are the codes of the checks it passed, empty until it is verified. `id` is a digest of all the rest but
    the checks, so the same content has the same id.
    """

    id: str
    model: str
    skill: str
    level: int
    language: str
    theme: str
    problem: str
    steps: tuple[str, ...]
    answer: Fraction
    unit: str
    values: Mapping[str, Fraction] = field(hash=False)
    checks: tuple[str, ...]
    source: str


def compute(model: ItemModel, quantities: Mapping[str, Fraction]) -> Mapping[str, Fraction]:
    """`quantities` and the result of every step, by name.

    Raises:
        ExpressionError: a step that cannot be computed.
    """
    values = dict(quantities)
    for step in model.steps:
        values[step.name] = evaluate(step.expression, values)
    return MappingProxyType(values)


def render(model: ItemModel, quantities: Mapping[str, Fraction]) -> Item:
    """The item with these quantities: its text and steps written, its answer computed; no check is made.

    Raises:
        DataError: a step that cannot be computed, or a number that its placeholder cannot write.
    """
    values = compute(model, quantities)
    item = Item(
        id="",
        model=model.id,
        skill=model.skill,
        level=model.level,
        language=model.language,
        theme=model.theme,
        problem=fill(model.text, quantities, model.language),
        steps=tuple(fill(step.words, values, model.language) for step in model.steps if step.words),
        answer=values[model.answer],
        unit=model.unit,
        values=values,
        checks=(),
        source=model.source,
    )
    return _replace_id(item, digest(item))


def digest(item: Item) -> str:
    """The id of an item: 20 hexadecimal digits of the SHA-256 of all of its content but the id and the checks."""
    record = as_record(item)
    del record["id"], record["checks"]
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:20]


def draw(model: ItemModel, seed: int, *, tries: int = TRIES) -> Item:
    """An item of `model` with new numbers, not all the original's; the same seed gives the same item.

    Every quantity lies in its range, every constraint holds, and what was positive, whole, of few decimals or other
    than one in the original is so again (a plural noun stays right, nothing is shared out in halves of a child).

    Raises:
        DataError: no such numbers were found in 2 x `tries` attempts.
    """
    rng = random.Random(f"{model.id}/{seed}")
    shape = compute(model, model.original())
    for quantities in _proposals(model, shape, rng, tries):
        try:
            item = render(model, quantities)
        except DataError:  # a number that its placeholder's form cannot write
            continue
        if model.language != "en" or articles_agree(item.problem + " ".join(item.steps)):
            return item
    raise DataError(
        f"item model {model.id}: no numbers fit its constraints", hint="Widen the ranges of its quantities."
    )


def misfit(model: ItemModel, shape: Mapping[str, Fraction], quantities: Mapping[str, Fraction]) -> str:
    """Why these quantities do not fit the model, or nothing when they do; `shape` is the original, computed."""
    values = dict(quantities)
    for name, value in quantities.items():
        if why := _unlike(shape[name], value):
            return f"{name} {why}"
    try:
        for step in model.steps:
            values[step.name] = value = evaluate(step.expression, values)
            if why := _unlike(shape[step.name], value):
                return f"{step.name} {why}"
        for constraint in model.constraints:
            value = evaluate(constraint.expression, values)
            if value <= 0 if constraint.must == POSITIVE else value.denominator != 1:
                return f"{constraint.expression} is not {constraint.must}"
    except ExpressionError as error:
        return error.message
    return ""


def articles_agree(text: str) -> bool:
    """Whether every `a` or `an` before a number is the right one: an 8-hour day, a 10-hour day, an 11, a 110."""
    return all((match[1].lower() == "an") == bool(_AN.match(match[2])) for match in _ARTICLE.finditer(text))


def as_record(what: Item | ItemModel) -> dict[str, object]:
    """An item or an item model as JSON values; a number is a string such as `3` or `3/4`."""
    return {name.name: _plain(getattr(what, name.name)) for name in fields(what)}


def _replace_id(item: Item, identifier: str) -> Item:
    values = {name.name: getattr(item, name.name) for name in fields(item)}
    return Item(**(values | {"id": identifier}))


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Quantity | Step | Constraint):
        return {name.name: _plain(getattr(value, name.name)) for name in fields(value)}
    return value


def _proposals(
    model: ItemModel, shape: Mapping[str, Fraction], rng: random.Random, tries: int
) -> Iterator[Mapping[str, Fraction]]:
    """Quantities that fit: all drawn at once, and where the constraints are narrow, a walk from the original."""
    original = dict(model.original())
    free = [quantity for quantity in model.quantities if quantity.high - quantity.low >= quantity.step]
    if not free:
        return
    for _ in range(tries):
        proposed = original | {quantity.name: _one_of(quantity, rng) for quantity in free}
        if proposed != original and not misfit(model, shape, proposed):
            yield proposed
    here = original
    for turn in range(tries):
        changed = rng.sample(free, min(len(free), rng.choice((1, 2, 2, 3))))
        proposed = here | {quantity.name: _one_of(quantity, rng) for quantity in changed}
        if not misfit(model, shape, proposed):
            here = proposed
        if here != original and turn % 50 == 49:
            yield here


def _one_of(quantity: Quantity, rng: random.Random) -> Fraction:
    return quantity.low + quantity.step * rng.randrange(int((quantity.high - quantity.low) / quantity.step) + 1)


def _unlike(original: Fraction, value: Fraction) -> str:
    if original > 0 >= value:
        return "is not positive"
    if original != 1 and value == 1:
        return "is one where the original was not"
    places = decimal_places(original)
    if places is not None:
        new, most = decimal_places(value), max(places, 2) if places else 0
        if new is None or new > most:
            return f"has more than {most} decimals" if places else "is not whole"
    return ""
