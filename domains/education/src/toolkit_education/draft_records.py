"""Free drafts in the site's database: what may be served, what was refused and why, and what waits for a person.

A draft enters once and keeps its reason. Only who solved it or a person who read it makes it servable, and a person may
take it out again. Two reviewers at once do not both decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from toolkit.errors import DataError
from toolkit.registry.database import Database
from toolkit.workspace import digest_of
from toolkit_education.drafting import cleaned
from toolkit_education.items import ItemModel, as_record
from toolkit_education.learner_tables import DraftRow
from toolkit_education.records import model_from_record
from toolkit_education.sense import AGREES, DISAGREES, UNDECIDED
from toolkit_education.sense_gate import Drafted

SOLVED, REFUSED, WAITING, ACCEPTED, REJECTED = "solved", "refused", "waiting", "accepted", "rejected"
OUTCOMES = (WAITING, SOLVED, ACCEPTED, REFUSED, REJECTED)
_KEPT_AS = {AGREES: SOLVED, DISAGREES: REFUSED, UNDECIDED: WAITING}
_FROM = {ACCEPTED: (WAITING,), REJECTED: (WAITING, SOLVED, ACCEPTED)}
BY_SOLVER, BY_PERSON = "draft/solver", "draft/person"
"""Where a served item says that it comes from: a free draft, and who vouches for it."""

MOST_REFUSED, LONGEST_NOTE, LONGEST_TEXT = 2_000, 1_000, 4_000
"""Refused drafts that are kept, the last ones; characters of a reviewer's note and of a refused draft."""


@dataclass(frozen=True)
class Draft:
    """A draft as it is kept; moments are in UTC."""

    id: str
    number: int
    outcome: str
    because: str
    text: str
    model: ItemModel | None
    drafter: str
    solver: str
    made: datetime
    reviewer: str
    reviewed: datetime | None
    note: str


class DraftRecords:
    """The drafts of a site. `LearnerRecords` has brought the database's tables up to date before."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, drafted: Drafted, drafter: str, solver: str) -> Draft:
        """Keep a draft; one that is there already stays as it is, whatever is found of it now."""
        text = cleaned(drafted.text)
        identity = digest_of(text)[:32]
        with self._changing() as session:
            row = session.get(DraftRow, identity)
            if row is None:
                last = session.scalar(select(func.max(DraftRow.number))) or 0
                row = DraftRow(
                    id=identity, number=last + 1, outcome=_KEPT_AS[drafted.verdict.outcome],
                    because=drafted.verdict.because, text=text[:LONGEST_TEXT],
                    model=None if drafted.model is None else as_record(drafted.model), drafter=drafter, solver=solver,
                    made=datetime.now(UTC), reviewer="", reviewed=None, note="",
                )  # fmt: skip
                session.add(row)
                _forget(session)
            return _draft(row)

    def find(self, identity: str) -> Draft:
        """Raises DataError where there is no such draft."""
        with self._reading() as session:
            return _draft(_known(session.get(DraftRow, identity)))

    def listed(self, outcome: str, limit: int, after: int = 0) -> Sequence[Draft]:
        """The drafts of an outcome in the order they came, those with a number above `after`."""
        with self._reading() as session:
            query = select(DraftRow).where(DraftRow.outcome == outcome, DraftRow.number > after)
            return [_draft(row) for row in session.scalars(query.order_by(DraftRow.number).limit(limit))]

    def counts(self) -> Mapping[str, int]:
        """How many there are of each outcome."""
        with self._reading() as session:
            rows = session.execute(select(DraftRow.outcome, func.count()).group_by(DraftRow.outcome))
            found = {str(outcome): int(number) for outcome, number in rows}
        return {outcome: found.get(outcome, 0) for outcome in OUTCOMES}

    def review(self, identity: str, outcome: str, reviewer: str, note: str) -> Draft:
        """A person's word: `accepted` of what waits, `rejected` of that and of what is served.

        Raises:
            DataError: there is no such draft, or somebody has decided already.
        """
        with self._changing() as session:
            row = _known(session.get(DraftRow, identity))
            changed = session.execute(
                update(DraftRow)
                .where(DraftRow.id == identity, DraftRow.outcome.in_(_FROM[outcome]))
                .values(outcome=outcome, reviewer=reviewer, reviewed=datetime.now(UTC), note=note[:LONGEST_NOTE])
            )
            if changed.rowcount != 1:  # type: ignore[attr-defined]
                by = f" by {row.reviewer}" if row.reviewer else ""
                raise DataError(
                    f"the draft {identity} is {row.outcome}{by} and cannot become {outcome}",
                    hint="GET /v1/drafts lists what waits.",
                )
            session.expire(row)
            return _draft(row)

    def servable(self, *, solved: bool) -> Sequence[ItemModel]:
        """The item models that may be served: those that a person accepted, and with `solved` those of the solver. Each
        bears who vouches for it as its source."""
        outcomes = {ACCEPTED: BY_PERSON} | ({SOLVED: BY_SOLVER} if solved else {})
        with self._reading() as session:
            rows = session.scalars(select(DraftRow).where(DraftRow.outcome.in_(outcomes)).order_by(DraftRow.number))
            found = [(row.outcome, row.model) for row in rows]
        return [replace(model_from_record(model), source=outcomes[one]) for one, model in found if model is not None]

    def problems(self) -> Sequence[str]:
        """The texts of what is served or waits, of which a new draft may be no copy."""
        with self._reading() as session:
            rows = session.scalars(select(DraftRow.model).where(DraftRow.outcome.in_((WAITING, SOLVED, ACCEPTED))))
            return [str(model["text"]) for model in rows if model is not None]

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with self._database.connect() as connection, Session(connection) as session:
            yield session

    @contextmanager
    def _changing(self) -> Iterator[Session]:
        with self._database.changing() as connection, Session(connection) as session:
            yield session
            session.commit()


def _forget(session: Session) -> None:
    """Refused drafts are examples, not records: the oldest go."""
    session.flush()
    query = select(DraftRow.number).where(DraftRow.outcome == REFUSED).order_by(DraftRow.number.desc())
    oldest = session.scalars(query.offset(MOST_REFUSED).limit(1)).one_or_none()
    if oldest is not None:
        session.execute(delete(DraftRow).where(DraftRow.outcome == REFUSED, DraftRow.number <= oldest))


def _known(row: DraftRow | None) -> DraftRow:
    if row is None:
        raise DataError("there is no such draft here", hint="GET /v1/drafts lists what waits.")
    return row


def _draft(row: DraftRow) -> Draft:
    values: dict[str, Any] = {column.name: getattr(row, column.name) for column in row.__table__.columns}
    values["model"] = None if row.model is None else model_from_record(row.model)
    return Draft(**values)
