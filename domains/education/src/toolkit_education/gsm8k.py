"""GSM8K's rows as item models: a human text, a worked solution, and a program that computes both anew.

Only what re-computes exactly and reproduces its own text is converted; of a number whose meaning is in doubt the row is
left out, and the reasons are counted. Whether a converted problem is fit for a learner is not known here.

Source: Cobbe et al., Training Verifiers to Solve Math Word Problems, 2021; licence MIT.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.curriculum import curriculum
from toolkit_education.gsm8k_binding import Bound, Source, bind, shown_sources, word_source
from toolkit_education.gsm8k_quantities import Given, Numbers, numbers_of
from toolkit_education.gsm8k_ranges import free_range
from toolkit_education.gsm8k_reading import LeftOut, Line, Row, Written, read_row, written_numbers
from toolkit_education.items import (
    LEVELS,
    POSITIVE,
    WHOLE,
    Constraint,
    ItemModel,
    Quantity,
    Step,
    articles_agree,
    compute,
    render,
)
from toolkit_education.records import validate
from toolkit_education.suitability import too_hard
from toolkit_education.templates import written
from toolkit_education.units import unit_named, unit_pattern

SOURCE = "gsm8k"
LICENCE = "MIT"
_FORMS = ("", "p", ",", ".2", ",.2", "z", "w", "W", ".1", ".3")


@dataclass(frozen=True)
class Converted:
    """The item models of a file, and how many rows were left out for which reason."""

    models: tuple[ItemModel, ...]
    left_out: Mapping[str, int]


def convert_file(path: Path, *, split: str = "train") -> Converted:
    """Convert a file of JSON lines with `question` and `answer`; a model's id tells its line.

    Raises:
        DataError: the file is not there, or a line is no such row.
    """
    if not path.is_file():
        raise DataError(f"{path} is not here", hint="Point it at GSM8K's train.jsonl.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append((f"{SOURCE}-{split}-{number:05d}", str(row["question"]), str(row["answer"])))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number}: no question and answer", hint="One JSON object a line.") from error
    return convert_rows(rows)


def convert_rows(rows: Iterable[tuple[str, str, str]]) -> Converted:
    """Convert rows of (id, question, answer); those that are in doubt are counted by reason."""
    models, left_out = [], Counter[str]()
    for identifier, question, answer in rows:
        try:
            models.append(convert_row(identifier, question, answer))
        except LeftOut as reason:
            left_out[str(reason)] += 1
    return Converted(tuple(models), MappingProxyType(left_out))


def convert_row(identifier: str, question: str, answer: str) -> ItemModel:
    """The item model of a row.

    Raises:
        LeftOut: why it is not converted.
    """
    row = read_row(question, answer)
    text = "\n".join(line.text for line in row.lines)
    if not articles_agree(question) or not articles_agree(text):
        raise LeftOut("an article does not agree with its number")
    numbers = numbers_of(row)
    if not numbers.given:
        raise LeftOut("nothing can be drawn anew")
    sources = tuple(_sources(numbers.given))
    bound = bind(row.marks(), sources, numbers.constants)
    steps = (*_hundredths(numbers.given, bound), *_steps(row, bound, sources, numbers.constants))
    quantities = tuple(_quantity(row.question, given) for given in numbers.given)
    model = ItemModel(
        id=identifier,
        skill=_skill(len(bound)),
        level=5,
        language="en",
        theme="",
        text=_question(row, numbers),
        quantities=quantities,
        steps=steps,
        answer=steps[-1].name,
        constraints=(*_ones(row), *_order(quantities)),
        source=SOURCE,
        licence=LICENCE,
    )
    _reproduces(model, row, text)
    return dataclasses.replace(model, level=_level(model))


def _skill(steps: int) -> str:
    return {1: "one_step_problems", 2: "two_step_problems"}.get(steps, "multi_step_problems")


def _level(model: ItemModel) -> int:
    """The lowest level whose numbers, steps and reading grade hold the problem; the highest where none does."""
    largest = max(abs(value) for value in compute(model, model.original()).values())
    steps = sum(step.name.startswith("r") for step in model.steps)
    for level, size in enumerate(curriculum()[model.skill].levels, start=1):
        inside = all(size.low <= quantity.low and quantity.high <= size.high for quantity in model.quantities)
        if inside and 8 * largest <= size.most and steps - 2 <= level and not too_hard(model.text, "en", level):
            return level
    return LEVELS[-1]


def _reproduces(model: ItemModel, row: Row, text: str) -> None:
    try:
        item = render(validate(model), model.original())
    except DataError as error:
        raise LeftOut("it does not compute again") from error
    results = [item.values[step.name] for step in model.steps if step.name.startswith("r")]
    if results != [mark.result for mark in row.marks()]:
        raise LeftOut("it does not compute again")
    if item.problem != row.question or "\n".join(item.steps) != text:
        raise LeftOut("it does not reproduce its text")


def _sources(given: Sequence[Given]) -> Iterator[Source]:
    for one in given:
        yield Source(one.name, one.name, one.mention.value, -1, True)
        if one.part != 1:
            value = one.mention.value / one.part
            yield Source(one.name, _hundredth(one.name), value, -1, True, Fraction(1, one.part))


def _hundredth(name: str) -> str:
    return f"p{name[1:]}"


def _hundredths(given: Sequence[Given], bound: Sequence[Bound]) -> Iterator[Step]:
    """The steps that a solution does not spell out: 20% is 0.2."""
    used = {source.text for one in bound for source in one.sources}
    for one in given:
        if _hundredth(one.name) in used:
            yield Step(_hundredth(one.name), f"{one.name}/100", "", "")


def _ones(row: Row) -> Iterator[Constraint]:
    """A result of one stays one, for the words around it are singular."""
    for n, mark in enumerate(row.marks()):
        if mark.result == 1:
            yield Constraint(f"1/r{n}", WHOLE)


def _order(quantities: Sequence[Quantity]) -> Iterator[Constraint]:
    """Of two quantities in one unit the smaller stays the smaller: the text may say that there is not enough."""
    for one in quantities:
        for other in quantities:
            if one.unit == other.unit and one.value < other.value and one.high >= other.low:
                yield Constraint(f"{other.name} - {one.name}", POSITIVE)


def _question(row: Row, numbers: Numbers) -> str:
    text = row.question
    for one in reversed(numbers.given):
        form = _form(one.mention.value, one.mention.text)
        text = f"{text[: one.mention.start]}{_placeholder(one.name, form)}{text[one.mention.end :]}"
    return text


def _quantity(question: str, given: Given) -> Quantity:
    mention = given.mention
    drawn = free_range(mention.value, question[mention.end :])
    return Quantity(
        given.name, mention.value, _unit(question, mention.start, mention.end), drawn.low, drawn.high, drawn.step
    )


def _steps(
    row: Row, bound: Sequence[Bound], sources: Sequence[Source], constants: frozenset[Fraction]
) -> Iterator[Step]:
    known, first, before = list(sources), 0, ""
    steps: list[Step] = []
    for line in row.lines:
        marks = bound[first : first + len(line.marks)]
        known += [
            Source(f"r{first + n}", f"r{first + n}", mark.result, first + n, False) for n, mark in enumerate(line.marks)
        ]
        words = _words(line, marks, first, known, constants)
        before = f"{before}\n{words}" if before else words
        for n, one in enumerate(marks):
            name, last = f"r{first + n}", n == len(marks) - 1
            steps.append(Step(name, one.expression, before if last else "", _result_unit(line, n)))
        if marks:
            before = ""
        first += len(line.marks)
    if before:
        last_step = steps[-1]
        words = f"{last_step.words}\n{before}"
        steps[-1] = Step(last_step.name, last_step.expression, words, last_step.unit)
    yield from steps


def _words(
    line: Line, marks: Sequence[Bound], first: int, known: Sequence[Source], constants: frozenset[Fraction]
) -> str:
    text, numbers = line.text, written_numbers(line.text)
    shown: dict[int, Source] = {}
    for mark, bound in zip(line.marks, marks, strict=True):
        before = [number for number in numbers if number.end <= mark.end]
        shown.update(shown_sources(line.text, before, mark, bound))
    for number in reversed(numbers):
        source = _shown_result(line, number, first) or shown.get(number.start)
        source = source or word_source(number.value, known, constants)
        if source is None:
            if number.value != 1:
                raise LeftOut("a number in the words comes from nowhere")
            continue
        if source.text:
            place = _placeholder(source.text, _form(number.value, number.text))
            text = f"{text[: number.start]}{place}{text[number.end :]}"
    return text


def _shown_result(line: Line, number: Written, first: int) -> Source | None:
    for n, mark in enumerate(line.marks):
        between = line.text[mark.end : number.start]
        if mark.end <= number.start and between.strip() in ("", "$") and number.value == mark.result:
            return Source(f"r{first + n}", f"r{first + n}", mark.result, first + n, False)
    return None


def _placeholder(name: str, form: str) -> str:
    return f"{{{name}:{form}}}" if form else f"{{{name}}}"


def _form(value: Fraction, text: str) -> str:
    for form in _FORMS:
        try:
            if written(value, form, "en") == text:
                return form
        except DataError:
            continue
    raise LeftOut("a number is written in a way of its own")


def _unit(text: str, start: int, end: int) -> str:
    if text[:start].rstrip()[-1:] == "$":
        return "$"
    match = unit_pattern("en").match(text, end + len(text[end:]) - len(text[end:].lstrip(" -")))
    unit = unit_named(match.group(), "en") if match else None
    return unit.code if unit else ""


def _result_unit(line: Line, n: int) -> str:
    mark = line.marks[n]
    for number in written_numbers(line.text):
        if number.start >= mark.end:
            return _unit(line.text, number.start, number.end)
    return ""
