"""What a learner writes as an answer, read: one number, or several with a unit each, in digits or in words.

Anything that is no number, no unit and none of the item's own words makes it unreadable: nothing is guessed. Whether
an answer is right is not known here.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from toolkit.errors import DataError
from toolkit_education.items import Item
from toolkit_education.numerals import LANGUAGES, SIGNS, Reading, parse_number
from toolkit_education.spoken import in_digits
from toolkit_education.units import Unit, unit_written, units

MOST_CHARACTERS = 400
LONGEST_UNIT = 30

_NUMBER = re.compile(
    r"(?<![A-Za-z0-9/*+^-])(?<!\d[.,:])(?:[-+] ?)?(?:[$¥€£] ?)?(?:- ?)?"
    r"(?:\d+ \d+/\d+|\d+/\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?![\d/*^]|[.,:]\d)",
    re.ASCII,
)
_PIECE = re.compile(r"[a-z]+(?:['’][a-z]+)?|\S", re.IGNORECASE)
_UNSOLVED = re.compile(r"\d[xyzn]\b|\b[xyzn] ?[-+*/]|[-+*/] ?[xyzn]\b", re.IGNORECASE)
_VARIABLE = re.compile(r"\s*[a-z]?\s*", re.IGNORECASE)
_IDLE_WORDS = (
    "a all altogether an and answer are ans each equal equals final for gets get got has have he her his i in is it its"
    " left me mine more my of on one only our per piece result she so the their them then there therefore they thing"
    " this thus to together total was we were with"
)
_IDLE_SIGNS = (
    "答案是为得到有共一总还剩下了个只根支本张块片条位名人份件枚辆棵次段组包袋盒页粒颗杯瓶间头匹朵座台把双套"
    "所以最后结果等于他她它们的余得数人民币"
)
_IDLE = frozenset((*_IDLE_WORDS.split(), *_IDLE_SIGNS))
"""Words around a number that change nothing in what it says."""

_DOUBT = re.compile(
    r"\b(?:not|no|never|or|about|almost|nearly|maybe|around|approximately|between|point)\b|n['’]t\b|[不没非或约≈~±?？]"
    r"|左右|至少|至多|超过"
)
"""Words that take back what stands beside them."""

_BEFORE = re.compile(r"\b(?:than|least|most|over|under|up to|times|minus|plus)\b", re.IGNORECASE)
"""Words that say something else of a number that follows them; after a number they belong to the question."""


@dataclass(frozen=True)
class Part:
    """A number of an answer and the unit that it is written with."""

    reading: Reading
    unit: Unit | None


def read(text: str, item: Item) -> tuple[Part, ...]:
    """The numbers of an answer to an item, each with its unit: more than one only where all are measures of one kind,
    the larger unit first, as in 3 hours 20 minutes.

    Raises:
        DataError: there is none, or something is left over that could change it.
    """
    if len(text) > MOST_CHARACTERS:
        raise DataError("it is too long", hint=f"At most {MOST_CHARACTERS} characters.")
    plain = in_digits(_result(_normal(text)), _nouns(item))
    if _DOUBT.search(plain.lower()):
        raise DataError("it says more than one number does", hint="Write the number alone.")
    found = list(_NUMBER.finditer(plain))
    if not found:
        raise DataError("there is no number", hint="Write a number.")
    head = plain[: found[0].start()]
    if _BEFORE.search(head) or (found[0].group()[:2] == "- " and head.strip()):
        raise DataError("it says more than one number does", hint="Write the number alone.")
    _idle(head, item)
    ends = [*(match.start() for match in found[1:]), len(plain)]
    parts = []
    for match, end in zip(found, ends, strict=True):
        reading = parse_number(re.sub(r"(?<=[-+$¥€£]) ", "", match.group()))
        unit, rest = _unit(plain[match.end() : end], reading, item)
        _idle(rest, item)
        parts.append(Part(reading, unit))
    if len(parts) > 1 and not _compound(parts):
        raise DataError("there is more than one number", hint="Write one.")
    return tuple(parts)


def _normal(text: str) -> str:
    """One way to write each sign: m² is m^2, 15½ is 15 1/2, ２／３ is 2/3, – and － are -."""
    text = re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", lambda glyph: f" {unicodedata.normalize('NFKC', glyph[0])}", text)
    text = re.sub("[²³]", lambda sign: f"^{unicodedata.normalize('NFKC', sign[0])}", text)
    text = re.sub(r"(?<=\d)，(?=\d{3})", ",", text)
    text = (
        unicodedata.normalize("NFKC", text.replace("，", "、").replace("…", " "))
        .translate(SIGNS)
        .replace("\u2044", "/")
    )
    text = re.sub(r"(?<=\d)\s*/\s*(?=\d)", "/", text)
    text = re.sub(r"(?<![A-Za-z])([cdmk]?m|ft|in|yd)(?=[23](?!\d| ?[A-Za-z]))", r"\1^", text)
    text = re.sub(r"(\d ?(?!e\d)[A-Za-z]{1,7})(?=\d)", r"\1 ", text)  # 3h20min
    text = re.sub(r"(?<![\d.,])(\d{1,3})((?: \d{3})+)(?![\d/]| *\d+/)", lambda one: one[0].replace(" ", ""), text)
    return " ".join(text.split())


def _result(text: str) -> str:
    """What stands after the last `=`, or before it where a letter is after it: x = 5, 5 = x, 3 * 4 = 12. An equation
    that is not solved is no answer: x + 3 = 8."""
    *sides, last = text.split("=")
    while sides and _VARIABLE.fullmatch(last):
        last = sides.pop()
    if _UNSOLVED.search(text) or any(re.search(r"\d.*[,、;](?!\d)", side) for side in sides):
        raise DataError("there is more than one number", hint="Write one.")
    return last


def _unit(text: str, reading: Reading, item: Item) -> tuple[Unit | None, str]:
    """The unit that a text begins with, of the kind that the item asks for where a name has several; and the rest."""
    wanted = units().get(item.unit)
    kind = wanted.kind if wanted else ""
    if reading.unit:  # a sign of money stands before the number; its name may follow
        money = unit_written(reading.unit, item.language, kind)
        named, rest = _unit(text, replace(reading, unit=""), item)
        return money, rest if named == money else text
    text = re.sub(r"^\s*(?:of )?an? ", "", text).strip()
    for end in range(min(len(text), LONGEST_UNIT), 0, -1):
        if text[end - 1 : end + 1].isascii() and text[end - 1 : end + 1].isalnum() and end < len(text):
            continue  # not within a word
        name = text[:end].strip(" .,、")
        for language in (item.language, *(other for other in LANGUAGES if other != item.language)):
            unit = unit_written(name, language, kind) if name else None
            if unit is not None:
                return unit, text[end:]
    return None, text


def _compound(parts: list[Part]) -> bool:
    """Whether the parts are one measure: of one kind, the larger unit first, none of them negative."""
    if any(part.reading.value < 0 for part in parts):
        return False
    return all(
        one.unit and other.unit and one.unit.kind == other.unit.kind and one.unit.size > other.unit.size
        for one, other in pairwise(parts)
    )


def _idle(text: str, item: Item) -> None:
    """Refuses words that are neither the item's own nor such as change nothing."""
    own = _words_of(item.problem, item.steps)
    for piece in _PIECE.findall(text):
        if piece in ".,:;!、。()'\"":
            continue
        if _stem(piece) not in own and piece.lower() not in _IDLE:
            raise DataError(f"{piece!r} is no unit", hint="Write the number and its unit alone.")


@lru_cache(maxsize=256)
def _words_of(problem: str, steps: tuple[str, ...]) -> frozenset[str]:
    pieces = _PIECE.findall(" ".join((problem, *steps)))
    return frozenset(_stem(piece) for piece in pieces if piece.isalpha())


def _stem(word: str) -> str:
    word = word.lower().removesuffix("'s").removesuffix("’s")
    return re.sub(r"(?<=\w\w)(?:es|s|e)$", "", word)


def _nouns(item: Item) -> frozenset[str]:
    """Words for parts that name a thing in this problem: 5 quarters are coins, 2 dozen are what was asked for."""
    names = {"quarter"} if item.answer.denominator == 1 else set()
    text = item.problem.lower()
    return frozenset(name for name in (*names, "dozen") if name in text)
