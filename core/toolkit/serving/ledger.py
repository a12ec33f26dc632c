"""The site's records of what a server answers: it is told of every exchange, and writes down what is to be kept.

One a process. What takes long (signing, removing what is old) is done by a thread of its own, never while somebody
waits for an answer. Knows nothing of HTTP.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit.errors import ToolkitError
from toolkit.protocols import Seen
from toolkit.serving.access import Identity
from toolkit.serving.models import BundleFacts
from toolkit.site.inference_chain import FOLDER
from toolkit.site.inferences import InferenceLog
from toolkit.site.layout import Site
from toolkit.site.settings import SiteSettings, read_settings

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class Content:
    """A body and its media type."""

    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Exchange:
    """A request to what is served, and how it ended. `answered` is there where the site keeps content."""

    request_id: str
    identity: Identity
    method: str
    route: str
    status: int
    seconds: float
    size: int
    served: BundleFacts
    verdicts: tuple[str, ...]
    seen: tuple[Seen, ...]
    asked: Content
    answered: Content | None = None

    def as_record(self) -> dict[str, object]:
        """As the trail has it: never a byte of content."""
        return {
            "request_id": self.request_id, "key": self.identity.name, "role": self.identity.role,
            "product": self.served.product, "bundle": self.served.id, "version": self.served.version,
            "method": self.method, "route": self.route, "status": self.status, "ms": round(self.seconds * 1000, 2),
            "bytes": self.size, "verdicts": list(self.verdicts),
        }  # fmt: skip


class Ledger:
    """Keeps the records of one process. `start` and `stop` belong into the process that serves, after any fork."""

    def __init__(self, site: Site, settings: SiteSettings) -> None:
        self.site, self.settings = site, settings
        kept = settings.inferences
        self.trail = InferenceLog(
            site.path / FOLDER, lambda: site.audit, keep_bytes=kept.keep_mb * 1_000_000, keep_days=kept.keep_days
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    @property
    def wants_content(self) -> bool:
        """Whether the site keeps what was asked and answered."""
        return self.settings.inferences.content

    def start(self) -> None:
        """Raises EnvironmentUnfit where nothing can be written down."""
        self.trail.begin()
        self._thread.start()

    def stop(self) -> None:
        """Sign for what was written."""
        self._end.set()
        self._thread.join()
        self.trail.close()

    def check(self) -> None:
        """Raises EnvironmentUnfit where the next answer could not be written down."""
        self.trail.check()

    def answered(self, exchange: Exchange) -> None:
        """One request has ended."""
        self.trail.append(exchange.as_record())

    def _work(self) -> None:
        self._try(self.trail.adopt)
        due = time.monotonic() + self.settings.inferences.seal_seconds
        while not self._end.wait(TICK_SECONDS):
            if time.monotonic() >= due:
                due += self.settings.inferences.seal_seconds
                self._try(self.trail.seal)
                self._try(self.trail.clear)

    @staticmethod
    def _try(work: Callable[[], None]) -> None:
        """What fails now is tried again next time; the operator is told."""
        try:
            work()
        except (ToolkitError, OSError) as error:
            sys.stderr.write(f"warning: {error}\n")


def open_ledger(site: Site) -> Ledger:
    """The ledger of an opened site, by its settings.

    Raises:
        UsageError: the settings are not what they should be.
    """
    return Ledger(site, read_settings(site.path))
