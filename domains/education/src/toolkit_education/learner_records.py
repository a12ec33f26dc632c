"""Learners in the site's database: SQLite or PostgreSQL, beside the registry's tables or in a database of their own.

It keeps what `learner` computes, what was served and what was answered, under a random id for each learner. It refuses
to know who a learner is: the school keeps the list of which id is whose. Two requests of one learner at once come one
after the other, and no answer is lost.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from fsrs import Card  # type: ignore[import-untyped]
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from toolkit.errors import DataError, EnvironmentUnfit
from toolkit.registry.database import Database
from toolkit_education import ability
from toolkit_education.learner import DEFAULTS, Difficulty, Knowledge, Settings, State, answered, difficulty_of
from toolkit_education.learner_tables import AnswerRow, Base, DifficultyRow, KnowledgeRow, LearnerRow, ServedRow

REVISIONS = ("education_0001", "education_0002")
"""Every migration there is."""

HEAD = REVISIONS[-1]
FORMAT = "toolkit-education-learner/1"
PATIENCE_SECONDS = 10.0
"""How long an erasure waits for readers, before SQLite's log can be emptied."""


class LearnerRecords:
    """What a site knows of its learners. Safe to use from several threads, processes and, on a server, machines.

    Args:
        database: toolkit.registry.database.sqlite(path) or .database(url).
        settings: of the learner model; a site keeps to the same ones.

    Raises:
        EnvironmentUnfit: the database cannot be opened, or was written by a newer version.
    """

    def __init__(self, database: Database, settings: Settings = DEFAULTS) -> None:
        self._database, self._settings = database, settings
        with database.connect() as connection:
            current = _version(connection)
        if current != HEAD:
            self._migrate()

    def enrol(self) -> str:
        """A new learner, by 128 bits of chance in hexadecimal."""
        made = secrets.token_hex(16)
        with self._changing() as session:
            session.add(LearnerRow(id=made, enrolled=datetime.now(UTC)))
        return made

    def state(self, learner: str) -> State:
        """What the learner model has to go by.

        Raises:
            DataError: there is no such learner.
        """
        with self._reading(learner) as session:
            known = session.scalars(select(KnowledgeRow).where(KnowledgeRow.learner == learner))
            knowledge = {row.skill: _knowledge(row) for row in known}
            rows = session.scalars(select(DifficultyRow))
            difficulties = {(row.skill, row.level): Difficulty(row.value, row.answers) for row in rows}
        return State(MappingProxyType(knowledge), MappingProxyType(difficulties))

    def answer(
        self, learner: str, item: str, skill: str, level: int, *, right: bool, verdict: str, when: datetime
    ) -> bool:
        """Write an answer down, and what it changes in the learner's knowledge and in the item's difficulty. False, and
        nothing is written, where the item was answered before: its solution has been told since.

        Raises:
            DataError: there is no such learner or level, or `when` has no time zone.
        """
        with self._changing(learner) as session:
            before = select(AnswerRow.id).where(AnswerRow.learner == learner, AnswerRow.item == item)
            if session.scalars(before).first() is not None:
                return False
            knowledge = session.get(KnowledgeRow, (learner, skill))
            state = State({skill: _knowledge(knowledge)} if knowledge else {})
            first = difficulty_of(state, skill, level, self._settings)
            difficulty = self._difficulty(session, skill, level, first)
            state = State(state.knowledge, {(skill, level): Difficulty(difficulty.value, difficulty.answers)})
            state = answered(state, skill, level, right, when, self._settings)
            now, moved = state.knowledge[skill], state.difficulties[skill, level]
            session.merge(
                KnowledgeRow(
                    learner=learner, skill=skill, posterior=now.posterior.tolist(), answers=now.answers,
                    card=dict(now.card.to_dict()),
                )
            )  # fmt: skip
            difficulty.value, difficulty.answers = moved.value, moved.answers
            session.add(
                AnswerRow(
                    learner=learner, item=item, skill=skill, level=level, right=right, verdict=verdict, answered=when
                )
            )
            return True

    def serve(
        self,
        learner: str,
        item: str,
        skill: str,
        level: int,
        *,
        when: datetime,
        content: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write down that the learner is given this item. False, and nothing is written, where it was given before.

        Raises:
            DataError: there is no such learner.
        """
        with self._changing(learner) as session:
            if _served(session, learner, item):
                return False
            session.add(
                ServedRow(
                    learner=learner, item=item, skill=skill, level=level, served=when,
                    content=None if content is None else dict(content),
                )
            )  # fmt: skip
            return True

    def repeated(self, learner: str, item: str) -> bool:
        """Whether the learner was given this item before. Raises DataError where there is no such learner."""
        with self._reading(learner) as session:
            return _served(session, learner, item) is not None

    def content(self, learner: str, item: str) -> Mapping[str, Any] | None:
        """The item as `serve` kept it; None where it was not. Raises DataError where there is no such learner."""
        with self._reading(learner) as session:
            row = _served(session, learner, item)
            return row.content if row else None

    def recent(self, learner: str, count: int = 2) -> Sequence[str]:
        """The skills of the last items given, the last one last. Raises DataError where there is no such learner."""
        with self._reading(learner) as session:
            query = select(ServedRow.skill).where(ServedRow.learner == learner).order_by(ServedRow.id.desc())
            return list(session.scalars(query.limit(count)))[::-1]

    def export(self, learner: str) -> dict[str, Any]:
        """All that is kept about a learner, ready for JSON; moments in ISO 8601.

        Raises:
            DataError: there is no such learner.
        """
        with self._reading(learner) as session:
            found: dict[str, Any] = {"format": FORMAT, "learner": _plain(session.get_one(LearnerRow, learner))}
            for name, table in (("knowledge", KnowledgeRow), ("served", ServedRow), ("answers", AnswerRow)):
                mine = select(table).where(table.learner == learner).order_by(*table.__table__.primary_key)
                found[name] = [_plain(row) for row in session.scalars(mine)]
        for one in found["knowledge"]:
            mean, error = ability.moments(np.array(one["posterior"]))
            one |= {"ability": mean, "standard_error": error}
        return found

    def erase(self, learner: str) -> None:
        """Remove everything about a learner, from the tables and from SQLite's file and log. What stays are the
        difficulties of items, means over all learners. Backups and a server's own log are for whoever keeps them.

        Raises:
            DataError: there is no such learner.
            EnvironmentUnfit: all is gone from the tables, but a reader kept SQLite's log from being emptied: `purge`.
        """
        with self._changing(learner) as session:
            session.execute(delete(LearnerRow).where(LearnerRow.id == learner))  # by their keys the rest goes with it
        self.purge()

    def purge(self) -> None:
        """Empty what the database keeps of rows that are gone: SQLite's log, PostgreSQL's dead rows.

        Raises:
            EnvironmentUnfit: a reader kept SQLite's log from being emptied for PATIENCE_SECONDS.
        """
        engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with self._database.guarded(), engine.connect() as connection:
            if self._database.folder is None:
                for table in Base.metadata.tables:
                    connection.exec_driver_sql(f"vacuum {table}")
                return
            patience = connection.exec_driver_sql("pragma busy_timeout").scalar()
            connection.exec_driver_sql("pragma busy_timeout = 50")
            try:
                self._empty_log(connection)
            finally:
                connection.exec_driver_sql(f"pragma busy_timeout = {patience}")

    def _empty_log(self, connection: Connection) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while connection.exec_driver_sql("pragma wal_checkpoint(truncate)").one()[0]:
            if time.monotonic() > until:
                raise EnvironmentUnfit(
                    f"the log of {self._database.name} is being read and still holds what was erased",
                    hint="Call purge again when nobody reads, or stop the service first.",
                )

    def _difficulty(self, session: Session, skill: str, level: int, first: Difficulty) -> DifficultyRow:
        """The row, locked until the end of the transaction; made where it is not there."""
        insert = sqlite.insert if self._database.folder else postgresql.insert
        made = insert(DifficultyRow).values(skill=skill, level=level, value=first.value, answers=first.answers)
        session.execute(made.on_conflict_do_nothing())
        where = (DifficultyRow.skill == skill, DifficultyRow.level == level)
        return session.scalars(select(DifficultyRow).where(*where).with_for_update()).one()

    @contextmanager
    def _reading(self, learner: str) -> Iterator[Session]:
        with self._database.connect() as connection, Session(connection) as session:
            _known(session.get(LearnerRow, learner))
            yield session

    @contextmanager
    def _changing(self, learner: str | None = None) -> Iterator[Session]:
        """A transaction that reads and writes; of one learner at a time, where it names one."""
        with self._database.guarded(), self._database.engine.connect() as connection:
            if (
                self._database.folder
            ):  # a lock from the start: one that is asked for between reading and writing may fail
                connection.exec_driver_sql("pragma secure_delete = on")
                connection.exec_driver_sql("begin immediate")
            with Session(connection) as session:
                if learner is not None:
                    row = select(LearnerRow).where(LearnerRow.id == learner).with_for_update()
                    _known(session.scalars(row).one_or_none())
                yield session
                session.commit()
            connection.commit()  # where it was begun before the session, as above, the session leaves it open

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self._database.changing() as connection:
            current = _version(connection)  # somebody else may have migrated it while this process waited
            if current is not None and current not in REVISIONS:
                raise EnvironmentUnfit(
                    f"the learners in {self._database.name} were written by a newer version ({current})",
                    hint="Update the education domain, or name another database.",
                )
            if current != HEAD:
                config.attributes["connection"] = connection
                command.upgrade(config, "education@head")


def _served(session: Session, learner: str, item: str) -> ServedRow | None:
    return session.scalars(select(ServedRow).where(ServedRow.learner == learner, ServedRow.item == item)).one_or_none()


def _known(row: LearnerRow | None) -> None:
    if row is None:
        raise DataError("there is no such learner here", hint="Enrol one; an id that was erased does not come back.")


def _knowledge(row: KnowledgeRow) -> Knowledge:
    posterior = ability.frozen(np.array(row.posterior))
    return Knowledge(posterior, *ability.moments(posterior), row.answers, Card.from_dict(row.card))


def _plain(row: Base) -> dict[str, Any]:
    values = {column.name: getattr(row, column.name) for column in row.__table__.columns}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "education_version"):
        return None
    found: str | None = connection.exec_driver_sql("select version_num from education_version").scalar()
    return found
