"""Which token comes next: the likeliest, or one that is drawn, of those that may stand there.

Knows logits and numbers of tokens, nothing of models or texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.text import Constraint


@dataclass(frozen=True)
class Drawn:
    """How at most `most` tokens are drawn: the likeliest where `temperature` is 0, else of the `top_p` likeliest, by
    `seed`, and by chance where that is None; of those that the `constraint` leaves."""

    most: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = 0
    constraint: Constraint | None = None

    @property
    def repeatable(self) -> bool:
        """Whether the same tokens must come again, whoever else is answered at the time."""
        return self.temperature > 0 and self.seed is not None


class Choice:
    """The tokens of one text, chosen one after the other; its random numbers are its own."""

    def __init__(self, how: Drawn) -> None:
        self._how, self._due = how, list[int]()
        self._numbers = np.random.default_rng(how.seed) if how.temperature > 0 else None

    def next(self, logits: np.ndarray, said: Sequence[int]) -> int:
        """The token after those of the answer so far.

        Args:
            logits: float32 [vocabulary].

        Raises:
            ToolkitError: the constraint cannot be followed.
        """
        constraint = self._how.constraint
        if constraint is not None:
            self._due = self._due or list(constraint.forced(said))
            if self._due:
                return self._due.pop(0)
            if (allowed := constraint.allowed(said, len(logits))) is not None:
                logits = np.where(allowed, logits, -np.inf)
        if self._numbers is None:
            return int(logits.argmax())
        return drawn_from(logits, self._how.temperature, self._how.top_p, float(self._numbers.random()))


def drawn_from(logits: np.ndarray, temperature: float, top_p: float, number: float) -> int:
    """The token at `number`, from 0 up to 1, of the distribution that the likeliest tokens have which together reach
    `top_p` (nucleus sampling, arXiv 1904.09751)."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    tokens = np.arange(len(weights))
    if top_p < 1:
        # Tokens below this weight come to less than 1 - top_p in all, so what reaches top_p is among the others.
        tokens = np.flatnonzero(weights >= (1 - top_p) * weights.sum() / len(weights))
        tokens = tokens[np.argsort(-weights[tokens], kind="stable")]
        reached = np.cumsum(weights[tokens])
        tokens = tokens[: int(np.searchsorted(reached, top_p * weights.sum())) + 1]
    reached = np.cumsum(weights[tokens])
    return int(tokens[np.searchsorted(reached, number * reached[-1], side="right")])
