"""What one server takes in at once, and where. Knows numbers, nothing of HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What one server takes in at once. Bytes are counted as they arrive; time is for a whole request to arrive.
    `handshakes` of TLS may be under way at once, each for `handshake_seconds`."""

    body_bytes: int = 25_000_000
    requests: int = 256
    held_bytes: int = 512_000_000
    arrival_seconds: float = 30.0
    idle_seconds: float = 15.0
    drain_seconds: float = 30.0
    handshakes: int = 128
    handshake_seconds: float = 10.0

    @property
    def connections(self) -> int:
        """Open connections: those with a request, and as many again that are idle or about to be refused."""
        return 2 * self.requests + 64


@dataclass(frozen=True)
class GrpcAddress:
    """Where gRPC is spoken, HOST:PORT, and the files of its TLS, as `toolkit serve` takes them for HTTP."""

    address: str
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
