"""Drafting new problems on a site: a student or a teacher writes, another solves, and what is left a person reads.

Nothing drafted here is served before the solver agreed on every set of numbers or a person accepted it. Where the
sealed figures do not reach the plan's bounds nothing is drafted at all, and of a solver that is not the measured one
the agreement is not enough. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.errors import DataError, Refused, ToolkitError, UsageError
from toolkit.text import GenerationRequest, ServedText
from toolkit.text_teachers import Ask, AskedTeacher
from toolkit_education.draft_records import ACCEPTED, REJECTED, Draft, DraftRecords
from toolkit_education.items import ItemModel, as_record
from toolkit_education.numerals import show
from toolkit_education.originality import Known
from toolkit_education.sense import AGREES, UNDECIDED, Solver, Verdict, number_sets
from toolkit_education.sense_gate import (
    WORDY,
    Drafted,
    drafts_of,
    judged,
    mistrusted,
    student_requests,
)
from toolkit_education.units import unit_name

TABLES = "education/solver.toml"
"""Of a site: tables that say where its solver and drafter are, in the place of those of the plan: [teacher_http]
url = ..."""

MOST_AT_ONCE, REMEMBERED_SECONDS, SHOWN_SETS = 16, 5.0, 3
STUDENT = "the student"


@dataclass
class DraftRoom:
    """What drafts, judges and keeps. `mistrust` is why nothing may be drafted; empty where it may.

    Args:
        settings: the plan's table [education].
        tables: of SITE/education/solver.toml.
        bank: problems of which a draft may be no copy.
    """

    predictor: ServedText
    ask: Ask
    records: DraftRecords
    settings: Mapping[str, Any]
    mistrust: str
    bank: Sequence[ItemModel] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    _served: tuple[float, Mapping[tuple[str, int, str], Sequence[ItemModel]]] = (float("-inf"), {})
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def draft(self, many: int) -> Sequence[Draft]:
        """Draft, judge and keep so many; what becomes of each.

        Raises:
            Refused: the sense gate is not passed. UsageError: the solver that the plan names is not installed here, or
                somebody drafts already. And what a drafter raises that is away.
        """
        if self.mistrust:
            raise Refused(self.mistrust, hint="The report of the bundle shows the figures; an accepted draft stays.")
        if self._busy.locked():
            raise UsageError("drafts are being made already", hint="Ask again when they are done.")
        async with self._busy:
            texts, drafter = await self._texts(many)
            return await asyncio.to_thread(self._judged, texts, drafter)

    def review(self, identity: str, *, accept: bool, reviewer: str, note: str) -> Draft:
        """A person's word. Raises DataError as `DraftRecords.review` does."""
        found = self.records.review(identity, ACCEPTED if accept else REJECTED, reviewer, note)
        self._forget()
        return found

    def at(self, place: tuple[str, int, str]) -> Sequence[ItemModel]:
        """The drafts that may be served, by skill, level and language. What another process accepts is seen within
        seconds; what it takes out as well."""
        with self._lock:
            read, found = self._served
            if time.monotonic() - read > REMEMBERED_SECONDS:
                by_place: dict[tuple[str, int, str], list[ItemModel]] = {}
                for model in self.records.servable(solved=not self.mistrust):
                    by_place.setdefault((model.skill, model.level, model.language), []).append(model)
                self._served = time.monotonic(), by_place
                found = by_place
            return found.get(place, ())

    async def _texts(self, many: int) -> tuple[Sequence[str], str]:
        seed = secrets.randbelow(2**31)
        if self.settings["drafter"]:
            teacher = self.ask(self.settings["drafter"], {**WORDY, **self.tables})
            return await asyncio.to_thread(drafts_of, teacher, many, seed), teacher.id
        requests = student_requests(many, seed)
        return await asyncio.gather(*map(self._written, requests)), STUDENT

    async def _written(self, request: GenerationRequest) -> str:
        self.predictor.check(request)
        return "".join([piece.text async for piece in self.predictor.generate(request)])

    def _judged(self, texts: Sequence[str], drafter: str) -> Sequence[Draft]:
        known = Known([*(one.text for one in self.bank if one.language == "en"), *self.records.problems()])
        solver, measured = self._solver()
        found = judged(texts, known, solver)
        kept = [self.records.add(measured_only(one, measured), drafter, solver.teacher.id) for one in found]
        self._forget()
        return kept

    def _solver(self) -> tuple[Solver, bool]:
        """The solver, and whether it is the one that was measured."""
        name, how = self.settings["solver"], self.settings
        teacher: AskedTeacher = self.ask(name, {**WORDY, **self.tables})
        measured = _identity(self.ask(name, WORDY).id) == _identity(teacher.id)
        seed = secrets.randbelow(2**31)
        return Solver(teacher, how["redrawn"], how["solvings"], seed, patient=True), measured

    def _forget(self) -> None:
        with self._lock:
            self._served = float("-inf"), {}


def _identity(record: str) -> str:
    """A teacher's record without where it is: http:model@host."""
    return record.partition("@")[0]


def measured_only(drafted: Drafted, measured: bool) -> Drafted:
    """The agreement of a solver that nobody measured is left to a person."""
    if measured or drafted.verdict.outcome != AGREES:
        return drafted
    verdict = drafted.verdict
    because = "another solver than the measured one agrees"
    return replace(drafted, verdict=Verdict(UNDECIDED, because, verdict.asked, verdict.agreed))


def read_tables(site: Path) -> Mapping[str, Any]:
    """The tables of SITE/education/solver.toml; none where it is not there.

    Raises:
        DataError: it is no TOML, or cannot be read.
    """
    path = site / TABLES
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="Write tables such as [teacher_http].") from error
    if not all(isinstance(table, dict) for table in found.values()):
        raise DataError(f"{path} holds more than tables", hint="Write tables such as [teacher_http].")
    return found


def shown(draft: Draft) -> dict[str, Any]:
    """A draft as a reviewer reads it: the problem, its steps and answer with its own numbers and with others."""
    record: dict[str, Any] = {
        "id": draft.id, "number": draft.number, "outcome": draft.outcome, "because": draft.because,
        "text": draft.text, "drafter": draft.drafter, "solver": draft.solver, "made": draft.made.isoformat(),
        "reviewer": draft.reviewer, "reviewed": draft.reviewed and draft.reviewed.isoformat(), "note": draft.note,
        "items": [],
    }  # fmt: skip
    if draft.model is None:
        return record
    try:
        items = number_sets(draft.model, SHOWN_SETS - 1, 0)
    except ToolkitError:
        return record
    record |= {name: as_record(draft.model)[name] for name in ("skill", "level", "language")}
    record["items"] = [
        {
            "problem": item.problem, "steps": list(item.steps), "answer": show(item.answer, item.language),
            "unit": unit_name(item.unit, item.language),
        }
        for item in items
    ]  # fmt: skip
    return record


def room_of(
    site: Path, bundle: Mapping[str, Any], predictor: ServedText, ask: Ask, records: DraftRecords,
    bank: Sequence[ItemModel],
) -> DraftRoom:  # fmt: skip
    """The room of a site's bundle. Raises DataError as `read_tables` does."""
    settings = bundle["plan"]["education"]
    return DraftRoom(
        predictor, ask, records, settings, mistrusted(settings, bundle["metrics"]), bank, read_tables(site)
    )
