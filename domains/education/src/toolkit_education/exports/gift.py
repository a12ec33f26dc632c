"""Moodle's GIFT: one text file, a question a paragraph (docs.moodle.org, "GIFT format").

A whole answer is a numerical question of tolerance 0; any other is a short answer that lists its forms. The text is
marked [plain], so that Moodle shows it as it is and never as HTML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from toolkit_education.exports.items import Item, checked, clean, keys, one_line
from toolkit_education.exports.words import asked

_CONTROL = re.compile(r"[\\~=#{}:]")
_PLACEHOLDER = re.compile(r"&&(?=0\d\d;)")


def gift(items: Sequence[Item]) -> str:
    """The items as GIFT, in their order; each has its id and the tags skill and level. The steps are the feedback.

    Raises:
        DataError: no items, or the same one twice.
    """
    return "\n\n".join(_question(item) for item in checked(items)) + "\n"


def _question(item: Item) -> str:
    tags = f"// [id:{_tag(item.id)}] [tag:{_tag(item.skill)}] [tag:level {item.level}]"
    steps = clean("\n".join(item.steps)).strip()
    feedback = f" ####{escaped(steps)}" if steps else ""
    return f"{tags}\n::{escaped(one_line(item.id))}::[plain]{escaped(asked(item))} {{{_answer(item)}{feedback}}}"


def _answer(item: Item) -> str:
    if item.answer.denominator == 1:
        return f"#{item.answer.numerator}"
    return " ".join(f"={escaped(form)}" for form in keys(item))


def escaped(text: str) -> str:
    r"""Control characters with a backslash, newlines as \n.

    Moodle marks what it has unescaped by &&058; and the like, so such a text is parted: it would come out as a colon.
    """
    text = _CONTROL.sub(lambda found: "\\" + found.group(), text)
    return _PLACEHOLDER.sub("& &", text).replace("\n", "\\n")


def _tag(text: str) -> str:
    """What may stand between the brackets of an id or a tag: no bracket ends it early."""
    return one_line(text).translate(str.maketrans("[]", "()"))
