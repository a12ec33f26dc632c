"""A real PostgreSQL server of the tests' own: a cluster in a temporary folder, on a free port of 127.0.0.1."""

from __future__ import annotations

import glob
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PASSWORD = "s3cret:p@ss/w%rd"
"""Everything that a URL must encode."""

QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")
RAM = Path("/dev/shm")


@dataclass(frozen=True)
class Cluster:
    """A running server. Its superuser is `postgres`, its other user `worker`; both have the same password."""

    port: int

    def url(self, name: str, *, user: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def run(self, statement: str, *, name: str = "postgres") -> list[tuple[object, ...]]:
        """One statement as the superuser, outside any transaction; its rows, where it has some."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=PASSWORD, dbname=name, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def program(name: str) -> str | None:
    """A program of PostgreSQL's, on the path or where Debian keeps it."""
    found = shutil.which(name)
    return found or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)


def lacking() -> str:
    """Why no server can run here; empty where one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "PostgreSQL's driver psycopg is not installed"
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if program(name) is None]
    if missing:
        return f"PostgreSQL's {', '.join(missing)} are not on this machine"
    if os.geteuid() == 0 and not any(entry.pw_name == "nobody" for entry in pwd.getpwall()):
        return "PostgreSQL does not run as root, and this machine has no user nobody"
    return ""


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A server that is stopped, and its folder removed, at the end."""
    with tempfile.TemporaryDirectory(prefix="toolkit-pg-", dir=RAM if RAM.is_dir() else None) as folder:
        data, secret, port = Path(folder) / "data", Path(folder) / "password", free_port()
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (Path(folder), secret):
                shutil.chown(path, "nobody")
        _as_nobody(
            "initdb", "--pgdata", str(data), "--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions",
        )  # fmt: skip
        settings = " ".join(f"-c {setting}" for setting in QUICK)
        # a session of another zone than the tests' own: what comes out must not follow it
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c timezone=Asia/Tokyo {settings}"
        )
        _as_nobody("pg_ctl", "start", "-w", "-D", str(data), "-l", f"{folder}/log", "-o", options)
        try:
            yield Cluster(port)
        finally:
            _as_nobody("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(data))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_nobody(name: str, *arguments: str) -> None:
    other: dict[str, object] = {}
    if os.geteuid() == 0:
        group: Sequence[str] = ()
        other = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": group}
    done = subprocess.run(
        [str(program(name)), *arguments], cwd="/", env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False, **other,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode()
