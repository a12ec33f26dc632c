"""What the checks of a data set say. Knows no checks: `layout` and `checks` make findings, reports show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """Something a person should know about a data set.

    `error`: rows that are left out, or that make a score a lie; `warning`: it may hurt; `note`: how it was read.
    `rows` are the ids of the rows concerned; empty where it concerns the whole.
    """

    kind: str
    severity: Severity
    message: str
    rows: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        return {"kind": self.kind, "severity": self.severity, "message": self.message, "rows": list(self.rows)}


def listed(names: Iterable[str], *, most: int = 5) -> str:
    """`a, b, c and 4 more`."""
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
