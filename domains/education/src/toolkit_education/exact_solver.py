"""A solver that knows the curriculum's own sentences, word for word, and is silent on all others.

It reads a problem's text, finds the template that says exactly this about words it knows, and computes from the numbers
that it read. So it is a second, independent way to an answer for what generators write, and the solver of the embedded
default, where there is no larger model; on anything that is new it has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version

from toolkit.errors import DataError
from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord
from toolkit.text import Completion, Prompt, Sampling
from toolkit.text_teachers import record_of
from toolkit.workspace import digest_of
from toolkit_education.expressions import evaluate
from toolkit_education.generators import templates
from toolkit_education.generators.template import Template, build
from toolkit_education.generators.themes import themes
from toolkit_education.items import ItemModel
from toolkit_education.numerals import LANGUAGES, parse_number
from toolkit_education.practising import known_words
from toolkit_education.sense import problem_in

NAME = "curriculum-solver"
_PART = re.compile(r"\{(\w+)(?::[^{}]*)?\}|\[(\w+)\]")
_NUMBER = r"\d[\d,]*(?: \d+/\d+)?(?:\.\d+|/\d+)?"


@dataclass(frozen=True)
class CurriculumSolver:
    """A `TextTeacher` that solves what the curriculum's templates say."""

    name: str = NAME
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        return record_of(f"{NAME}:toolkit-education {version('distil-toolkit-education')}", "Apache-2.0")

    def fingerprint(self, plan: Plan) -> str:
        return digest_of([NAME, [[one.key, one.program, one.en, one.zh] for one in _all()]])

    def sampling(self, plan: Plan) -> Sampling:
        return Sampling()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """Anything may be asked; most of it is not answered."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Generator[Completion]:
        for prompt in prompts:
            found = solved(problem_in(prompt.messages))
            yield Completion(prompt.id, "" if found is None else f"#### {found}")


def solved(problem: str) -> Fraction | None:
    """The answer of a problem that one of the templates says; None where none does, or two give different answers."""
    found = {answer for language in LANGUAGES for answer in _answers(problem, language)}
    return found.pop() if len(found) == 1 else None


def _answers(problem: str, language: str) -> Iterator[Fraction]:
    for pattern, model in _patterns(language):
        read = pattern.fullmatch(problem)
        if read is None:
            continue
        try:
            values: dict[str, Fraction] = {
                quantity.name: parse_number(read[f"n_{quantity.name}"]).value for quantity in model.quantities
            }
            for step in model.steps:
                values[step.name] = evaluate(step.expression, values)
        except DataError:
            continue
        yield values[model.answer]


def _all() -> list[Template]:
    return [template for several in templates().values() for template in several]


@lru_cache(maxsize=2)
def _patterns(language: str) -> tuple[tuple[re.Pattern[str], ItemModel], ...]:
    theme, words = next(iter(themes().values())), known_words(language)
    found = []
    for template in _all():
        model = build(template, template.levels[0], language, theme)
        text = getattr(template, language)[0]
        if {quantity.name for quantity in model.quantities} <= {one[1] for one in _PART.finditer(text)}:
            found.append((re.compile(_pattern(text, words)), model))
    return tuple(found)


def _pattern(text: str, words: Mapping[str, frozenset[str]]) -> str:
    """A template's text: the same number where the same quantity stands, the same word where the same slot does."""
    pieces, place, seen = list[str](), 0, set[str]()
    for part in _PART.finditer(text):
        pieces.append(re.escape(text[place : part.start()]))
        place = part.end()
        group = f"n_{part[1]}" if part[1] else f"w_{part[2]}"
        if group in seen:
            pieces.append(f"(?P={group})")
            continue
        seen.add(group)
        slot = part[2] or ""
        said = words.get(slot) or {one[:1].upper() + one[1:] for one in words.get(slot[:1].lower() + slot[1:], ())}
        choice = "|".join(re.escape(one) for one in sorted(said, key=len, reverse=True))
        pieces.append(f"(?P<{group}>{_NUMBER if part[1] else choice})")
    return "".join([*pieces, re.escape(text[place:])])
