"""Whether the shipped file answers as the torch model did, on scores and on decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Parity:
    """Agreement of two models on the same rows: largest and mean difference of a probability, share of equal
    decisions, and the same share among the rows each model calls class by class (the least of them); of text, rows are
    tokens, and the least share is that of one text."""

    rows: int
    largest_difference: float
    mean_difference: float
    same_decision: float
    worst_class: float

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def compare_outputs(reference: np.ndarray, shipped: np.ndarray) -> Parity:
    """Compare probabilities float32 [n, k] of the torch model with those of the shipped file."""
    difference = np.abs(reference.astype(np.float64) - shipped.astype(np.float64))
    before, after = reference.argmax(axis=1), shipped.argmax(axis=1)
    same = before == after
    by_class = [float(same[before == index].mean()) for index in np.unique(before)]
    return Parity(
        rows=len(reference),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        same_decision=float(same.mean()),
        worst_class=min(by_class),
    )


def compare_texts(texts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Parity:
    """Compare what two models say of each next token, text by text: probabilities float32 [n, vocabulary] of the torch
    model with those of the shipped file."""
    tokens, largest, total, same, least = 0, 0.0, 0.0, 0, 1.0
    for reference, shipped in texts:
        difference = np.abs(reference.astype(np.float64) - shipped)
        equal = reference.argmax(axis=1) == shipped.argmax(axis=1)
        tokens, same = tokens + len(equal), same + int(equal.sum())
        largest, total = max(largest, float(difference.max())), total + float(difference.mean(axis=1).sum())
        least = min(least, float(equal.mean()))
    return Parity(tokens, largest, total / max(1, tokens), same / max(1, tokens), least)
