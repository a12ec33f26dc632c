"""Nothing unverified is served: an item is computed again, by two ways, and read back from its own text.

Every check looks at the item as it would be shown. It knows nothing of who it is for, nor of items served before.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from toolkit.errors import DataError, Refused
from toolkit_education.curriculum import skill as skill_of
from toolkit_education.expressions import ExpressionError, Name, Node, Number, Operation, evaluate, literals_of, parse
from toolkit_education.items import Item, ItemModel, articles_agree, compute, digest, misfit
from toolkit_education.suitability import banned_in, too_hard
from toolkit_education.templates import PLACEHOLDER, fill, placeholders, without_placeholders, written
from toolkit_education.units import units
from toolkit_education.wording import in_words, read_words

if TYPE_CHECKING:
    import sympy  # type: ignore[import-untyped]  # it has no type hints

_DIGITS = re.compile(r"(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?<=\d)", re.ASCII)


@dataclass(frozen=True)
class Finding:
    """What is wrong with an item: the check's `code`, a sentence, and `where` it is (a step, a quantity, the text)."""

    code: str
    message: str
    where: str


def verify(item: Item, model: ItemModel, *, banned: Collection[str] = ()) -> tuple[Finding, ...]:
    """Everything that is wrong with an item drawn from `model`; empty when it is verified.

    Args:
        banned: words that a site forbids beside the package's own.
    """
    found = list(_belongs(item, model))
    if found:
        return tuple(found)
    for code, check in CHECKS.items():
        try:
            found.extend(check(item, model))
        except DataError as error:  # the model itself cannot be computed or written
            found.append(Finding(code, error.message, "model"))
    found.extend(Finding("words", f"{word!r} does not belong there", "problem") for word in _unsuitable(item, banned))
    return tuple(found)


def verified(item: Item, model: ItemModel, *, banned: Collection[str] = ()) -> Item:
    """The item with the codes of the checks it passed.

    Raises:
        Refused: it did not pass; the first finding is named.
    """
    found = verify(item, model, banned=banned)
    if found:
        first = found[0]
        raise Refused(f"item {item.id}: {first.message} ({first.code} in {first.where})", hint="Draw another one.")
    return dataclasses.replace(item, checks=("belongs", *CHECKS, "words"))


def numbers_in(text: str) -> Counter[Fraction]:
    """The numbers that stand in a text in digits, each as often as it stands there; `3/4` is a 3 and a 4."""
    return Counter(Fraction(match.group().replace(",", "")) for match in _DIGITS.finditer(text) if match.group())


def symbolic_answer(model: ItemModel, quantities: Mapping[str, Fraction]) -> Fraction:
    """The answer from the quantities alone: all steps nested into one expression, evaluated by sympy's rationals.

    Raises:
        ExpressionError: it cannot be computed.
    """
    import sympy

    trees = {step.name: parse(step.expression) for step in model.steps}
    values: dict[str, sympy.Rational] = {
        name: sympy.Rational(value.numerator, value.denominator) for name, value in quantities.items()
    }
    result = _symbolic(trees[model.answer], trees, values)
    if not result.is_Rational:
        raise ExpressionError(f"the answer is {result}", hint="A step divides by zero.")
    return Fraction(int(result.p), int(result.q))


def _belongs(item: Item, model: ItemModel) -> Iterator[Finding]:
    """The item is of this model, whole, and unchanged since it was made."""
    for name, here, there in (
        ("model", item.model, model.id),
        ("skill", item.skill, model.skill),
        ("level", item.level, model.level),
        ("language", item.language, model.language),
        ("theme", item.theme, model.theme),
        ("source", item.source, model.source),
    ):
        if here != there:
            yield Finding("belongs", f"the item says {here}, its model {there}", name)
    names = {quantity.name for quantity in model.quantities} | {step.name for step in model.steps}
    if set(item.values) != names:
        yield Finding("belongs", f"values of {', '.join(sorted(set(item.values) ^ names))}", "values")
    if item.id != digest(item):
        yield Finding("belongs", "it is not the digest of the content", "id")


def _quantities(item: Item, model: ItemModel) -> dict[str, Fraction]:
    return {quantity.name: item.values[quantity.name] for quantity in model.quantities}


def _computed(item: Item, model: ItemModel) -> Iterator[Finding]:
    """Every step, one after the other, from the item's own numbers."""
    for step in model.steps:
        try:
            value = evaluate(step.expression, item.values)
        except ExpressionError as error:
            yield Finding("computed", error.message, step.name)
            continue
        if value != item.values[step.name]:
            yield Finding("computed", f"{step.expression} is {value}, not {item.values[step.name]}", step.name)
    if item.answer != item.values[model.answer]:
        yield Finding("computed", f"the answer is {item.answer}, step {model.answer} says otherwise", "answer")


def _symbolically(item: Item, model: ItemModel) -> Iterator[Finding]:
    """The answer by the second way."""
    try:
        value = symbolic_answer(model, _quantities(item, model))
    except ExpressionError as error:
        yield Finding("symbolic", error.message, "answer")
        return
    if value != item.answer:
        yield Finding("symbolic", f"from the quantities alone the answer is {value}, not {item.answer}", "answer")


def _read_back(item: Item, model: ItemModel) -> Iterator[Finding]:
    """The numbers in the problem's text are the model's own and every quantity, as often as the model says."""
    wanted, words = numbers_in(without_placeholders(model.text)), Counter[str]()
    for match in PLACEHOLDER.finditer(model.text):
        value, form = item.values[match[1]], match[2] or ""
        if form in ("w", "W"):
            words[in_words(value, item.language).lower()] += 1
        else:
            wanted += numbers_in(written(value, form, item.language))
    found = numbers_in(item.problem)
    for value in sorted(set(wanted | found)):
        if found[value] != wanted[value]:
            yield Finding("read_back", f"{value} stands {found[value]} times, not {wanted[value]}", "problem")
    for word, times in words.items():
        if item.problem.lower().count(word) < times or read_words(word, item.language) is None:
            yield Finding("read_back", f"{word!r} is not in the text", "problem")
    if item.problem != fill(model.text, item.values, model.language):
        yield Finding("read_back", "the text is not the model's with these numbers", "problem")


def _fits(item: Item, model: ItemModel) -> Iterator[Finding]:
    """Every quantity from its range; positive, whole and plural where the original was; the constraints hold."""
    for quantity in model.quantities:
        value = item.values[quantity.name]
        on_grid = ((value - quantity.low) / quantity.step).denominator == 1
        if not quantity.low <= value <= quantity.high or not (on_grid or value == quantity.value):
            yield Finding("fits", f"{value} is not in its range", quantity.name)
    why = misfit(model, compute(model, model.original()), _quantities(item, model))
    if why:
        yield Finding("fits", why, "values")


def _solution(item: Item, model: ItemModel) -> Iterator[Finding]:
    """The worked steps are the model's sentences, and hold no number that is neither given nor computed."""
    sentences = tuple(fill(step.words, item.values, model.language) for step in model.steps if step.words)
    if item.steps != sentences:
        yield Finding("solution", "the steps are not the model's with these numbers", "steps")
    known = set(item.values.values()) | set(numbers_in(item.problem)) | {Fraction(1)}
    for step in model.steps:
        known |= set(literals_of(step.expression))
    for value in item.values.values():
        known |= {Fraction(value.numerator), Fraction(value.denominator)}
    for place, sentence in enumerate(item.steps):
        for value in numbers_in(sentence):
            if value not in known and not re.search(rf"\b{value}(?:st|nd|rd|th)\b", sentence):
                yield Finding("solution", f"{value} is neither given nor computed", f"steps[{place}]")


def _units_agree(item: Item, model: ItemModel) -> Iterator[Finding]:
    """What is added or subtracted is of one unit, and the answer's unit is the last step's."""
    unit_of = {quantity.name: quantity.unit for quantity in model.quantities}
    for step in model.steps:
        unit_of[step.name] = step.unit
        several = {unit for unit in _added(parse(step.expression), unit_of) if unit in units()}
        several |= {step.unit} if several and step.unit in units() else set()
        if len({"year" if unit == "year_old" else unit for unit in several}) > 1:
            yield Finding("units", f"{' and '.join(sorted(several))} are added", step.name)
    if item.unit != model.unit:
        yield Finding("units", f"the answer is in {item.unit or 'no unit'}, its step in {model.unit}", "unit")


def _added(node: Node, unit_of: Mapping[str, str]) -> Iterator[str]:
    """The units of the names that are added or subtracted at the top of an expression."""
    if isinstance(node, Operation) and node.operator in ("+", "-"):
        for operand in node.operands:
            if isinstance(operand, Name):
                yield unit_of.get(operand.name, "")
            else:
                yield from _added(operand, unit_of)


def _in_level(item: Item, model: ItemModel) -> Iterator[Finding]:
    """The numbers are as large as the level's are."""
    try:
        level = skill_of(item.skill).range(item.level)
    except DataError as error:
        yield Finding("level", error.message, "skill")
        return
    for quantity in model.quantities:
        value = item.values[quantity.name]
        if quantity.name in placeholders(model.text) and not level.low <= value <= level.high:
            yield Finding("level", f"{value} is not from {level.low} to {level.high}", quantity.name)
    for step in model.steps:
        if item.values[step.name] > level.most:
            yield Finding("level", f"{item.values[step.name]} is more than {level.most}", step.name)


def _readable(item: Item, model: ItemModel) -> Iterator[Finding]:
    """The text is short and plain enough, and its articles fit the numbers."""
    why = too_hard(item.problem, item.language, item.level)
    if why:
        yield Finding("readable", why, "problem")
    if item.language == "en" and not articles_agree(item.problem):
        yield Finding("readable", "an article does not fit its number", "problem")


def _unsuitable(item: Item, banned: Collection[str]) -> tuple[str, ...]:
    found = banned_in("\n".join((item.problem, *item.steps)), item.language, banned)
    return tuple(dict.fromkeys(word.lower() for word in found))


CHECKS: Mapping[str, Callable[[Item, ItemModel], Iterator[Finding]]] = MappingProxyType(
    {
        "computed": _computed,
        "symbolic": _symbolically,
        "read_back": _read_back,
        "fits": _fits,
        "solution": _solution,
        "units": _units_agree,
        "level": _in_level,
        "readable": _readable,
    }
)


def _symbolic(node: Node, trees: Mapping[str, Node], values: Mapping[str, sympy.Rational]) -> sympy.Expr:
    import sympy

    if isinstance(node, Number):
        return sympy.Rational(node.value.numerator, node.value.denominator)
    if isinstance(node, Name):
        if node.name in values:
            return values[node.name]
        return _symbolic(trees[node.name], trees, values)
    operands = [_symbolic(operand, trees, values) for operand in node.operands]
    match node.operator:
        case "+":
            return sympy.Add(*operands)
        case "-":
            return sympy.Add(operands[0], -operands[1])
        case "*":
            return sympy.Mul(*operands)
        case "/":
            return sympy.Mul(operands[0], sympy.Pow(operands[1], -1))
        case "neg":
            return -operands[0]
        case "percent":
            return operands[0] * sympy.Rational(1, 100)
        case "gcd":
            return sympy.gcd(operands)
        case "lcm":
            return sympy.lcm(operands)
        case "min":
            return sympy.Min(*operands)
        case "max":
            return sympy.Max(*operands)
        case "floor":
            return sympy.floor(operands[0])
        case _:
            return sympy.ceiling(operands[0])
