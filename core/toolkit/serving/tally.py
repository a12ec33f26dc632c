"""What is told of each request that is done, whichever protocol it came by: to figures, to charts, and to the log."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from toolkit.serving.access import Identity
from toolkit.serving.models import ServedModel

Heard = Callable[[ServedModel | None, str, int, float, Iterable[str]], None]
"""Told of each request that is done: `heard(model, route, status, seconds, verdicts)`; `model` is the version that
answered, or None."""

Passed = Callable[[str, int, float], None]
"""Told of each request that is done, whatever it was: `passed(path, status, seconds)`."""


TRACE_ID = "trace_id"
"""Where the layers within find the trace's id, in the request's state; records and logs have it by this name."""


@dataclass(frozen=True)
class Tally:
    """Who is told. The log is one JSON line on standard error: who asked what, and how it ended; never a byte of
    content."""

    heard: Sequence[Heard] = ()
    passed: Passed = lambda path, status, seconds: None
    log: bool = False

    def done(
        self, *, request_id: str, identity: Identity | None, method: str, path: str, route: str, status: int,
        seconds: float, size: int, model: ServedModel | None, verdicts: Collection[str] = (), trace_id: str = "",
    ) -> None:  # fmt: skip
        """One request is done; `size` is of its body in bytes, `trace_id` is there where requests are traced."""
        self.passed(path, status, seconds)
        for heard in self.heard:
            heard(model, route, status, seconds, verdicts)
        if self.log:
            line = {
                "time": round(time.time(), 3), "event": "request", "request_id": request_id,
                "key": identity and identity.name, "role": identity and identity.role, "method": method,
                "route": route, "status": status, "ms": round(seconds * 1000, 2), "bytes": size,
                "verdicts": list(verdicts), "product": model and model.facts.product,
                "bundle": model and model.facts.id, "version": model and model.facts.version,
            }  # fmt: skip
            line |= {TRACE_ID: trace_id} if trace_id else {}
            sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
