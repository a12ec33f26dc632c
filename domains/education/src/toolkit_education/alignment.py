"""Whether a re-themed item model still asks the same: setting, names and objects may change, arithmetic may not.

Both texts are read as rows of anchors (placeholders, numbers, units, relation words), which must be the same; who and
what stands beside a comparison and in the question must be the same one that stood there before. It judges the relation
of two models, never whether either makes sense.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest

from toolkit_education.items import ItemModel, Step
from toolkit_education.relations import Anchor, anchors, direction_verbs, names_nothing, opposed
from toolkit_education.templates import placeholders
from toolkit_education.verify import Finding

_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
_COMPARISONS = ("more", "fewer", "older", "younger", "times", "half", "than", "difference", "same", "ask", "chance")
_NEAR = 4  # words, or characters in Chinese, that count as beside an anchor
_ALIKE = 0.5  # share of the places of a word that its successor must have, at least


def align(original: ItemModel, rethemed: ItemModel) -> tuple[Finding, ...]:
    """What a re-theming changed that it may not; empty when the two ask the same.

    Checked: language, program, constraints, quantities with their units and ranges; in the text placeholders, numbers,
    units, relation words and the question, in their order; who and what is compared; in each step's sentence its
    placeholders, numbers and units, and that no relation is turned round.
    """
    found = list(_program(original, rethemed))
    if original.language != rethemed.language:
        return (*found, Finding("language", f"it was {original.language}", "language"))
    language = original.language
    found += _quantities(original.text, rethemed.text)
    before, after = anchors(original.text, language), anchors(rethemed.text, language)
    found += _anchors(before, after, "text")
    if [anchor.kind for anchor in before] == [anchor.kind for anchor in after]:
        found += _roles((original.text, before), (rethemed.text, after), language)
        found += _directions((original.text, before), (rethemed.text, after), language)
    for one, other in zip(original.steps, rethemed.steps, strict=False):
        found += _step(one, other, language)
    return tuple(found)


def _program(original: ItemModel, rethemed: ItemModel) -> Iterator[Finding]:
    for name in ("skill", "level", "quantities", "constraints", "answer"):
        if getattr(original, name) != getattr(rethemed, name):
            yield Finding("program", f"{name} changed", name)
    for place, (one, other) in enumerate(zip_longest(original.steps, rethemed.steps)):
        same = one and other and (one.name, one.expression, one.unit) == (other.name, other.expression, other.unit)
        if not same:
            yield Finding("program", "another step", f"steps[{place}]")


def _quantities(original: str, rethemed: str) -> Iterator[Finding]:
    before, after = Counter(placeholders(original)), Counter(placeholders(rethemed))
    for name in sorted(set(before | after)):
        if before[name] != after[name]:
            yield Finding("quantity", f"{{{name}}} stands {after[name]} times, not {before[name]}", "text")
    if before == after and placeholders(original) != placeholders(rethemed):
        yield Finding("quantity", "the quantities stand in another order", "text")


def _anchors(before: Sequence[Anchor], after: Sequence[Anchor], where: str) -> Iterator[Finding]:
    """Relation words, numbers and units between the same placeholders, in the same order."""
    rows = [_between(row) for row in (before, after)]
    for one, other in zip_longest(*rows, fillvalue=("", ())):
        (name, old), (_, new) = one, other
        if old == new:
            continue
        lost, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
        place = f"{where}, before {name}" if name else f"{where}, at the end"
        for kind in lost:
            turned = next((other_kind for other_kind in come if opposed(kind, other_kind)), "")
            code = kind.partition(":")[0] if kind.startswith(("unit:", "number:", "ask")) else "relation"
            yield Finding(code, f"{kind} became {turned}" if turned else f"{kind} is gone", place)
        for kind in come - lost:
            code = kind.partition(":")[0] if kind.startswith(("unit:", "number:", "ask")) else "relation"
            yield Finding(code, f"{kind} is new", place)
        if not lost and not come:
            yield Finding("relation", "the relations stand in another order", place)


def _between(row: Sequence[Anchor]) -> list[tuple[str, tuple[str, ...]]]:
    """The kinds of the anchors before each placeholder, and after the last one."""
    found: list[tuple[str, tuple[str, ...]]] = []
    kinds: list[str] = []
    for anchor in row:
        if anchor.kind.startswith("{"):
            found.append((anchor.kind, tuple(kinds)))
            kinds = []
        else:
            kinds.append(anchor.kind)
    return [*found, ("", tuple(kinds))]


def _roles(
    original: tuple[str, Sequence[Anchor]], rethemed: tuple[str, Sequence[Anchor]], language: str
) -> Iterator[Finding]:
    """Everyone stands where they stood, and so does what stands beside a comparison or in the question.

    A word is known by the gaps between anchors in which it occurs; its successor occurs in the same ones. Only of a
    thing in the question, half of the gaps are enough.
    """
    (text, row), (new_text, new_row) = original, rethemed
    places, new_places = _places(text, row, language), _places(new_text, new_row, language)
    gaps, new_gaps = _gaps(text, row), _gaps(new_text, new_row)
    people, new_people = _people(places, text), _people(new_places, new_text)
    turns, new_turns = _turns(text, people, language), _turns(new_text, new_people, language)
    if len(set(turns)) == len(set(new_turns)) and turns != new_turns:  # 小兔 is a rabbit, and looks like a name
        yield Finding("roles", "people stand in another order", "text")
    for gap, (part, new_part) in enumerate(zip(gaps, new_gaps, strict=True)):
        candidates = (*_words(new_part, language), *_signs(new_part, language))
        there = {new_places[word] for word in candidates if word in new_people or language == "zh"}
        for word in dict.fromkeys(_words(part, language)):
            if word in people and places[word] not in there:
                yield Finding("roles", f"{word!r} has no counterpart", f"text, gap {gap}")
    for number, anchor in enumerate(row):
        if not anchor.kind.startswith(_COMPARISONS):
            continue
        lax = anchor.kind.startswith("ask")
        for gap, words in (
            (number, _words(gaps[number], language)[-_NEAR:]),
            (number + 1, _words(gaps[number + 1], language)[:_NEAR]),
        ):
            there = {new_places[word] for word in (*_words(new_gaps[gap], language), *_signs(new_gaps[gap], language))}
            for word in words:
                if len(places[word]) > 1 and not any(_alike(places[word], other, lax) for other in there):
                    yield Finding("roles", f"{word!r} beside {anchor.kind} has no counterpart", f"text, gap {gap}")


def _alike(one: frozenset[int], other: frozenset[int], lax: bool) -> bool:
    return len(one & other) / len(one | other) > _ALIKE if lax else one == other


def _people(words: Iterable[str], text: str) -> frozenset[str]:
    """The words that are always written with a capital, or are Chinese pet names such as 小明."""
    return frozenset(
        word
        for word in words
        if (len(word) == 2 and word[0] in "小阿老")
        or (word.isascii() and re.search(rf"\b{re.escape(word)}s?\b", text) is None)
    )


def _turns(text: str, people: frozenset[str], language: str) -> list[int]:
    """Who is named, from the first to the last time: 0 is who is named first, 1 who is named next."""
    named = [word for word in _words(text, language) if word in people]
    first = list(dict.fromkeys(named))
    return [first.index(word) for word in named]


def _directions(
    original: tuple[str, Sequence[Anchor]], rethemed: tuple[str, Sequence[Anchor]], language: str
) -> Iterator[Finding]:
    """Between the same anchors nobody gains where someone lost."""
    pairs = zip(_gaps(*original), _gaps(*rethemed), strict=True)
    for gap, (old, new) in enumerate(pairs):
        before, after = ([verb.kind for verb in direction_verbs(part, language)] for part in (old, new))
        lost, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
        if (lost and come) or (len(before) == len(after) and before != after):
            yield Finding("relation", f"{' and '.join(before)} became {' and '.join(after)}", f"text, gap {gap}")


def _step(original: Step, rethemed: Step, language: str) -> Iterator[Finding]:
    where = f"step {original.name}"
    rows = [anchors(step.words, language) for step in (original, rethemed)]
    exact = [[one.kind for one in row if one.kind.startswith(("{", "number:", "unit:"))] for row in rows]
    if exact[0] != exact[1]:
        yield Finding("step", "its placeholders, numbers or units changed", where)
        return
    before, after = ({one.kind for one in row} for row in rows)
    for kind in before - after:
        turned = next((other for other in after - before if opposed(kind, other)), "")
        if turned:
            yield Finding("step", f"{kind} became {turned}", where)


def _gaps(text: str, row: Sequence[Anchor]) -> list[str]:
    ends = [0, *(anchor.end for anchor in row)]
    starts = [*(anchor.start for anchor in row), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _places(text: str, row: Sequence[Anchor], language: str) -> Mapping[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for gap, part in enumerate(_gaps(text, row)):
        for word in (*_words(part, language), *_signs(part, language)):
            found.setdefault(word, set()).add(gap)
    return {word: frozenset(gaps) for word, gaps in found.items()}


def _words(text: str, language: str) -> list[str]:
    """The words of a piece of text that name something; in Chinese all pairs of characters."""
    if language == "zh":
        return ["".join(pair) for run in re.findall("[\u4e00-\u9fff]+", text) for pair in pairwise(run)]
    words = (match.group().lower().removesuffix("'s").removesuffix("’s") for match in _WORD.finditer(text))
    return [word.removesuffix("s") if len(word) > 3 else word for word in words if word not in names_nothing()]


def _signs(text: str, language: str) -> list[str]:
    """The single characters of a Chinese text, for a name may be one character long; none of an English one."""
    return re.findall("[\u4e00-\u9fff]", text) if language == "zh" else []
