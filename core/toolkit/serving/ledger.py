"""The site's records of what a server answers: it is told of every exchange, and writes down what is to be kept.

One a process. What takes long (signing, removing what is old) is done by a thread of its own, never while somebody
waits for an answer. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable

from toolkit.errors import ToolkitError
from toolkit.serving.exchange import Exchange
from toolkit.serving.models import BundleFacts
from toolkit.serving.reviewing import Reviewer
from toolkit.serving.week import Weeks
from toolkit.site.contents import kept_contents
from toolkit.site.inference_chain import FOLDER
from toolkit.site.inferences import InferenceLog
from toolkit.site.layout import Site
from toolkit.site.settings import SiteSettings, read_settings

TICK_SECONDS = 1.0
LOOK_SECONDS = 60.0
"""How often drift is looked for, and counts are written down."""


class Ledger:
    """Keeps the records of one process. `start` and `stop` belong into the process that serves, after any fork."""

    def __init__(self, site: Site, settings: SiteSettings) -> None:
        self.site, self.settings = site, settings
        kept = settings.inferences
        self.trail = InferenceLog(
            site.path / FOLDER, lambda: site.audit, keep_bytes=kept.keep_mb * 1_000_000, keep_days=kept.keep_days
        )
        self.contents = kept_contents(site.path, kept)
        self.reviewer = Reviewer(site, settings.review)
        self.weeks = Weeks(site.path)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    @property
    def wants_content(self) -> bool:
        """Whether the site keeps what was asked and answered."""
        return self.settings.inferences.content

    def serves(self, served: BundleFacts) -> None:
        """This bundle answers from now on."""
        self.weeks.serves(served)

    def look(self) -> None:
        """Compare the week with the references; a state that changed is told on standard error, a JSON line each."""
        for served, before, now in self.weeks.look():
            line = {
                "time": round(time.time(), 3), "event": "drift", "product": served.product, "bundle": served.id,
                "version": served.version, "before": before, "state": now,
            }  # fmt: skip
            sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")

    def start(self) -> None:
        """Raises EnvironmentUnfit where nothing can be written down."""
        self.trail.begin()
        self._thread.start()

    def stop(self) -> None:
        """Sign for what was written."""
        self._end.set()
        self._thread.join()
        self._try(self.reviewer.work)
        self._try(self.look)
        self.trail.close()

    def check(self) -> None:
        """Raises EnvironmentUnfit where the next answer could not be written down."""
        self.trail.check()

    def answered(self, exchange: Exchange) -> None:
        """One request has ended."""
        record = exchange.as_record()
        if exchange.answered is not None:
            try:
                record["content"] = self.contents.keep(exchange.asked, exchange.answered)
            except ToolkitError as error:
                record["content"] = {"lost": error.code}
                sys.stderr.write(f"warning: {error}\n")
        self.trail.append(record)
        if exchange.seen and exchange.served is not None:
            self.reviewer.answered(exchange, self.weeks.count(exchange.served, exchange.seen))

    def _work(self) -> None:
        self._try(self.trail.adopt)
        due = looked = time.monotonic()
        due += self.settings.inferences.seal_seconds
        while not self._end.wait(TICK_SECONDS):
            self._try(self.reviewer.work)
            if time.monotonic() >= looked + LOOK_SECONDS:
                looked = time.monotonic()
                self._try(self.look)
            if time.monotonic() >= due:
                due += self.settings.inferences.seal_seconds
                self._try(self.trail.seal)
                self._try(self.trail.clear)
                self._try(self.contents.clear)
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
