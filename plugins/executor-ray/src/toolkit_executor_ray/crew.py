"""Pieces of work given to Ray, never too many at a time, and their results in order.

Ray itself brings a piece to another worker where one dies, or its node. What is done here is to count what is under
way, to read no piece before there is room, and to say in the toolkit's words what went wrong.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import Made, Piece, Results
from toolkit_executor_ray.settings import SECTION, RaySettings
from toolkit_executor_ray.work import LIBRARIES, Outcome, Shared, do, environment, packages

AHEAD = 2
"""Pieces given out and not yet taken, for each that can be worked on: no worker waits while one result is late."""

LOOK_EVERY_S = 10.0
"""How often it is asked whether the cluster still has room for a piece, while none comes back."""


class RayWorkers:
    """The workers of the cluster that this process has joined."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._most = min(settings.workers or self._room(), self._room())
        self._maps: list[Generator[Any, None, None]] = []

    @property
    def threads(self) -> int:
        return self._settings.cpus

    def map(self, prepare: Callable[[], Callable[[Piece], Made]], pieces: Iterable[Piece]) -> Results[Made]:
        results = self._results(prepare, pieces)
        self._maps.append(results)
        return results

    def end(self) -> None:
        """End every map. One that outlived the cluster would have Ray start another, only to cancel its pieces."""
        for results in self._maps:
            results.close()

    def _results(
        self, prepare: Callable[[], Callable[[Piece], Made]], pieces: Iterable[Piece]
    ) -> Generator[Made, None, None]:
        given: deque[tuple[int, Any]] = deque()  # in order, with the piece's number
        running: set[Any] = set()
        source, more = enumerate(pieces), True
        give: Callable[[int, Piece], Any] | None = None
        try:
            while True:
                while more and len(running) < self._most and len(given) < AHEAD * self._most:
                    number, piece = next(source, (-1, None))
                    if not (more := number >= 0):
                        break
                    give = give or self._giver(prepare)
                    given.append((number, give(number, piece)))  # type: ignore[arg-type]
                    running.add(given[-1][1])
                if not given:
                    return
                if given[0][1] in running:
                    running.difference_update(self._wait(running))
                else:
                    yield self._take(*given.popleft())
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _giver(self, prepare: Callable[[], Callable[[Piece], Made]]) -> Callable[[int, Piece], Any]:
        """Puts what all pieces share into Ray's store once, and returns what gives one of them out."""
        wanted = environment(["python", *LIBRARIES, *packages()])
        shared = Shared(secrets.token_hex(16), (ray.put(prepare),), wanted)
        settings = self._settings
        task = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=settings.retries)(do)
        return lambda number, piece: task.remote(shared, number, piece)

    def _wait(self, running: set[Any]) -> Iterable[Any]:
        """Those that are ready, one at least."""
        while True:
            ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_EVERY_S)
            if ready:
                return ready
            self._room()

    def _take(self, number: int, reference: Any) -> Any:
        try:
            outcome: Outcome = ray.get(reference)
        except RayTaskError as error:
            raise EnvironmentUnfit(
                f"a worker could not take piece {number} of the work: {_last_line(error)}",
                hint="Install the same packages on every node of the cluster.",
            ) from error
        except RayError as error:
            raise EnvironmentUnfit(
                f"piece {number} of the work was lost with its worker {self._settings.retries + 1} times: "
                f"{type(error).__name__}",
                hint=f"See Ray's logs for why they die; give a piece more room by {SECTION}.cpus, or fewer at a time.",
            ) from error
        if outcome.error is not None:
            raise outcome.error
        return outcome.made

    def _room(self) -> int:
        """Pieces that the cluster can work on at a time.

        Raises:
            EnvironmentUnfit: no node that is alive can take one.
        """
        cpus, gpus = self._settings.cpus, self._settings.gpus
        rooms = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(
            int(min(has.get("CPU", 0) // cpus, has.get("GPU", 0) / gpus if gpus else float("inf"))) for has in rooms
        )
        if not room:
            raise EnvironmentUnfit(
                f"no node of the Ray cluster has the {cpus} cores and {gpus:g} accelerators that a piece takes",
                hint=f"Lower {SECTION}.cpus or {SECTION}.gpus, or add a node.",
            )
        return room


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
