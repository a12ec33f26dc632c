"""Decimals, fractions and percentages.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

_DECIMALS = ("positive a - floor(a)", "positive b - floor(b)")
_PROPER = ("positive b - a", "whole 1 / gcd(a, b)")
_TWO_PROPER = (*_PROPER, "positive d - c", "whole 1 / gcd(c, d)")
_UNLIKE = (*_TWO_PROPER, "positive (b - d) * (b - d)")

TEMPLATES = (
    Template(
        "decimal_addition/price",
        {
            "a": "0.5..5/0.1 0.5..10/0.1 1..50/0.1 1..100/0.05 5..500/0.05",
            "b": "0.5..5/0.1 0.5..10/0.1 0.5..20/0.1 0.5..80/0.05 1..300/0.05",
        },
        ("total ~ a + b",),
        en=(
            "A pack of [things] costs ${a:.2} and a pack of [others] costs ${b:.2}. How much do they cost together?",
            "Together they cost {a:.2} + {b:.2} = {total:.2} dollars.",
        ),
        zh=(
            "一包[thing]{a}元，一包[other]{b}元。各买一包一共多少元？",
            "一共{a} + {b} = {total}元。",
        ),
        units={"a": "money", "b": "money", "total": "money"},
        must=_DECIMALS,
    ),
    Template(
        "decimal_addition/cut",
        {
            "a": "1.5..5/0.1 2..10/0.1 5..50/0.1 8..100/0.05 20..500/0.05",
            "b": "0.5..4/0.1 0.5..8/0.1 0.5..40/0.1 0.5..80/0.05 1..400/0.05",
        },
        ("left ~ a - b",),
        en=(
            "A [strip] is {a} m long. [A] cuts off {b} m. How many meters are left?",
            "There are {a} - {b} = {left} m left.",
        ),
        zh=(
            "一根[strip]长{a}米，[A]剪去{b}米。还剩多少米？",
            "还剩{a} - {b} = {left}米。",
        ),
        units={"a": "m", "b": "m", "left": "m"},
        must=_DECIMALS,
    ),
    Template(
        "decimal_multiplication/price",
        {"a": "0.5..5/0.1 0.5..9/0.1 1..20/0.1 0.5..50/0.05 1..90/0.05", "b": "2..5 2..9 2..15 3..40 5..100"},
        ("cost ~ a * b",),
        en=(
            "One kilogram of [stuff] costs ${a:.2}. How much do {b} kg cost?",
            "{b} kg cost {a:.2} × {b} = {cost:.2} dollars.",
        ),
        zh=(
            "每千克[stuff]{a}元。买{b}千克需要多少元？",
            "需要{a} × {b} = {cost}元。",
        ),
        units={"a": "money", "b": "kg", "cost": "money"},
        must=_DECIMALS[:1],
    ),
    Template(
        "decimal_multiplication/pieces",
        {"a": "2..5 2..9 2..12 3..30 4..60", "b": "0.2..5/0.1 0.2..9/0.1 0.5..15/0.1 0.25..20/0.05 0.25..60/0.05"},
        ("length ~ a * b",),
        en=(
            "[A] needs {a} pieces of [strip], each {b} m long. How many meters of [strip] does [A] need?",
            "[A] needs {a} × {b} = {length} m.",
        ),
        zh=(
            "[A]需要{a}段[strip]，每段长{b}米。一共需要多少米？",
            "一共需要{a} × {b} = {length}米。",
        ),
        units={"b": "m", "length": "m"},
        must=_DECIMALS[1:],
    ),
    Template(
        "fraction_of_quantity/part",
        {
            "n": "6..30 9..60 15..120 40..400 100..1500",
            "a": "2..4 2..5 2..7 2..8 2..11",
            "b": "3..5 3..6 3..8 3..9 3..12",
        },
        ("one = n / b", "part = one * a"),
        en=(
            "[A] has {n} [things]. {a}/{b} of them are new. How many [things] are new?",
            "1/{b} of the [things] is {n} ÷ {b} = {one}.",
            "{a}/{b} of the [things] is {one} × {a} = {part}.",
        ),
        zh=(
            "[A]有{n}[m][thing]，其中{a}/{b}是新的。新的有多少[m]？",
            "{n}的1/{b}是{n} ÷ {b} = {one}。",
            "{n}的{a}/{b}是{one} × {a} = {part}。",
        ),
        must=_PROPER,
    ),
    Template(
        "fraction_of_quantity/left",
        {
            "n": "6..30 9..60 15..120 40..400 100..1500",
            "a": "2..4 2..5 2..7 2..8 2..11",
            "b": "3..5 3..6 3..8 3..9 3..12",
        },
        ("one = n / b", "given = one * a", "left = n - given"),
        en=(
            "[A] has {n} [things] and gives away {a}/{b} of them. How many [things] does [A] have left?",
            "1/{b} of the [things] is {n} ÷ {b} = {one}.",
            "[A] gives away {one} × {a} = {given} [things].",
            "[A] has {n} - {given} = {left} [things] left.",
        ),
        zh=(
            "[A]有{n}[m][thing]，送出其中的{a}/{b}。还剩多少[m][thing]？",
            "{n}的1/{b}是{n} ÷ {b} = {one}。",
            "送出{one} × {a} = {given}[m]。",
            "还剩{n} - {given} = {left}[m][thing]。",
        ),
        must=_PROPER,
    ),
    Template(
        "fraction_addition/sum",
        {
            "a": "2..6 2..7 2..8 2..9 2..13",
            "b": "3..7 3..8 3..9 3..10 3..15",
            "c": "2..6 2..7 2..8 2..9 2..13",
            "d": "3..7 3..8 3..9 3..10 3..15",
        },
        ("common = lcm(b, d)", "x = a * common / b", "y = c * common / d", "top = x + y", "total ? top / common"),
        en=(
            "Work out {a}/{b} + {c}/{d}.",
            "The common denominator of {b} and {d} is {common}.",
            "",
            "{a}/{b} = {x}/{common} and {c}/{d} = {y}/{common}.",
            "{x} + {y} = {top}, so the sum is {top}/{common}.",
            "In its simplest form that is {total:f}.",
        ),
        zh=(
            "计算：{a}/{b} + {c}/{d}。",
            "{b}和{d}的公分母是{common}。",
            "",
            "{a}/{b} = {x}/{common}，{c}/{d} = {y}/{common}。",
            "{x} + {y} = {top}，所以和是{top}/{common}。",
            "化成最简分数是{total:f}。",
        ),
        must=_UNLIKE,
    ),
    Template(
        "fraction_addition/difference",
        {
            "a": "2..6 2..7 2..8 2..9 2..13",
            "b": "3..7 3..8 3..9 3..10 3..15",
            "c": "2..6 2..7 2..8 2..9 2..13",
            "d": "3..7 3..8 3..9 3..10 3..15",
        },
        ("common = lcm(b, d)", "x = a * common / b", "y = c * common / d", "top = x - y", "left ? top / common"),
        en=(
            "[A] has {a}/{b} kg of [stuff] and uses {c}/{d} kg. How many kilograms are left?",
            "The common denominator of {b} and {d} is {common}.",
            "",
            "{a}/{b} = {x}/{common} and {c}/{d} = {y}/{common}.",
            "{x} - {y} = {top}, so {top}/{common} kg are left.",
            "In its simplest form that is {left:f} kg.",
        ),
        zh=(
            "[A]有{a}/{b}千克[stuff]，用去{c}/{d}千克。还剩多少千克？",
            "{b}和{d}的公分母是{common}。",
            "",
            "{a}/{b} = {x}/{common}，{c}/{d} = {y}/{common}。",
            "{x} - {y} = {top}，所以还剩{top}/{common}千克。",
            "化成最简分数是{left:f}千克。",
        ),
        units={"left": "kg"},
        must=_UNLIKE,
    ),
    Template(
        "fraction_simplification/plain",
        {"a": "4..10 4..20 6..50 8..100 12..300", "b": "6..12 6..24 9..60 12..120 24..360"},
        ("factor = gcd(a, b)", "top = a / factor", "bottom = b / factor", "simple ? a / b"),
        en=(
            "Write {a}/{b} in its simplest form.",
            "The greatest common factor of {a} and {b} is {factor}.",
            "{a} ÷ {factor} = {top}.",
            "{b} ÷ {factor} = {bottom}.",
            "So {a}/{b} = {simple:f}.",
        ),
        zh=(
            "把{a}/{b}化成最简分数。",
            "{a}和{b}的最大公因数是{factor}。",
            "{a} ÷ {factor} = {top}。",
            "{b} ÷ {factor} = {bottom}。",
            "所以{a}/{b} = {simple:f}。",
        ),
        must=("positive b - a",),
    ),
    Template(
        "fraction_simplification/part",
        {"a": "4..10 4..20 6..50 8..100 12..300", "b": "6..12 6..24 9..60 12..120 24..360"},
        ("factor = gcd(a, b)", "top = a / factor", "bottom = b / factor", "simple ? a / b"),
        en=(
            "{a} of the {b} [things] are new. What fraction of the [things] is new? Write it in its simplest form.",
            "The greatest common factor of {a} and {b} is {factor}.",
            "{a} ÷ {factor} = {top}.",
            "{b} ÷ {factor} = {bottom}.",
            "So {a}/{b} = {simple:f} of the [things] is new.",
        ),
        zh=(
            "{b}[m][thing]中有{a}[m]是新的。新的占几分之几？写成最简分数。",
            "{a}和{b}的最大公因数是{factor}。",
            "{a} ÷ {factor} = {top}。",
            "{b} ÷ {factor} = {bottom}。",
            "所以新的占{a}/{b} = {simple:f}。",
        ),
        must=("positive b - a",),
    ),
    Template(
        "fraction_multiplication/product",
        {
            "a": "2..4 2..5 2..7 2..9 2..13",
            "b": "3..5 3..6 3..8 3..10 3..15",
            "c": "2..4 2..5 2..7 2..9 2..13",
            "d": "3..5 3..6 3..8 3..10 3..15",
        },
        ("top = a * c", "bottom = b * d", "product ? top / bottom"),
        en=(
            "Work out {a}/{b} × {c}/{d}.",
            "Multiply above the line: {a} × {c} = {top}.",
            "Multiply below the line: {b} × {d} = {bottom}.",
            "In its simplest form the product is {product:f}.",
        ),
        zh=(
            "计算：{a}/{b} × {c}/{d}。",
            "分子相乘：{a} × {c} = {top}。",
            "分母相乘：{b} × {d} = {bottom}。",
            "化成最简分数，积是{product:f}。",
        ),
        must=_TWO_PROPER,
    ),
    Template(
        "fraction_multiplication/of",
        {
            "a": "2..4 2..5 2..7 2..9 2..13",
            "b": "3..5 3..6 3..8 3..10 3..15",
            "c": "2..4 2..5 2..7 2..9 2..13",
            "d": "3..5 3..6 3..8 3..10 3..15",
        },
        ("top = a * c", "bottom = b * d", "used ? top / bottom"),
        en=(
            "[A] has {a}/{b} kg of [stuff] and uses {c}/{d} of it. How many kilograms does [A] use?",
            "Multiply above the line: {a} × {c} = {top}.",
            "Multiply below the line: {b} × {d} = {bottom}.",
            "In its simplest form [A] uses {used:f} kg.",
        ),
        zh=(
            "[A]有{a}/{b}千克[stuff]，用去其中的{c}/{d}。用去了多少千克？",
            "分子相乘：{a} × {c} = {top}。",
            "分母相乘：{b} × {d} = {bottom}。",
            "化成最简分数，用去了{used:f}千克。",
        ),
        units={"used": "kg"},
        must=_TWO_PROPER,
    ),
)
