"""Reading and writing the registry: SQLite under the toolkit home, or the database of a URL that several homes share.

Migrations run when it is opened.
"""

from __future__ import annotations

import getpass
import platform
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, selectinload

from toolkit.artifacts import Artifact
from toolkit.errors import EnvironmentUnfit
from toolkit.registry import database
from toolkit.registry.models import ArtifactRow, Run, Stage
from toolkit.workspace import folder_lock, write_file

REVISIONS = ("0001", "0002")
"""Every migration there is."""

HEAD = REVISIONS[-1]
"""The newest migration. Opening a registry that is there already skips Alembic where it matches."""

HOME_ID = "home.id"
"""The file under a home that tells its runs from those of others: a host's name and a path may change under it."""


class Registry:
    """The record of every run. Safe to open from several processes at once, and, on a server, from several machines.

    Args:
        home: the toolkit home whose runs are written.
        url: of the database; none for `registry.db` under the home. It may hold a password, which no message shows.

    Raises:
        UsageError: the URL is of a kind that a registry cannot be kept in.
        EnvironmentUnfit: the database cannot be opened, or was written by a newer toolkit.
    """

    def __init__(self, home: Path, url: str | None = None) -> None:
        self._home = home
        self._database = database.database(url) if url else database.sqlite(home / "registry.db")
        with self._database.connect() as connection:
            current = _version(connection)
        if current != HEAD:
            self._migrate()

    def start(self, run_id: str, domain: str, plan: Mapping[str, Any]) -> None:
        """A run begins. Its caller holds the home, so a run of it that is still said to be running was killed."""
        home = self._home_id()
        with self._session() as session:
            session.execute(update(Run).where(Run.outcome == "running", _of_home(home)).values(outcome="interrupted"))
            session.add(
                Run(
                    id=run_id,
                    domain=domain,
                    plan=dict(plan),
                    user=_user()[:128],
                    host=platform.node()[:255],
                    home=home,
                    started=datetime.now(UTC),
                )
            )

    def finish_stage(
        self, run_id: str, name: str, kind: str, artifact: Artifact, *, kept: bool, seconds: float
    ) -> None:
        """A stage has its artifact. Of one that several runs made, what the last to make it said is kept."""
        now = datetime.now(UTC)
        said = {
            "kind": kind, "parents": list(artifact.parents), "facts": dict(artifact.facts), "created": now
        }  # fmt: skip
        with self._session() as session:
            insert = sqlite.insert if self._database.folder else postgresql.insert
            row = insert(ArtifactRow).values(digest=artifact.digest, **said)
            made = (
                row.on_conflict_do_nothing()
                if kept
                else row.on_conflict_do_update(index_elements=["digest"], set_=said)
            )
            session.execute(made)
            session.add(
                Stage(
                    run_id=run_id, name=name, kept=kept, seconds=seconds, finished=now, artifact_digest=artifact.digest
                )
            )

    def end(self, run_id: str, *, error: Mapping[str, Any] | None = None) -> None:
        """A run ends, well or in an error."""
        with self._session() as session:
            run = session.get_one(Run, run_id)
            run.ended = datetime.now(UTC)
            run.outcome = "failed" if error else "done"
            run.error = dict(error) if error else None

    def runs(self, limit: int = 50) -> Sequence[Run]:
        """The newest runs first, with their stages: of every home that shares the database."""
        with self._session() as session:
            query = select(Run).order_by(Run.started.desc()).limit(limit).options(selectinload(Run.stages))
            return session.scalars(query).all()

    def last_used(self) -> dict[str, datetime]:
        """When a run of any home last made or used each artifact, by digest."""
        with self._session() as session:
            query = select(Stage.artifact_digest, func.max(Stage.finished)).group_by(Stage.artifact_digest)
            return dict(iter(session.execute(query)))

    def seconds_of(self, domain: str) -> dict[str, float]:
        """What each stage last took for this domain in this home when it was not kept: the base of `toolkit plan`'s
        estimates."""
        with self._session() as session:
            query = select(Stage.name, Stage.seconds).join(Run).where(Run.domain == domain, Stage.kept.is_(False))
            query = query.where(_of_home(self._home_id())).order_by(Stage.id)
            return {row.name: row.seconds for row in session.execute(query)}

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with (
            self._database.guarded(),
            Session(self._database.engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def _home_id(self) -> str:
        path = self._home / HOME_ID
        if found := _read_id(path):
            return found
        with folder_lock(self._home, purpose="give the toolkit home an id", wait=database.PATIENCE_SECONDS):
            if found := _read_id(path):
                return found
            made = secrets.token_hex(16)
            write_file(path, made.encode())
            return made

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self._database.changing() as connection:
            current = _version(connection)  # somebody else may have migrated it while this process waited
            if current is not None and current not in REVISIONS:
                raise EnvironmentUnfit(
                    f"the registry {self._database.name} was written by a newer toolkit or another program "
                    f"(its version is {current})",
                    hint="Update the toolkit, or name another database in TOOLKIT_DATABASE_URL.",
                )
            if current != HEAD:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


def _of_home(home: str) -> ColumnElement[bool]:
    """Runs of this home. Those that name none are older than sharing, so the database was their home's own."""
    return or_(Run.home == home, Run.home.is_(None))


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("select version_num from alembic_version").scalar()
    return found


def _read_id(path: Path) -> str | None:
    try:
        found = path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Mend its rights.") from error
    return found if re.fullmatch(r"[0-9a-f]{32}", found) else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
