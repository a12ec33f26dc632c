"""What the console says, in English and Chinese: one file a language, a text a key.

A domain's panel brings its own two. That both have the same keys is checked when they are read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from toolkit.errors import PluginError

LANGUAGES = {"en": "English", "zh": "中文"}


@dataclass(frozen=True)
class Catalogue:
    """The texts of one language. Called with a key and what stands in its braces, it gives the text."""

    language: str
    texts: Mapping[str, str]

    def __call__(self, key: str, /, **values: object) -> str:
        return self.texts[key].format_map(values) if values else self.texts[key]

    def says(self, key: str) -> bool:
        return key in self.texts

    def part(self, *prefixes: str) -> dict[str, str]:
        """The texts whose keys begin so, for scripts."""
        return {key: text for key, text in self.texts.items() if key.startswith(prefixes)}


Catalogues = Mapping[str, Catalogue]


def read_catalogues(folder: Traversable) -> Catalogues:
    """The catalogues in a folder, by language.

    Raises:
        PluginError: a language is missing, or says more or less than another.
    """
    found = {}
    for language in LANGUAGES:
        try:
            table = tomllib.loads(folder.joinpath(f"{language}.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise PluginError(
                f"{folder} has no catalogue {language}.toml: {error}", hint="Write one text a key, in each language."
            ) from error
        found[language] = Catalogue(language, dict(_flat(table)))
    first, *others = found.values()
    for other in others:
        if differing := sorted(first.texts.keys() ^ other.texts.keys()):
            raise PluginError(
                f"the catalogues in {folder} differ in {', '.join(differing[:5])}",
                hint="Let each language say the same keys.",
            )
    return found


@lru_cache(maxsize=1)
def own_catalogues() -> Catalogues:
    """The console's own."""
    return read_catalogues(files("toolkit.serving.console").joinpath("catalogues"))


def chosen_language(wanted: str | None, accepted: str) -> str:
    """The language of a person: the one that was chosen, or the first of Accept-Language (RFC 9110, 12.5.4) that there
    is."""
    if wanted in LANGUAGES:
        return wanted
    weighed = []
    for place, part in enumerate(accepted.split(",")):
        tag, _, weight = part.partition(";q=")
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            weighed.append((-_weight(weight), place, language))
    return min(weighed)[2] if weighed else next(iter(LANGUAGES))


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
