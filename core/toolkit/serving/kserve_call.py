"""A call of gRPC as it goes on: whose it is, what it says, and how it is counted and written down in the end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.services import Seen
from toolkit.serving.access import Identity, credential
from toolkit.serving.backing import Backing
from toolkit.serving.exchange import Exchange
from toolkit.serving.kserve_messages import SERVICE
from toolkit.serving.limits import Limits
from toolkit.serving.models import ServedModel
from toolkit.serving.refusals import TooSlow, Unauthorised
from toolkit.site.contents import Body

if TYPE_CHECKING:
    from toolkit.serving.tracing import Trace

INFER = "ModelInfer"
"""The method that asks a model."""
MEDIA_TYPE = "application/grpc"


@dataclass
class Call:
    """One call as it goes on: whose it is, what it says, which version answers."""

    behind: Backing
    name: str
    session: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    started: float = field(default_factory=time.perf_counter)
    identity: Identity | None = None
    data: bytes = b""
    model: ServedModel | None = None
    trace: Trace | None = None
    seen: list[Seen] = field(default_factory=list)

    @property
    def key(self) -> str:
        """What it shares with those that belong together with it, for `Models.find`."""
        return self.session or self.id

    def ended(self, status: int, answer: Any) -> None:
        """Count it, and write an inference into the site's records."""
        behind, route, seconds = self.behind, f"/{SERVICE}/{self.name}", time.perf_counter() - self.started
        trace_id = self.trace.id if self.trace else ""
        behind.tally.done(
            request_id=self.id, identity=self.identity, method="gRPC", path=route, route=route, status=status,
            seconds=seconds, size=len(self.data), model=self.model, trace_id=trace_id,
        )  # fmt: skip
        if self.trace is not None:
            rpc = {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": self.name}
            self.trace.ended(route.removeprefix("/"), status, self.model, {**rpc, "toolkit.status": status})
        if behind.ledger is None or self.name != INFER or self.identity is None:
            return
        kept = None if answer is None or not behind.ledger.wants_content else answer.SerializeToString()
        behind.ledger.answered(
            Exchange(
                request_id=self.id, identity=self.identity, method="gRPC", route=route, status=status, seconds=seconds,
                size=len(self.data), served=None if self.model is None else self.model.facts, verdicts=(),
                seen=tuple(self.seen),
                asked=Body(MEDIA_TYPE, self.data), answered=None if kept is None else Body(MEDIA_TYPE, kept),
                trace_id=trace_id,
            )
        )  # fmt: skip


def metadata_of(context: Any) -> Mapping[str, bytes]:
    pairs = context.invocation_metadata() or ()
    return {name: value if isinstance(value, bytes) else value.encode() for name, value in pairs}


def identified(behind: Backing, metadata: Mapping[str, bytes], peer: str) -> Identity:
    """Raises Unauthorised without a key that is known here, TooMany where it asks more often than it may."""
    identity = behind.access.authenticate(credential((name.encode(), value) for name, value in metadata.items()))
    if identity is None:
        behind.access.refused(peer.rpartition(":")[0])
        raise Unauthorised(
            "an API key that is known here is needed", hint="Send it as metadata: x-api-key, or authorization: Bearer."
        )
    behind.access.admit(identity)
    return identity


async def one_message(limits: Limits, reading: asyncio.Semaphore, stream: AsyncIterable[bytes]) -> bytes:
    """A call's message. gRPC tells of one only when it is whole: so no more are read at once than may be held if each
    is as large as it may be, and the others wait. Raises TooSlow where it is not here in time."""
    try:
        async with asyncio.timeout(limits.arrival_seconds), reading:
            return await anext(aiter(stream), b"")
    except TimeoutError as error:
        raise TooSlow("the request did not arrive in time", hint="Send it faster, or in smaller parts.") from error
