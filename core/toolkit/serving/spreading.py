"""How many connections each worker of a server has, in memory that all of them share: whoever has more than another
lets that one take the next, and has a client ask anew now and then. Knows nothing of HTTP.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

_PLACES = 128
_NOBODY = np.iinfo(np.int64).max


class Spread:
    """Made before the workers fork; each claims its place, and alone writes to it until somebody says that it died."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.frombuffer(mmap.mmap(-1, _PLACES * 8), np.int64)
        self._counts[:] = _NOBODY
        self._mine = 0
        self._counts[0] = 0

    def claim(self, place: int) -> None:
        """This process is the worker of that place, without a connection yet."""
        self.leave(self._mine)
        self._mine = place
        self._counts[place] = 0

    def leave(self, place: int) -> None:
        """The worker of that place takes no more connections."""
        self._counts[place] = _NOBODY

    def has(self, connections: int) -> None:
        """So many are this worker's."""
        self._counts[self._mine] = connections

    @property
    def ahead(self) -> int:
        """How many more this worker has than the one that has least."""
        return int(self._counts[self._mine] - self._counts.min())
