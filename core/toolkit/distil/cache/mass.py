"""Whether a teacher's k best tokens are enough, and what to do where they are not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from toolkit.errors import PlanError

ENOUGH = 0.95
"""The mass that the k best tokens must have together: a flat teacher had 0.43 at 64, and its student a worse KL."""

DECAY = 0.6
"""What doubling k leaves of the mass outside: 0.042, 0.026 and 0.015 at 32, 64 and 128 for SmolLM2-135M."""

DOUBLINGS = 2
"""How often k is doubled, at most, before whole hidden states are the better bargain."""


@dataclass(frozen=True)
class Advice:
    """What to do about a mass: nothing (`keep`), a `larger-k`, which `k` then names, or `hidden` states."""

    action: Literal["keep", "larger-k", "hidden"]
    k: int
    why: str


def advise(mass: float, k: int, vocabulary: int, *, hidden: bool = True) -> Advice:
    """Judge the mean mass of the k best tokens of a vocabulary.

    Args:
        hidden: whether the teacher shows hidden states; one that does not can only give a larger k.
    """
    if mass >= ENOUGH:
        return Advice("keep", k, f"the {k} best tokens have {mass:.1%} of the mass")
    doublings = math.ceil(math.log((1 - ENOUGH) / (1 - mass)) / math.log(DECAY))
    why = f"the {k} best tokens have {mass:.1%} of the mass, and {ENOUGH:.0%} are needed"
    if doublings <= DOUBLINGS or not hidden:
        return Advice("larger-k", min(k * 2**doublings, vocabulary), why)
    return Advice("hidden", k, why)


class LowMass(PlanError):
    """The k best tokens leave too much unsaid: a plan moves on as `advice` says (exit 2)."""

    code = "low-mass"

    def __init__(self, mass: float, k: int, vocabulary: int) -> None:
        self.mass, self.k, self.advice = mass, k, advise(mass, k, vocabulary)
        instead = "hidden states" if self.advice.action == "hidden" else f"the {self.advice.k} best"
        super().__init__(
            self.advice.why, hint=f"Label with {instead}; what was labelled stays, for who asks for {k} again."
        )

    def as_record(self) -> dict[str, object]:
        return super().as_record() | {"mass_at_k": self.mass, "k": self.k, "action": self.advice.action}
