"""Item models from reasoning-gym's exact tasks that fit the curriculum; the package is an extra, `[sources]`.

A task's question becomes a problem with quantities, its program computes the answer anew, and what disagrees with the
task's own answer is left out. It knows no learner and draws no number itself.

Source: Stojanovski et al., Reasoning Gym, 2025; reasoning-gym 0.1.25, Apache-2.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from toolkit.errors import DataError, EnvironmentUnfit, Unsupported, unknown_name
from toolkit_education.curriculum import curriculum
from toolkit_education.expressions import literals_of
from toolkit_education.gsm8k import convert_row
from toolkit_education.gsm8k_ranges import free_range
from toolkit_education.gsm8k_reading import LeftOut
from toolkit_education.items import LEVELS, POSITIVE, Constraint, ItemModel, Quantity, Step, compute
from toolkit_education.records import validate

LICENCE = "Apache-2.0"

_TAIL = re.compile(r"\s*Give the result as your final answer\. Do not include units\.\s*$")
_LINEAR = re.compile(r"(?:(\d+) ([+-]) )?(?:(\d+)\*)?[a-z](?: ([+-]) (\d+))? = (\d+)")


@dataclass(frozen=True)
class Program:
    """A task's question read: the numbers, the steps as (name, expression), and the words in each language."""

    skill: str
    numbers: tuple[Fraction, ...]
    steps: tuple[tuple[str, str], ...]
    text: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]]
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True)
class Task:
    """A task of reasoning-gym: how its data set is made, and how a question of it is read (None: it does not fit)."""

    settings: Mapping[str, object]
    read: Callable[[str], Program | None]


def tasks() -> tuple[str, ...]:
    """The tasks that fit, by their names in reasoning-gym."""
    return (*_TASKS, "gsm_symbolic")


def models(task: str, *, seed: int, count: int, language: str = "en") -> tuple[ItemModel, ...]:
    """Item models from `count` questions of a task; those that do not fit are left out, so there may be fewer.

    Raises:
        PlanError: no such task.
        Unsupported: gsm_symbolic in Chinese.
        EnvironmentUnfit: reasoning-gym is not installed.
    """
    if task not in tasks():
        raise unknown_name("task", task, tasks())
    if task == "gsm_symbolic":
        if language != "en":
            raise Unsupported("gsm_symbolic is written in English only", hint="Ask for language en.")
        return tuple(_symbolic(seed, count))
    return tuple(_plain(task, seed, count, language))


def _entries(task: str, seed: int, count: int, settings: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Question, answer and worked answer of each entry."""
    try:
        import reasoning_gym  # type: ignore[import-untyped]  # it has no type hints
    except ImportError as error:
        raise EnvironmentUnfit(
            "reasoning-gym is not installed", hint="pip install 'distil-toolkit-education[sources]'"
        ) from error
    for entry in reasoning_gym.create_dataset(task, seed=seed, size=count, **settings):
        yield str(entry["question"]), str(entry["answer"]), str(entry["metadata"].get("answer_cot", ""))


def _symbolic(seed: int, count: int) -> Iterator[ItemModel]:
    # Other difficulties than 1.0 give numbers that the text does not bear.
    for place, (question, _, worked) in enumerate(_entries("gsm_symbolic", seed, count, {"difficulty": 1.0})):
        try:
            model = convert_row(f"gsm_symbolic/{seed}/{place}", _TAIL.sub("", question), worked)
        except LeftOut:
            continue
        yield replace(model, source="reasoning-gym", licence=LICENCE)


def _plain(task: str, seed: int, count: int, language: str) -> Iterator[ItemModel]:
    for place, (question, answer, _) in enumerate(_entries(task, seed, count, _TASKS[task].settings)):
        program = _TASKS[task].read(question)
        if program is None:
            continue
        model = _model(f"{task}/{seed}/{place}/{language}", program, language)
        if model is not None and compute(model, model.original())[model.answer] == Fraction(answer):
            yield model


def _model(identifier: str, program: Program, language: str) -> ItemModel | None:
    """The item model at the lowest level whose numbers hold it; None where it fits no level."""
    ranges = [free_range(value, "") for value in program.numbers]
    quantities = tuple(
        Quantity(f"q{place}", value, "", drawn.low, drawn.high, drawn.step)
        for place, (value, drawn) in enumerate(zip(program.numbers, ranges, strict=True))
    )
    steps = tuple(
        Step(name, expression, words, "")
        for (name, expression), words in zip(program.steps, program.words[language], strict=True)
    )
    model = ItemModel(
        identifier,
        program.skill,
        LEVELS[-1],
        language,
        "",
        program.text[language],
        quantities,
        steps,
        steps[-1].name,
        program.constraints,
        "reasoning-gym",
        LICENCE,
    )
    try:
        values = compute(validate(model), model.original())
    except DataError:
        return None
    if min(values.values()) <= 0 or 1 in values.values():
        return None
    for level, size in enumerate(curriculum()[program.skill].levels, start=1):
        inside = all(size.low <= one.value <= size.high for one in quantities)
        if inside and all(values[step.name] <= size.most for step in steps):
            held = tuple(
                replace(one, low=max(one.low, _up(one, size.low)), high=min(one.high, _down(one, size.high)))
                for one in quantities
            )
            bounds = tuple(Constraint(f"{size.most} + 0.001 - {step.name}", POSITIVE) for step in steps)
            return replace(model, level=level, quantities=held, constraints=(*program.constraints, *bounds))
    return None


def _up(quantity: Quantity, low: Fraction) -> Fraction:
    """The smallest number of the quantity's grid that is not under `low`."""
    return quantity.value - quantity.step * ((quantity.value - low) // quantity.step)


def _down(quantity: Quantity, high: Fraction) -> Fraction:
    """The largest number of the quantity's grid that is not over `high`."""
    return quantity.value + quantity.step * ((high - quantity.value) // quantity.step)


def _sum(skill: str, other: str) -> Callable[[str], Program | None]:
    """A reader of `4 + 3 - 2 =`: `skill` where all is added, `other` where something is taken away."""

    def read(question: str) -> Program | None:
        match = re.search(r": ([\d. +-]+) =", question)
        if match is None or "- -" in match[1]:
            return None
        return _arithmetic(match[1], skill if "-" not in match[1] else other)

    return read


def _arithmetic(text: str, skill: str) -> Program:
    numbers = tuple(literals_of(text))
    names = iter(range(len(numbers)))
    expression = re.sub(r"\d+(?:\.\d+)?|\.\d+", lambda _: f"q{next(names)}", text)
    shown = re.sub(r"q\d+", lambda match: f"{{{match.group()}}}", expression).replace("*", "×")
    return Program(
        skill,
        numbers,
        (("result", expression),),
        {"en": f"Work out {shown}.", "zh": f"计算：{shown}。"},
        {"en": (f"{shown} = {{result}}.",), "zh": (f"{shown} = {{result}}。",)},
    )


def _product(question: str) -> Program | None:
    match = re.search(r": (\d+ \* \d+)\.", question)
    return _arithmetic(match[1], "multiplication") if match else None


def _fraction(question: str) -> Program | None:
    match = re.search(r"fraction (\d+)/(\d+) to", question)
    if match is None:
        return None
    return Program(
        "fraction_simplification",
        (Fraction(match[1]), Fraction(match[2])),
        (("factor", "gcd(q0, q1)"), ("simple", "q0 / q1")),
        {"en": "Write {q0}/{q1} in its simplest form.", "zh": "把{q0}/{q1}化成最简分数。"},
        {
            "en": ("The greatest common factor of {q0} and {q1} is {factor}.", "So {q0}/{q1} = {simple:f}."),
            "zh": ("{q0}和{q1}的最大公因数是{factor}。", "所以{q0}/{q1} = {simple:f}。"),
        },
        (Constraint("q1 - q0", POSITIVE),),
    )


def _common(skill: str, function: str, english: str, chinese: str) -> Callable[[str], Program | None]:
    """A reader of `these numbers: 12, 18`."""

    def read(question: str) -> Program | None:
        match = re.search(r"numbers: (\d+), (\d+)", question)
        if match is None or match[1] == match[2]:
            return None
        return Program(
            skill,
            (Fraction(match[1]), Fraction(match[2])),
            (("result", f"{function}(q0, q1)"),),
            {"en": f"Find the {english} of {{q0}} and {{q1}}.", "zh": f"求{{q0}}和{{q1}}的{chinese}。"},
            {
                "en": (f"The {english} of {{q0}} and {{q1}} is {{result}}.",),
                "zh": (f"{{q0}}和{{q1}}的{chinese}是{{result}}。",),
            },
            (Constraint("(q0 - q1) * (q0 - q1)", POSITIVE),),
        )

    return read


def _equation(question: str) -> Program | None:
    """`Solve for x: 5*x + 6 = 91`; other shapes are left out."""
    match = re.search(r"[:?] (?:.*: )?([\d+*= a-z-]+)$", question)
    shape = _LINEAR.fullmatch(match[1].strip()) if match else None
    if shape is None or shape[1] or not shape[3]:
        return None
    if not shape[4]:
        text, steps = "{q0}x = {q1}", (("x", "q1 / q0"),)
        words = {
            "en": ("Divide both sides by {q0}: x = {q1} ÷ {q0} = {x}.",),
            "zh": ("两边同时除以{q0}：x = {q1} ÷ {q0} = {x}。",),
        }
        numbers, skill = (shape[3], shape[6]), "one_step_equations"
    else:
        return _two_step(shape[3], shape[4], shape[5], shape[6])
    return Program(skill, tuple(map(Fraction, numbers)), steps, _solve(text), words)


def _two_step(factor: str, sign: str, term: str, result: str) -> Program:
    turned = "-" if sign == "+" else "+"
    return Program(
        "two_step_equations",
        (Fraction(factor), Fraction(term), Fraction(result)),
        (("y", f"q2 {turned} q1"), ("x", "y / q0")),
        _solve(f"{{q0}}x {sign} {{q1}} = {{q2}}"),
        {
            "en": (f"{{q0}}x = {{q2}} {turned} {{q1}} = {{y}}.", "Divide both sides by {q0}: x = {y} ÷ {q0} = {x}."),
            "zh": (f"{{q0}}x = {{q2}} {turned} {{q1}} = {{y}}。", "两边同时除以{q0}：x = {y} ÷ {q0} = {x}。"),
        },
    )


def _solve(equation: str) -> Mapping[str, str]:
    return {"en": f"Solve the equation {equation}.", "zh": f"解方程：{equation}。"}


_TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "chain_sum": Task({"max_terms": 4, "max_digits": 3}, _sum("addition", "subtraction")),
        "decimal_chain_sum": Task(
            {"max_terms": 3, "max_digits": 2, "max_decimal_places": 2}, _sum("decimal_addition", "decimal_addition")
        ),
        "products": Task({"max_digits": 2}, _product),
        "fraction_simplification": Task({"max_value": 30, "max_factor": 12, "styles": ("plain",)}, _fraction),
        "gcd": Task(
            {"max_value": 240}, _common("greatest_common_factor", "gcd", "greatest common factor", "最大公因数")
        ),
        "lcm": Task({"max_value": 36}, _common("least_common_multiple", "lcm", "least common multiple", "最小公倍数")),
        "simple_equations": Task({"min_terms": 2, "max_terms": 2, "max_value": 20}, _equation),
    }
)
