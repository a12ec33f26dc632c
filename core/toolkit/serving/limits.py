"""What one server takes in at once, what it holds at a moment, and what another protocol's server stands before.

Knows numbers, nothing of HTTP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.serving.access import Access
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import Models
from toolkit.serving.refusals import Overloaded


@dataclass(frozen=True)
class Limits:
    """What one server takes in at once. Bytes are counted as they arrive; time is for a whole request to arrive."""

    body_bytes: int = 25_000_000
    requests: int = 256
    held_bytes: int = 512_000_000
    arrival_seconds: float = 30.0
    idle_seconds: float = 15.0
    drain_seconds: float = 30.0

    @property
    def connections(self) -> int:
        """Open connections: those with a request, and as many again that are idle or about to be refused."""
        return 2 * self.requests + 64


@dataclass
class Occupancy:
    """What a server holds at this moment."""

    requests: int = 0
    held_bytes: int = 0

    @contextlib.contextmanager
    def one_more(self, limits: Limits) -> Iterator[None]:
        """While a request is in progress.

        Raises:
            Overloaded: there are as many as there may be.
        """
        if self.requests >= limits.requests:
            raise Overloaded(f"the server is busy: {self.requests} requests are in progress")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextlib.contextmanager
    def holding(self, size: int, limits: Limits) -> Iterator[None]:
        """While a request of so many bytes is held, that came whole.

        Raises:
            Overloaded: with it there would be more than there may be.
        """
        if self.held_bytes + size > limits.held_bytes:
            raise Overloaded("the server holds as much as it may of other requests")
        self.held_bytes += size
        try:
            yield
        finally:
            self.held_bytes -= size


@dataclass(frozen=True)
class Door:
    """What another protocol's server, beside the one for HTTP, stands before: the same models, keys and limits."""

    models: Models
    access: Access
    metrics: Metrics
    limits: Limits
    occupancy: Occupancy
