"""The site's records of what a server answers: it is told of every exchange, and writes down what is to be kept.

One a process. What takes long (signing, removing what is old) is done by a thread of its own, never while somebody
waits for an answer. Knows nothing of HTTP.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from toolkit.errors import ToolkitError
from toolkit.serving.exchange import Exchange
from toolkit.serving.reviewing import Reviewer
from toolkit.site.inference_chain import FOLDER
from toolkit.site.inferences import InferenceLog
from toolkit.site.layout import Site
from toolkit.site.settings import SiteSettings, read_settings

TICK_SECONDS = 1.0


class Ledger:
    """Keeps the records of one process. `start` and `stop` belong into the process that serves, after any fork."""

    def __init__(self, site: Site, settings: SiteSettings) -> None:
        self.site, self.settings = site, settings
        kept = settings.inferences
        self.trail = InferenceLog(
            site.path / FOLDER, lambda: site.audit, keep_bytes=kept.keep_mb * 1_000_000, keep_days=kept.keep_days
        )
        self.reviewer = Reviewer(site, settings.review)
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
        self._try(self.reviewer.work)
        self.trail.close()

    def check(self) -> None:
        """Raises EnvironmentUnfit where the next answer could not be written down."""
        self.trail.check()

    def answered(self, exchange: Exchange) -> None:
        """One request has ended."""
        self.trail.append(exchange.as_record())
        self.reviewer.answered(exchange, [() for _ in exchange.seen])

    def _work(self) -> None:
        self._try(self.trail.adopt)
        due = time.monotonic() + self.settings.inferences.seal_seconds
        while not self._end.wait(TICK_SECONDS):
            self._try(self.reviewer.work)
            if time.monotonic() >= due:
                due += self.settings.inferences.seal_seconds
                self._try(self.trail.seal)
                self._try(self.trail.clear)
                self._try(self.reviewer.clear)

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
