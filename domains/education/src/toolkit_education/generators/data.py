"""Data and chance: means, ranges and simple probabilities.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

_COUNT = "2..12 3..25 4..60 10..150 20..900"
_VALUE = "2..20 5..50 5..100 20..400 50..2000"

TEMPLATES = (
    Template(
        "mean/days",
        {"a": _COUNT, "b": _COUNT, "c": _COUNT, "d": _COUNT},
        ("total = a + b + c + d", "mean = total / 4"),
        en=(
            "On four days [A] counts {a}, {b}, {c} and {d} [things]. How many [things] is that on average per day?",
            "The total is {a} + {b} + {c} + {d} = {total} [things].",
            "The mean is {total} ÷ 4 = {mean} [things] per day.",
        ),
        zh=(
            "[A]四天分别数到{a}、{b}、{c}和{d}[m][thing]。平均每天多少[m][thing]？",
            "总数是{a} + {b} + {c} + {d} = {total}[m]。",
            "平均每天{total} ÷ 4 = {mean}[m][thing]。",
        ),
    ),
    Template(
        "mean/missing",
        {"m": _COUNT, "a": _COUNT, "b": _COUNT},
        ("total = m * 3", "both = a + b", "third = total - both"),
        en=(
            "On three days [A] counts {m} [things] per day on average. On the first day it is {a} and on the second "
            "day {b}. How many [things] does [A] count on the third day?",
            "Three days give {m} × 3 = {total} [things].",
            "The first two days give {a} + {b} = {both} [things].",
            "On the third day [A] counts {total} - {both} = {third} [things].",
        ),
        zh=(
            "[A]三天平均每天数到{m}[m][thing]，第一天{a}[m]，第二天{b}[m]。第三天数到多少[m][thing]？",
            "三天一共{m} × 3 = {total}[m]。",
            "前两天一共{a} + {b} = {both}[m]。",
            "第三天数到{total} - {both} = {third}[m][thing]。",
        ),
    ),
    Template(
        "data_range/days",
        {"a": _VALUE, "b": _VALUE, "c": _VALUE, "d": _VALUE},
        ("largest = max(a, b, c, d)", "smallest = min(a, b, c, d)", "range = largest - smallest"),
        en=(
            "On four days [A] counts {a}, {b}, {c} and {d} [things]. What is the range of these numbers?",
            "The largest number is {largest}.",
            "The smallest number is {smallest}.",
            "The range is {largest} - {smallest} = {range}.",
        ),
        zh=(
            "[A]四天分别数到{a}、{b}、{c}和{d}[m][thing]。这组数据的极差是多少？",
            "最大的数是{largest}。",
            "最小的数是{smallest}。",
            "极差是{largest} - {smallest} = {range}。",
        ),
    ),
    Template(
        "data_range/visitors",
        {"a": _VALUE, "b": _VALUE, "c": _VALUE, "d": _VALUE, "e": _VALUE},
        ("largest = max(a, b, c, d, e)", "smallest = min(a, b, c, d, e)", "range = largest - smallest"),
        en=(
            "In five weeks {a}, {b}, {c}, {d} and {e} people visit [place]. What is the difference between the largest "
            "and the smallest number of visitors?",
            "The largest number is {largest}.",
            "The smallest number is {smallest}.",
            "The difference is {largest} - {smallest} = {range}.",
        ),
        zh=(
            "五周里参观[place]的人数分别是{a}、{b}、{c}、{d}和{e}。最多的人数与最少的人数相差多少？",
            "最多的人数是{largest}。",
            "最少的人数是{smallest}。",
            "相差{largest} - {smallest} = {range}。",
        ),
    ),
    Template(
        "probability/two_kinds",
        {"a": "2..6 2..9 2..15 3..30 3..60", "b": "2..6 2..9 2..15 3..30 3..60"},
        ("total = a + b", "chance ? a / total"),
        en=(
            "There are {a} [things] and {b} [others] in a [box]. One of them is taken out without looking. "
            "What is the probability that it is one of the [things]?",
            "There are {a} + {b} = {total} objects.",
            "{a} of {total} are [things], so the probability is {chance:f}.",
        ),
        zh=(
            "一[bm][box]里有{a}[m][thing]和{b}[om][other]。不看，任意取出一样，取到[thing]的可能性是多少？",
            "一共有{a} + {b} = {total}样。",
            "{total}样中有{a}[m][thing]，所以可能性是{chance:f}。",
        ),
    ),
    Template(
        "probability/three_colours",
        {"a": "2..6 2..9 2..15 3..30 3..60", "b": "2..6 2..9 2..15 3..30 3..60", "c": "2..6 2..9 2..15 3..30 3..60"},
        ("total = a + b + c", "chance ? b / total"),
        en=(
            "At [place] a bag holds {a} red, {b} blue and {c} green balls of the same size. One ball is taken out "
            "without looking. What is the probability that it is blue?",
            "There are {a} + {b} + {c} = {total} balls.",
            "{b} of {total} are blue, so the probability is {chance:f}.",
        ),
        zh=(
            "[place]的一个袋子里有{a}个红球、{b}个蓝球和{c}个绿球，大小相同。不看，任意摸出一个球，摸到蓝球的可能性是多少？",
            "一共有{a} + {b} + {c} = {total}个球。",
            "{total}个球中有{b}个蓝球，所以可能性是{chance:f}。",
        ),
    ),
)
