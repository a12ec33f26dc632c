"""Text with {placeholders}: which names it holds, and the text with its numbers in place.

A placeholder is `{name}` or `{name:form}`. Forms: none, as a learner reads it; `p` without separators; `,` with
separators; `.2` or `,.2` with so many decimals; `z` without the zero of 0.5; `f` a fraction; `m` a mixed number; `w`
or `W` in words. It knows nothing of where the numbers come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from toolkit.errors import DataError
from toolkit_education.numerals import decimal_places, fixed, show
from toolkit_education.wording import in_words

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)(?::([^{}]*))?\}", re.ASCII)
_FORM = re.compile(r"(,?)(?:\.(\d))?", re.ASCII)


def placeholders(text: str) -> tuple[str, ...]:
    """The names in `text` from left to right, each as often as it stands there."""
    return tuple(match[1] for match in PLACEHOLDER.finditer(text))


def without_placeholders(text: str) -> str:
    """`text` with a blank where each placeholder was, so that the numbers left in it are its own."""
    return PLACEHOLDER.sub(" □ ", text)


def fill(text: str, values: Mapping[str, Fraction], language: str) -> str:
    """`text` with every placeholder replaced by its number.

    Raises:
        DataError: a brace or a name that stands for nothing, or a form that cannot write the number.
    """

    def number(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise DataError(f"nothing is named {{{match[1]}}}", hint=f"Known: {', '.join(values) or 'none'}.")
        return written(values[match[1]], match[2] or "", language)

    rest = PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest:
        raise DataError(f"a brace without a placeholder in {text[:60]!r}", hint="Write {name} or {name:form}.")
    return PLACEHOLDER.sub(number, text)


def written(value: Fraction, form: str, language: str) -> str:
    """`value` in a placeholder's form.

    Raises:
        DataError: an unknown form, or one that cannot write this number.
    """
    if form == "":
        return show(value, language)
    if form in ("w", "W"):
        return in_words(value, language, capital=form == "W")
    if form == "f":
        return str(value)
    if form == "m":
        return mixed(value)
    if form in ("p", "z"):
        places = decimal_places(value)
        plain = str(value) if places is None else fixed(value, places)
        return plain.removeprefix("0") if form == "z" and 0 < value < 1 else plain
    match = _FORM.fullmatch(form)
    if match is None:
        raise DataError(f"no form {form!r} of a placeholder", hint="Known: p z , .2 ,.2 f m w W.")
    places = decimal_places(value) if match[2] is None else int(match[2])
    if places is None:
        raise DataError(f"{value} has no decimals that write it exactly", hint="Use the form f.")
    return fixed(value, places, separators=bool(match[1]))


def mixed(value: Fraction) -> str:
    """A number as whole and fraction, `1 1/2`; a whole or proper one as it is."""
    whole, part = divmod(abs(value.numerator), value.denominator)
    sign = "-" if value < 0 else ""
    if part == 0 or whole == 0:
        return str(value)
    return f"{sign}{whole} {part}/{value.denominator}"
