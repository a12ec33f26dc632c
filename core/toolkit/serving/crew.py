"""The workers of one server, as one of them sees them: their figures together, and how each one is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.serving.alongside import going_on
from toolkit.serving.board import Board
from toolkit.serving.gathering import gathered
from toolkit.serving.metrics import Metrics

PARENT = 0
"""The place on the board of the process that started the others."""
TELL_SECONDS = 0.5


@dataclass(frozen=True)
class Crew:
    """A worker at its place of the board; `told` says what the others may know of it beside its figures."""

    board: Board
    place: int
    metrics: Metrics
    told: Callable[[], Mapping[str, Any]]

    def tell(self) -> None:
        """Bring one's own place up to date."""
        figures = self.metrics.render().decode()
        self.board.write(self.place, {"pid": os.getpid(), "time": time.time(), "metrics": figures, **self.told()})

    def all(self) -> list[Mapping[str, Any]]:
        """What every worker told of itself, the reader's own place as it is now."""
        self.tell()
        return [record for place in range(1, self.board.places) if (record := self.board.read(place))]

    def render(self) -> bytes:
        """The figures of the whole server."""
        parent = self.board.read(PARENT)
        return gathered([*(str(one["metrics"]) for one in self.all()), str(parent.get("metrics", ""))])

    def health(self) -> Mapping[str, Any]:
        """`running` of `wanted` workers, `restarts` since the start, and of the last one the reason."""
        parent = self.board.read(PARENT)
        return {"running": len(self.all()), **{k: parent[k] for k in ("wanted", "restarts", "last") if k in parent}}

    @contextlib.asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Tell again and again as long as the block runs."""
        async with going_on(self._run()):
            yield
        self.tell()

    async def _run(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(TELL_SECONDS)
