"""The registry's database: what a URL means, what is opened with it, and what is said where it cannot be used.

SQLite and PostgreSQL. Knows nothing of the tables. A URL may hold a password: no message shows one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError

from toolkit.errors import EnvironmentUnfit, UsageError
from toolkit.workspace import folder_lock

POSTGRESQL = "postgresql+psycopg"
DRIVERS = {"sqlite": "sqlite", "postgresql": POSTGRESQL, "postgres": POSTGRESQL, POSTGRESQL: POSTGRESQL}
"""The schemes that a URL may have, and the driver that serves each."""

CONNECTING: dict[str, Any] = {"connect_timeout": 10, "client_encoding": "utf8", "application_name": "toolkit"}
"""What a PostgreSQL connection is opened with, where its URL does not say otherwise."""

PATIENCE_SECONDS = 60.0
"""How long a first start waits while another one makes the tables."""

_LOCK = int.from_bytes(b"toolkit")
"""The advisory lock that whoever makes or changes the tables holds."""

_FORM = (
    "Write postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////FOLDER/FILE; "
    "special characters are percent-encoded (@ is %40)."
)


@dataclass(frozen=True)
class Database:
    """An engine, and how messages name what it opens. `folder` holds the file of SQLite; None for a server."""

    engine: Engine
    name: str
    folder: Path | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end.

        Raises:
            EnvironmentUnfit: the database is damaged, locked, or away.
        """
        with self.guarded(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """The one connection, of all processes and machines, that may change the tables: all of it happens or nothing.

        Raises:
            EnvironmentUnfit: somebody else has been changing them for PATIENCE_SECONDS, or as for `connect`.
        """
        with self._alone(), self.guarded(), self.engine.connect() as connection:
            if self.folder is None:
                connection.exec_driver_sql(f"set local lock_timeout = {PATIENCE_SECONDS * 1000:.0f}")
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
            else:
                connection.detach()  # it is not used again: a rebuilt table must not take those along that point to it
                connection.exec_driver_sql("pragma foreign_keys = off")
                connection.exec_driver_sql("begin immediate")
            yield connection
            connection.commit()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Say of the driver's errors what was wrong and where. What breaks a rule of the tables is a bug and stays."""
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except DBAPIError as error:
            said, clean = _said(error, self.engine.url)
            unfit = EnvironmentUnfit(f"cannot open the registry {self.name}: {said}", hint=self._hint(error, said))
            raise unfit from (error if clean else None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        with folder_lock(self.folder, purpose="make the registry", wait=PATIENCE_SECONDS):
            yield

    def _hint(self, error: DBAPIError, said: str) -> str:
        if self.folder is not None:
            if not self.folder.is_dir():
                return f"Make the folder {self.folder}, or name another file in TOOLKIT_DATABASE_URL."
            if "locked" in said:
                return "Another process has been writing to it for long; wait until it ends, or stop it."
            return "Move the file away, or mend its rights."
        match getattr(error.orig, "sqlstate", None):
            case "55P03":
                return "Another toolkit is changing its tables; wait until it is done."
            case "42501":
                return f"Let its user make tables: alter database {self.engine.url.database} owner to USER."
        if re.search(r"authentication failed|no password supplied", said):
            return "Check the user and the password in TOOLKIT_DATABASE_URL; special characters are percent-encoded."
        if re.search(r'database "[^"]*" does not exist', said):
            return f"Make it, createdb {self.engine.url.database}, or name another in TOOLKIT_DATABASE_URL."
        if "invalid connection option" in said:
            return _FORM
        return "Check that the server runs and can be reached from here as TOOLKIT_DATABASE_URL says."


def sqlite(path: Path) -> Database:
    """The SQLite file at `path`, made where it is not there."""
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": 30})
    event.listen(engine, "connect", _pragmas)
    return Database(engine, str(path), path.parent)


def database(url: str) -> Database:
    """The database of a URL. Nothing is connected yet.

    Raises:
        UsageError: it is of a kind that the registry cannot be kept in.
        EnvironmentUnfit: it is no URL, or the driver is not installed.
    """
    scheme, _, rest = url.partition("://")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) or not rest or not url.isprintable():
        raise _no_url()
    driver = DRIVERS.get(scheme.lower())
    if driver is None:
        raise UsageError(f"the registry cannot be kept in a database of the kind {scheme}", hint=_FORM)
    if driver == "sqlite":
        return sqlite(_path(rest))
    return _server(f"{driver}://{rest}")


def _path(rest: str) -> Path:
    path = Path(unquote(rest.removeprefix("/"), errors="surrogateescape"))
    if "?" in rest or not rest.startswith("/") or path.name in ("", ":memory:"):
        raise _no_url()
    return path.absolute()


def _server(text: str) -> Database:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # it quotes what it could not read, which may be a piece of the password
        raise _no_url() from None
    parts = (url.username, url.password, url.host, url.database)
    # a second @ is one of the password's that was not encoded: what follows it would pass for the host's name
    if not url.database or text.count("@") > 1 or not all(part.isprintable() for part in parts if part):
        raise _no_url()
    try:
        engine = create_engine(
            url,
            # a run says something every few minutes: a connection kept in between is one that a firewall drops
            poolclass=NullPool,
            isolation_level="READ COMMITTED",
            connect_args={name: value for name, value in CONNECTING.items() if name not in url.query},
        )
    except ImportError as error:
        raise EnvironmentUnfit(
            f"PostgreSQL's driver is not installed: {error}",
            hint="Install it: pip install 'distil-toolkit[postgres]'.",
        ) from error
    place = f" on {url.host}" + (f":{url.port}" if url.port else "") if url.host else ""
    return Database(engine, f"{url.database}{place}")


def _no_url() -> EnvironmentUnfit:
    return EnvironmentUnfit("TOOLKIT_DATABASE_URL is not the URL of a database", hint=_FORM)


def _said(error: DBAPIError, url: URL) -> tuple[str, bool]:
    """What the driver says, in one line and without a secret; whether it had none in it."""
    secrets = [url.password, *(value for name, value in url.query.items() if "password" in name)]
    plain = " ".join(str(error.orig).split())
    said = plain
    for secret in secrets:
        if secret:
            said = said.replace(str(secret), "***")
    return said, said == plain


def _pragmas(connection: Any, _: Any) -> None:
    connection.execute("pragma foreign_keys = on")
    # Write-ahead logging is a property of the file and stays. SQLite does not wait to switch to it: where another first
    # start has the file open, the next connection does.
    with suppress(sqlite3.OperationalError):
        connection.execute("pragma journal_mode = wal")
