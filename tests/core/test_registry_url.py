"""The URL of the registry's database: what is taken, what is refused and how, and that no secret is shown."""

from __future__ import annotations

import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit import plan
from toolkit.errors import EnvironmentUnfit, ToolkitError, UsageError
from toolkit.registry.database import POSTGRESQL, database
from toolkit.registry.store import Registry

SECRET = "hunter2"


def refused(home: Path, url: str) -> ToolkitError:
    """The error, after a look that neither it nor what --debug prints of it holds a piece of the password."""
    with pytest.raises(ToolkitError) as caught:
        Registry(home, url)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.as_record())
    assert SECRET not in shown
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "PostgreSQL"])
def test_every_way_to_write_postgresql_takes_psycopg_3(scheme: str) -> None:
    pytest.importorskip("psycopg")
    opened = database(f"{scheme}://me:pw@db.example:5433/toolkit?sslmode=require")
    assert opened.engine.url.drivername == POSTGRESQL
    assert opened.name == "toolkit on db.example:5433"
    assert opened.engine.url.query == {"sslmode": "require"}
    assert opened.folder is None


def test_a_password_is_decoded_as_a_url_says() -> None:
    pytest.importorskip("psycopg")
    assert database("postgresql://u:p%40ss%2Fw%3Ard%25@h/d").engine.url.password == "p@ss/w:rd%"
    assert database("postgresql:///d?host=/run/postgresql").name == "d"


@pytest.mark.parametrize(
    "url",
    [
        f"{SECRET}",
        f"postgresql:/u:{SECRET}@h/d",
        f"u:{SECRET}@h/d",
        f"postgresql:u:{SECRET}@h/d",
        f"://u:{SECRET}@h/d",
        f" postgresql://u:{SECRET}@h/d",
        "postgresql://",
        f"postgresql://u:{SECRET}@h",
        f"postgresql://u:{SECRET}@h/",
        f"postgresql://u:{SECRET}@h:port/d",
        f"postgresql://u:{SECRET}/d",
        f"postgresql://u:x@{SECRET}@h/d",
        f"postgresql://u:x@{SECRET}/y@h/d",
        f"postgresql://u:x@y:{SECRET}@h/d",
        f"postgresql://u:{SECRET}\n@h/d",
        f"postgresql://u:{SECRET}%00@h/d",
        f"postgresql://u:{SECRET}\udcff@h/d",
        "sqlite://",
        "sqlite:///",
        "sqlite://folder/file.db",
        "sqlite:///:memory:",
        "sqlite:////tmp/a.db?mode=ro",
    ],
)
def test_what_is_no_url_of_a_database_is_an_environment_that_does_not_fit(tmp_path: Path, url: str) -> None:
    error = refused(tmp_path, url)
    assert (type(error), error.exit_code) == (EnvironmentUnfit, 5)
    assert "TOOLKIT_DATABASE_URL" in error.message
    assert "percent-encoded" in error.hint


@pytest.mark.parametrize("scheme", ["mysql", "oracle+cx", "postgresql+psycopg2", "postgresql+asyncpg", "http", "file"])
def test_a_kind_of_database_that_is_not_served_is_bad_usage(tmp_path: Path, scheme: str) -> None:
    error = refused(tmp_path, f"{scheme}://u:{SECRET}@h/d")
    assert (type(error), error.exit_code) == (UsageError, 2)
    assert scheme in error.message
    assert "postgresql://" in error.hint


def test_a_driver_that_is_not_installed_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = refused(tmp_path, f"postgresql://u:{SECRET}@127.0.0.1/d")
    assert (type(error), error.exit_code) == (EnvironmentUnfit, 5)
    assert "psycopg" in error.message
    assert "distil-toolkit[postgres]" in error.hint


def test_a_server_that_is_not_there_is_named_with_its_port(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        port = taken.getsockname()[1]
        error = refused(tmp_path, f"postgresql://u:{SECRET}@127.0.0.1:{port}/d")
    assert (type(error), error.exit_code) == (EnvironmentUnfit, 5)
    assert f"d on 127.0.0.1:{port}" in error.message
    assert "server runs" in error.hint


@pytest.fixture
def impostor() -> Iterator[Callable[[bytes], int]]:
    """A server that is none of PostgreSQL's: it answers whatever it is told with the same bytes. Returns its port."""
    listening: list[socket.socket] = []

    def serve(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def talk() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=talk, daemon=True).start()
        return int(server.getsockname()[1])

    yield serve
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64])
def test_a_server_that_is_none_of_postgresqls_is_said_of_the_environment(
    tmp_path: Path, impostor: Callable[[bytes], int], answer: bytes
) -> None:
    pytest.importorskip("psycopg")
    error = refused(tmp_path, f"postgresql://u:{SECRET}@127.0.0.1:{impostor(answer)}/d?gssencmode=disable")
    assert (type(error), error.exit_code) == (EnvironmentUnfit, 5)


def test_a_secret_that_the_driver_repeats_is_blanked_out(tmp_path: Path) -> None:
    """No message of the driver's is known to hold one, save where a password stands in for something else."""
    pytest.importorskip("psycopg")
    error = refused(tmp_path, f"postgresql://{SECRET}:{SECRET}@127.0.0.1:1/d?sslmode={SECRET}")
    assert "***" in error.message


def test_a_sqlite_file_may_lie_anywhere_and_be_called_anything(tmp_path: Path) -> None:
    folder = tmp_path / "a?b c%41#d"
    folder.mkdir()
    url = "sqlite:///" + str(folder).replace("%", "%25").replace("?", "%3F").replace("#", "%23") + "/runs.db"
    Registry(tmp_path, url).start("run", "tiny", {})
    assert (folder / "runs.db").is_file()
    assert [run.id for run in Registry(tmp_path, url).runs()] == ["run"]
    assert not (tmp_path / "registry.db").exists()


def test_a_folder_that_is_not_there_is_not_made_by_a_slip_of_the_pen(tmp_path: Path) -> None:
    error = refused(tmp_path, f"sqlite:///{tmp_path}/slip/registry.db")
    assert (type(error), error.exit_code) == (EnvironmentUnfit, 5)
    assert str(tmp_path / "slip") in error.hint
    assert not (tmp_path / "slip").exists()


def test_the_environment_names_the_database_and_the_home_holds_it_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a?b c%41#d"
    home.mkdir()
    monkeypatch.delenv("TOOLKIT_DATABASE_URL", raising=False)
    Registry(home, plan.database_url(home)).start("run", "tiny", {})
    assert [run.id for run in Registry(home).runs()] == ["run"]
    assert (home / "registry.db").is_file()
    monkeypatch.setenv("TOOLKIT_DATABASE_URL", "postgresql://me@h/d")
    assert plan.database_url(home) == "postgresql://me@h/d"
    monkeypatch.setenv("TOOLKIT_DATABASE_URL", "")
    assert database(plan.database_url(home)).folder == home
