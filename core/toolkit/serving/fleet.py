"""The versions that answer, of several products side by side, and which of them a request gets.

What is served changes by one assignment, so that every request sees the fleet of before or of after. Knows no HTTP, and
neither how a version is loaded nor why.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from toolkit.errors import unknown_name
from toolkit.serving.models import ServedModel, holding
from toolkit.serving.refusals import NotServed, Overloaded

_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Line:
    """What answers for a product: the current version, and on trial beside it perhaps another one, which gets
    `permille` of a thousand keys."""

    current: ServedModel
    canary: ServedModel | None = None
    permille: int = 0

    @property
    def product(self) -> str:
        return self.current.facts.product

    @property
    def versions(self) -> tuple[ServedModel, ...]:
        return (self.current,) if self.canary is None else (self.current, self.canary)

    @property
    def shares(self) -> tuple[tuple[ServedModel, int], ...]:
        """How many of a thousand requests each version gets."""
        return tuple(zip(self.versions, (1000 - self.permille, self.permille), strict=False))

    def draw(self, key: str) -> ServedModel:
        """Who answers what has this key: always the same, as long as the trial lasts."""
        if self.canary is None or not key:
            return self.current
        seed = hashlib.blake2b(f"{self.canary.facts.id}\n{key}".encode("utf-8", "surrogatepass"), digest_size=8)
        drawn = int.from_bytes(seed.digest(), "big") % 1000 < self.permille
        return self.canary if drawn else self.current


class Fleet:
    """`Models` of whatever is served at this moment; the first line is that of requests which name no product."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self._lines: Mapping[str, Line] = {}
        self.put(lines)

    def put(self, lines: Iterable[Line]) -> None:
        """From now on these answer. What was found before may still be asked: `InHand.earlier` tells when it is not."""
        self._lines = {line.product: line for line in lines}

    def lines(self) -> tuple[Line, ...]:
        return tuple(self._lines.values())

    def all(self) -> tuple[ServedModel, ...]:
        return tuple(model for line in self._lines.values() for model in line.versions)

    def line(self, product: str | None = None) -> Line:
        """What answers for a product, or for the first one. Raises NotServed."""
        lines = self._lines
        line = next(iter(lines.values()), None) if product is None else lines.get(product)
        if line is None:
            hint = unknown_name("product", product or "", tuple(lines), listed="Served here").hint
            raise NotServed(f"no model is called {product}" if product else "nothing is served here", hint=hint)
        return line

    def find(self, product: str | None = None, version: str | None = None, key: str = "") -> ServedModel:
        line = self.line(product)
        if version is None:
            return holding(line.draw(key))
        for model in line.versions:
            if model.facts.version == version:
                return holding(model)
        served = ", ".join(model.facts.version for model in line.versions)
        raise NotServed(f"{line.product} is not served in version {version}", hint=f"Served: {served}.")


class InHand:
    """The requests that a server has taken and not answered yet, in the order in which they came."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._inside: dict[int, None] = {}
        self.held_bytes = 0

    @property
    def requests(self) -> int:
        return len(self._inside)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request is in hand as long as the block runs; who it asks `Models` for may be asked until then."""
        number = next(self._numbers)
        self._inside[number] = None
        try:
            yield
        finally:
            del self._inside[number]

    @contextmanager
    def one_more(self, most: int) -> Iterator[None]:
        """As `one`. Raises Overloaded where there are `most` already."""
        if self.requests >= most:
            raise Overloaded(f"the server is busy: {self.requests} requests are in progress")
        with self.one():
            yield

    @contextmanager
    def holding(self, size: int, most: int) -> Iterator[None]:
        """While a request of so many bytes is held that came whole. Raises Overloaded beyond `most` of all requests."""
        if self.held_bytes + size > most:
            raise Overloaded("the server holds as much as it may of other requests")
        self.held_bytes += size
        try:
            yield
        finally:
            self.held_bytes -= size

    async def earlier(self, seconds: float) -> bool:
        """Wait until all that are in hand now are done, `seconds` at most; whether they are."""
        now, deadline = next(self._numbers), time.monotonic() + seconds
        while next(iter(self._inside), now) < now:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True
