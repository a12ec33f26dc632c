"""Percentages, ratios, unit rates and proportion.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

_PERCENT = "10..90/10 10..75/5 5..95/5 2..98/2 3..97"
_AMOUNT = "20..100/10 20..200/10 20..500/5 20..1000/5 50..5000/10"
_PRICE = "20..60/10 20..100/10 20..200/5 20..300/5 50..500/5"

TEMPLATES = (
    Template(
        "percent_of_quantity/part",
        {"p": _PERCENT, "n": _AMOUNT},
        ("part = n * p / 100",),
        en=(
            "[A] has {n} [things]. {p}% of them are new. How many [things] are new?",
            "{n} × {p} ÷ 100 = {part} [things] are new.",
        ),
        zh=(
            "[A]有{n}[m][thing]，其中{p}%是新的。新的有多少[m]？",
            "新的有{n} × {p} ÷ 100 = {part}[m]。",
        ),
        units={"p": "%"},
    ),
    Template(
        "percent_of_quantity/left",
        {"p": _PERCENT, "n": _AMOUNT},
        ("used = n * p / 100", "left = n - used"),
        en=(
            "[A] has {n} [things] and gives away {p}% of them. How many [things] does [A] have left?",
            "[A] gives away {n} × {p} ÷ 100 = {used} [things].",
            "[A] has {n} - {used} = {left} [things] left.",
        ),
        zh=(
            "[A]有{n}[m][thing]，送出其中的{p}%。还剩多少[m][thing]？",
            "送出{n} × {p} ÷ 100 = {used}[m]。",
            "还剩{n} - {used} = {left}[m][thing]。",
        ),
        units={"p": "%"},
    ),
    Template(
        "percent_change/discount",
        {"p": _PERCENT, "n": _PRICE},
        ("off = n * p / 100", "price = n - off"),
        en=(
            "A set of [things] costs ${n}. It is sold at {p}% off. What is the new price?",
            "The discount is {n} × {p} ÷ 100 = {off} dollars.",
            "The new price is {n} - {off} = {price} dollars.",
        ),
        zh=(
            "一套[thing]原价{n}元，降价{p}%出售。现价是多少元？",
            "降了{n} × {p} ÷ 100 = {off}元。",
            "现价是{n} - {off} = {price}元。",
        ),
        units={"p": "%", "n": "money", "off": "money", "price": "money"},
    ),
    Template(
        "percent_change/increase",
        {"p": _PERCENT, "n": _AMOUNT},
        ("more = n * p / 100", "now = n + more"),
        en=(
            "Last year {n} people visited [place]. This year there are {p}% more people. How many people visit it "
            "this year?",
            "There are {n} × {p} ÷ 100 = {more} people more.",
            "This year {n} + {more} = {now} people visit it.",
        ),
        zh=(
            "去年有{n}人参观[place]，今年比去年增加{p}%。今年有多少人参观？",
            "增加了{n} × {p} ÷ 100 = {more}人。",
            "今年有{n} + {more} = {now}人参观。",
        ),
        units={"p": "%"},
    ),
    Template(
        "ratio_sharing/people",
        {
            "n": "10..60 15..100 30..200 60..500 100..2000",
            "a": "2..4 2..6 2..9 2..12 3..20",
            "b": "2..5 2..7 2..9 2..13 3..21",
        },
        ("parts = a + b", "one = n / parts", "share = one * a"),
        en=(
            "[A] and [B] share {n} [things] in the ratio {a}:{b}. How many [things] does [A] get?",
            "There are {a} + {b} = {parts} parts.",
            "One part is {n} ÷ {parts} = {one} [things].",
            "[A] gets {one} × {a} = {share} [things].",
        ),
        zh=(
            "[A]和[B]按{a}:{b}分{n}[m][thing]。[A]分到多少[m][thing]？",
            "一共有{a} + {b} = {parts}份。",
            "每份是{n} ÷ {parts} = {one}[m]。",
            "[A]分到{one} × {a} = {share}[m][thing]。",
        ),
        must=("whole 1 / gcd(a, b)",),
    ),
    Template(
        "ratio_sharing/mixture",
        {
            "n": "10..60 15..100 30..200 60..500 100..2000",
            "a": "2..4 2..6 2..9 2..12 3..20",
            "b": "2..5 2..7 2..9 2..13 3..21",
        },
        ("parts = a + b", "one = n / parts", "water = one * b"),
        en=(
            "For a party at [place], juice and water are mixed in the ratio {a}:{b}. How many liters of water are in "
            "{n} liters of the mixture?",
            "There are {a} + {b} = {parts} parts.",
            "One part is {n} ÷ {parts} = {one} liters.",
            "The water is {one} × {b} = {water} liters.",
        ),
        zh=(
            "[place]办聚会，把果汁和水按{a}:{b}混合。{n}升混合饮料中有水多少升？",
            "一共有{a} + {b} = {parts}份。",
            "每份是{n} ÷ {parts} = {one}升。",
            "水有{one} × {b} = {water}升。",
        ),
        units={"n": "l", "one": "l", "water": "l"},
        must=("whole 1 / gcd(a, b)",),
    ),
    Template(
        "unit_rate/price",
        {
            "a": "2..6 2..9 3..15 4..25 6..60",
            "b": "6..60 10..120 20..300 40..800 100..3000",
            "c": "3..9 3..12 4..20 5..40 7..90",
        },
        ("one = b / a", "cost = one * c"),
        en=(
            "{a} packs of [things] cost ${b}. How much do {c} packs cost at the same price for each?",
            "One pack costs {b} ÷ {a} = {one} dollars.",
            "{c} packs cost {one} × {c} = {cost} dollars.",
        ),
        zh=(
            "{a}包[thing]一共{b}元。照这样计算，{c}包一共多少元？",
            "一包{b} ÷ {a} = {one}元。",
            "{c}包一共{one} × {c} = {cost}元。",
        ),
        units={"b": "money", "one": "money", "cost": "money"},
        must=("positive (c - a) * (c - a)",),
    ),
    Template(
        "unit_rate/machine",
        {
            "a": "2..6 2..9 3..15 4..25 6..60",
            "b": "6..60 10..120 20..300 40..800 100..3000",
            "c": "3..9 3..12 4..20 5..40 7..90",
        },
        ("one = b / a", "packed = one * c"),
        en=(
            "A machine packs {b} [things] in {a} minutes. At this rate, how many [things] does it pack in {c} minutes?",
            "In one minute it packs {b} ÷ {a} = {one} [things].",
            "In {c} minutes it packs {one} × {c} = {packed} [things].",
        ),
        zh=(
            "一台机器{a}分钟包装{b}[m][thing]。照这样计算，{c}分钟包装多少[m][thing]？",
            "每分钟包装{b} ÷ {a} = {one}[m]。",
            "{c}分钟包装{one} × {c} = {packed}[m][thing]。",
        ),
        units={"a": "minute", "c": "minute"},
        must=("positive (c - a) * (c - a)",),
    ),
    Template(
        "proportion/recipe",
        {
            "a": "2..6 2..8 2..12 3..20 4..40",
            "b": "10..60/5 20..120/10 50..300/10 50..800/25 100..3000/50",
            "c": "4..30 4..40 6..96 9..160 12..400",
        },
        ("times = c / a", "amount = b * times"),
        en=(
            "{b} g of [stuff] is enough for {a} [boxes]. How many grams of [stuff] are needed for {c} [boxes]?",
            "{c} [boxes] are {c} ÷ {a} = {times} times as many.",
            "So {b} × {times} = {amount} g are needed.",
        ),
        zh=(
            "{a}[bm][box]需要{b}克[stuff]。照这样计算，{c}[bm][box]需要多少克？",
            "{c}是{a}的{c} ÷ {a} = {times}倍。",
            "需要{b} × {times} = {amount}克。",
        ),
        units={"b": "g", "amount": "g"},
    ),
    Template(
        "proportion/map",
        {
            "a": "2..5 2..6 2..8 3..12 4..20",
            "b": "4..30 6..60 8..120 12..400 20..1500",
            "c": "2..9 2..15 3..25 4..40 5..60",
        },
        ("one = b / a", "distance = one * c"),
        en=(
            "On a map of [place], {a} cm stand for {b} m. How many meters do {c} cm stand for?",
            "One centimeter stands for {b} ÷ {a} = {one} m.",
            "So {c} cm stand for {one} × {c} = {distance} m.",
        ),
        zh=(
            "在[place]的地图上，{a}厘米表示实际距离{b}米。{c}厘米表示实际距离多少米？",
            "1厘米表示{b} ÷ {a} = {one}米。",
            "{c}厘米表示{one} × {c} = {distance}米。",
        ),
        units={"a": "cm", "b": "m", "c": "cm", "one": "m", "distance": "m"},
        must=("positive (c - a) * (c - a)",),
    ),
)
