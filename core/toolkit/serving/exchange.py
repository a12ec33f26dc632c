"""A request to what is served, and how it ended: what all records of a server are made of."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.services import Seen
from toolkit.serving.access import Identity
from toolkit.serving.models import BundleFacts
from toolkit.site.contents import Body


@dataclass(frozen=True)
class Exchange:
    """A request to what is served, and how it ended. `served` is None where no version was reached; `answered` is there
    where the site keeps content, `trace_id` where requests are traced."""

    request_id: str
    identity: Identity
    method: str
    route: str
    status: int
    seconds: float
    size: int
    served: BundleFacts | None
    verdicts: tuple[str, ...]
    seen: tuple[Seen, ...]
    asked: Body
    answered: Body | None = None
    trace_id: str = ""

    def as_record(self) -> dict[str, object]:
        """As the trail has it: the content itself is kept apart."""
        served = self.served
        product, bundle, version = (served.product, served.id, served.version) if served else ("", "", "")
        record: dict[str, object] = {
            "request_id": self.request_id, "key": self.identity.name, "role": self.identity.role,
            "product": product, "bundle": bundle, "version": version, "task": served.plan["task"] if served else "",
            "method": self.method, "route": self.route, "status": self.status,
            "ms": round(self.seconds * 1000, 2), "bytes": self.size, "verdicts": list(self.verdicts),
            "inputs": len(self.seen), "kind": self.seen[0].kind if self.seen else "",
        }  # fmt: skip
        return record | ({"trace_id": self.trace_id} if self.trace_id else {})
