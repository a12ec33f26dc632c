"""Whole numbers: adding, taking away, comparing, multiplying, sharing, factors and multiples.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

TEMPLATES = (
    Template(
        "addition/get",
        {"a": "2..9 3..20 10..100 50..500 100..5000", "b": "2..9 2..20 10..100 50..500 100..5000"},
        ("total = a + b",),
        en=(
            "[A] has {a} [things] and gets {b} more. How many [things] does [A] have now?",
            "[A] now has {a} + {b} = {total} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，又得到{b}[m]。[A]现在有多少[m][thing]？",
            "[A]现在有{a} + {b} = {total}[m][thing]。",
        ),
    ),
    Template(
        "addition/boxes",
        {"a": "2..9 3..20 10..100 50..500 100..5000", "b": "2..9 2..20 10..100 50..500 100..5000"},
        ("total = a + b",),
        en=(
            "There are {a} [things] in one [box] and {b} [things] in another [box]. "
            "How many [things] are there altogether?",
            "Altogether there are {a} + {b} = {total} [things].",
        ),
        zh=(
            "甲[box]里有{a}[m][thing]，乙[box]里有{b}[m][thing]。两[bm][box]里一共有多少[m][thing]？",
            "一共有{a} + {b} = {total}[m][thing]。",
        ),
    ),
    Template(
        "subtraction/give",
        {"a": "4..10 6..20 20..100 100..500 200..5000", "b": "2..8 2..15 5..80 20..400 50..4000"},
        ("left = a - b",),
        en=(
            "[A] has {a} [things] and gives {b} of them to [B]. How many [things] does [A] have left?",
            "[A] has {a} - {b} = {left} [things] left.",
        ),
        zh=(
            "[A]有{a}[m][thing]，送给[B]{b}[m]。[A]还剩多少[m][thing]？",
            "[A]还剩{a} - {b} = {left}[m][thing]。",
        ),
    ),
    Template(
        "subtraction/need",
        {"a": "4..10 6..20 20..100 100..500 200..5000", "b": "2..8 2..15 5..80 20..400 50..4000"},
        ("need = a - b",),
        en=(
            "[A] needs {a} [things] and already has {b}. How many [things] are still missing?",
            "There are {a} - {b} = {need} [things] missing.",
        ),
        zh=(
            "[A]需要{a}[m][thing]，现在已经有{b}[m]。还差多少[m][thing]？",
            "还差{a} - {b} = {need}[m][thing]。",
        ),
    ),
    Template(
        "comparison/more",
        {"a": "2..10 3..20 10..100 50..500 100..2000", "b": "2..10 2..20 3..100 10..500 20..2000"},
        ("other = a + b",),
        en=(
            "[A] has {a} [things]. [B] has {b} more [things] than [A]. How many [things] does [B] have?",
            "[B] has {a} + {b} = {other} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，[B]比[A]多{b}[m]。[B]有多少[m][thing]？",
            "[B]有{a} + {b} = {other}[m][thing]。",
        ),
    ),
    Template(
        "comparison/fewer",
        {"a": "4..10 6..20 20..100 60..500 200..2000", "b": "2..8 2..15 3..80 10..400 20..1500"},
        ("other = a - b",),
        en=(
            "[A] has {a} [things]. [B] has {b} fewer [things] than [A]. How many [things] does [B] have?",
            "[B] has {a} - {b} = {other} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，[B]比[A]少{b}[m]。[B]有多少[m][thing]？",
            "[B]有{a} - {b} = {other}[m][thing]。",
        ),
    ),
    Template(
        "comparison/difference",
        {"a": "4..10 6..20 20..100 60..500 200..2000", "b": "2..8 2..15 3..80 10..400 20..1500"},
        ("difference = a - b",),
        en=(
            "[A] has {a} [things] and [B] has {b} [things]. How many more [things] does [A] have than [B]?",
            "[A] has {a} - {b} = {difference} more [things] than [B].",
        ),
        zh=(
            "[A]有{a}[m][thing]，[B]有{b}[m][thing]。[A]比[B]多多少[m][thing]？",
            "[A]比[B]多{a} - {b} = {difference}[m][thing]。",
        ),
    ),
    Template(
        "multiplication/boxes",
        {"a": "2..5 2..9 2..12 3..30 5..50", "b": "2..5 2..9 5..20 10..60 20..250"},
        ("total = a * b",),
        en=(
            "There are {a} [boxes] with {b} [things] in each [box]. How many [things] are there altogether?",
            "There are {a} × {b} = {total} [things].",
        ),
        zh=(
            "有{a}[bm][box]，每[bm][box]里有{b}[m][thing]。一共有多少[m][thing]？",
            "一共有{a} × {b} = {total}[m][thing]。",
        ),
    ),
    Template(
        "multiplication/days",
        {"a": "2..5 2..9 2..12 3..30 5..50", "b": "2..5 2..9 5..20 10..60 20..250"},
        ("total = b * a",),
        en=(
            "[A] collects {b} [things] every day. How many [things] does [A] collect in {a} days?",
            "In {a} days [A] collects {b} × {a} = {total} [things].",
        ),
        zh=(
            "[A]每天收集{b}[m][thing]。{a}天一共收集多少[m][thing]？",
            "{a}天一共收集{b} × {a} = {total}[m][thing]。",
        ),
        units={"a": "day"},
    ),
    Template(
        "division/share",
        {"a": "4..25 6..81 12..120 30..600 60..2400", "b": "2..5 2..9 3..12 4..25 6..60"},
        ("each = a / b",),
        en=(
            "{a} [things] are shared equally among {b} [group]. How many [things] does each of them get?",
            "Each of them gets {a} ÷ {b} = {each} [things].",
        ),
        zh=(
            "把{a}[m][thing]平均分给{b}[gm][group]。每[gm][group]分到多少[m][thing]？",
            "每[gm][group]分到{a} ÷ {b} = {each}[m][thing]。",
        ),
    ),
    Template(
        "division/fill",
        {"a": "4..25 6..81 12..120 30..600 60..2400", "b": "2..5 2..9 3..12 4..25 6..60"},
        ("boxes = a / b",),
        en=(
            "[A] packs {a} [things] into [boxes], {b} [things] in each [box]. How many [boxes] does [A] fill?",
            "[A] fills {a} ÷ {b} = {boxes} [boxes].",
        ),
        zh=(
            "[A]把{a}[m][thing]装进[box]，每[bm][box]装{b}[m]。可以装满多少[bm][box]？",
            "可以装满{a} ÷ {b} = {boxes}[bm][box]。",
        ),
    ),
    Template(
        "remainders/left",
        {"a": "7..20 11..50 20..90 50..300 200..1500", "b": "3..5 3..9 4..12 6..25 12..60"},
        ("full = floor(a / b)", "packed = full * b", "left = a - packed"),
        en=(
            "[A] packs {a} [things] into [boxes], {b} [things] in each [box]. How many [things] are left over?",
            "{b} fits into {a} at most {full} times.",
            "{full} full [boxes] hold {full} × {b} = {packed} [things].",
            "There are {a} - {packed} = {left} [things] left over.",
        ),
        zh=(
            "[A]把{a}[m][thing]装进[box]，每[bm][box]装{b}[m]。最后还剩多少[m][thing]？",
            "{a}里面最多有{full}个{b}。",
            "{full}[bm][box]装了{full} × {b} = {packed}[m][thing]。",
            "还剩{a} - {packed} = {left}[m][thing]。",
        ),
    ),
    Template(
        "remainders/needed",
        {"a": "7..20 11..50 20..90 50..300 200..1500", "b": "3..5 3..9 4..12 6..25 12..60"},
        ("full = floor(a / b)", "packed = full * b", "rest = a - packed", "needed = full + 1"),
        en=(
            "Each [box] holds at most {b} [things]. How many [boxes] are needed for {a} [things]?",
            "{b} fits into {a} at most {full} times.",
            "{full} [boxes] hold {full} × {b} = {packed} [things].",
            "{a} - {packed} = {rest} [things] are left over.",
            "They need a [box] too, so {full} + 1 = {needed} [boxes] are needed.",
        ),
        zh=(
            "每[bm][box]最多装{b}[m][thing]。装{a}[m][thing]至少需要多少[bm][box]？",
            "{a}里面最多有{full}个{b}。",
            "{full}[bm][box]装了{full} × {b} = {packed}[m][thing]。",
            "还剩{a} - {packed} = {rest}[m][thing]。",
            "剩下的也要装，所以至少需要{full} + 1 = {needed}[bm][box]。",
        ),
    ),
)
