"""The running week of each bundle: counts by measure and day, written down so that restarts and several processes add
up, and compared with the bundle's reference.

SITE/drift/<process>.json holds one process's counts; they are numbers of answers, never content.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.services import Seen
from toolkit.serving.drift import Figures, Measure, State, measures_of, worst
from toolkit.serving.models import BundleFacts
from toolkit.workspace import write_file

FOLDER = "drift"
DAYS = 7

Counts = dict[str, dict[str, dict[str, list[int]]]]
"""By bundle, measure and day."""


class Weeks:
    """Counts the answers of this process, and knows what others of the site counted. Any thread may call it."""

    def __init__(self, site: Path) -> None:
        self._folder = site / FOLDER
        self._path = self._folder / f"{secrets.token_hex(8)}.json"
        self._guard, self._looking = threading.Lock(), threading.Lock()
        self._served: dict[str, BundleFacts] = {}
        self._measures: dict[str, dict[str, Measure]] = {}
        self._own: Counts = {}
        self._others: Counts = {}
        self._dirty = False
        self.found: dict[str, dict[str, Figures]] = {}
        """What the last `look` found, by bundle and measure."""

    def serves(self, served: BundleFacts) -> None:
        """Its answers will be counted."""
        with self._guard:
            if served.id not in self._served:
                self._served[served.id] = served
                self._measures[served.id] = measures_of(served.reference)

    def count(self, served: BundleFacts, seen: Sequence[Seen]) -> list[tuple[str, ...]]:
        """Count these inputs; of each the measures by which it is unlike what the release was tested with: out of all
        range, or, once there is an alert, at its ends."""
        if served.id not in self._served:
            self.serves(served)
        day, measures = str(_today()), self._measures[served.id]
        alarmed = {name for name, one in self.found.get(served.id, {}).items() if one.state == "alert"}
        unlike: list[tuple[str, ...]] = []
        with self._guard:
            of_bundle = self._own.setdefault(served.id, {})
            for one in seen:
                strange = []
                for name, value in one.measures.items():
                    if (measure := measures.get(name)) is None:
                        continue
                    days = of_bundle.setdefault(name, {})
                    if day not in days:
                        days[day] = [0] * len(measure.counts)
                    days[day][measure.place(value)] += 1
                    self._dirty = True
                    if measure.strange(value) or (name in alarmed and measure.rare(value)):
                        strange.append(f"drift:{name}")
                unlike.append(tuple(strange))
        return unlike

    def look(self) -> list[tuple[BundleFacts, State, State]]:
        """Write down what was counted, read what others did, and compare. Bundles whose state is another than at the
        last look, with both states."""
        with self._looking:
            return self._look()

    def _look(self) -> list[tuple[BundleFacts, State, State]]:
        self._save()
        self._others = self._read()
        before = {bundle: worst([one.state for one in figures.values()]) for bundle, figures in self.found.items()}
        self.found = {bundle: self._compare(bundle) for bundle in list(self._served)}
        now = {bundle: worst([one.state for one in figures.values()]) for bundle, figures in self.found.items()}
        return [
            (self._served[bundle], before.get(bundle, "no_reference"), state)
            for bundle, state in now.items()
            if before.get(bundle, "no_reference") != state
        ]

    def as_records(self) -> list[dict[str, Any]]:
        """Every bundle that is served here, as GET /site/drift shows it."""
        records = []
        for bundle, served in list(self._served.items()):
            figures, measures = self.found.get(bundle, {}), self._measures[bundle]
            records.append({
                "product": served.product, "bundle": bundle, "version": served.version,
                "state": worst([one.state for one in figures.values()]), "days": DAYS,
                "reference": {name: sum(measure.counts) for name, measure in measures.items()},
                "week": {name: one.week for name, one in figures.items()},
                "psi": {name: one.psi for name, one in figures.items()},
                "ks": {name: one.ks for name, one in figures.items()},
                "states": {name: one.state for name, one in figures.items()},
            })  # fmt: skip
        return records

    def _compare(self, bundle: str) -> dict[str, Figures]:
        with self._guard:
            week = {name: self._week(bundle, name, measure) for name, measure in self._measures[bundle].items()}
        return {name: self._measures[bundle][name].compare(counts) for name, counts in week.items()}

    def _week(self, bundle: str, name: str, measure: Measure) -> list[int]:
        first, total = _today() - DAYS + 1, [0] * len(measure.counts)
        for counts in (self._own, self._others):
            for day, of_day in counts.get(bundle, {}).get(name, {}).items():
                if int(day) >= first and len(of_day) == len(total):
                    total = [a + b for a, b in zip(total, of_day, strict=True)]
        return total

    def _save(self) -> None:
        with self._guard:
            if not self._dirty:
                return
            self._dirty, first = False, _today() - DAYS + 1
            for measures in self._own.values():
                for days in measures.values():
                    for day in [day for day in days if int(day) < first]:
                        del days[day]
            data = json.dumps(self._own).encode()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._path, data, mode=0o600)

    def _read(self) -> Counts:
        """What other processes counted; a file that is damaged counts as none, since a week heals that."""
        total: Counts = {}
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError, AttributeError):
                if path.stat().st_mtime < time.time() - (DAYS + 1) * 86_400:
                    path.unlink()
                elif path != self._path:
                    _add(total, json.loads(path.read_bytes()))
        return total


def _add(total: Counts, more: Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]) -> None:
    for bundle, measures in more.items():
        for name, days in measures.items():
            for day, counts in days.items():
                known = total.setdefault(bundle, {}).setdefault(name, {})
                before = known.get(str(int(day)), [0] * len(counts))
                known[str(int(day))] = [a + int(b) for a, b in zip(before, counts, strict=True)]


def _today() -> int:
    return int(time.time() // 86_400)
