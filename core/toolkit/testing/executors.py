"""What every executor promises, as one check: `check_executor(executor, plan, tmp_path)`.

The work of the suite stands in this module, so that workers elsewhere can import it.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from toolkit.errors import DataError, EnvironmentUnfit, IntegrityError, ToolkitError
from toolkit.plan import Plan
from toolkit.protocols import Executor, Workers

PIECES = 24
FAR = 200
"""Pieces that nobody needs before the first result is taken."""

SETTLE_S = 20.0
"""How long processes may take to end once the block is left."""


class SourceFailed(Exception):
    """What the suite's own source of pieces raises."""


@dataclass(frozen=True)
class Work:
    """Squares numbers, and what else its fields say. `folder` is where it notes what it did."""

    folder: Path
    sleep_s: float = 0.0
    fails: dict[int, str] | None = None
    dies_once: int | None = None
    dies_always: int | None = None
    wide: int = 1

    def __call__(self) -> Callable[[int], np.ndarray]:
        _note(self.folder / "prepared", str(os.getpid()))
        return self.square

    def square(self, number: int) -> np.ndarray:
        if number == self.dies_always or (number == self.dies_once and not _noted(self.folder / "died")):
            _note(self.folder / "died", str(number))
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.sleep_s * (number % 3))
        how = (self.fails or {}).get(number)
        if how == "data":
            raise DataError(f"row {number} is no number", hint="Count again.")
        if how == "integrity":
            raise IntegrityError("a shard is damaged", part="shard", hint="Mend it.")
        if how == "disk":
            raise OSError(28, "No space left on device")
        if how == "bug":
            raise Stubborn(number, "by design")
        _note(self.folder / "done", str(number))
        return np.full(self.wide, number**2, np.float64)


class Stubborn(Exception):
    """An exception that cannot be unpickled: its arguments are not those of its constructor."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{number} will not be squared")


def check_executor(executor: Executor, plan: Plan, tmp_path: Path, *, apart: bool) -> None:
    """Run the conformance suite of executors.

    Args:
        plan: one in which the executor can work.
        tmp_path: a folder that its workers can write to.
        apart: whether workers are processes of their own, so that one can die and the work go on.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", executor.name), f"{executor.name!r} is no name to type"
    executor.check(plan)
    before = set(psutil.Process().children(recursive=True))
    with executor.open(plan) as workers:
        assert workers.threads >= 1, "a worker may use a thread"
        _check_order(workers, _fresh(tmp_path / "order"))
        _check_reading(workers, _fresh(tmp_path / "reading"))
        _check_leaving(workers, _fresh(tmp_path / "leaving"))
        _check_errors(workers, tmp_path)
        if apart:
            _check_deaths(workers, tmp_path)
    with executor.open(plan) as again:
        found = again.map(Work(_fresh(tmp_path / "again")), range(3))
        assert [int(one[0]) for one in found] == [0, 1, 4], "an executor can be opened again"
    deadline = time.monotonic() + SETTLE_S
    while (left := _alive(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"processes are left behind: {', '.join(left)}"


def _check_order(workers: Workers, folder: Path) -> None:
    """One result a piece, in their order, whichever was ready first; large ones too."""
    found = list(workers.map(Work(folder, sleep_s=0.01, wide=100_000), iter(range(PIECES))))
    assert [int(one[0]) for one in found] == [number**2 for number in range(PIECES)], "results in order of the pieces"
    assert all(one.shape == (100_000,) for one in found), "a large result comes whole"
    prepared = _noted(folder / "prepared")
    assert len(prepared) == len(set(prepared)), "a worker calls prepare() once, not for each piece"
    none = _fresh(folder / "none")
    assert list(workers.map(Work(none), ())) == [], "no pieces, no results"
    assert not _noted(none / "prepared"), "nothing is prepared for no work"


def _check_reading(workers: Workers, folder: Path) -> None:
    """Pieces are read as results are taken, and what their source raises is raised again."""
    read: list[int] = []

    def counted() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    with closing(workers.map(Work(folder), counted())) as found:
        assert not read, "nothing is read before a result is wanted"
        assert int(next(found)[0]) == 0
        assert len(read) < FAR, f"{len(read)} pieces were read for one result"

    def failing() -> Iterator[int]:
        yield 1
        raise SourceFailed

    try:
        list(workers.map(Work(folder), failing()))
    except SourceFailed:
        return
    raise AssertionError("what the source of pieces raises reaches who asked")


def _check_leaving(workers: Workers, folder: Path) -> None:
    """After close() nothing more is read or made, and the workers are free for other work."""
    read: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(FAR):
            read.append(number)
            yield number

    results = workers.map(Work(folder, sleep_s=0.02), counted())
    next(results)
    results.close()
    seen = len(read)
    assert list(results) == [], "after close() the results end"
    assert len(read) == seen, "after close() no piece is read"
    results.close()
    workers.map(Work(folder), counted()).close()
    assert len(read) == seen, "what was never begun reads nothing"
    assert len(list(workers.map(Work(folder), range(4)))) == 4, "after close() there is room for other work"


def _check_errors(workers: Workers, tmp_path: Path) -> None:
    """What was made before the failing piece arrives; then the error does, a toolkit error whatever was raised."""
    expected = {
        "data": (DataError, "row 5 is no number", "Count again."),
        "integrity": (IntegrityError, "a shard is damaged", "Mend it."),
        "disk": (EnvironmentUnfit, "No space left on device", ""),
        "bug": (ToolkitError, "Stubborn: 5 will not be squared", ""),
    }
    for how, (kind, says, hint) in expected.items():
        found = workers.map(Work(_fresh(tmp_path / how), fails={5: how}), range(PIECES))
        made: list[int] = []
        try:
            made.extend(int(one[0]) for one in found)
        except ToolkitError as error:
            caught = error
        else:
            raise AssertionError(f"an error in a piece ({how}) is raised where its result is wanted")
        assert type(caught) is kind, f"{how}: a {type(caught).__name__} arrives, not a {kind.__name__}"
        assert says in caught.message, f"{how}: {caught.message!r} does not say {says!r}"
        assert hint in caught.hint and caught.hint, f"{how}: the hint is {caught.hint!r}"  # noqa: PT018
        assert not isinstance(caught, IntegrityError) or caught.part == "shard", "an error keeps what it knows"
        assert made == [number**2 for number in range(5)], f"{how}: results before the failing piece: {made}"


def _check_deaths(workers: Workers, tmp_path: Path) -> None:
    """A worker killed in between loses nothing and doubles nothing; a piece that kills all of them ends the work."""
    work = Work(_fresh(tmp_path / "death"), sleep_s=0.01, dies_once=7)
    found = [int(one[0]) for one in workers.map(work, range(PIECES))]
    assert _noted(work.folder / "died") == ["7"], "the suite's worker was killed once"
    assert found == [number**2 for number in range(PIECES)], "each piece has one result, also where a worker died"
    deadly = replace(work, folder=_fresh(tmp_path / "deaths"), dies_once=None, dies_always=3)
    made: list[int] = []
    try:
        made.extend(int(one[0]) for one in workers.map(deadly, range(PIECES)))
    except EnvironmentUnfit as error:
        caught = error
    else:
        raise AssertionError("a piece that kills every worker ends the work")
    assert caught.hint, "who hears that workers die is told what to do"
    assert made == [0, 1, 4], f"results before the deadly piece: {made}"
    assert len(_noted(deadly.folder / "died")) > 1, "a piece whose worker died is done again"


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _note(folder: Path, what: str) -> None:
    """A file a note: several processes write at once."""
    folder.mkdir(exist_ok=True)
    (folder / f"{what}.{secrets.token_hex(4)}").touch()


def _noted(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in folder.glob("*")) if folder.is_dir() else []


def _alive(before: set[psutil.Process]) -> list[str]:
    """Names of processes that came after and are no zombies."""
    names = []
    for process in set(psutil.Process().children(recursive=True)) - before:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                names.append(process.name())
        except psutil.NoSuchProcess:
            continue
    return names
