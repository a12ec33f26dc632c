"""Problems for a person to read before anything is released: of every skill, as a site gives them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from random import Random

from toolkit.errors import DataError, Refused
from toolkit_education.curriculum import curriculum
from toolkit_education.generators import models
from toolkit_education.generators.themes import themes
from toolkit_education.items import Item, draw
from toolkit_education.numerals import LANGUAGES, show
from toolkit_education.units import unit_name
from toolkit_education.verify import verified

SAMPLES, TRIES = 50, 20


def samples(seed: int, many: int = SAMPLES) -> list[Mapping[str, str]]:
    """So many different verified problems as the report prints them, skill by skill, in languages, levels and themes by
    turns."""
    return [
        {
            "of": f"{item.skill} · level {item.level} · {item.language}" + (f" · {item.theme}" if item.theme else ""),
            "text": item.problem,
            "beside": "\n".join(
                [*item.steps, f"= {show(item.answer, item.language)} {unit_name(item.unit, item.language)}".strip()]
            ),
        }
        for item in _drawn(seed, many)
    ]


def _drawn(seed: int, many: int) -> Iterator[Item]:
    rng, seen = Random(seed), set[str]()
    turns = zip(cycle(curriculum()), cycle(LANGUAGES), cycle(themes()), range(many * TRIES), strict=False)
    for skill, language, theme, turn in turns:
        if len(seen) == many:
            return
        levels = len(curriculum()[skill].levels)
        model = rng.choice(models(skill, 1 + (turn // len(curriculum()) + turn) % levels, language, theme))
        try:
            item = verified(draw(model, rng.randrange(2**31)), model)
        except (DataError, Refused):
            continue
        if item.problem not in seen:
            seen.add(item.problem)
            yield item
