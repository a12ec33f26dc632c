"""Free drafts: a new problem and its worked solution as GSM8K writes them, which become an item model or are refused.

Whoever drafts writes a problem with numbers in one line, then its solution with `<<a=b>>` marks, then `#### answer`.
The marks are computed again and the numbers become quantities, by the conversion that takes GSM8K's own rows. That a
draft converts says that it has a structure, and nothing about its sense. English only, as that conversion is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from toolkit.errors import DataError
from toolkit.text import Message
from toolkit.workspace import digest_of
from toolkit_education.curriculum import curriculum
from toolkit_education.generators import models
from toolkit_education.generators.themes import themes
from toolkit_education.gsm8k import convert_row
from toolkit_education.gsm8k_reading import LeftOut
from toolkit_education.items import ItemModel, Step, compute, draw, render
from toolkit_education.numerals import decimal_places, fixed
from toolkit_education.templates import PLACEHOLDER, fill

SOURCE, LICENCE = "draft", "own"
LONGEST = 3000
"""Characters of a draft; what is longer is no problem for a child, and is not read."""

SKILLS = ("one_step_problems", "two_step_problems", "multi_step_problems")
"""What a converted problem practises, by the number of its steps."""

_ASKED = (
    "Write one new arithmetic word problem for a child, about {about}, that takes {steps}. It must make sense in the "
    "world, say every number that is needed and none that is not, and have one answer, a whole number above one. First "
    "the problem in one line; then the solution, a line a step, with every computation marked as <<12*3=36>>; last a "
    "line that is #### and the answer. For example:\n\n{example}"
)
_STEPS = dict(zip(SKILLS, ("one step", "two steps", "three or four steps"), strict=True))
_NAME = re.compile(r"[A-Za-z_]\w*")


def converted(text: str) -> ItemModel:
    """The item model of a draft.

    Raises:
        LeftOut: why it is none, in a few words that can be counted.
    """
    plain = cleaned(text.rpartition("</think>")[2])
    if len(plain) > LONGEST:
        raise LeftOut("it is too long")
    problem, _, solution = plain.partition("\n")
    problem = problem.strip().removeprefix("Problem:").strip()
    if not problem or not solution.strip():
        raise LeftOut("it is no problem with a solution")
    if "?" not in problem:
        raise LeftOut("it asks nothing")
    identity = f"draft-{digest_of([problem, solution.strip()])[:16]}"
    try:
        model = convert_row(identity, problem, solution.strip())
    except DataError as error:  # a number or a text that cannot be read at all
        raise LeftOut(error.message) from error
    return replace(model, source=SOURCE, licence=LICENCE)


def cleaned(text: str) -> str:
    """A text without what no file or database holds: NUL, and half of a character."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()


def written_out(model: ItemModel, quantities: Mapping[str, Fraction]) -> str:
    """An item of `model` as a draft is written: what a student learns from and a teacher is shown; empty where a result
    cannot be marked."""
    values = compute(model, quantities)
    lines, waiting = list[str](), list[Step]()
    for step in model.steps:
        waiting.append(step)
        if not step.words:
            continue
        words = step.words
        for one in waiting:
            shown = re.search(rf"\{{{one.name}(?::[^{{}}]*)?\}}", words)
            mark = _mark(one.expression, values, values[one.name])
            if shown is None or not mark:
                return ""
            words = f"{words[: shown.start()]}<<{mark}>>{words[shown.start() :]}"
        lines.append(fill(words, values, model.language))
        waiting = []
    if waiting or not (answer := _plain(values[model.answer])):
        return ""
    problem = " ".join(fill(model.text, quantities, model.language).split())
    return "\n".join([problem, *lines, f"#### {answer}"])


def _mark(expression: str, values: Mapping[str, Fraction], result: Fraction) -> str:
    numbers = {name: _plain(values[name]) for name in _NAME.findall(expression) if name in values}
    if not all(numbers.values()) or set(_NAME.findall(expression)) - set(numbers) or not _plain(result):
        return ""
    said = _NAME.sub(lambda name: numbers[name[0]], expression).replace(" ", "")
    return f"{said}={_plain(result)}"


def _plain(value: Fraction) -> str:
    places = decimal_places(value)
    return "" if places is None or places > 4 or value < 0 else fixed(value, places)


def lessons(seed: int, bank: Sequence[ItemModel], many: int) -> Iterator[tuple[ItemModel, str, str]]:
    """What a student learns to draft by: item models, what it is asked, and what it is to write. The bank's problems
    first, then the curriculum's in turn; each counts only where it converts again."""
    rng, done = random.Random(f"{seed}/lessons"), 0
    for model, item in _drawn(rng, [one for one in bank if one.language == "en"], many):
        text = written_out(model, {quantity.name: item[quantity.name] for quantity in model.quantities})
        try:
            if text and converted(text):
                yield model, asked_of_student(_skill(model), rng.randrange(1000)), text
                done += 1
        except LeftOut:
            continue
        if done == many:
            return


def _skill(model: ItemModel) -> str:
    return SKILLS[min(len(model.steps), len(SKILLS)) - 1]


def _drawn(
    rng: random.Random, bank: Sequence[ItemModel], many: int
) -> Iterator[tuple[ItemModel, Mapping[str, Fraction]]]:
    chosen = rng.sample(list(bank), min(len(bank), many))
    for turn in range(3 * many):
        if turn < len(chosen):
            model = chosen[turn]
        else:
            skill = rng.choice(list(curriculum()))
            level = rng.randint(1, len(curriculum()[skill].levels))
            model = rng.choice(models(skill, level, "en", rng.choice(list(themes()))))
        try:
            yield model, draw(model, rng.randrange(2**31)).values
        except DataError:
            continue


def asked_of_student(skill: str, turn: int) -> str:
    """What a student is asked for a draft; the turn tells drafts apart."""
    return f"draft: {skill} {turn}"


def asked_of_teacher(skill: str, about: str, example: str) -> tuple[Message, ...]:
    """What a large model is asked for a draft, in words."""
    return (Message("user", _ASKED.format(about=about, steps=_STEPS[skill], example=example)),)


def example_of(seed: int) -> str:
    """A draft of the curriculum's own, to show how one is written."""
    return next(text for _, _, text in lessons(seed, (), 1))


def problem_of(model: ItemModel) -> str:
    """The problem with the draft's own numbers."""
    return render(model, model.original()).problem


def skeleton(text: str) -> str:
    """A text without its placeholders' names and its numbers."""
    return re.sub(r"\d[\d,.]*", "#", PLACEHOLDER.sub("#", text)).lower()
