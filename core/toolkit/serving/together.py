"""How many rows of requests run together, learnt from how long they take."""

from __future__ import annotations

BRIEF_SECONDS = 0.01
"""A batch may take so long, or as long as two requests one after the other."""


class Together:
    """Halved when a batch takes longer than it may, doubled when it is well within. `most` is the bound."""

    def __init__(self, most: int) -> None:
        self.rows = self.most = most
        self._alone = 0.0
        self._row = 0.0

    def within(self, seconds: float) -> int:
        """How many rows of brief requests take no longer than that, by the longest that one took lately; 0 where that
        is not known yet."""
        return min(self.rows, int(seconds / self._row)) if self._row else 0

    def took(self, rows: int, seconds: float, *, brief: bool) -> None:
        """Told of each batch, and whether all its requests were brief. One request of more rows than may run together
        says nothing of company."""
        if brief and rows:
            self._row = max(seconds / rows, 0.9 * self._row)
        if rows == 1:
            self._alone = seconds
        most = max(BRIEF_SECONDS, 2 * self._alone)
        if 1 < rows <= self.most and seconds > most:
            self.rows = max(1, self.rows // 2)
        elif rows >= self.rows and seconds < 0.75 * most:
            self.rows = min(self.most, 2 * self.rows)
