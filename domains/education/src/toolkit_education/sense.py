"""Whether a problem makes sense: an independent solver reads its text alone and must come to the item model's answers.

Structure comes first and asks nobody: every quantity is said, every number and step is needed, an item can be drawn and
verified. Then the solver is asked about the problem with its own numbers, and where it agrees about others that the
program draws: who agrees on all of them has found the program. It is never shown a step, a mark or an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from toolkit.errors import DataError, EnvironmentUnfit, Refused
from toolkit.text import Message, Prompt
from toolkit.text_teachers import AskedTeacher
from toolkit_education.expressions import names_of
from toolkit_education.items import Item, ItemModel, draw, render
from toolkit_education.numerals import parse_number
from toolkit_education.templates import placeholders
from toolkit_education.verify import verify

AGREES, DISAGREES, UNDECIDED = "agrees", "disagrees", "undecided"
MANNER = (
    "Solve this problem. Use nothing but what it says. If it does not make sense, contradicts itself, mixes up units, "
    "or does not say what is needed to answer it, do not guess: end with the line\n#### none\nElse work step by step "
    "and end with the line\n#### NUMBER\n\n{problem}"
)
_DIFFERENT_NUMBERS = 20

_SAID = re.compile(r"####\s*([^\n]+)|(?:^|\n)A:\s*([^\n]+)|answer(?: is)?:?\s*([$\d][^\n]*)", re.IGNORECASE)
_NONE = re.compile(r"none\b", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What the solver makes of an item model: `outcome`, why, and on how many sets of numbers it was asked and
    agreed."""

    outcome: str
    because: str
    asked: int = 0
    agreed: int = 0


def unsound(model: ItemModel) -> str:
    """What the program and the text show without asking anybody; empty where nothing speaks against the model."""
    said, needed = set(placeholders(model.text)), _needed(model)
    for quantity in model.quantities:
        if quantity.name not in said:
            return "a quantity that is used is not said"
        if quantity.name not in needed:
            return "a quantity is not used"
    if any(step.name not in needed for step in model.steps):
        return "a step is not needed for the answer"
    try:
        found = [*verify(draw(model, 0), model)]
    except DataError:
        return "no other numbers fit"
    return f"it is not verified: {found[0].code}" if found else ""


def _needed(model: ItemModel) -> set[str]:
    """The names that the answer is computed from, itself included."""
    expressions = {step.name: step.expression for step in model.steps}
    needed, open_names = set[str](), [model.answer]
    while open_names:
        name = open_names.pop()
        if name not in needed:
            needed.add(name)
            open_names += names_of(expressions[name]) if name in expressions else ()
    return needed


def number_sets(model: ItemModel, redrawn: int, seed: int) -> Sequence[Item]:
    """The item with its own numbers, then with so many others, all different, as far as there are any."""
    found = [render(model, model.original())]
    for turn in range(_DIFFERENT_NUMBERS * redrawn):
        if len(found) > redrawn:
            break
        try:
            item = draw(model, seed * 1000 + turn)
        except DataError:
            break
        if item.problem not in {one.problem for one in found}:
            found.append(item)
    return found


def answer_in(text: str) -> Fraction | str | None:
    """The number that an answer ends in; "none" where it says that there is none, and None where it says neither."""
    found = list(_SAID.finditer(text.rpartition("</think>")[2]))
    if not found:
        return None
    said = next(group for group in found[-1].groups() if group is not None).strip().strip("*.\\ ")
    if _NONE.match(said):
        return "none"
    try:
        return parse_number(said).value
    except DataError:
        return None


def vote(item: Item, texts: Sequence[str | None]) -> tuple[str, str]:
    """What several answers to one item come to: what more than half of them say counts."""
    said = [None if text is None else answer_in(text) for text in texts]
    counted = Counter(one for one in said if one is not None)
    if not counted:
        return UNDECIDED, "the solver says nothing"
    value, times = counted.most_common(1)[0]
    if 2 * times <= len(said):
        return UNDECIDED, "the solver's answers are split"
    if value == item.answer:
        return AGREES, ""
    if value == "none":
        return DISAGREES, "the solver finds no answer in it"
    return DISAGREES, f"the solver comes to {value}, not {item.answer}"


@dataclass(frozen=True)
class Solver:
    """A teacher that solves. `redrawn` are sets of numbers beside a model's own, `solvings` answers to each.

    Args:
        patient: whether a budget that is spent or an endpoint that is away leaves what is open undecided; else it
            raises.
    """

    teacher: AskedTeacher
    redrawn: int = 3
    solvings: int = 1
    seed: int = 0
    patient: bool = False

    def verdicts(self, models: Sequence[ItemModel]) -> Mapping[str, Verdict]:
        """By the models' ids. First all of them with their own numbers, then those that it agrees on with others.

        Raises:
            Refused, EnvironmentUnfit: as the teacher does, where it is not `patient`.
        """
        sets = {model.id: number_sets(model, self.redrawn, self.seed) for model in models}
        first = self._round({name: items[:1] for name, items in sets.items()})
        agreed = [name for name, verdict in first.items() if verdict.outcome == AGREES]
        short = {name for name in agreed if self.redrawn and len(sets[name]) == 1}
        then = self._round({name: sets[name][1:] for name in agreed if len(sets[name]) > 1})
        found = dict(first)
        for name, verdict in then.items():
            found[name] = Verdict(verdict.outcome, verdict.because, 1 + verdict.asked, 1 + verdict.agreed)
        return found | {name: Verdict(UNDECIDED, "no other numbers fit", 1, 1) for name in short}

    def _round(self, sets: Mapping[str, Sequence[Item]]) -> dict[str, Verdict]:
        prompts = {
            (name, place, sample): Prompt(
                f"{name}/{item.id}" + (f"#{sample}" if sample else ""), messages_of(item.problem), sample
            )
            for name, items in sets.items()
            for place, item in enumerate(items)
            for sample in range(self.solvings)
        }
        texts, stopped = self._said(list(prompts.values()))
        found = {}
        for name, items in sets.items():
            votes = [
                vote(item, [texts.get(prompts[name, place, n].id) for n in range(self.solvings)])
                for place, item in enumerate(items)
            ]
            found[name] = _together(votes, stopped)
        return found

    def _said(self, prompts: Sequence[Prompt]) -> tuple[Mapping[str, str], str]:
        """The answers by the prompts' ids, and what kept the rest from coming."""
        texts: dict[str, str] = {}
        try:
            for answer in self.teacher.answers(prompts) if prompts else ():
                if answer.finish == "stop":
                    texts[answer.prompt_id] = answer.text
        except (Refused, EnvironmentUnfit) as error:
            if not self.patient:
                raise
            return texts, error.message
        return texts, ""


def _together(votes: Sequence[tuple[str, str]], stopped: str) -> Verdict:
    """One set of numbers on which it disagrees is enough; all must agree."""
    agreed = sum(outcome == AGREES for outcome, _ in votes)
    for wanted in (DISAGREES, UNDECIDED):
        for outcome, because in votes:
            if outcome == wanted:
                return Verdict(outcome, because if outcome == DISAGREES else stopped or because, len(votes), agreed)
    return Verdict(AGREES, "", len(votes), agreed)


def messages_of(problem: str) -> tuple[Message, ...]:
    """What a solver is asked."""
    return (Message("user", MANNER.format(problem=problem)),)


def problem_in(messages: Sequence[Message]) -> str:
    """The problem that a solver is asked about, out of `messages_of`."""
    return messages[-1].content.removeprefix(MANNER.partition("{")[0])


def checked(models: Sequence[ItemModel], solver: Solver) -> Iterator[tuple[ItemModel, Verdict]]:
    """Structure first, then the solver; nobody is asked about what is refused without it."""
    reasons = {model.id: unsound(model) for model in models}
    asked = solver.verdicts([model for model in models if not reasons[model.id]])
    for model in models:
        because = reasons[model.id]
        yield model, Verdict(DISAGREES, because) if because else asked[model.id]
