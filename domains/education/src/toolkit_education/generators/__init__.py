"""Exact generators: item models for every skill, level, language and theme, without any model or data set.

They are what answers when nothing else may. Which of their problems a learner gets is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from toolkit.errors import DataError
from toolkit_education.curriculum import skill as skill_of
from toolkit_education.generators import (
    data,
    equations,
    geometry,
    measures,
    number_sense,
    parts,
    percents,
    problems,
    whole_numbers,
)
from toolkit_education.generators.template import Template, build
from toolkit_education.generators.themes import Theme, themes
from toolkit_education.generators.themes import theme as theme_of
from toolkit_education.items import ItemModel
from toolkit_education.numerals import LANGUAGES

__all__ = ["models", "templates", "themed", "themes"]

_STRANDS = (whole_numbers, number_sense, problems, parts, percents, measures, equations, geometry, data)


def models(skill: str, level: int, language: str, theme: str) -> tuple[ItemModel, ...]:
    """Every item model of a skill at a level, in a language, about a theme; problems without a story have no theme.

    Raises:
        DataError: an unknown skill, level, language or theme.
    """
    skill_of(skill).range(level)
    if language not in LANGUAGES:
        raise DataError(f"no language {language!r}", hint=f"Known: {', '.join(LANGUAGES)}.")
    words = theme_of(theme)
    return tuple(_built(one.key, level, language, words.id) for one in templates()[skill] if level in one.levels)


def themed(model: ItemModel, theme: Theme) -> ItemModel:
    """A generator's own model about another theme: exact, whatever its words are."""
    key = "/".join(model.id.split("/")[:2])
    template = next(one for one in templates()[model.skill] if one.key == key)
    return build(template, model.level, model.language, theme)


@lru_cache(maxsize=1)
def templates() -> Mapping[str, tuple[Template, ...]]:
    """Every template by skill."""
    found: dict[str, list[Template]] = {}
    for strand in _STRANDS:
        for template in strand.TEMPLATES:
            found.setdefault(template.skill, []).append(template)
    return MappingProxyType({skill: tuple(several) for skill, several in found.items()})


@lru_cache(maxsize=8192)
def _built(key: str, level: int, language: str, theme: str) -> ItemModel:
    template = next(one for one in templates()[key.partition("/")[0]] if one.key == key)
    return build(template, level, language, theme_of(theme))
