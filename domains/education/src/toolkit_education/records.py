"""Items and item models out of JSON: every field is looked at, and the one that is wrong is named.

It checks that a record holds together, not that the problem makes sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import TypeVar

from toolkit.errors import DataError
from toolkit_education.expressions import names_of
from toolkit_education.items import LEVELS, POSITIVE, WHOLE, Constraint, Item, ItemModel, Quantity, Step, digest
from toolkit_education.numerals import LANGUAGES, exact
from toolkit_education.templates import placeholders

T = TypeVar("T")


def model_from_record(record: object) -> ItemModel:
    """The item model of a JSON object, as `items.as_record` wrote it.

    Raises:
        DataError: names the field that is missing, of another type or at odds with the rest.
    """
    reader = _Reader(record, "item model")
    model = ItemModel(
        id=reader.text("id"),
        skill=reader.text("skill"),
        level=reader.level(),
        language=reader.text("language"),
        theme=reader.text("theme", empty=True),
        text=reader.text("text"),
        quantities=reader.list("quantities", _quantity),
        steps=reader.list("steps", _step),
        answer=reader.text("answer"),
        constraints=reader.list("constraints", _constraint),
        source=reader.text("source"),
        licence=reader.text("licence"),
    )
    reader.finish()
    return validate(model)


def item_from_record(record: object) -> Item:
    """The item of a JSON object, as `items.as_record` wrote it.

    Raises:
        DataError: names the field that is missing or of another type, or `id` where it is not the content's digest.
    """
    reader = _Reader(record, "item")
    item = Item(
        id=reader.text("id"),
        model=reader.text("model"),
        skill=reader.text("skill"),
        level=reader.level(),
        language=reader.text("language"),
        theme=reader.text("theme", empty=True),
        problem=reader.text("problem"),
        steps=reader.list("steps", _words),
        answer=reader.number("answer"),
        unit=reader.text("unit", empty=True),
        values=reader.numbers("values"),
        checks=reader.list("checks", _words),
        source=reader.text("source"),
    )
    reader.finish()
    if item.language not in LANGUAGES:
        raise reader.wrong("language", f"is {item.language!r}")
    if item.id != digest(item):
        raise reader.wrong("id", "is not the digest of the content; the record was changed after it was made")
    return item


def validate(model: ItemModel) -> ItemModel:
    """`model`, when it holds together.

    Raises:
        DataError: names the field that does not: names defined twice, an unknown one used, a range without its value.
    """
    _field(model.language in LANGUAGES, model, "language", f"is {model.language!r}, not one of {', '.join(LANGUAGES)}")
    _field(model.level in LEVELS, model, "level", f"is {model.level}, not 1 to 5")
    known: set[str] = set()
    for place, quantity in enumerate(model.quantities):
        where = f"quantities[{place}]"
        _field(quantity.name.isidentifier(), model, f"{where}.name", f"{quantity.name!r} is no name")
        _field(quantity.name not in known, model, f"{where}.name", f"{quantity.name!r} is defined twice")
        _field(quantity.step > 0, model, f"{where}.step", "is not above 0")
        _field(quantity.low <= quantity.value <= quantity.high, model, f"{where}.value", "is not from low to high")
        known.add(quantity.name)
    _known(placeholders(model.text), known, model, "text")
    everything = known | {step.name for step in model.steps}
    for place, step in enumerate(model.steps):
        where = f"steps[{place}]"
        _field(step.name.isidentifier(), model, f"{where}.name", f"{step.name!r} is no name")
        _field(step.name not in known, model, f"{where}.name", f"{step.name!r} is defined twice")
        _known(tuple(names_of(step.expression)), known, model, f"{where}.expression")
        known.add(step.name)
        _known(placeholders(step.words), known if step.words else everything, model, f"{where}.words")
    _field(model.answer in {step.name for step in model.steps}, model, "answer", f"{model.answer!r} is no step")
    for place, constraint in enumerate(model.constraints):
        where = f"constraints[{place}]"
        _field(constraint.must in (POSITIVE, WHOLE), model, f"{where}.must", f"is {constraint.must!r}")
        _known(tuple(names_of(constraint.expression)), known, model, f"{where}.expression")
    return model


def _quantity(value: object, where: str) -> Quantity:
    reader = _Reader(value, where)
    name, unit = reader.text("name"), reader.text("unit", empty=True)
    numbers = [reader.number(key) for key in ("value", "low", "high", "step")]
    reader.finish()
    return Quantity(name, numbers[0], unit, *numbers[1:])


def _step(value: object, where: str) -> Step:
    reader = _Reader(value, where)
    step = Step(
        reader.text("name"),
        reader.text("expression"),
        reader.text("words", empty=True),
        reader.text("unit", empty=True),
    )
    reader.finish()
    return step


def _constraint(value: object, where: str) -> Constraint:
    reader = _Reader(value, where)
    constraint = Constraint(reader.text("expression"), reader.text("must"))
    reader.finish()
    return constraint


def _words(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} is not text", hint="Write a JSON string.")
    return value


def _field(good: bool, model: ItemModel, name: str, what: str) -> None:
    if not good:
        raise DataError(f"item model {model.id}: {name} {what}", hint="Correct the model or leave it out.")


def _known(names: tuple[str, ...], known: set[str], model: ItemModel, where: str) -> None:
    unknown = [name for name in names if name not in known]
    _field(not unknown, model, where, f"uses {', '.join(unknown)}, which is not known there")


class _Reader:
    """Takes the fields of one JSON object, one after the other, and knows where it is."""

    def __init__(self, record: object, where: str) -> None:
        if not isinstance(record, Mapping):
            raise DataError(f"{where} is not an object", hint="Write a JSON object.")
        self.record, self.where, self.taken = record, where, set[str]()

    def wrong(self, key: str, what: str) -> DataError:
        return DataError(f"{self.where}: field {key} {what}", hint="Write records with as_record.")

    def take(self, key: str) -> object:
        if key not in self.record:
            raise self.wrong(key, "is missing")
        self.taken.add(key)
        return self.record[key]

    def finish(self) -> None:
        for key in self.record:
            if key not in self.taken:
                raise self.wrong(str(key), "is not known")

    def text(self, key: str, *, empty: bool = False) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not (value or empty):
            raise self.wrong(key, "is not text")
        return value

    def level(self) -> int:
        value = self.take("level")
        if not isinstance(value, int) or isinstance(value, bool) or value not in LEVELS:
            raise self.wrong("level", f"is {value!r}, not 1 to 5")
        return value

    def number(self, key: str) -> Fraction:
        return self._fraction(self.take(key), key)

    def numbers(self, key: str) -> Mapping[str, Fraction]:
        value = self.take(key)
        if not isinstance(value, Mapping):
            raise self.wrong(key, "is not an object of numbers")
        return MappingProxyType({str(name): self._fraction(one, f"{key}.{name}") for name, one in value.items()})

    def list(self, key: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        value = self.take(key)
        if not isinstance(value, list | tuple):
            raise self.wrong(key, "is not a list")
        return tuple(read(one, f"{self.where}: field {key}[{place}]") for place, one in enumerate(value))

    def _fraction(self, value: object, key: str) -> Fraction:
        if not isinstance(value, str) or len(value) > 200:
            raise self.wrong(key, "is not a number written as text")
        try:
            return exact(value)
        except (ValueError, ZeroDivisionError) as error:
            raise self.wrong(key, f"{value!r} is not a number") from error
