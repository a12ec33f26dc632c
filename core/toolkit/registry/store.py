"""Reading and writing the registry: SQLite under the toolkit home. Migrations run when it is opened."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, select, update
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session, selectinload

from toolkit.artifacts import Artifact
from toolkit.errors import EnvironmentUnfit
from toolkit.registry.models import ArtifactRow, Run, Stage
from toolkit.workspace import folder_lock

HEAD = "0001"
"""The newest migration. Opening a registry that is there already skips Alembic where it matches."""


class Registry:
    """The record of every run. Safe to open from several processes at once."""

    def __init__(self, home: Path) -> None:
        self.path = home / "registry.db"
        self._engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": 30})
        event.listen(self._engine, "connect", _foreign_keys)
        try:
            if _version(self._engine) != HEAD:
                with folder_lock(home, purpose="make the registry", wait=60.0):
                    _migrate(self._engine)
        except (OperationalError, DatabaseError) as error:
            raise EnvironmentUnfit(
                f"cannot open the registry {self.path}: {error.orig}", hint="Move the file away, or mend its rights."
            ) from error

    def start(self, run_id: str, domain: str, plan: Mapping[str, Any]) -> None:
        """A run begins. Its caller holds the home, so a run that is still said to be running was killed."""
        with self._session() as session:
            session.execute(update(Run).where(Run.outcome == "running").values(outcome="interrupted"))
            session.add(
                Run(
                    id=run_id,
                    domain=domain,
                    plan=dict(plan),
                    user=_user(),
                    host=platform.node(),
                    started=datetime.now(UTC),
                )
            )

    def finish_stage(
        self, run_id: str, name: str, kind: str, artifact: Artifact, *, kept: bool, seconds: float
    ) -> None:
        now = datetime.now(UTC)
        with self._session() as session:
            session.merge(
                ArtifactRow(
                    digest=artifact.digest,
                    kind=kind,
                    parents=list(artifact.parents),
                    facts=dict(artifact.facts),
                    created=now,
                )
            )
            session.flush()
            session.add(
                Stage(
                    run_id=run_id, name=name, kept=kept, seconds=seconds, finished=now, artifact_digest=artifact.digest
                )
            )

    def end(self, run_id: str, *, error: Mapping[str, Any] | None = None) -> None:
        with self._session() as session:
            run = session.get_one(Run, run_id)
            run.ended = datetime.now(UTC)
            run.outcome = "failed" if error else "done"
            run.error = dict(error) if error else None

    def runs(self, limit: int = 50) -> Sequence[Run]:
        """The newest runs first, with their stages."""
        with self._session() as session:
            query = select(Run).order_by(Run.started.desc()).limit(limit).options(selectinload(Run.stages))
            return session.scalars(query).all()

    def seconds_of(self, domain: str) -> dict[str, float]:
        """What each stage last took for this domain when it was not kept: the base of `toolkit plan`'s estimates."""
        with self._session() as session:
            query = select(Stage.name, Stage.seconds).join(Run).where(Run.domain == domain, Stage.kept.is_(False))
            return {row.name: row.seconds for row in session.execute(query.order_by(Stage.id))}

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return None
        found: str | None = connection.exec_driver_sql("select version_num from alembic_version").scalar()
        return found


def _migrate(engine: Engine) -> None:
    current = _version(engine)  # somebody else may have migrated it while this process waited
    if current == HEAD:
        return
    if current is not None and current > HEAD:
        raise EnvironmentUnfit(
            f"the registry {engine.url.database} was written by a newer toolkit (its version is {current})",
            hint="Update the toolkit, or point TOOLKIT_HOME elsewhere.",
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _foreign_keys(connection: Any, _: Any) -> None:
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma journal_mode = wal")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
