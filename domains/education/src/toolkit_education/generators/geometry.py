"""Geometry: perimeters, areas, volumes and angles.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

TEMPLATES = (
    Template(
        "perimeter/field",
        {"a": "3..10 4..20 6..50 10..150 20..500", "b": "2..9 2..18 3..45 5..140 5..450"},
        ("half = a + b", "perimeter = half * 2"),
        en=(
            "The [field] at [place] is a rectangle, {a} m long and {b} m wide. How many meters is its perimeter?",
            "Length and width together are {a} + {b} = {half} m.",
            "The perimeter is {half} × 2 = {perimeter} m.",
        ),
        zh=(
            "[place]的[field]是长方形，长{a}米，宽{b}米。它的周长是多少米？",
            "长与宽的和是{a} + {b} = {half}米。",
            "周长是{half} × 2 = {perimeter}米。",
        ),
        units={"a": "m", "b": "m", "half": "m", "perimeter": "m"},
        must=("positive a - b",),
    ),
    Template(
        "perimeter/square",
        {"a": "2..10 2..20 3..50 5..150 5..500"},
        ("perimeter = a * 4",),
        en=(
            "A square has sides of {a} cm. How many centimeters is its perimeter?",
            "The perimeter is {a} × 4 = {perimeter} cm.",
        ),
        zh=(
            "一个正方形的边长是{a}厘米。它的周长是多少厘米？",
            "周长是{a} × 4 = {perimeter}厘米。",
        ),
        units={"a": "cm", "perimeter": "cm"},
    ),
    Template(
        "perimeter/triangle",
        {
            "a": "4..10 5..20 8..50 20..150 40..500",
            "b": "3..9 3..18 5..45 10..120 20..400",
            "c": "3..9 3..18 5..45 10..120 20..400",
        },
        ("two = a + b", "perimeter = two + c"),
        en=(
            "The sides of a triangle are {a} cm, {b} cm and {c} cm long. How many centimeters is its perimeter?",
            "The first two sides are {a} + {b} = {two} cm together.",
            "The perimeter is {two} + {c} = {perimeter} cm.",
        ),
        zh=(
            "一个三角形的三条边长分别是{a}厘米、{b}厘米和{c}厘米。它的周长是多少厘米？",
            "前两条边的和是{a} + {b} = {two}厘米。",
            "周长是{two} + {c} = {perimeter}厘米。",
        ),
        units=dict.fromkeys(("a", "b", "c", "two", "perimeter"), "cm"),
        must=("positive b + c - a", "positive a + c - b", "positive a + b - c"),
    ),
    Template(
        "rectangle_area/field",
        {"a": "3..9 4..12 6..30 10..60 20..200", "b": "2..8 2..11 3..25 5..50 5..180"},
        ("area = a * b",),
        en=(
            "The [field] at [place] is a rectangle, {a} m long and {b} m wide. How many square meters is its area?",
            "The area is {a} × {b} = {area} m².",
        ),
        zh=(
            "[place]的[field]是长方形，长{a}米，宽{b}米。它的面积是多少平方米？",
            "面积是{a} × {b} = {area}平方米。",
        ),
        units={"a": "m", "b": "m", "area": "m2"},
        must=("positive a - b",),
    ),
    Template(
        "rectangle_area/square",
        {"a": "2..9 2..12 3..30 5..60 5..200"},
        ("area = a * a",),
        en=(
            "A square has sides of {a} cm. How many square centimeters is its area?",
            "The area is {a} × {a} = {area} cm².",
        ),
        zh=(
            "一个正方形的边长是{a}厘米。它的面积是多少平方厘米？",
            "面积是{a} × {a} = {area}平方厘米。",
        ),
        units={"a": "cm", "area": "cm2"},
    ),
    Template(
        "triangle_area/height",
        {"a": "3..10 3..16 4..30 6..60 10..200", "h": "2..10 2..16 3..30 4..60 5..200"},
        ("product = a * h", "area = product / 2"),
        en=(
            "A triangle has a base of {a} cm and a height of {h} cm. How many square centimeters is its area?",
            "Base times height is {a} × {h} = {product}.",
            "The area is half of it: {product} ÷ 2 = {area} cm².",
        ),
        zh=(
            "一个三角形的底是{a}厘米，高是{h}厘米。它的面积是多少平方厘米？",
            "底乘高是{a} × {h} = {product}。",
            "面积是它的一半：{product} ÷ 2 = {area}平方厘米。",
        ),
        units={"a": "cm", "h": "cm", "area": "cm2"},
    ),
    Template(
        "triangle_area/field",
        {"a": "3..10 3..16 4..30 6..60 10..200", "h": "2..10 2..16 3..30 4..60 5..200"},
        ("product = a * h", "area = product / 2"),
        en=(
            "A part of the [field] at [place] is a right triangle. The sides at the right angle are {a} m and {h} m "
            "long. How many square meters is its area?",
            "The product of these sides is {a} × {h} = {product}.",
            "The area is half of it: {product} ÷ 2 = {area} m².",
        ),
        zh=(
            "[place]的[field]有一部分是直角三角形，两条直角边分别长{a}米和{h}米。它的面积是多少平方米？",
            "两条直角边的积是{a} × {h} = {product}。",
            "面积是它的一半：{product} ÷ 2 = {area}平方米。",
        ),
        units={"a": "m", "h": "m", "area": "m2"},
    ),
    Template(
        "cuboid_volume/box",
        {"a": "2..5 2..8 3..12 4..25 6..60", "b": "2..5 2..8 2..12 3..25 4..60", "c": "2..5 2..8 2..12 3..25 4..60"},
        ("base = a * b", "volume = base * c"),
        en=(
            "A cardboard box at [place] is {a} cm long, {b} cm wide and {c} cm high. "
            "How many cubic centimeters is its volume?",
            "The base is {a} × {b} = {base} cm².",
            "The volume is {base} × {c} = {volume} cm³.",
        ),
        zh=(
            "[place]有一个长方体纸盒，长{a}厘米，宽{b}厘米，高{c}厘米。它的体积是多少立方厘米？",
            "底面积是{a} × {b} = {base}平方厘米。",
            "体积是{base} × {c} = {volume}立方厘米。",
        ),
        units={"a": "cm", "b": "cm", "c": "cm", "base": "cm2", "volume": "cm3"},
    ),
    Template(
        "cuboid_volume/cube",
        {"a": "2..8 2..10 3..14 5..25 6..60"},
        ("face = a * a", "volume = face * a"),
        en=(
            "A cube has edges of {a} cm. How many cubic centimeters is its volume?",
            "One face is {a} × {a} = {face} cm².",
            "The volume is {face} × {a} = {volume} cm³.",
        ),
        zh=(
            "一个正方体的棱长是{a}厘米。它的体积是多少立方厘米？",
            "一个面的面积是{a} × {a} = {face}平方厘米。",
            "体积是{face} × {a} = {volume}立方厘米。",
        ),
        units={"a": "cm", "face": "cm2", "volume": "cm3"},
    ),
    Template(
        "triangle_angles/third",
        {"a": "30..90/10 20..90/5 15..110 10..120 5..130", "b": "30..80/10 20..80/5 15..110 10..120 5..130"},
        ("both = a + b", "third = 180 - both"),
        en=(
            "Two angles of a triangle are {a}° and {b}°. How many degrees is the third angle?",
            "The two angles are {a} + {b} = {both} degrees together.",
            "The angles of a triangle add up to 180 degrees, so the third one is 180 - {both} = {third} degrees.",
        ),
        zh=(
            "一个三角形的两个角分别是{a}°和{b}°。第三个角是多少度？",
            "两个角的和是{a} + {b} = {both}度。",
            "三角形的内角和是180度，所以第三个角是180 - {both} = {third}度。",
        ),
        units=dict.fromkeys(("a", "b", "both", "third"), "degree"),
        must=("positive third - 4",),
    ),
    Template(
        "triangle_angles/isosceles",
        {"a": "20..120/10 20..120/10 16..140/2 10..150/2 6..170/2"},
        ("rest = 180 - a", "each = rest / 2"),
        en=(
            "The angle between the two equal sides of a triangle is {a}°. "
            "How many degrees is each of the other angles?",
            "The other two angles are 180 - {a} = {rest} degrees together.",
            "They are equal, so each is {rest} ÷ 2 = {each} degrees.",
        ),
        zh=(
            "一个等腰三角形的顶角是{a}°。每个底角是多少度？",
            "两个底角的和是180 - {a} = {rest}度。",
            "两个底角相等，所以每个底角是{rest} ÷ 2 = {each}度。",
        ),
        units=dict.fromkeys(("a", "rest", "each"), "degree"),
    ),
)
