"""Re-theming: which words of a problem are its people, things and places, and the problem with a learner's own instead.

A student reads a problem with signs for its words and names the signs by slot. The words are exchanged here, sentence
by sentence; no sentence is ever written anew, and what comes out counts only where `alignment` proves that the
arithmetic is the same. Numbers stay placeholders throughout: the student sees none and writes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from toolkit_education.alignment import align
from toolkit_education.generators.themes import begins_sentence
from toolkit_education.items import ItemModel
from toolkit_education.signs import COUNTERS, MARK, MEASURES, PLURALS, SIGN, key, measure_words, plural, signed
from toolkit_education.verify import Finding

PARTS, PAIRS, IS = " || ", "; ", "="
"""Between the problem and the sentences of its steps; between the words of a draft; between a slot and its word."""

LONGEST_WORD, THE = 40, "the "
PEOPLE = ("A", "B")
NUMBER = {**dict.fromkeys(PLURALS, False), **dict.fromkeys(PLURALS.values(), True), "group": True}
"""Whether an English slot's word is of several."""

_FIRSTS = {many: one for one, many in PLURALS.items()}
_KINDS = {"B": "A", "other": "thing"}

_COUNTED = re.compile(rf"(?<=[}}{COUNTERS}])")
_ARTICLE = re.compile(r"\b(a|an) (?=([A-Za-z]))", re.IGNORECASE)


def source_of(model: ItemModel) -> str:
    """The problem and the sentences of its steps, in one line."""
    return PARTS.join([model.text, *(step.words for step in model.steps if step.words)])


def prompt_of(model: ItemModel) -> str:
    """What a student is asked."""
    return f"{model.language}: {signed(source_of(model), model.language)[0]}"


def draft_of(model: ItemModel, words: Mapping[str, str]) -> str:
    """Words by slot, as a student is to name them; those that have no sign are left out."""
    pairs = {slot: signs_of(model, word) for slot, word in words.items()}
    return PAIRS.join(f"{slot}{IS}{signs}" for slot, signs in pairs.items() if signs)


def signs_of(model: ItemModel, word: str) -> str:
    """The signs that stand for a word in what a student is asked; empty where none does."""
    known = {key(said): sign for sign, said in signed(source_of(model), model.language)[1].items()}
    parts = [word] if model.language == "zh" else word.removeprefix(THE).split()
    return " ".join(known[key(part)] for part in parts) if all(key(part) in known for part in parts) else ""


def rethemed(model: ItemModel, draft: str, words: Mapping[str, str], theme: str) -> ItemModel | tuple[Finding, ...]:
    """The model with `words` in the place of those that the draft names; or why it is none.

    Args:
        words: by slot, as a theme has them.
    """
    named = _named(model, draft, words)
    if not isinstance(named, Mapping):
        return named
    found = replace(
        model,
        id=f"{model.id}~{theme}",
        theme=theme,
        text=exchanged(model.text, named, words, model.language),
        steps=tuple(
            replace(step, words=exchanged(step.words, named, words, model.language)) if step.words else step
            for step in model.steps
        ),
    )
    if found.text == model.text:
        return (Finding("theme", "nothing of the problem was re-themed", "text"),)
    return align(model, found) or found


def _named(model: ItemModel, draft: str, words: Mapping[str, str]) -> Mapping[str, str] | tuple[Finding, ...]:
    """The draft's words by slot."""
    source, named = source_of(model), dict[str, str]()
    known = signed(source, model.language)[1]
    for pair, slot, signs in _pairs(draft):
        if IS not in pair or slot not in words:
            return (Finding("mark", f"{pair!r} names no slot of the theme", "draft"),)
        if SIGN.fullmatch(signs) and signs not in known:
            continue  # it names nothing
        word = " ".join(known.get(one, "") for one in signs.split())
        if not is_word(word) or slot in named or not _pattern(word, model.language).search(source):
            return (Finding("word", f"{signs!r} is no word of the problem", "draft"),)
        if words[slot].startswith(THE) and f"{THE}{word}" in source:
            word = f"{THE}{word}"
        if word in [said for other, said in named.items() if not slot.startswith(other)]:
            return (Finding("word", f"{word!r} is named twice", "draft"),)
        if model.language == "en" and slot in PEOPLE and not word[0].isupper():
            return (Finding("word", f"{word!r} is nobody's name", "draft"),)
        if model.language == "en" and slot in NUMBER and plural(word) != NUMBER[slot]:
            return (Finding("number", f"{word!r} is not {'several' if NUMBER[slot] else 'one'}", "draft"),)
        named[slot] = word
    if not named:
        return (Finding("theme", "the draft names no word", "draft"),)
    return {**named, **(_measures(source, named) if model.language == "zh" else {})}


def _measures(source: str, named: Mapping[str, str]) -> Mapping[str, str]:
    """The measure words that stand before the named nouns, by slot."""
    found = dict[str, str]()
    for slot, noun in MEASURES.items():
        if noun in named:
            before = re.search(rf"{_COUNTED.pattern}(.){re.escape(named[noun])}", source)
            found |= {slot: before[1]} if before and before[1] in measure_words() else {}
    return found


def keeps_kinds(truth: str, draft: str) -> bool:
    """Whether a draft gives each word a slot of the same kind as the truth: a person's to a person, one's to one of the
    same two things throughout. Which of two persons or two things is the first does not matter."""
    right = {signs: slot for _, slot, signs in _pairs(truth)}
    theirs = dict[str, str]()
    for _, slot, signs in _pairs(draft):
        was = right.get(signs, "")
        first, was_first = (_FIRSTS.get(one, one) for one in (slot, was))
        alike = _KINDS.get(first, first) == _KINDS.get(was_first, was_first) and NUMBER.get(slot) == NUMBER.get(was)
        if not alike or theirs.setdefault(first, was_first) != was_first:
            return False
    return bool(theirs)


def _pairs(draft: str) -> Iterator[tuple[str, str, str]]:
    """A draft's pairs, with the slot of each and the signs that it gives it."""
    for pair in filter(None, (one.strip() for one in draft.split(PAIRS.strip()))):
        slot, _, signs = (one.strip() for one in pair.partition(IS))
        yield pair, slot, signs


def is_word(text: str) -> bool:
    """Letters and spaces only: nothing that could carry arithmetic or marks, and no more than a word or few."""
    return bool(text.strip()) and len(text) <= LONGEST_WORD and all(one.isalpha() or one in " -'’" for one in text)


def exchanged(text: str, named: Mapping[str, str], words: Mapping[str, str], language: str) -> str:
    """A sentence with `words` in the place of the named ones, the longest first; placeholders are left alone."""
    nouns = sorted(
        ((word, slot) for slot, word in named.items() if slot not in MEASURES), key=lambda pair: -len(pair[0])
    )
    for word, slot in nouns:
        text = _outside_marks(text, _pattern(word, language), slot)
    if language == "zh":
        text = _measured(text, named)
    text = MARK.sub(lambda mark: _word(mark, words, language), text)
    return _ARTICLE.sub(_article, text) if language == "en" else text


def _pattern(word: str, language: str) -> re.Pattern[str]:
    """The word by itself; English ones in either case of their first letter."""
    if language == "zh":
        return re.compile(re.escape(word))
    first = f"[{re.escape(word[0].lower())}{re.escape(word[0].upper())}]" if word[0].isalpha() else re.escape(word[0])
    return re.compile(rf"(?<![\w{{]){first}{re.escape(word[1:])}(?![\w}}])")


def _outside_marks(text: str, pattern: re.Pattern[str], slot: str) -> str:
    """Marks in the place of a word; a capital in the place of one that began with it, where the slot does not."""

    def mark(found: re.Match[str]) -> str:
        capital = found[0][:1].isupper() and slot[:1].islower()
        return f"[{slot[:1].upper()}{slot[1:]}]" if capital else f"[{slot}]"

    pieces = re.split(r"(\[\w+\]|\{[^{}]*\})", text)
    return "".join(piece if place % 2 else pattern.sub(mark, piece) for place, piece in enumerate(pieces))


def _measured(text: str, named: Mapping[str, str]) -> str:
    """Marks in the place of measure words: of the noun that follows, else of the one that was counted last."""
    last, pieces, place = "", list[str](), 0
    for here in [found.start() for found in _COUNTED.finditer(text)]:
        for before in MARK.findall(text[place:here]):
            last = before if before in MEASURES.values() else last
        fitting = [slot for slot in MEASURES if slot in named and text.startswith(named[slot], here)]
        if here < place or not fitting:
            continue
        rest = text[here + len(named[fitting[0]]) :]
        chosen = next((slot for slot in fitting if rest.startswith(f"[{MEASURES[slot]}]")), "")
        chosen = chosen or next((slot for slot in fitting if MEASURES[slot] == last), fitting[0])
        pieces += [text[place:here], f"[{chosen}]"]
        place = here + len(named[chosen])
    return "".join([*pieces, text[place:]])


def _word(mark: re.Match[str], words: Mapping[str, str], language: str) -> str:
    """A mark's word; a mark that begins with a capital wants the word so, and so does an English sentence."""
    slot = mark[1]
    word = words[slot if slot in words else slot[:1].lower() + slot[1:]]
    begins = slot not in words or (language == "en" and begins_sentence(mark.string, mark.start()))
    return word[:1].upper() + word[1:] if begins else word


def _article(found: re.Match[str]) -> str:
    """a or an, by the letter that follows."""
    right = "an" if found[2].lower() in "aeiou" else "a"
    return (right.capitalize() if found[1][0].isupper() else right) + " "


def leftover(model: ItemModel, named: Mapping[str, str]) -> Iterator[str]:
    """The words that a problem was dressed in, and that its text still says."""
    for slot, word in named.items():
        if slot not in MEASURES and _pattern(word, model.language).search(model.text):
            yield word
