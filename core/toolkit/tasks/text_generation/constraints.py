"""What a request asks of its answer beside the model, as it is written: results that are computed, texts that must
stand in it.

It leaves the model free wherever it can: a token is forced only behind an open mark, and of all tokens only the end is
forbidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.tasks.text_generation.calculator import owed_after
from toolkit.tasks.text_generation.tokens import Tokenizer
from toolkit.text import Constraint, GenerationRequest


def constraint_of(request: GenerationRequest, tokenizer: Tokenizer) -> Constraint | None:
    """The request's own, for one answer of a model whose tokens these are; None where it has none."""
    if not request.constrained:
        return None
    return _Asked(tokenizer, request.calculator, request.wanted)


@dataclass
class _Asked:
    tokenizer: Tokenizer
    calculator: bool
    left: tuple[str, ...]
    """Of the texts that are wanted those that have not come yet."""

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        if not self.calculator or not ids or "=" not in self._text(ids[-1:]):
            return ()
        owed = owed_after(self._text(ids))
        return list(self.tokenizer(owed, add_special_tokens=False)["input_ids"]) if owed else ()

    def open(self, ids: Sequence[int]) -> bool:
        if self.left:
            text = self._text(ids)
            self.left = tuple(one for one in self.left if one not in text)
        return bool(self.left)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
