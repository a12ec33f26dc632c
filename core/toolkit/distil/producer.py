"""Labelling beside training: a producer in a thread of its own runs ahead of who consumes, but never far.

A row is given out to be labelled only while fewer than `ahead` are given out and not yet consumed. So what has come and
waits is bounded, whatever the order it came in; what comes never has to wait for room; and the row that is next is
always among those given out, so neither side can wait for the other for ever. It knows nothing of what an item is.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from toolkit.errors import PluginError, UsageError

Item = TypeVar("Item")
Make = Callable[[Iterator[int]], Iterable[tuple[int, Item]]]
"""Labels the rows it is given as it reads them, and hands on `(row, item)` in any order. Reading blocks while the
consumer is behind, and may be done in any thread. Where it has a `close()` and is no generator, that may be called from
another thread."""


@dataclass(frozen=True)
class Progress:
    """How far labelling is. `depth` items wait to be consumed; seconds are those a side was held up by the other."""

    done: int
    total: int
    depth: int
    producer_waited_s: float
    consumer_waited_s: float
    per_second: float

    def figures(self) -> dict[str, float]:
        """For the curves of what consumes: each figure as `queue/NAME`."""
        return {
            "queue/depth": self.depth,
            "queue/done": self.done,
            "queue/total": self.total,
            "queue/per_second": self.per_second,
            "queue/labelling_waited_s": self.producer_waited_s,
            "queue/training_waited_s": self.consumer_waited_s,
        }


class Producer(Generic[Item]):
    """Items in row order, made ahead of time: `with Producer(make, total) as items: for item in items: ...`.

    An error in the making is raised where the row it kept from coming is asked for. Leaving the block stops the making:
    no further row is given out, and what is under way has `grace_s` seconds to come to its end.

    Args:
        make: labels rows; see `Make`.
        total: rows there are.
        first: the row to begin with, for a run that goes on from there.
        ahead: most rows that are given out and not consumed. Who labels in batches needs two batches or more.
    """

    def __init__(self, make: Make[Item], total: int, *, first: int = 0, ahead: int = 64, grace_s: float = 5.0) -> None:
        if ahead < 1 or not 0 <= first <= total:
            raise UsageError(
                f"cannot produce rows {first} to {total}, {ahead} ahead", hint="ahead is 1 or more, first within total."
            )
        self._make, self._first, self._total, self._ahead, self._grace_s = make, first, total, ahead, grace_s
        self._changed = threading.Condition()
        self._given = self._taken = first
        self._came: dict[int, Item] = {}
        self._done = 0
        self._failure: BaseException | None = None
        self._ended = first == total
        self._stopping = False
        self._made: Iterable[tuple[int, Item]] = ()
        self._started = self._last = time.monotonic()
        self._producer_waited_s = self._consumer_waited_s = 0.0
        self._thread = threading.Thread(target=self._run, name="label-producer", daemon=True)

    def __enter__(self) -> Producer[Item]:
        self._started = self._last = time.monotonic()
        if not self._ended:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._changed:
            began = time.monotonic()
            while self._taken not in self._came:
                if self._ended:
                    self._raise_end()
                self._changed.wait()
            self._consumer_waited_s += time.monotonic() - began
            item = self._came.pop(self._taken)
            self._taken += 1
            self._changed.notify_all()
            return item

    @property
    def position(self) -> int:
        """The row that is next."""
        return self._taken

    def progress(self) -> Progress:
        with self._changed:
            seconds = self._last - self._started
            return Progress(
                done=self._done,
                total=self._total - self._first,
                depth=len(self._came),
                producer_waited_s=self._producer_waited_s,
                consumer_waited_s=self._consumer_waited_s,
                per_second=self._done / seconds if seconds > 0 else 0.0,
            )

    def close(self) -> None:
        """Stop the making and wait for it: for what is under way at most `grace_s`, for a step that cannot be
        interrupted as long as it takes."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(self._grace_s)
            end(self._made)
            self._thread.join()

    def _raise_end(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._taken < self._total:
            raise PluginError(
                f"labelling ended without row {self._taken}; {self._total - self._first - self._done} of "
                f"{self._total - self._first} rows have no answer",
                hint="Whoever labels hands on one item a row.",
            )
        raise StopIteration

    # --- in the producer's thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._drain()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the consumer asks for the row
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _drain(self) -> None:
        self._made = self._make(_Rows(self))
        try:
            for row, item in self._made:
                self._put(row, item)
        finally:
            end(self._made)

    def _put(self, row: int, item: Item) -> None:
        with self._changed:
            if not self._taken <= row < self._given or row in self._came:
                raise PluginError(f"row {row} was labelled unasked or twice", hint="One item for each row given out.")
            self._came[row] = item
            self._done += 1
            self._last = time.monotonic()
            self._changed.notify_all()

    def _give(self) -> int:
        """The next row to label, as soon as there is room for it."""
        here = threading.get_ident() == self._thread.ident
        with self._changed:
            while not self._stopping and not self._ended and self._given < self._total:
                if self._given - self._taken < self._ahead:
                    self._given += 1
                    return self._given - 1
                self._hold(here)
            if here and self._stopping:
                raise _Stopped
            raise StopIteration

    def _hold(self, here: bool) -> None:
        """Wait until the consumer has caught up."""
        if here and self._taken not in self._came:
            raise UsageError(
                f"whoever labels holds {self._given - self._taken} rows and wants more before it hands on the first",
                hint=f"Let it hold fewer than {self._ahead} rows, or label further ahead.",
            )
        began = time.monotonic()
        self._changed.wait()
        self._producer_waited_s += time.monotonic() - began


def end(made: Iterable[Any]) -> None:
    """Close what can be closed. A generator at work in another thread cannot; it ends with its next row."""
    if inspect.isgenerator(made):
        with contextlib.suppress(ValueError):
            made.close()
    elif close := getattr(made, "close", None):
        close()


class _Rows(Iterator[int]):
    """The rows as they may be labelled; how many are left is known without taking them."""

    def __init__(self, producer: Producer[Any]) -> None:
        self._producer = producer

    def __next__(self) -> int:
        return self._producer._give()

    def __length_hint__(self) -> int:
        return self._producer._total - self._producer._given


class _Stopped(Exception):
    """The consumer has left."""
