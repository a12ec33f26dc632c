"""Word problems of one, two and several steps.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

TEMPLATES = (
    Template(
        "one_step_problems/price",
        {"a": "2..12 3..30 5..60 10..90 20..150", "b": "2..5 2..9 3..12 4..30 6..90"},
        ("cost = a * b",),
        en=(
            "One pack of [things] costs ${a}. How much do {b} packs of [things] cost?",
            "{b} packs cost {a} × {b} = {cost} dollars.",
        ),
        zh=(
            "一包[thing]{a}元，买{b}包[thing]需要多少元？",
            "买{b}包[thing]需要{a} × {b} = {cost}元。",
        ),
        units={"a": "money", "cost": "money"},
    ),
    Template(
        "one_step_problems/change",
        {"a": "5..30 20..100 50..300 200..2000 500..9000", "b": "2..25 5..90 10..250 50..1800 100..8000"},
        ("left = a - b",),
        en=(
            "[A] has ${a} and spends ${b} on [things]. How much money does [A] have left?",
            "[A] has {a} - {b} = {left} dollars left.",
        ),
        zh=(
            "[A]有{a}元，买[thing]花了{b}元。[A]还剩多少元？",
            "[A]还剩{a} - {b} = {left}元。",
        ),
        units={"a": "money", "b": "money", "left": "money"},
    ),
    Template(
        "two_step_problems/buy_boxes",
        {
            "a": "2..12 3..30 5..90 20..300 50..900",
            "b": "2..5 2..9 3..12 4..25 6..60",
            "c": "2..6 3..12 4..25 6..60 12..150",
        },
        ("bought = b * c", "total = a + bought"),
        en=(
            "[A] has {a} [things] and buys {b} [boxes] with {c} [things] in each [box]. "
            "How many [things] does [A] have now?",
            "[A] buys {b} × {c} = {bought} [things].",
            "Now [A] has {a} + {bought} = {total} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，又买了{b}[bm][box]，每[bm][box]里有{c}[m]。[A]现在有多少[m][thing]？",
            "[A]买了{b} × {c} = {bought}[m][thing]。",
            "[A]现在有{a} + {bought} = {total}[m][thing]。",
        ),
    ),
    Template(
        "two_step_problems/change",
        {
            "a": "10..50 30..150 80..500 200..3000 800..9000",
            "b": "2..5 2..9 3..12 4..25 6..60",
            "c": "2..9 3..15 4..40 6..110 12..140",
        },
        ("cost = b * c", "left = a - cost"),
        en=(
            "[A] has ${a} and buys {b} packs of [things] at ${c} each. How much money does [A] have left?",
            "The packs cost {b} × {c} = {cost} dollars.",
            "[A] has {a} - {cost} = {left} dollars left.",
        ),
        zh=(
            "[A]有{a}元，买了{b}包[thing]，每包{c}元。[A]还剩多少元？",
            "[thing]一共{b} × {c} = {cost}元。",
            "[A]还剩{a} - {cost} = {left}元。",
        ),
        units={"a": "money", "c": "money", "cost": "money", "left": "money"},
    ),
    Template(
        "two_step_problems/together",
        {"a": "2..20 5..60 20..300 50..900 100..4000", "b": "2..15 3..40 5..200 20..800 50..3000"},
        ("other = a + b", "total = a + other"),
        en=(
            "[A] has {a} [things]. [B] has {b} more [things] than [A]. How many [things] do they have together?",
            "[B] has {a} + {b} = {other} [things].",
            "Together they have {a} + {other} = {total} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，[B]比[A]多{b}[m]。两人一共有多少[m][thing]？",
            "[B]有{a} + {b} = {other}[m][thing]。",
            "两人一共有{a} + {other} = {total}[m][thing]。",
        ),
    ),
    Template(
        "multi_step_problems/share_rest",
        {
            "a": "2..6 3..9 4..15 6..30 10..60",
            "b": "3..9 4..15 6..30 10..60 20..150",
            "c": "2..12 3..30 5..90 20..300 50..900",
            "d": "2..5 2..9 3..12 4..20 5..40",
        },
        ("bought = a * b", "rest = bought - c", "each = rest / d"),
        en=(
            "[A] buys {a} [boxes] with {b} [things] in each [box], gives away {c} [things] and shares the rest equally "
            "among {d} [group]. How many [things] does each of them get?",
            "[A] buys {a} × {b} = {bought} [things].",
            "After giving some away there are {bought} - {c} = {rest} [things] left.",
            "Each of them gets {rest} ÷ {d} = {each} [things].",
        ),
        zh=(
            "[A]买了{a}[bm][box]，每[bm][box]里有{b}[m][thing]。送出{c}[m]后，把剩下的平均分给{d}[gm][group]。"
            "每[gm][group]分到多少[m][thing]？",
            "[A]买了{a} × {b} = {bought}[m][thing]。",
            "送出一些后还剩{bought} - {c} = {rest}[m][thing]。",
            "每[gm][group]分到{rest} ÷ {d} = {each}[m][thing]。",
        ),
    ),
    Template(
        "multi_step_problems/shopping",
        {
            "a": "2..4 2..6 3..9 4..15 6..30",
            "b": "2..5 2..9 3..20 5..40 10..90",
            "c": "2..4 2..6 3..9 4..15 6..30",
            "d": "2..5 2..9 3..20 5..40 10..90",
            "e": "20..50/10 50..150/10 100..500/50 300..2000/100 500..6000/100",
        },
        ("first = a * b", "second = c * d", "both = first + second", "change = e - both"),
        en=(
            "[A] buys {a} packs of [things] at ${b} each and {c} packs of [others] at ${d} each and pays with ${e}. "
            "How much change does [A] get?",
            "The [things] cost {a} × {b} = {first} dollars.",
            "The [others] cost {c} × {d} = {second} dollars.",
            "Together that is {first} + {second} = {both} dollars.",
            "[A] gets {e} - {both} = {change} dollars back.",
        ),
        zh=(
            "[A]买了{a}包[thing]，每包{b}元，又买了{c}包[other]，每包{d}元，付了{e}元。应找回多少元？",
            "[thing]一共{a} × {b} = {first}元。",
            "[other]一共{c} × {d} = {second}元。",
            "两种一共{first} + {second} = {both}元。",
            "应找回{e} - {both} = {change}元。",
        ),
        units=dict.fromkeys(("b", "d", "e", "first", "second", "both", "change"), "money"),
    ),
    Template(
        "multi_step_problems/three_people",
        {
            "a": "2..9 3..20 5..60 20..200 50..800",
            "b": "2..4 2..5 2..6 2..8 2..9",
            "c": "2..9 2..20 3..60 5..200 20..700",
        },
        ("second = a * b", "third = second - c", "both = a + second", "total = both + third"),
        en=(
            "[A] collects {a} [things]. [B] collects {b} times as many [things] as [A]. A friend collects {c} fewer "
            "[things] than [B]. How many [things] do they collect altogether?",
            "[B] collects {a} × {b} = {second} [things].",
            "The friend collects {second} - {c} = {third} [things].",
            "[A] and [B] collect {a} + {second} = {both} [things].",
            "Altogether they collect {both} + {third} = {total} [things].",
        ),
        zh=(
            "[A]收集了{a}[m][thing]，[B]收集的是[A]的{b}倍，一位朋友比[B]少收集{c}[m]。三人一共收集了多少[m][thing]？",
            "[B]收集了{a} × {b} = {second}[m][thing]。",
            "朋友收集了{second} - {c} = {third}[m][thing]。",
            "[A]和[B]收集了{a} + {second} = {both}[m][thing]。",
            "三人一共收集了{both} + {third} = {total}[m][thing]。",
        ),
    ),
)
