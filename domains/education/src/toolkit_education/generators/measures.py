"""Units of measure, durations and speed.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

TEMPLATES = (
    Template(
        "unit_conversion/length",
        {"a": "2..12 2..30 5..90 20..500 1.5..2000/0.5"},
        ("cm = a * 100",),
        en=(
            "A [strip] at [place] is {a} m long. How many centimeters is that?",
            "1 m is 100 cm, so {a} m are {a} × 100 = {cm} cm.",
        ),
        zh=(
            "[place]有一根[strip]长{a}米，合多少厘米？",
            "1米 = 100厘米，所以{a}米 = {a} × 100 = {cm}厘米。",
        ),
        units={"a": "m", "cm": "cm"},
    ),
    Template(
        "unit_conversion/mass",
        {"a": "2..12 2..30 5..90 20..500 1.5..2000/0.5"},
        ("grams = a * 1000",),
        en=(
            "[A] has {a} kg of [stuff]. How many grams is that?",
            "1 kg is 1000 g, so {a} kg are {a} × 1000 = {grams} g.",
        ),
        zh=(
            "[A]有{a}千克[stuff]，合多少克？",
            "1千克 = 1000克，所以{a}千克 = {a} × 1000 = {grams}克。",
        ),
        units={"a": "kg", "grams": "g"},
    ),
    Template(
        "unit_conversion/pieces",
        {"a": "2..12 2..30 3..90 5..500 10..2000", "b": "4..12/2 5..30/5 5..90/5 10..80/5 10..200/5"},
        ("whole = a * 100", "pieces = whole / b"),
        en=(
            "[A] cuts {a} m of [strip] into pieces {b} cm long. How many pieces are there?",
            "{a} m are {a} × 100 = {whole} cm.",
            "There are {whole} ÷ {b} = {pieces} pieces.",
        ),
        zh=(
            "[A]把{a}米长的[strip]剪成每段{b}厘米的小段。可以剪成多少段？",
            "{a}米 = {a} × 100 = {whole}厘米。",
            "可以剪成{whole} ÷ {b} = {pieces}段。",
        ),
        units={"a": "m", "b": "cm", "whole": "cm"},
    ),
    Template(
        "elapsed_time/together",
        {"a": "5..30/5 5..50/5 5..60 10..90 20..120", "b": "2..30 5..50/5 5..60 10..120 20..300"},
        ("total = a + b",),
        en=(
            "[A] walks to [place] for {a} minutes and stays there for {b} minutes. How many minutes is that in total?",
            "That is {a} + {b} = {total} minutes.",
        ),
        zh=(
            "[A]走到[place]用了{a}分钟，在那里停留了{b}分钟。一共用了多少分钟？",
            "一共用了{a} + {b} = {total}分钟。",
        ),
        units={"a": "minute", "b": "minute", "total": "minute"},
    ),
    Template(
        "elapsed_time/hours_and_minutes",
        {"a": "2..3 2..5 2..8 3..10 5..14", "b": "5..30/5 5..50/5 5..55 4..59 3..59"},
        ("whole = a * 60", "total = whole + b"),
        en=(
            "A visit to [place] lasts {a} hours and {b} minutes. How many minutes does it last?",
            "{a} hours are {a} × 60 = {whole} minutes.",
            "Altogether it lasts {whole} + {b} = {total} minutes.",
        ),
        zh=(
            "参观[place]用了{a}小时{b}分钟，合多少分钟？",
            "{a}小时 = {a} × 60 = {whole}分钟。",
            "一共{whole} + {b} = {total}分钟。",
        ),
        units={"a": "hour", "b": "minute", "whole": "minute", "total": "minute"},
    ),
    Template(
        "speed/distance",
        {"v": "4..20 5..40 15..90 30..110 60..130", "t": "2..4 2..6 2..9 3..10 3..12"},
        ("distance = v * t",),
        en=(
            "[A] travels to [place] at {v} km per hour for {t} hours. How many kilometers does [A] travel?",
            "[A] travels {v} × {t} = {distance} km.",
        ),
        zh=(
            "[A]以每小时{v}千米的速度去[place]，走了{t}小时。一共走了多少千米？",
            "一共走了{v} × {t} = {distance}千米。",
        ),
        units={"v": "km_per_hour", "t": "hour", "distance": "km"},
    ),
    Template(
        "speed/time",
        {"s": "8..60 20..90 30..120 60..200 150..900", "v": "4..20 5..40 5..60 12..90 30..130"},
        ("time = s / v",),
        en=(
            "[Place] is {s} km away. [A] travels there at {v} km per hour. How many hours does it take?",
            "It takes {s} ÷ {v} = {time} hours.",
        ),
        zh=(
            "[A]离[place]{s}千米，每小时走{v}千米。需要多少小时才能到？",
            "需要{s} ÷ {v} = {time}小时。",
        ),
        units={"s": "km", "v": "km_per_hour", "time": "hour"},
    ),
    Template(
        "speed/speed",
        {"s": "8..60 20..90 30..120 60..200 150..900", "t": "2..5 2..6 2..9 3..12 3..20"},
        ("speed = s / t",),
        en=(
            "[A] travels {s} km to [place] in {t} hours, always at the same speed. "
            "How many kilometers is that per hour?",
            "[A] travels {s} ÷ {t} = {speed} km per hour.",
        ),
        zh=(
            "[A]匀速走{s}千米到[place]，用了{t}小时。平均每小时走多少千米？",
            "平均每小时走{s} ÷ {t} = {speed}千米。",
        ),
        units={"s": "km", "t": "hour", "speed": "km_per_hour"},
        must=("positive 131 - speed",),
    ),
)
