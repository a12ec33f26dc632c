"""Whether a draft is new: of no template of the curriculum, and no near copy of a problem that is there already.

Texts are compared by runs of three words, numbers aside. Against the curriculum's templates, whose words anyone may
exchange, with signs in the place of the words that they are about.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from toolkit_education.drafting import skeleton
from toolkit_education.generators import templates
from toolkit_education.signs import MARK, SIGN, signed

NEAR = 0.7
"""Share of common runs (Jaccard's index) from which on a text is a copy."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|#|□")
_SIGN = re.compile(rf"(?:{SIGN.pattern})(?: (?:{SIGN.pattern}))*")

Runs = frozenset[tuple[str, ...]]


@dataclass(frozen=True)
class Known:
    """The problems that a draft may not be a copy of. They are read anew each time: a bank may be large."""

    texts: Sequence[str]

    def copied(self, drafts: Sequence[str]) -> list[str]:
        """What each draft copies; empty where it is new."""
        found = ["it is of a template of the curriculum" if _of_template(draft) else "" for draft in drafts]
        ours = [_runs(skeleton(draft)) for draft in drafts]
        for text in self.texts if drafts else ():
            other = _runs(skeleton(text))
            for place, runs in enumerate(ours):
                if not found[place] and _alike(runs, other) >= NEAR:
                    found[place] = "it copies a problem of the bank"
        return found


def _runs(text: str) -> Runs:
    words = ["", *_WORD.findall(text), ""]
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def _alike(one: Runs, other: Runs) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _of_template(text: str) -> bool:
    form = _runs(skeleton(_SIGN.sub("□", signed(text, "en")[0])))
    return any(_alike(form, one) >= NEAR for one in _templates())


@lru_cache(maxsize=1)
def _templates() -> tuple[Runs, ...]:
    return tuple(
        _runs(skeleton(MARK.sub("□", template.en[0]))) for several in templates().values() for template in several
    )
