"""Terms that copy may not use: a versioned lexicon with severities and exceptions, found however they are disguised.

An advertising law names a few words and means more; a lexicon says which, why, and where the same word is allowed (a
date, a grade that exists, a brand's own name, a goal). It judges no claim; a person does.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from toolkit.errors import DataError
from toolkit_content.reading import Reading, is_han, read, skeleton, squeezed, unmixed

Severity = Literal["block", "review", "note"]
"""block: it never leaves; review: a person must see it; note: worth a look."""

Disguise = Literal["plain", "spaced", "pinyin", "lookalike", "mixed"]

AROUND = 16
"""Characters on either side of a hit in which an exception is looked for."""


@dataclass(frozen=True)
class Term:
    """A word of the lexicon. `allow` are patterns of wider wording, as it is read, in which it may stand; `deny` such
    in which it may not, whatever allows it."""

    term: str
    severity: Severity
    because: str
    source: str
    allow: tuple[re.Pattern[str], ...] = ()
    deny: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True)
class Hit:
    """A term in a text: where, and how it was disguised."""

    term: Term
    span: tuple[int, int]
    disguise: Disguise


@dataclass(frozen=True)
class Lexicon:
    """Terms of one language and law, at a version."""

    name: str
    language: str
    version: str
    terms: tuple[Term, ...]

    @functools.cached_property
    def longest(self) -> int:
        """Letters and digits of its longest term, read out."""
        return max((len(_letters(term.term)) for term in self.terms), default=0)


def load_lexicon(source: Path | str) -> Lexicon:
    """A lexicon by the name of one that is built in, or from a TOML file.

    Raises:
        DataError: it is none.
    """
    built_in = resources.files("toolkit_content") / "lexicon" / f"{source}.toml"
    try:
        return lexicon_of(
            built_in.read_text(encoding="utf-8") if isinstance(source, str) else source.read_text("utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"there is no lexicon {source}", hint="Name a built-in lexicon, or a TOML file.") from error


def lexicon_of(text: str) -> Lexicon:
    """Raises DataError where it is none."""
    try:
        table = tomllib.loads(text)
        terms = [term for group in table["group"] for term in _terms(group)]
        return Lexicon(str(table["name"]), str(table["language"]), str(table["version"]), tuple(terms))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, re.error) as error:
        raise DataError(f"a lexicon cannot be read: {error}", hint="Compare it with a built-in one.") from error


def _terms(group: dict[str, Any]) -> Iterator[Term]:
    severity = group["severity"]
    if severity not in get_args(Severity):
        raise ValueError(f"no severity is named {severity}")
    if unknown := set(group) - {"severity", "because", "source", "terms", "before", "allow", "deny"}:
        raise KeyError(f"a group has {', '.join(sorted(unknown))}")
    allow, deny = group.get("allow", {}), tuple(map(re.compile, group.get("deny", ())))
    before = group.get("before", [])
    terms = [f"{term} {word}" for term in group["terms"] for word in before] if before else group["terms"]
    for term in terms:
        if not isinstance(term, str) or not _letters(term):
            raise ValueError(f"{term!r} is no term")
        patterns = [*allow.get(term, ()), *allow.get("*", ())]
        yield Term(term, severity, group["because"], group["source"], tuple(map(re.compile, patterns)), deny)
    if strangers := set(allow) - {*terms, "*"}:
        raise KeyError(f"exceptions for {', '.join(sorted(strangers))}, which the group does not have")


class Scanner:
    """Finds the terms of several lexicons in a text; made once, used for ever.

    Args:
        never: further terms of a brand, which are blocked.
        names: words that are a brand's own, such as a registered trade mark: what lies inside one is no hit.
    """

    def __init__(self, lexicons: Iterable[Lexicon], *, never: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        own = (Term(word, "block", "the brand does not want it", "brand profile") for word in never if word.strip())
        self._terms = [*(term for lexicon in lexicons for term in lexicon.terms), *own]
        self._names = [re.compile(re.escape(name)) for word in names if (name := _letters(word))]
        written = [_letters(term.term) for term in self._terms]
        spoken = [_spoken(word) if len(word) > 1 and all(map(is_han, word)) else () for word in written]
        latin = [() if any(map(is_han, word)) else (_outline(word),) for word in written]
        self._written, self._spoken = _automaton([(word,) for word in written]), _automaton(spoken)
        self._drawn = _automaton(latin)
        mixed = [2 * len(word) for word in written if any(map(is_han, word))]
        self.longest = max([*map(len, written), *mixed, *(len(said) for found in spoken for said in found)], default=0)

    def scan(self, text: str) -> Sequence[Hit]:
        """The terms in a text, in its order, no two of them over one another: the longest and gravest counts. What
        lies inside one that is allowed there is none."""
        reading = read(text)
        letters = squeezed(reading)
        hits = [
            Hit(self._terms[number], span, "spaced" if _is_spaced(text[slice(*span)]) else "plain")
            for number, span in _found(self._written, letters)
        ]
        if any(letter.isascii() for letter in letters.characters):
            hits += self._disguised(text, letters)
        standing = [hit for hit in hits if self._stands(hit, text)]
        counting = [hit for hit in standing if self._counts(hit, reading)]
        allowed = [hit for hit in standing if hit not in counting]
        return _apart(hit for hit in counting if not any(_inside(hit, other) for other in allowed))

    def _disguised(self, text: str, letters: Reading) -> Iterator[Hit]:
        """Terms in pinyin, with letters between their characters, or with digits for letters."""
        for number, span in _found(self._spoken, _aloud(letters)):
            # in characters alone it is another word
            if any(letter.isalpha() and not is_han(letter) for letter in text[slice(*span)]):
                yield Hit(self._terms[number], span, "pinyin")
        whole = unmixed(letters)
        if len(whole.characters) < len(letters.characters):
            found = set(letters.places) - set(whole.places)
            for number, span in _found(self._written, whole):
                if any(span[0] < place < span[1] for place in found):
                    yield Hit(self._terms[number], span, "mixed")
        for number, span in _found(self._drawn, skeleton(letters)):
            if _DIGIT_IN_WORD.search(read(text[slice(*span)]).characters):
                yield Hit(self._terms[number], span, "lookalike")

    def _stands(self, hit: Hit, text: str) -> bool:
        """Whether it is a word of its own within one clause."""
        start, end = hit.span
        before, inside, after = text[start - 1 : start] if start else "", text[start:end], text[end : end + 1]
        latin = not is_han(read(inside).characters[0]), not is_han(read(inside).characters[-1])
        if (latin[0] and _joins(before)) or (latin[1] and _joins(after)):
            return False
        pieces = [squeezed(read(piece)).characters for piece in _PAUSE.split(inside)]
        return len(pieces) == 1 or (len(pieces) >= FEWEST and all(len(piece) == 1 for piece in pieces))

    def _counts(self, hit: Hit, reading: Reading) -> bool:
        """Whether it is no part of a name, and no exception."""
        start, end = hit.span
        first = next(at for at, place in enumerate(reading.places) if place >= start)
        last = next((at for at, place in enumerate(reading.places) if place >= end), len(reading.places))
        low = max(0, first - AROUND)
        around = reading.characters[low : last + AROUND]

        def wider(patterns: Iterable[re.Pattern[str]]) -> bool:
            return any(
                low + one.start() <= first and last <= low + one.end()
                for pattern in patterns
                for one in pattern.finditer(around)
            )

        return not wider(self._names) and (wider(hit.term.deny) or not wider(hit.term.allow))


FEWEST = 3
"""Single characters with pauses between them that make a word nevertheless: 国。家。级."""

_DIGIT_IN_WORD = re.compile(r"[a-z][0-9]|[0-9][a-z]")

_PAUSE = re.compile(r"[。！？；，]|(?<!\b[Nn][Oo])[.!?;:,]\s|\n\s*(?=[-*•])")
"""What ends a sentence or a clause: no word goes on behind it."""


@functools.lru_cache(maxsize=65536)
def _letters(word: str) -> str:
    return squeezed(read(word)).characters


@functools.lru_cache(maxsize=65536)
def _outline(word: str) -> str:
    return skeleton(Reading(word, ())).characters


def _joins(character: str) -> bool:
    """Whether a Latin word would go on with it."""
    return character.isalnum() and not is_han(character)


def _is_spaced(word: str) -> bool:
    return any(map(is_han, word)) and not all(map(str.isalnum, word))


def _automaton(words: Sequence[Iterable[str]]) -> Any:
    """Finds each spelling of each word, and says which numbers it has."""
    import ahocorasick

    numbers: dict[str, list[int]] = {}
    for number, spellings in enumerate(words):
        for spelling in filter(None, spellings):
            numbers.setdefault(spelling, []).append(number)
    automaton = ahocorasick.Automaton()
    for word, found in numbers.items():
        automaton.add_word(word, (len(word), tuple(found)))
    if numbers:
        automaton.make_automaton()
    return automaton


def _found(automaton: Any, letters: Reading) -> Iterator[tuple[int, tuple[int, int]]]:
    if len(automaton):
        for end, (length, numbers) in automaton.iter(letters.characters):
            yield from ((number, letters.span(end + 1 - length, end + 1)) for number in numbers)


@functools.lru_cache(maxsize=65536)
def _spoken(word: str) -> frozenset[str]:
    """As the word is said, and as its characters are each by itself: 行 is hang in 行业, and xing alone."""
    return frozenset({"".join(_syllables(word)), "".join(_syllables(one)[0] for one in word)})


def _aloud(letters: Reading) -> Reading:
    """Chinese characters as they are spoken, among letters as they are."""
    spoken = [_syllables(one)[0] if is_han(one) else one for one in letters.characters]
    places = [place for place, said in zip(letters.places, spoken, strict=True) for _ in said]
    return Reading("".join(spoken), tuple(places))


@functools.lru_cache(maxsize=65536)
def _syllables(characters: str) -> list[str]:
    import pypinyin

    return [str(syllable) for syllable in pypinyin.lazy_pinyin(characters)]


def _inside(hit: Hit, other: Hit) -> bool:
    """Whether a hit is but a part of another that is at least as grave."""
    grave = get_args(Severity)
    graver = grave.index(hit.term.severity) < grave.index(other.term.severity)
    return not graver and hit.span != other.span and other.span[0] <= hit.span[0] and hit.span[1] <= other.span[1]


def _apart(hits: Iterable[Hit]) -> Sequence[Hit]:
    grave = {severity: place for place, severity in enumerate(get_args(Severity))}
    ordered = sorted(hits, key=lambda hit: (grave[hit.term.severity], -(hit.span[1] - hit.span[0]), hit.span))
    kept: list[Hit] = []
    for hit in ordered:
        if not any(hit.span[0] < other.span[1] and other.span[0] < hit.span[1] for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit.span)
