"""What the worker processes of one server have in common. Made before they fork, so that any of them knows a session
that another began, tells the figures of all, and has no more clients than they."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.serving.console.session import Sessions
from toolkit.serving.figures import Figures
from toolkit.serving.spreading import Spread


@dataclass(frozen=True)
class Shared:
    """Memory that forked processes share."""

    sessions: Sessions = field(default_factory=Sessions)
    figures: Figures = field(default_factory=Figures)
    spread: Spread = field(default_factory=Spread)
