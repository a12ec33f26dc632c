"""How the versions that answer compare, by what they answered to live requests, and when one is to be taken back.

Counted by each worker for itself, and added up from their records. Knows statuses and verdicts, never content.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit.serving.models import ServedModel

_EDGES = tuple(0.0005 * 1.25**step for step in range(54))
"""Upper edges of the spans in which times are counted, in seconds, to a minute: each a quarter above the one before."""
_OVERLOADED, _TOO_LATE = 503, 504
"""What is no fault of a version: others asked too much, or the client allowed too little time."""
MOST_VERDICTS = 64


@dataclass
class Tally:
    """What a version answered. `faults` are answers that are no fault of the client, nor of a full queue; of `compared`
    verdicts, `agreed` were those of the other version on the same input."""

    requests: int = 0
    faults: int = 0
    spans: list[int] = field(default_factory=lambda: [0] * (len(_EDGES) + 1))
    verdicts: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    agreed: int = 0

    @property
    def fault_share(self) -> float:
        return self.faults / self.requests if self.requests else 0.0

    def as_record(self) -> dict[str, Any]:
        return {
            "requests": self.requests, "faults": self.faults, "spans": self.spans, "verdicts": dict(self.verdicts),
            "compared": self.compared, "agreed": self.agreed,
        }  # fmt: skip


def summed(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Records of several workers' tallies of one version as people read them: `requests`, `faults`, `error_share`,
    `p50_ms`, `p95_ms` (to a quarter), `verdicts`, `compared` and `agreement`, a share."""
    total = Tally()
    for record in records:
        total.requests += record["requests"]
        total.faults += record["faults"]
        total.spans = [ours + theirs for ours, theirs in zip(total.spans, record["spans"], strict=True)]
        total.verdicts.update(record["verdicts"])
        total.compared += record["compared"]
        total.agreed += record["agreed"]
    return {
        "requests": total.requests, "faults": total.faults, "error_share": round(total.fault_share, 6),
        "p50_ms": _quantile(total.spans, 0.5), "p95_ms": _quantile(total.spans, 0.95),
        "verdicts": dict(total.verdicts), "compared": total.compared,
        "agreement": round(total.agreed / total.compared, 6) if total.compared else None,
    }  # fmt: skip


def _quantile(spans: Sequence[int], share: float) -> float | None:
    left = share * sum(spans)
    if not left:
        return None
    for edge, count in zip((*_EDGES, _EDGES[-1]), spans, strict=True):
        left -= count
        if left <= 0:
            return round(edge * 1000, 2)
    return round(_EDGES[-1] * 1000, 2)


@dataclass(frozen=True)
class Tolerance:
    """When a version that came to answer while the server ran is taken back: within `seconds` of that, where after
    `requests` answers more than `share` of them, above what is usual here, are faults. A share of 1 takes none back."""

    share: float = 0.1
    seconds: float = 300.0
    requests: int = 20


class Trials:
    """The tallies of one worker.

    Args:
        tolerance: of faults, for versions that are new.
        give_up: told once of a version that is to be taken back, and why.
    """

    def __init__(self, tolerance: Tolerance, give_up: Callable[[str, str], object]) -> None:
        self._tolerance = tolerance
        self._give_up = give_up
        self._tallies: dict[str, Tally] = {}
        self._new: dict[str, tuple[float, float]] = {}  # until when, and the share of faults that was usual before

    def begin(self, new: ServedModel, before: ServedModel | None) -> None:
        """A version answers from now on, in the place of `before` or beside it."""
        self._tallies[new.facts.id] = Tally()
        usual = self._tallies[before.facts.id].fault_share if before and before.facts.id in self._tallies else 0.0
        self._new[new.facts.id] = time.monotonic() + self._tolerance.seconds, usual

    def end(self, model: ServedModel) -> None:
        """A version answers no more."""
        self._new.pop(model.facts.id, None)
        self._tallies.pop(model.facts.id, None)

    def answered(
        self, model: ServedModel | None, route: str, status: int, seconds: float, verdicts: Iterable[str]
    ) -> None:
        """One request is done, as `Metrics.answered` is told."""
        if model is None:
            return
        tally = self._tallies.setdefault(model.facts.id, Tally())
        tally.requests += 1
        tally.spans[bisect_left(_EDGES, seconds)] += 1
        for verdict in verdicts:
            if verdict in tally.verdicts or len(tally.verdicts) < MOST_VERDICTS:
                tally.verdicts[verdict] += 1
        if status >= 500 and status not in (_OVERLOADED, _TOO_LATE):
            tally.faults += 1
            self._judge(model.facts.id, tally)

    def compared(self, model: ServedModel, other: ServedModel, pairs: Sequence[tuple[str, str]]) -> None:
        """Both have answered the same input: the verdicts of each."""
        for one in (model, other):
            tally = self._tallies.setdefault(one.facts.id, Tally())
            tally.compared += len(pairs)
            tally.agreed += sum(ours == theirs for ours, theirs in pairs)

    def records(self) -> dict[str, dict[str, Any]]:
        """Each version's tally, by bundle id."""
        return {bundle_id: tally.as_record() for bundle_id, tally in self._tallies.items()}

    def _judge(self, bundle_id: str, tally: Tally) -> None:
        until, usual = self._new.get(bundle_id, (0.0, 0.0))
        limits = self._tolerance
        if time.monotonic() > until or tally.requests < limits.requests:
            return
        if tally.fault_share > limits.share + usual:
            del self._new[bundle_id]
            self._give_up(bundle_id, f"{tally.faults} of its first {tally.requests} answers here were faults")
