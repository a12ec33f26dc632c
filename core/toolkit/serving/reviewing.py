"""What comes into the review set: answers in doubt, inputs unlike those of the release, and what a person speaks about.

Decides what is worth a person's look; how it is kept is `site.review`'s business.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from toolkit.errors import DataError
from toolkit.services import Seen
from toolkit.serving.exchange import Exchange
from toolkit.serving.holding import Holding
from toolkit.serving.models import BundleFacts
from toolkit.serving.refusals import NotServed
from toolkit.site.inference_chain import FOLDER as TRAIL
from toolkit.site.inference_chain import find
from toolkit.site.layout import Site
from toolkit.site.review import Entry, Said, new_entry, review_set
from toolkit.site.settings import ReviewSettings

DOUBTFUL = "doubtful"
LABEL = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,99}")
"""What can name a class, and so a folder."""

RECENT = 20_000
"""Lines of the trail among which a judged request is looked for."""


class Reviewer:
    """Feeds the review set of one process's answers. `answered` costs next to nothing; `work` writes."""

    def __init__(self, site: Site, settings: ReviewSettings) -> None:
        self.set = review_set(site.path, settings)
        self._site, self._settings = site, settings
        self._holding = Holding(most_bytes=settings.hold_mb * 1_000_000, seconds=settings.hold_minutes * 60)
        self._due: queue.SimpleQueue[tuple[Entry, Seen]] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._hour, self._taken = 0, Counter[str]()

    def answered(self, exchange: Exchange, strange: Iterable[tuple[str, ...]]) -> None:
        """Hold what was asked, and take what a person should see; `strange` has, of each input, why it is unlike."""
        if exchange.served is None:
            return
        facts = facts_of(exchange.served)
        self._holding.add(exchange.request_id, facts, exchange.seen)
        for number, (seen, unlike) in enumerate(zip(exchange.seen, strange, strict=True)):
            doubt = seen.margin is not None and seen.margin < self._settings.margin
            why = self._admitted((*seen.why, *((DOUBTFUL,) if doubt else ()), *unlike))
            if why and seen.kind in self._settings.collect:
                self._due.put((new_entry(facts, seen, request_id=exchange.request_id, number=number, why=why), seen))

    def judge(self, request_id: str, number: int, said: Said) -> Entry:
        """A person's judgement of an answer. Writes, so not in an event loop.

        Raises:
            NotServed: no such request is known here. DataError: the label cannot name a class.
        """
        self._write_due()
        facts, seen, kind = self._answered(request_id, number)
        with self.set.alone():
            if (there := self.set.of(request_id, number)) is not None:
                _check_label(there.kind, said)
                return self.set.judge(there.id, said)
            _check_label(kind, said)
            entry = new_entry(facts, seen, request_id=request_id, number=number, why=())
            return self.set.keep(replace(entry, kind=kind), seen, said)

    def work(self) -> None:
        """Write what is due, and the samples of judgements that another process took."""
        self._write_due()
        if next(self.set.wanted(), None) is None:
            return
        with self.set.alone():
            for entry in self.set.wanted():
                held = self._holding.find(entry.request_id)
                if held is not None and entry.number < len(held.seen):
                    self.set.complete(entry, held.seen[entry.number])

    def _answered(self, request_id: str, number: int) -> tuple[Mapping[str, Any], Seen | None, str]:
        """Facts of who answered, the input where this process holds it, and its kind. Raises NotServed."""
        if (there := self.set.of(request_id, number)) is not None:
            return asdict(there), None, there.kind
        held = self._holding.find(request_id)
        if held is not None and number < len(held.seen):
            return held.facts, held.seen[number], held.seen[number].kind
        for wait in (0.0, 0.05, 0.25):  # the line of an answer that is just out may be on its way
            time.sleep(wait)
            if (record := find(self._site.path / TRAIL, request_id, within=RECENT)) is not None:
                if number >= max(1, record.get("inputs", 0), len(record["verdicts"])):
                    break
                return record, None, str(record.get("kind", ""))
        raise NotServed(f"no answer of this site is called {request_id}", hint="Send the answer's `request_id`.")

    def clear(self) -> None:
        """Remove what is too much, too old, or no longer to be had."""
        self.set.clear()
        self.set.forget_wanted(self._settings.hold_minutes * 60)

    def _write_due(self) -> None:
        with self._writing:
            while True:
                try:
                    entry, seen = self._due.get_nowait()
                except queue.Empty:
                    return
                self.set.take(entry, seen)

    def _admitted(self, why: tuple[str, ...]) -> tuple[str, ...]:
        """The reasons that have not had their share of this hour."""
        if (hour := int(time.time() // 3600)) != self._hour:
            self._hour, self._taken = hour, Counter()
        left = tuple(one for one in why if self._taken[one] < self._settings.an_hour)
        self._taken.update(left)
        return left


def facts_of(served: BundleFacts) -> dict[str, str]:
    """What the review set says of what answered."""
    return {
        "product": served.product, "bundle": served.id, "version": served.version, "task": str(served.plan["task"])
    }  # fmt: skip


def _check_label(kind: str, said: Said) -> None:
    if kind == "picture" and said.label and not LABEL.fullmatch(said.label):
        raise DataError("the label cannot name a class", hint="Use up to 100 letters, without slashes.")
