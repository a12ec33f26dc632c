"""What a request asks of its answer beside the model, as it is written: results that are computed, texts that must
stand in it, a grammar that it keeps to.

It leaves the model free wherever it can: a token is forced only behind an open mark, and without a grammar of all
tokens only the end may be forbidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.tasks.text_generation.calculator import owed_after
from toolkit.tasks.text_generation.grammars import Following
from toolkit.tasks.text_generation.tokens import Tokenizer, stops_of
from toolkit.text import Constraint, GenerationRequest


def constraint_of(request: GenerationRequest, tokenizer: Tokenizer) -> Constraint | None:
    """The request's own, for one answer of a model whose tokens these are; None where it has none."""
    if not request.constrained:
        return None
    stops = stops_of(request.messages, tokenizer)
    following = None if request.grammar is None else Following(request.grammar, tokenizer, stops)
    return _Asked(tokenizer, stops, following, request.calculator, request.wanted)


@dataclass
class _Asked:
    """`left` are, of the texts that are wanted, those that have not come yet."""

    tokenizer: Tokenizer
    stops: frozenset[int]
    following: Following | None
    calculator: bool
    left: tuple[str, ...]

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        if not self.calculator or not ids or "=" not in self._text(ids[-1:]):
            return ()
        owed = owed_after(self._text(ids))
        return list(self.tokenizer(owed, add_special_tokens=False)["input_ids"]) if owed else ()

    def allowed(self, ids: Sequence[int], vocabulary: int) -> np.ndarray | None:
        found = None if self.following is None else self.following.allowed(ids, vocabulary)
        if self.left:
            text = self._text(ids)
            self.left = tuple(one for one in self.left if one not in text)
        if self.left:
            free = np.ones(vocabulary, bool) if found is None else found.copy()
            free[[stop for stop in self.stops if stop < vocabulary]] = False
            found = free if free.any() else found  # a grammar that has come to its end has the last word
        return found

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
