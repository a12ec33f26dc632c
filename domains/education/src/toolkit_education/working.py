"""The first wrong line of a learner's working.

Equations are recomputed exactly, units and all; what cannot be recomputed is passed over and never called wrong.
Whether the working solves the problem is not judged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import pairwise

from toolkit_education.expressions import ExpressionError, evaluate, literals_of
from toolkit_education.items import Item
from toolkit_education.numerals import show
from toolkit_education.units import Unit, unit_name, unit_named, unit_pattern, units
from toolkit_education.wording import mentions

MOST_WORKING = 4000

ALWAYS_KNOWN = frozenset(map(Fraction, (1, 10, 12, 24, 60, 100, 1000)))
"""Numbers that need no source: measures, percentages and the steps of our digits are made of them."""

_NUMBERED = re.compile(r"^\s*(?:step ?)?\(?\d{1,2}[.):、]\s+", re.IGNORECASE)
_CLAUSE = re.compile(r"(?<==)([^=]*?)(?:\s(?:and|so|then)\s|[，、]|,(?!\d{3})|[.。](?![\d.]))", re.IGNORECASE)
_SINGLE = re.compile(r"[\d., ]+")
_UNSAID = re.compile(
    r"\b(?:twice|double|triple|times|plus|minus|divided|multiplied|sum|difference|product|quotient|average|mean|remainder"
    r"|rem|less|more|than|root|squared?|cubed?|hal(?:f|ves)|thirds?"
    r"|quarters?|fourths?|dozens?|(?:fif|six|seven|eigh|nin|ten|twelf|hundred|thousand)ths?)\b"
    r"|[余倍半加减乘除]|\d ?[/÷] ?\d+/\d|分之|平方(?!厘|分|千)|\.{3}"
    r"|(?<=\d)[A-Za-z](?![A-Za-z])|(?<![A-Za-z])[b-hj-zB-HJ-Z](?![A-Za-z])"
)
"""What says more than the numbers and signs beside it, or stands for an unknown."""


@dataclass(frozen=True)
class WrongStep:
    """The first wrong line of a learner's working: its number from 1, its text, what is wrong, and a sentence for them.

    `kind` is `arithmetic` (the line's own sum is wrong; `expected` is what is right) or, where no line's is, `number`:
    a hint that a line uses a number which neither the problem nor an earlier line gives.
    """

    line: int
    text: str
    kind: str
    expected: Fraction | None
    explanation: str


@dataclass(frozen=True)
class _Side:
    """One side of an equation: as it is written, its expression alone, its value, the units in it, and where it is a
    measure of one kind, its size in the base unit."""

    written: str
    text: str
    value: Fraction
    units: frozenset[str]
    kind: str
    size: Fraction | None

    @property
    def shown(self) -> str:
        """What a learner recognises: their sum, with its units."""
        own = re.sub(r"^[^\d$¥€£(.-]+", "", self.written) if self.units else self.text
        return re.sub(r"\((\S+)\*\1\)", r"\1²", own)

    @property
    def worded(self) -> bool:
        return re.search(r"[^\W\d_]", self.written) is not None

    @property
    def single(self) -> bool:
        return _SINGLE.fullmatch(self.text) is not None


def first_wrong_step(item: Item, working: str) -> WrongStep | None:
    """The first line of a learner's working that is wrong; None where none is, or where nothing can be recomputed.

    Lines hold equations such as `12*3=36`, `12 apples x 3 = 36 apples`, `1 m = 100 cm` or `x = 100 - 36 = 64`; others,
    and sides with an unknown such as `2x`, are passed over.
    """
    known, hint = _given_numbers(item), None
    for number, line in enumerate(re.split(r"[\n;；]", working[:MOST_WORKING]), start=1):
        for sides in _equations(line, item.language):
            for left, right in pairwise(sides):
                if _differ(left, right):
                    expected, _ = _expected(left, right)
                    return WrongStep(number, line.strip(), "arithmetic", expected, _arithmetic(item, left, right))
            for left in sides[:-1]:
                strange = next((one for one in literals_of(left.text) if one not in known), None)
                if strange is not None and hint is None:
                    hint = WrongStep(number, line.strip(), "number", None, _strange(item, strange))
                known.add(left.value)
        for side in line.split("=")[1:]:
            known |= {one.value for one in mentions(side, item.language)}
    return hint


def _equations(line: str, language: str) -> Iterator[list[_Side]]:
    """The sides of each equation in a line, two at least."""
    text = _NUMBERED.sub("", _normal(line))
    for clause in _CLAUSE.sub(r"\1\n", text).split("\n"):
        sides = [side for side in (_side(side, language) for side in clause.split("=")) if side is not None]
        if len(sides) > 1:
            yield sides


def _differ(left: _Side, right: _Side) -> bool:
    """Whether two sides surely differ: where units leave it open, they do not."""
    measures = left.size is not None and right.size is not None and left.kind == right.kind
    if left.single and left.worded and not (left.units and right.units):
        return False  # the number belongs to a name: area of 1 room = 11 * 11
    if any(one.text.endswith("%") and other.value == 100 * one.value for one, other in ((left, right), (right, left))):
        return False  # 4/10 * 100 = 40%
    if left.value == right.value:
        return measures and left.single and right.single and left.size != right.size
    if measures:
        return left.size != right.size
    if len(left.units) > 1 or len(right.units) > 1:
        return False
    one, other = (left, right) if left.size is not None else (right, left)
    if one.size is None or other.units:
        return True
    return all(one.size != other.value * unit.size for unit in units().values() if unit.kind == one.kind)


def _given_numbers(item: Item) -> set[Fraction]:
    """What a working may use: the problem's numbers, their digits by place (17 is 10 and 7), the model solution's, and
    what percent they are of one."""
    known = {*ALWAYS_KNOWN, *item.values.values()}
    for text in (item.problem, *item.steps):
        for mention in mentions(text, item.language):
            known.add(mention.value)
            known |= {Fraction(digits) for digits in re.findall(r"\d+", mention.text)}
    for mention in mentions(item.problem, item.language):
        for place in (10, 100, 1000, 10_000):
            known |= {mention.value % place, mention.value - mention.value % place}
            known.add(mention.value % place - mention.value % (place // 10))
    return known | {value / 100 for value in known} | {1 - value / 100 for value in known if value < 100}


def _normal(line: str) -> str:
    """Signs and powers of numbers in one way."""
    text = re.sub(r"(?<!\d)(\d+(?:\.\d+)?)(?:²|\^2(?!\d))", r"(\1*\1)", line)
    text = re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", lambda glyph: f" {unicodedata.normalize('NFKC', glyph[0])}", text)
    text = unicodedata.normalize("NFKC", text.replace("，", "、")).replace("\u2044", "/")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", re.sub(r"(?<=[A-Za-z])\^", "", text))
    text = re.sub(r"(?<![\d/.])(\d+) +(\d+/\d+)", r"(\1+\2)", text)
    text = re.sub(r"(?<=[\d)%a-z]) ?[xX] ?(?=[\d($])", "*", text)
    return re.sub(r"(\d/\d+|%) ?(?:of(?: the)?|的) ?(?=\d)", r"\1*", text)


def _side(text: str, language: str) -> _Side | None:
    """One side of an equation; None where it cannot be computed."""
    found: dict[str, Unit] = {}

    def sized(match: re.Match[str], by: Fraction) -> str:
        name = match["unit"] or match["money"] or ""
        unit = unit_named(name.strip(" -"), language)
        if unit is None or unit.code == "%":
            return match[0]
        found[unit.code] = unit
        return f"({match['number']}*{unit.size * by})" if by else f"{match['number']} "

    plain, once, twice = (_measured(language).sub(partial(sized, by=Fraction(by)), text) for by in (0, 1, 2))
    value, size, bare = _value(plain), _value(once), _bare(plain)
    if value is None or (_SINGLE.fullmatch(bare) and any(one.shape == "words" for one in mentions(text, language))):
        return None  # three groups of 4
    kinds = {unit.kind for unit in found.values()}
    if len(kinds) != 1 or size is None or _value(twice) != 2 * size:  # no sum of measures of one kind
        return _Side(text.strip(), bare, value, frozenset(found), "", None)
    return _Side(text.strip(), bare, value, frozenset(found), kinds.pop(), size)


@lru_cache(maxsize=2)
def _measured(language: str) -> re.Pattern[str]:
    """A number with a unit after it, or a sign of money before it."""
    unit = unit_pattern(language).pattern
    number = r"(?<![\d.])(?P<number>\d+/\d+|\d*\.\d+|\d+)"
    return re.compile(rf"(?P<money>[$¥€£] ?)?{number}(?![\d.]*\d)(?P<unit>[ -](?:{unit})|{unit})?")


def _value(text: str) -> Fraction | None:
    try:
        return evaluate(_bare(text))
    except ExpressionError:
        return None


def _bare(text: str) -> str:
    """The expression without words; nothing, where they say more than it."""
    if _UNSAID.search(text):
        return ""
    text = re.sub(r"(?<=[A-Za-z])-|-(?=[A-Za-z])", " ", text)  # in-store
    text = re.sub(r"[A-Za-z²³°$¥€£\u4e00-\u9fff]+", " ", text).strip(" ,:。：、")
    return re.sub(r"^\.(?!\d)", "", text).rstrip(" .")


def _expected(left: _Side, right: _Side) -> tuple[Fraction, str]:
    """What stands rightly on the right, in the unit that is written there, and the unit's code."""
    if left.size is None or left.kind != right.kind or len(right.units) != 1:
        return left.value, ""
    (code,) = right.units
    return left.size / units()[code].size, code


def _arithmetic(item: Item, left: _Side, right: _Side) -> str:
    value, code = _expected(left, right)
    correct = f"{show(value, item.language)} {unit_name(code, item.language)}".strip()
    if item.language == "zh":
        return f"{left.shown}等于{correct.replace(' ', '')}，不是{right.shown}。"
    return f"{left.shown} is {correct}, not {right.shown}."


def _strange(item: Item, value: Fraction) -> str:
    number = show(value, item.language)
    if item.language == "zh":
        return f"{number}是从哪里来的？题目里没有这个数，前面也没有算出它。"
    return f"Where does {number} come from? It is neither in the problem nor found in an earlier line."
