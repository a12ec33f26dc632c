"""The executor `local`, and what every executor says of a piece of work that failed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from toolkit.errors import EnvironmentUnfit, ToolkitError
from toolkit.plan import Plan
from toolkit.protocols import Made, Piece, Results


@dataclass(frozen=True)
class LocalWorkers:
    """One worker: the process that asks. A piece is begun when its result is wanted."""

    threads: int

    def map(self, prepare: Callable[[], Callable[[Piece], Made]], pieces: Iterable[Piece]) -> Results[Made]:
        return self._results(prepare, pieces)

    @staticmethod
    def _results(
        prepare: Callable[[], Callable[[Piece], Made]], pieces: Iterable[Piece]
    ) -> Generator[Made, None, None]:
        work: Callable[[Piece], Made] | None = None
        for number, piece in enumerate(pieces):
            with told(number):
                work = work or prepare()
                made = work(piece)
            yield made


@dataclass(frozen=True)
class LocalExecutor:
    """This process, one piece after the other, each with all the threads that the plan allows."""

    name: str = "local"

    def check(self, plan: Plan) -> None:
        """Every machine has a process."""

    def open(self, plan: Plan) -> contextlib.AbstractContextManager[LocalWorkers]:
        return contextlib.nullcontext(LocalWorkers(plan.compute.threads or len(os.sched_getaffinity(0))))


@contextlib.contextmanager
def told(number: int) -> Iterator[None]:
    """Whatever the piece of that number raises becomes a toolkit error; one that is one already stays as it is."""
    try:
        yield
    except ToolkitError:
        raise
    except OSError as error:
        raise EnvironmentUnfit(
            f"piece {number} of the work failed: {error}", hint="Check free space and rights."
        ) from error
    except Exception as error:
        raise ToolkitError(
            f"piece {number} of the work failed: {type(error).__name__}: {error}", hint="--debug shows where."
        ) from error
