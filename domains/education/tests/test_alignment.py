"""Re-themed item models: honest ones pass, and 300 planted corruptions are all found."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from toolkit_education.alignment import align
from toolkit_education.generators import models, templates
from toolkit_education.gsm8k import convert_rows
from toolkit_education.items import ItemModel, Step
from toolkit_education.relations import anchors

GSM8K = Path(__file__).parents[4] / "shared/data/education/gsm8k/train.jsonl"
PLANTED = 300

# A re-theming by table: people and things change, and nothing else.
NAMES = "Priya Omar Lena Diego Yuki Amara Felix Ingrid Kofi Saskia Tariq Wanda Zofia Bruno Elif Jonas".split()  # noqa: SIM905
THINGS = ("kite", "lantern", "shell", "puppet", "button", "marble", "whistle", "feather", "coaster", "badge")
KEPT = frozenset(
    (
        *("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november"),
        *(
            "december",
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
            "mondays",
            "fridays",
        ),
        *("tuesdays", "wednesdays", "thursdays", "saturdays", "sundays"),
    )
)
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
THING = re.compile(r"\{\w+(?::[^}]*)?\} ([a-z]{4,})s\b")
NOT_THINGS = re.compile(
    r"(?:minute|hour|day|week|month|year|second|time|mile|foot|feet|inch|yard|pound|ounce|gallon|dollar|cent|liter|meter"
    r"|kilometer|gram|kilogram|dozen|part|les|pas|clas|glas|percent|quarter|people|degree|acre|quart|pint|ton|cup)$"
)


def swapped(text: str, table: dict[str, str]) -> str:
    if not table:
        return text
    words = "|".join(sorted(map(re.escape, table), key=len, reverse=True))
    return re.sub(rf"(?<![\w{{:])(?:{words})(?![\w}}])", lambda match: table[match.group()], text)


def rethemed(model: ItemModel, rng: random.Random) -> ItemModel:
    """Other names and other things, each the same wherever it stands."""
    names = [name for name in dict.fromkeys(NAME.findall(model.text)) if name.lower() not in KEPT]
    table = dict(zip(names, rng.sample(NAMES, min(len(names), len(NAMES))), strict=False))
    things = [thing for thing in dict.fromkeys(THING.findall(model.text)) if not NOT_THINGS.search(thing)]
    for old, new in zip(things, rng.sample(THINGS, len(THINGS)), strict=False):
        if not any(anchor.kind != "number:1" for anchor in anchors(f"{old} {old}s", "en")):
            table |= {old: new, f"{old}s": f"{new}s", old.capitalize(): new.capitalize()}
            table |= {f"{old.capitalize()}s": f"{new.capitalize()}s"}
    steps = tuple(dataclasses.replace(step, words=swapped(step.words, table)) for step in model.steps)
    return dataclasses.replace(model, text=swapped(model.text, table), steps=steps)


@lru_cache(maxsize=1)
def corpus() -> tuple[ItemModel, ...]:
    """Converted GSM8K rows where the data are, the built-in generators' models where they are not."""
    if GSM8K.is_file():
        import json

        lines = GSM8K.read_text(encoding="utf-8").splitlines()[:1500]
        rows = [json.loads(line) for line in lines]
        found = convert_rows((f"row{n}", row["question"], row["answer"]) for n, row in enumerate(rows))
        return found.models
    return tuple(
        model for skill in templates() for level in (2, 3, 4) for model in models(skill, level, "en", "animals")
    )


def with_text(model: ItemModel, text: str) -> ItemModel | None:
    return None if text == model.text else dataclasses.replace(model, text=text)


def replaced(model: ItemModel, rng: random.Random, table: dict[str, str]) -> ItemModel | None:
    """One of the table's words, somewhere in the text, becomes its wrong counterpart."""
    words = "|".join(sorted(map(re.escape, table), key=len, reverse=True))
    found = list(re.finditer(rf"(?<![\w{{:])(?:{words})(?![\w}}])", model.text))
    if not found:
        return None
    match = rng.choice(found)
    return with_text(model, model.text[: match.start()] + table[match.group()] + model.text[match.end() :])


def dropped_quantity(model: ItemModel, rng: random.Random) -> ItemModel | None:
    match = rng.choice(list(re.finditer(r"\$?\{\w+(?::[^}]*)?\}%?", model.text)))
    return with_text(model, model.text[: match.start()] + "some" + model.text[match.end() :])


def exchanged_quantities(model: ItemModel, rng: random.Random) -> ItemModel | None:
    found = list(re.finditer(r"\{\w+", model.text))
    if len({match.group() for match in found}) < 2:
        return None
    one, other = sorted(rng.sample(found, 2), key=lambda match: match.start())
    text = model.text
    return with_text(
        model, text[: one.start()] + other.group() + text[one.end() : other.start()] + one.group() + text[other.end() :]
    )


def repeated_quantity(model: ItemModel, rng: random.Random) -> ItemModel | None:
    match = rng.choice(list(re.finditer(r"\{\w+(?::[^}]*)?\}", model.text)))
    return with_text(model, model.text[: match.end()] + f" and {match.group()}" + model.text[match.end() :])


def table_of(*pairs: str) -> Callable[[ItemModel, random.Random], ItemModel | None]:
    table = dict(pair.split(">") for pair in pairs)
    table |= {old.capitalize(): new.capitalize() for old, new in table.items() if old[:1].isalpha()}
    return lambda model, rng: replaced(model, rng, table)


def between(text: str, one: str, other: str) -> str:
    first, last = sorted((text.index(one), text.index(other)))
    return text[first:last]


def asked_of_another(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """The question asks about another person of the story."""
    start = max(model.text.rfind(mark) for mark in (". ", "! "))
    story, question = model.text[:start], model.text[start:]
    asked = [name for name in dict.fromkeys(NAME.findall(question)) if name in story and name.lower() not in KEPT]
    others = [name for name in dict.fromkeys(NAME.findall(story)) if name not in question and name.lower() not in KEPT]
    # Two names side by side may be one person: a number has to stand between them.
    others = [name for name in others if asked and "{" in between(story, asked[0], name)]
    if start < 0 or len(asked) != 1 or not others:
        return None
    return with_text(model, story + re.sub(rf"\b{asked[0]}\b", rng.choice(others), question))


def changed_number(model: ItemModel, rng: random.Random) -> ItemModel | None:
    table = {"two": "three", "three": "four", "four": "five", "five": "six", "six": "seven", "ten": "nine"}
    return replaced(model, rng, table | {"dozen": "score"})


def changed_program(model: ItemModel, rng: random.Random) -> ItemModel | None:
    place = rng.randrange(len(model.steps))
    step = model.steps[place]
    turned = step.expression.translate(str.maketrans("+-*/", "-+/*"))
    if turned == step.expression:
        return None
    steps = list(model.steps)
    steps[place] = dataclasses.replace(step, expression=turned)
    return dataclasses.replace(model, steps=tuple(steps))


def changed_sentence(model: ItemModel, rng: random.Random) -> ItemModel | None:
    """A step's sentence shows another number than it computes."""
    place = rng.choice([n for n, step in enumerate(model.steps) if "{" in step.words])
    step = model.steps[place]
    words = re.sub(r"\{\w+(?::[^}]*)?\}", f"{{{model.quantities[0].name}}}", step.words)
    if words == step.words:
        return None
    steps = list(model.steps)
    steps[place] = Step(step.name, step.expression, words, step.unit)
    return dataclasses.replace(model, steps=tuple(steps))


def changed_unit_of_quantity(model: ItemModel, rng: random.Random) -> ItemModel | None:
    quantities = list(model.quantities)
    place = rng.randrange(len(quantities))
    quantities[place] = dataclasses.replace(
        quantities[place], unit="hour" if quantities[place].unit != "hour" else "minute"
    )
    return dataclasses.replace(model, quantities=tuple(quantities))


def dropped_sentence(model: ItemModel, rng: random.Random) -> ItemModel | None:
    sentences = re.split(r"(?<=[.!?]) +", model.text)
    with_numbers = [n for n, sentence in enumerate(sentences) if "{" in sentence]
    if len(sentences) < 3 or not with_numbers:
        return None
    del sentences[rng.choice(with_numbers)]
    return with_text(model, " ".join(sentences))


CORRUPTIONS: dict[str, Callable[[ItemModel, random.Random], ItemModel | None]] = {
    "a quantity dropped": dropped_quantity,
    "two quantities exchanged": exchanged_quantities,
    "a quantity repeated": repeated_quantity,
    "more and fewer": table_of(
        "more>fewer", "fewer>more", "less>more", "older>younger", "younger>older", "longer>shorter"
    ),
    "times and divided": table_of("twice>half", "half>twice", "times>fewer than", "double>half", "triple>third"),
    "each and altogether": table_of("each>altogether", "every>the whole", "per>in all of a", "total>remaining"),
    "left and in total": table_of(
        "left>altogether", "remaining>combined", "altogether>left", "together>apart", "rest>sum"
    ),
    "a unit changed": table_of(
        *("minutes>hours", "hours>minutes", "days>weeks", "weeks>days", "pounds>ounces", "feet>inches", "miles>feet"),
        *("inches>feet", "ounces>pounds", "meters>kilometers", "years>months", "months>years", "liters>milliliters"),
        *("minute>hour", "hour>minute", "cents>dollars", "grams>kilograms", "gallons>quarts", "dollars>cents"),
    ),
    "the question changed": table_of(
        "how many>how much", "how much>how many", "how long>how far", "how old>how tall", "what percent>what fraction"
    ),
    "asked of another": asked_of_another,
    "a number word changed": changed_number,
    "the program changed": changed_program,
    "a sentence of the solution changed": changed_sentence,
    "a quantity's unit changed": changed_unit_of_quantity,
    "a sentence dropped": dropped_sentence,
    "gained and lost": table_of(
        *("gives>gets", "gave>received", "bought>sold", "lost>found", "sold>bought", "earns>spends", "spent>earned"),
        *("eats>buys", "ate>bought", "paid>earned", "received>gave", "buys>sells", "sells>buys", "spends>earns"),
    ),
}


def planted(count: int) -> Iterator[tuple[str, ItemModel, ItemModel]]:
    """Corruptions of every kind in turn, each on top of an honest re-theming."""
    rng = random.Random(7)
    kinds, done = list(CORRUPTIONS), 0
    for turn in range(200 * count):
        kind = kinds[turn % len(kinds)]
        model = rng.choice(corpus())
        honest = rethemed(model, rng)
        if align(model, honest):
            continue
        wrong = CORRUPTIONS[kind](honest, rng)
        if wrong is None or wrong == honest:
            continue
        yield kind, model, wrong
        done += 1
        if done == count:
            return


def test_honest_rethemings_pass() -> None:
    rng = random.Random(11)
    sample = rng.sample(corpus(), min(400, len(corpus())))
    changed = [(model, rethemed(model, rng)) for model in sample]
    different = sum(model.text != other.text for model, other in changed)
    refused = [(model.text, other.text, align(model, other)) for model, other in changed if align(model, other)]
    assert different > len(sample) / 2
    assert len(refused) <= 0.05 * len(changed), refused[:3]


def test_all_planted_corruptions_are_found() -> None:
    missed, counts = [], Counter[str]()
    for kind, model, wrong in planted(PLANTED):
        counts[kind] += 1
        if not align(model, wrong):
            missed.append((kind, model.text, wrong.text))
    assert sum(counts.values()) == PLANTED
    assert len(counts) == len(CORRUPTIONS) or not GSM8K.is_file(), counts
    assert missed == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_generators_own_themes_are_aligned(language: str) -> None:
    refused = []
    for skill in templates():
        for theme in ("space", "sport", "cooking", "art"):
            pairs = zip(models(skill, 3, language, "animals"), models(skill, 3, language, theme), strict=True)
            refused += [(one.text, other.text) for one, other in pairs if align(one, other)]
    assert refused == []


TURNED = {
    "ratio_sharing/people": [("does Mia get", "does Leo get"), ("Mia and Leo", "Leo and Mia")],
    "probability/two_kinds": [("one of the carrots", "one of the apples"), ("without looking", "with looking")],
    "fraction_of_quantity/left": [("gives away", "keeps"), ("gives away", "wants to give away")],
    "subtraction/give": [("gives {b} of", "gives all but {b} of"), ("gives {b}", "wants to give {b}")],
    "greatest_common_factor/parcels": [("nothing is left over", "some are left over")],
    "data_range/days": [("range", "median"), ("range", "mean"), ("range", "mode")],
    "triangle_area/height": [("triangle", "rectangle"), ("triangle", "parallelogram"), ("height", "width")],
    "rectangle_area/field": [("rectangle", "circle"), ("rectangle", "right triangle"), ("wide", "long")],
    "perimeter/field": [("rectangle", "square"), ("long", "wide")],
    "triangle_angles/third": [("triangle", "quadrilateral")],
}


@pytest.mark.parametrize("key", sorted(TURNED))
def test_a_question_that_is_turned_is_found(key: str) -> None:
    original = next(one for one in models(key.partition("/")[0], 3, "en", "animals") if one.id.startswith(key + "/"))
    for old, new in TURNED[key]:
        assert old in original.text, (old, original.text)
        wrong = dataclasses.replace(original, text=original.text.replace(old, new))
        assert align(original, wrong), wrong.text


CHINESE = {
    "comparison/more": [("多", "少"), ("比", "和"), ("{b}", "几"), ("多少张", "多少千克")],
    "times_as_many/other": [("倍", "分之一"), ("{b}", "{a}"), ("{b}倍", "一半")],
    "division/share": [("平均分", "借"), ("每", "第一")],
    "addition/boxes": [("一共", "还剩"), ("{a}", "{b}"), ("两", "三")],
    "unit_conversion/length": [("米", "千米"), ("厘米", "毫米")],
    "elapsed_time/together": [("{a}分钟", "{a}小时"), ("一共", "还剩")],
    "subtraction/give": [("还剩", "一共"), ("送给", "得到")],
    "percent_of_quantity/part": [("%", "个"), ("{p}%", "一半")],
    "sum_and_difference/smaller": [("[A]比[B]", "[B]比[A]")],
    "mean/days": [("平均每天", "每天"), ("平均", "一共")],
    "ratio_sharing/people": [("[A]分到多少", "[B]分到多少")],
    "fraction_of_quantity/left": [("送出", "留下"), ("送出", "打算送出")],
    "triangle_area/height": [("三角形", "平行四边形"), ("三角形", "长方形")],
    "data_range/days": [("极差", "中位数"), ("极差", "众数")],
    "probability/two_kinds": [("取到星星卡", "取到火箭模型")],
}


@pytest.mark.parametrize("key", sorted(CHINESE))
def test_chinese_relations_are_found_too(key: str) -> None:
    level = 3
    original = next(
        one for one in models(key.partition("/")[0], level, "zh", "animals") if one.id.startswith(key + "/")
    )
    other = next(one for one in models(key.partition("/")[0], level, "zh", "space") if one.id.startswith(key + "/"))
    assert align(original, other) == ()
    for old, new in CHINESE[key]:
        old, new = (words.replace("[A]", "小航").replace("[B]", "小星") for words in (old, new))
        assert old in other.text, (old, other.text)
        wrong = dataclasses.replace(other, text=other.text.replace(old, new))
        assert align(original, wrong), (old, new, wrong.text)


def test_another_language_or_level_is_no_retheming() -> None:
    english, chinese = (models("addition", 2, language, "animals")[0] for language in ("en", "zh"))
    assert {finding.code for finding in align(english, chinese)} >= {"language"}
    assert align(english, dataclasses.replace(english, level=3))[0].where == "level"
