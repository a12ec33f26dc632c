"""Simple equations, and word problems that lead to them.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

TEMPLATES = (
    Template(
        "one_step_equations/sum",
        {"a": "2..15 3..40 5..80 20..250 50..900", "b": "5..20 10..50 20..100 50..300 100..1000"},
        ("x = b - a",),
        en=(
            "Solve the equation x + {a} = {b}.",
            "Subtract {a} on both sides: x = {b} - {a} = {x}.",
        ),
        zh=(
            "解方程：x + {a} = {b}。",
            "两边同时减去{a}：x = {b} - {a} = {x}。",
        ),
    ),
    Template(
        "one_step_equations/product",
        {"a": "2..5 2..9 3..12 3..25 4..60", "b": "6..20 8..50 12..100 30..300 80..1000"},
        ("x = b / a",),
        en=(
            "Solve the equation {a}x = {b}.",
            "Divide both sides by {a}: x = {b} ÷ {a} = {x}.",
        ),
        zh=(
            "解方程：{a}x = {b}。",
            "两边同时除以{a}：x = {b} ÷ {a} = {x}。",
        ),
    ),
    Template(
        "one_step_equations/at_first",
        {"a": "2..15 3..40 5..80 20..250 50..900", "b": "5..20 10..50 20..100 50..300 100..1000"},
        ("x = b - a",),
        en=(
            "[A] has some [things]. After [A] gets {a} more there are {b} [things]. "
            "How many [things] did [A] have at first?",
            "With x [things] at first, x + {a} = {b}, so x = {b} - {a} = {x}.",
        ),
        zh=(
            "[A]原来有一些[thing]，又得到{a}[m]后共有{b}[m]。[A]原来有多少[m][thing]？",
            "设原来有x[m]，则x + {a} = {b}，x = {b} - {a} = {x}。",
        ),
    ),
    Template(
        "two_step_equations/plus",
        {
            "a": "2..4 2..6 3..9 3..12 4..20",
            "b": "2..10 2..20 5..40 10..90 20..300",
            "c": "8..30 10..60 20..120 40..300 100..1000",
        },
        ("y = c - b", "x = y / a"),
        en=(
            "Solve the equation {a}x + {b} = {c}.",
            "Subtract {b} on both sides: {a}x = {c} - {b} = {y}.",
            "Divide both sides by {a}: x = {y} ÷ {a} = {x}.",
        ),
        zh=(
            "解方程：{a}x + {b} = {c}。",
            "两边同时减去{b}：{a}x = {c} - {b} = {y}。",
            "两边同时除以{a}：x = {y} ÷ {a} = {x}。",
        ),
    ),
    Template(
        "two_step_equations/minus",
        {
            "a": "2..4 2..6 3..9 3..12 4..20",
            "b": "2..10 2..20 5..40 10..90 20..300",
            "c": "2..30 4..60 10..120 20..300 50..1000",
        },
        ("y = c + b", "x = y / a"),
        en=(
            "Solve the equation {a}x - {b} = {c}.",
            "Add {b} on both sides: {a}x = {c} + {b} = {y}.",
            "Divide both sides by {a}: x = {y} ÷ {a} = {x}.",
        ),
        zh=(
            "解方程：{a}x - {b} = {c}。",
            "两边同时加上{b}：{a}x = {c} + {b} = {y}。",
            "两边同时除以{a}：x = {y} ÷ {a} = {x}。",
        ),
    ),
    Template(
        "two_step_equations/packed",
        {
            "a": "2..4 2..6 3..9 3..12 4..20",
            "b": "2..10 2..20 5..40 10..90 20..300",
            "c": "8..30 10..60 20..120 40..300 100..1000",
        },
        ("y = c - b", "x = y / a"),
        en=(
            "[A] has {c} [things]: {a} full [boxes] and {b} loose [things]. Each [box] holds the same number. "
            "How many [things] are in each [box]?",
            "The [boxes] hold {c} - {b} = {y} [things].",
            "Each [box] holds {y} ÷ {a} = {x} [things].",
        ),
        zh=(
            "[A]有{c}[m][thing]，装满了{a}[bm][box]后还多{b}[m]，每[bm][box]装得一样多。每[bm][box]装多少[m][thing]？",
            "[box]里一共有{c} - {b} = {y}[m]。",
            "每[bm][box]装{y} ÷ {a} = {x}[m][thing]。",
        ),
    ),
    Template(
        "sum_and_difference/smaller",
        {"s": "8..30 10..60 20..120 40..400 100..2000", "d": "2..15 2..30 4..60 6..200 10..900"},
        ("rest = s - d", "smaller = rest / 2"),
        en=(
            "[A] and [B] have {s} [things] together. [A] has {d} more [things] than [B]. "
            "How many [things] does [B] have?",
            "Without the difference there are {s} - {d} = {rest} [things].",
            "[B] has half of them: {rest} ÷ 2 = {smaller} [things].",
        ),
        zh=(
            "[A]和[B]一共有{s}[m][thing]，[A]比[B]多{d}[m]。[B]有多少[m][thing]？",
            "去掉多的部分，还有{s} - {d} = {rest}[m]。",
            "[B]有其中的一半：{rest} ÷ 2 = {smaller}[m][thing]。",
        ),
    ),
    Template(
        "sum_and_difference/larger",
        {"s": "8..30 10..60 20..120 40..400 100..2000", "d": "2..15 2..30 4..60 6..200 10..900"},
        ("both = s + d", "larger = both / 2"),
        en=(
            "[A] and [B] have {s} [things] together. [B] has {d} fewer [things] than [A]. "
            "How many [things] does [A] have?",
            "If [B] had as many as [A], there would be {s} + {d} = {both} [things].",
            "[A] has half of them: {both} ÷ 2 = {larger} [things].",
        ),
        zh=(
            "[A]和[B]一共有{s}[m][thing]，[B]比[A]少{d}[m]。[A]有多少[m][thing]？",
            "如果[B]和[A]一样多，一共有{s} + {d} = {both}[m]。",
            "[A]有其中的一半：{both} ÷ 2 = {larger}[m][thing]。",
        ),
        must=("positive s - d",),
    ),
)
