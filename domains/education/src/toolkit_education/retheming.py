"""Re-theming: a problem's people, things and places become marks, which any learner's interests can fill.

A student reads a problem and its steps and writes them again with marks; what it wrote is filled, and counts only where
`alignment` proves that the arithmetic is the same. Numbers stay placeholders throughout: it sees none and writes none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from toolkit_education.alignment import align
from toolkit_education.items import ItemModel
from toolkit_education.verify import Finding

PARTS = " || "
"""Between the problem and the sentences of its steps."""

MARK = re.compile(r"\[(\w+)\]")
_ARTICLE = re.compile(r"\b(a|an) (?=([A-Za-z]))", re.IGNORECASE)
LONGEST_WORD = 40


def source_of(model: ItemModel) -> str:
    """The problem and the sentences of its steps, in one line."""
    return PARTS.join([model.text, *(step.words for step in model.steps if step.words)])


def prompt_of(model: ItemModel) -> str:
    """What a student is asked."""
    return f"{model.language}: {source_of(model)}"


def rethemed(model: ItemModel, draft: str, words: Mapping[str, str], theme: str) -> ItemModel | tuple[Finding, ...]:
    """The model with the draft's sentences, its marks filled with `words`; or why it is none.

    Args:
        words: by slot, as a theme has them.
    """
    found = _spoken(model, draft, words, theme)
    if not isinstance(found, ItemModel):
        return found
    return align(model, found) or found


def _spoken(model: ItemModel, draft: str, words: Mapping[str, str], theme: str) -> ItemModel | tuple[Finding, ...]:
    parts = [part.strip() for part in draft.split(PARTS.strip())]
    said = [step for step in model.steps if step.words]
    if len(parts) != 1 + len(said):
        return (Finding("parts", f"{len(parts)} parts, not {1 + len(said)}", "draft"),)
    if unknown := sorted({mark for mark in MARK.findall(draft) if _word(mark, words) is None}):
        return (Finding("mark", f"[{unknown[0]}] is no mark of the theme", "draft"),)
    if not MARK.search(parts[0]):
        return (Finding("theme", "nothing of the problem was re-themed", "text"),)
    text, *sentences = (_filled(part, words, model.language) for part in parts)
    written = iter(sentences)
    steps = tuple(replace(step, words=next(written)) if step.words else step for step in model.steps)
    return replace(model, id=f"{model.id}~{theme}", theme=theme, text=text, steps=steps)


def _word(mark: str, words: Mapping[str, str]) -> str | None:
    """A mark's word; one that begins with a capital wants the word so."""
    if mark in words:
        return words[mark]
    small = mark[:1].lower() + mark[1:]
    return words[small][:1].upper() + words[small][1:] if small in words else None


def _filled(part: str, words: Mapping[str, str], language: str) -> str:
    text = MARK.sub(lambda mark: _word(mark[1], words) or "", part)
    return _ARTICLE.sub(_article, text) if language == "en" else text


def _article(found: re.Match[str]) -> str:
    """a or an, by the letter that follows; the vocabulary has no silent h and no sounded u."""
    right = "an" if found[2].lower() in "aeiou" else "a"
    return (right.capitalize() if found[1][0].isupper() else right) + " "


def leftover(draft: str, words: Mapping[str, str], language: str) -> tuple[str, ...]:
    """The words that a problem was written in and that still stand in a draft."""
    edge = "" if language == "zh" else r"\b"
    nouns = {word for slot, word in words.items() if slot not in ("m", "om", "bm", "gm")}
    return tuple(sorted(word for word in nouns if re.search(f"{edge}{re.escape(word)}{edge}", draft)))
