"""Samples or problems dealt out to the steps of an epoch, each once, in an order that seed and epoch alone decide.

For lessons whose texts are not known beforehand, since the student writes them: a step is so many of them, where
`packing` makes it so many tokens. Neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Generic, TypeVar

from toolkit.errors import PlanError

Item = TypeVar("Item")


class Dealt(Generic[Item]):
    """Items in steps of about `size`: where they do not come out even, some steps have more.

    Args:
        items: in an order that is always the same.

    Raises:
        PlanError: there is none, or the size is below 1.
    """

    def __init__(self, items: Sequence[Item], size: int, *, seed: int = 0) -> None:
        if not items or size < 1:
            raise PlanError(
                f"steps of {size} cannot be made of {len(items)}", hint="Give at least one, and steps of at least one."
            )
        self.items, self._seed = items, seed
        self.steps = max(1, len(items) // size)
        self._order: tuple[int, list[int]] = (-1, [])

    def step(self, epoch: int, step: int) -> tuple[Item, ...]:
        """The same for the same arguments, whenever it is asked for."""
        if self._order[0] != epoch:
            self._order = (epoch, sorted(range(len(self.items)), key=lambda number: self._lot(epoch, number)))
        order = self._order[1]
        mine = order[step * len(order) // self.steps : (step + 1) * len(order) // self.steps]
        return tuple(self.items[number] for number in mine)

    def _lot(self, epoch: int, number: int) -> bytes:
        return hashlib.sha256(f"{self._seed}\0{epoch}\0{number}".encode()).digest()
