"""The registry on a real PostgreSQL server, and what must hold on both databases alike."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from registry_parts import PASSWORD, Cluster, lacking, running_cluster
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

import toolkit.registry
from toolkit.artifacts import Artifact
from toolkit.errors import EnvironmentUnfit
from toolkit.registry import database
from toolkit.registry.models import ArtifactRow, Base, Run
from toolkit.registry.store import HEAD, REVISIONS, Registry

TOKYO = timezone(timedelta(hours=9))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := lacking():
        pytest.skip(reason)
    with running_cluster() as running:
        running.run(f"create role worker login password '{PASSWORD}'")
        yield running


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """A name of its own for each database."""
    return itertools.count()


@pytest.fixture
def empty(cluster: Cluster, numbers: Iterator[int]) -> str:
    """The URL of a database of this test's own, with nothing in it."""
    name = f"registry{next(numbers)}"
    cluster.run(f"create database {name}")
    return cluster.url(name)


@dataclass(frozen=True)
class Place:
    """Where a test keeps its registry: `url` None is SQLite's file under the home."""

    home: Path
    url: str | None

    def open(self, home: str = "home") -> Registry:
        """The registry as the home of this name opens it. On SQLite the homes share a file by its URL."""
        folder = self.home / home
        folder.mkdir(exist_ok=True)
        return Registry(folder, self.shared)

    @property
    def shared(self) -> str:
        return self.url or f"sqlite:///{self.home / 'shared.db'}"

    def engine(self) -> Engine:
        return database.database(self.shared).engine

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        engine = self.engine()
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(text(statement))]
        engine.dispose()
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.getfixturevalue("empty") if request.param == "postgresql" else None)


def artifact(digest: str = "d" * 64, **facts: object) -> Artifact:
    return Artifact(Path("/nowhere"), digest, ("p" * 64,), facts)


def migrate_to(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(toolkit.registry.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def together(*work: Callable[[], object]) -> None:
    """Each in a thread of its own, let go at once; the first error is raised."""
    gate, errors = threading.Barrier(len(work)), []

    def one(do: Callable[[], object]) -> None:
        gate.wait()
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=one, args=(do,)) for do in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def test_the_migrations_make_exactly_the_models_schema_on_both(place: Place) -> None:
    place.open()
    engine = place.engine()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_column_types_keys_and_indexes_are_the_models_on_the_server_too(cluster: Cluster, empty: str) -> None:
    """Beside what compare_metadata looks at: lengths, unique and foreign keys with their actions, primary keys."""
    Registry(Path("/nowhere"), empty)
    cluster.run("create database by_models")
    fresh, migrated = (database.database(url).engine for url in (cluster.url("by_models"), empty))
    Base.metadata.create_all(fresh)
    by_migration, by_models = inspect(migrated), inspect(fresh)
    for table in Base.metadata.tables:
        for look in ("get_unique_constraints", "get_foreign_keys", "get_indexes", "get_pk_constraint", "get_columns"):
            found, wanted = getattr(by_migration, look)(table), getattr(by_models, look)(table)
            assert sorted(map(str, found)) == sorted(map(str, wanted)), (table, look)


def test_the_revision_before_is_brought_up_with_all_its_rows(place: Place) -> None:
    engine = place.engine()
    migrate_to(engine, REVISIONS[-2])
    with engine.begin() as connection:
        for statement in (
            'insert into run (id, domain, plan, "user", host, started, outcome) values '
            "('old', 'tiny', '{\"a\": 1}', 'me', 'here', '2026-03-01 12:00:00', 'running')",
            f"insert into artifact values ('{'d' * 64}', 'Dataset', '[]', '{{}}', '2026-03-01 12:00:00')",
            "insert into stage (run_id, name, kept, seconds, finished, artifact_digest) values "
            f"('old', 'prepare', false, 2.5, '2026-03-01 12:00:00', '{'d' * 64}')",
        ):
            connection.execute(text(statement))
    engine.dispose()
    registry = place.open()
    (run,) = registry.runs()
    assert (run.id, run.plan, run.outcome, run.home) == ("old", {"a": 1}, "running", None)
    assert [(stage.name, stage.seconds, stage.kept) for stage in run.stages] == [("prepare", 2.5, False)]
    assert registry.seconds_of("tiny") == {"prepare": 2.5}
    registry.start("new", "tiny", {})
    assert [(run.id, run.outcome) for run in registry.runs()] == [("new", "running"), ("old", "interrupted")]
    assert place.rows("select version_num from alembic_version") == [(HEAD,)]


def test_a_rebuilt_table_still_guards_what_points_to_it(place: Place) -> None:
    migrate_to(place.engine(), REVISIONS[-2])
    registry = place.open()
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        registry.finish_stage("nobody", "prepare", "Dataset", artifact(), kept=False, seconds=1)


DIES = """
import os, sys
from pathlib import Path
from sqlalchemy import Engine, event
from toolkit.registry.store import Registry

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    if "CREATE TABLE stage" in statement:
        os._exit(9)

Registry(Path(sys.argv[1]), sys.argv[2])
"""


def test_a_first_start_that_is_killed_between_two_tables_leaves_none(place: Place) -> None:
    died = subprocess.run([sys.executable, "-c", DIES, str(place.home), place.shared], timeout=60, check=False)
    assert died.returncode == 9
    engine = place.engine()
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    place.open().start("run-1", "tiny", {})
    assert [run.id for run in place.open().runs()] == ["run-1"]


def test_several_first_starts_at_once_make_it_once(place: Place) -> None:
    together(*[lambda number=number: place.open(f"home-{number}") for number in range(8)])
    assert place.rows("select version_num from alembic_version") == [(HEAD,)]


def test_first_starts_do_not_race_where_the_server_isolates_more(cluster: Cluster, empty: str, tmp_path: Path) -> None:
    """Under repeatable read, who waited for the lock would still see no table after it."""
    name = empty.rpartition("/")[2]
    cluster.run(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    together(*[lambda: Registry(tmp_path, empty) for _ in range(6)])
    assert cluster.run("select version_num from alembic_version", name=name) == [(HEAD,)]


def test_who_waits_too_long_for_the_tables_says_for_whom(
    cluster: Cluster, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.1)
    holder = database.database(empty)
    with holder.changing():
        with pytest.raises(EnvironmentUnfit) as caught:
            Registry(tmp_path, empty)
        assert "another toolkit" in caught.value.hint.lower()
        monkeypatch.setattr(database, "PATIENCE_SECONDS", 30.0)
        waiting = threading.Thread(target=Registry, args=(tmp_path, empty))
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
    waiting.join(30)
    assert cluster.run("select count(*) from run", name=empty.rpartition("/")[2]) == [(0,)]


def test_the_same_artifact_finished_by_many_at_once_is_one_row(place: Place) -> None:
    """Every writer is a home of its own, as machines are; each round all of them finish the same stage."""
    count, rounds = 4, 3
    registries = [place.open(f"home-{number}") for number in range(count)]

    def work(number: int) -> None:
        for turn in range(rounds):
            run = f"run-{number}-{turn}"
            registries[number].start(run, "tiny", {})
            for stage in ("prepare", "label"):
                made = artifact(f"{stage}-{turn}", by=number)
                registries[number].finish_stage(run, stage, "Dataset", made, kept=bool(turn % 2), seconds=1)
            registries[number].end(run)

    together(*[lambda number=number: work(number) for number in range(count)])
    assert place.rows("select count(*) from artifact") == [(2 * rounds,)]
    assert place.rows("select count(*) from stage") == [(2 * rounds * count,)]
    assert {run.outcome for run in registries[0].runs(100)} == {"done"}


def test_an_artifact_that_another_is_just_writing_is_waited_for(cluster: Cluster, empty: str, tmp_path: Path) -> None:
    """The race itself, made to happen: a row that a SELECT does not see yet and an INSERT meets."""
    registry = Registry(tmp_path, empty)
    registry.start("mine", "tiny", {})
    engine = database.database(empty).engine
    with engine.connect() as other:
        other.execute(
            text("insert into artifact values (:digest, 'Dataset', '[]', '{\"by\": \"other\"}', now())"),
            {"digest": "d" * 64},
        )
        arguments = ("mine", "prepare", "Dataset", artifact(by="me"))
        finishing = threading.Thread(
            target=registry.finish_stage, args=arguments, kwargs={"kept": False, "seconds": 1.0}
        )
        finishing.start()
        finishing.join(0.15)
        assert finishing.is_alive()
        other.commit()
    finishing.join(30)
    assert cluster.run("select facts from artifact", name=empty.rpartition("/")[2]) == [({"by": "me"},)]
    assert len(registry.runs()[0].stages) == 1


def test_of_an_artifact_made_twice_the_last_makers_facts_stand_and_who_kept_it_changes_nothing(place: Place) -> None:
    registry = place.open()
    moments = []
    for run, kept in (("first", False), ("kept", True), ("second", False), ("kept-again", True)):
        registry.start(run, "tiny", {})
        registry.finish_stage(run, "compile", "CompiledModel", artifact(by=run), kept=kept, seconds=1)
        with Session(place.engine()) as session:
            row = session.get_one(ArtifactRow, "d" * 64)
            moments.append((row.facts["by"], row.created))
    assert [by for by, _ in moments] == ["first", "first", "second", "second"]
    assert moments[0] == moments[1]
    assert moments[2] == moments[3]
    assert moments[2][1] > moments[0][1]


def test_an_artifact_is_there_after_a_run_that_only_kept_it(place: Place) -> None:
    """As where a home was used before its registry moved to a server."""
    registry = place.open()
    registry.start("run", "tiny", {})
    registry.finish_stage("run", "compile", "CompiledModel", artifact(size=3), kept=True, seconds=1)
    assert registry.runs()[0].stages[0].artifact_digest == "d" * 64


def test_an_artifact_was_last_used_by_the_last_run_that_had_to_do_with_it(place: Place) -> None:
    registry = place.open()
    assert registry.last_used() == {}
    for run, digest in (("first", "d" * 64), ("other", "e" * 64), ("last", "d" * 64)):
        registry.start(run, "tiny", {})
        registry.finish_stage(run, "compile", "CompiledModel", artifact(digest), kept=run == "last", seconds=1)
    finished = {run.id: run.stages[0].finished for run in registry.runs()}
    assert registry.last_used() == {"d" * 64: finished["last"], "e" * 64: finished["other"]}
    assert all(moment.utcoffset() == timedelta(0) for moment in registry.last_used().values())


def test_moments_come_out_in_utc_whatever_zone_they_went_in_with(place: Place) -> None:
    registry = place.open()
    before = datetime.now(UTC)
    registry.start("run", "tiny", {})
    registry.end("run")
    (run,) = registry.runs()
    assert run.started.tzinfo is UTC
    assert run.ended is not None
    assert before <= run.started <= run.ended <= datetime.now(UTC)
    with Session(place.engine()) as session, session.begin():
        session.get_one(Run, "run").started = datetime(2026, 3, 1, 0, 30, tzinfo=TOKYO)
    (run,) = place.open().runs()
    assert run.started == datetime(2026, 2, 28, 15, 30, tzinfo=UTC)
    assert run.started.isoformat() == "2026-02-28T15:30:00+00:00"


def test_a_moment_without_a_zone_is_refused(place: Place) -> None:
    registry = place.open()
    registry.start("run", "tiny", {})
    with pytest.raises(StatementError, match="no time zone"), Session(place.engine()) as session, session.begin():
        session.get_one(Run, "run").ended = datetime(2026, 3, 1)


def test_json_comes_out_as_it_went_in(place: Place) -> None:
    facts = {
        "nested": {"b": [1, 2.5, None, True], "a": {}}, "text": "Ä 检测 \u2028 \" \\ \x00 \ud800", "big": 2**60,
        "small": 1e-300, "empty": [],
    }  # fmt: skip
    registry = place.open()
    registry.start("run", "tiny", facts)
    registry.finish_stage("run", "prepare", "Dataset", artifact(**facts), kept=False, seconds=1)
    registry.end("run", error={"code": "gate", "message": "Ä"})
    (run,) = place.open().runs()
    assert (run.plan, run.error) == (facts, {"code": "gate", "message": "Ä"})
    assert list(run.plan) == list(facts)
    with Session(place.engine()) as session:
        row = session.get_one(ArtifactRow, "d" * 64)
        assert (row.facts, row.parents) == (facts, ["p" * 64])


def test_no_error_is_null_and_not_a_json_null(place: Place) -> None:
    registry = place.open()
    for run in ("failed", "done"):
        registry.start(run, "tiny", {})
        registry.end(run, error={"code": "x"} if run == "failed" else None)
    assert place.rows("select id from run where error is null") == [("done",)]


def test_names_as_long_as_they_come_fit_on_both(place: Place) -> None:
    domain = "d" * 200
    registry = place.open()
    registry.start(f"20260301-120000-{domain}-abcd", domain, {})
    registry.finish_stage(f"20260301-120000-{domain}-abcd", "prepare", "Dataset", artifact(), kept=False, seconds=1)
    assert place.open().runs()[0].domain == domain


def test_a_home_interrupts_its_own_killed_runs_and_no_other_homes(place: Place) -> None:
    one, other = place.open("one"), place.open("other")
    one.start("one-killed", "tiny", {})
    other.start("other-running", "tiny", {})
    place.open("one").start("one-next", "tiny", {})
    outcomes = {run.id: run.outcome for run in other.runs()}
    assert outcomes == {"one-killed": "interrupted", "other-running": "running", "one-next": "running"}


def test_estimates_come_from_the_homes_own_runs(place: Place) -> None:
    for home, seconds in (("slow", 90.0), ("fast", 9.0)):
        registry = place.open(home)
        registry.start(home, "tiny", {})
        registry.finish_stage(home, "label", "TeacherLabels", artifact(), kept=False, seconds=seconds)
    assert place.open("slow").seconds_of("tiny") == {"label": 90.0}
    assert place.open("fast").seconds_of("tiny") == {"label": 9.0}
    assert place.open("new").seconds_of("tiny") == {}


def test_no_connection_is_held_between_two_stages(cluster: Cluster, empty: str, tmp_path: Path) -> None:
    registry = Registry(tmp_path, empty)
    registry.start("run", "tiny", {})
    name = empty.rpartition("/")[2]
    for _ in range(50):  # a backend takes a moment to go after its client
        held = cluster.run(f"select count(*) from pg_stat_activity where datname = '{name}'")
        if held == [(0,)]:
            break
        time.sleep(0.02)
    assert held == [(0,)]


def test_a_registry_of_a_newer_toolkit_is_said_to_be_one_on_both(place: Place) -> None:
    place.open()
    engine = place.engine()
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    with pytest.raises(EnvironmentUnfit, match="newer toolkit or another program") as caught:
        place.open()
    assert "9999" in caught.value.message


def refused(home: Path, url: str, password: str = PASSWORD) -> EnvironmentUnfit:
    """The error, after a look that neither it nor what --debug prints of it holds the password, plain or encoded."""
    with pytest.raises(EnvironmentUnfit) as caught:
        Registry(home, url)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.as_record())
    assert password not in shown
    assert quote(password, safe="") not in shown
    assert caught.value.exit_code == 5
    return caught.value


@pytest.mark.parametrize(("user", "password"), [("postgres", "wr0ng-p4ss"), ("stranger", PASSWORD), ("postgres", "")])
def test_a_wrong_user_or_password_is_said_to_be_one(
    cluster: Cluster, empty: str, tmp_path: Path, user: str, password: str
) -> None:
    url = cluster.url(empty.rpartition("/")[2], user=user, password=password)
    error = refused(tmp_path, url, password or PASSWORD)
    assert f"127.0.0.1:{cluster.port}" in error.message
    assert "user and the password" in error.hint


def test_a_database_that_is_not_there_is_named_with_how_to_make_it(cluster: Cluster, tmp_path: Path) -> None:
    error = refused(tmp_path, cluster.url("nowhere"))
    assert "nowhere" in error.message
    assert "createdb nowhere" in error.hint


def test_a_user_who_may_not_make_tables_is_told_what_to_grant(cluster: Cluster, empty: str, tmp_path: Path) -> None:
    name = empty.rpartition("/")[2]
    cluster.run("revoke create on schema public from public", name=name)
    error = refused(tmp_path, cluster.url(name, user="worker"))
    assert "permission denied" in error.message
    assert f"alter database {name} owner to" in error.hint
    cluster.run(f"alter database {name} owner to worker")
    Registry(tmp_path, cluster.url(name, user="worker")).start("run", "tiny", {})


def test_an_option_that_nobody_knows_is_said_to_be_one(empty: str, tmp_path: Path) -> None:
    error = refused(tmp_path, f"{empty}?sslmod=require")
    assert "sslmod" in error.message


def test_options_of_the_url_win_over_what_is_set_else(cluster: Cluster, empty: str) -> None:
    engine = database.database(f"{empty}?application_name=line-7&connect_timeout=3").engine
    with engine.connect() as connection:
        assert connection.execute(text("select current_setting('application_name')")).scalar() == "line-7"


def test_a_server_that_goes_away_in_the_middle_of_a_run_is_no_bug(cluster: Cluster, empty: str, tmp_path: Path) -> None:
    registry, name = Registry(tmp_path, empty), empty.rpartition("/")[2]
    registry.start("run", "tiny", {})
    cluster.run(f"alter database {name} allow_connections false")
    with pytest.raises(EnvironmentUnfit, match=name) as caught:
        registry.finish_stage("run", "prepare", "Dataset", artifact(), kept=False, seconds=1)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    cluster.run(f"alter database {name} allow_connections true")
    registry.finish_stage("run", "prepare", "Dataset", artifact(), kept=False, seconds=1)
    assert [stage.name for stage in registry.runs()[0].stages] == ["prepare"]
