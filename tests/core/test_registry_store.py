"""The registry: a schema that the migrations really make, several writers at once, and what it says of damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

import toolkit.registry
from toolkit.artifacts import Artifact, Student
from toolkit.errors import EnvironmentUnfit, GateRefused
from toolkit.plan import Plan
from toolkit.protocols import RunRecord
from toolkit.registry.models import Base
from toolkit.registry.recorder import RegistryRecorder
from toolkit.registry.store import HEAD, Registry

MIGRATIONS = Path(toolkit.registry.__file__).parent / "migrations"


def artifact(digest: str = "d" * 64, **facts: object) -> Artifact:
    return Artifact(Path("/nowhere"), digest, ("p" * 64,), facts)


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Engine]:
    Registry(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    yield engine
    engine.dispose()


def test_the_migrations_make_exactly_the_models_schema(migrated: Engine) -> None:
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_constraints_and_indexes_are_the_models_too(migrated: Engine, tmp_path: Path) -> None:
    """What compare_metadata does not look at on SQLite: unique and foreign keys with their actions, and indexes."""
    fresh = create_engine(f"sqlite:///{tmp_path / 'models.db'}")
    Base.metadata.create_all(fresh)
    by_migration, by_models = inspect(migrated), inspect(fresh)
    for table in Base.metadata.tables:
        for look in ("get_unique_constraints", "get_foreign_keys", "get_indexes", "get_pk_constraint"):
            found, wanted = getattr(by_migration, look)(table), getattr(by_models, look)(table)
            assert sorted(map(str, found)) == sorted(map(str, wanted)), (table, look)
    fresh.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [HEAD]


def test_the_version_on_disk_is_head(migrated: Engine) -> None:
    with migrated.connect() as connection:
        assert connection.exec_driver_sql("select version_num from alembic_version").scalars().all() == [HEAD]


def test_a_run_is_listed_with_its_stages_in_order(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.start("run-1", "tiny", {"domain": "tiny"})
    registry.finish_stage("run-1", "prepare", "Dataset", artifact("a" * 64, rows=3), kept=False, seconds=1.5)
    registry.finish_stage("run-1", "label", "TeacherLabels", artifact("b" * 64), kept=True, seconds=0.1)
    registry.end("run-1")
    (run,) = Registry(tmp_path).runs()
    assert (run.id, run.domain, run.outcome, run.error, run.plan) == ("run-1", "tiny", "done", None, {"domain": "tiny"})
    assert [(s.name, s.kept, s.seconds, s.artifact_digest[0]) for s in run.stages] == [
        ("prepare", False, 1.5, "a"),
        ("label", True, 0.1, "b"),
    ]
    assert run.ended is not None
    assert run.ended >= run.started


def test_the_newest_runs_come_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for number in range(5):
        registry.start(f"run-{number}", "tiny", {})
    assert [run.id for run in registry.runs(3)] == ["run-4", "run-3", "run-2"]


def test_a_failed_run_says_where_and_why(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    recorder = RegistryRecorder(registry)
    run = RunRecord("run-1", Plan(domain="tiny"), tmp_path)
    recorder.run_started(run)
    recorder.stage_finished(run, "prepare", Student(tmp_path, "e" * 64), kept=False)
    recorder.run_failed(run, "gate", GateRefused("not good enough", hint="more data"))
    (found,) = registry.runs()
    assert found.outcome == "failed"
    assert found.error == {"code": "gate", "message": "not good enough", "hint": "more data", "stage": "gate"}
    assert found.plan["domain"] == "tiny"
    recorder.run_started(RunRecord("run-2", Plan(domain="tiny"), tmp_path))
    recorder.run_failed(RunRecord("run-2", Plan(domain="tiny"), tmp_path), "label", KeyboardInterrupt())
    assert registry.runs()[0].error == {"code": "KeyboardInterrupt", "stage": "label"}


def test_a_run_that_was_killed_is_not_running_for_ever(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.start("killed", "tiny", {})
    registry.start("next", "tiny", {})
    registry.end("next")
    assert [(run.id, run.outcome) for run in registry.runs()] == [("next", "done"), ("killed", "interrupted")]


def test_estimates_come_from_the_last_time_a_stage_really_ran(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for run, kept, seconds in (("a", False, 10.0), ("b", False, 20.0), ("c", True, 0.1)):
        registry.start(run, "tiny", {})
        registry.finish_stage(run, "label", "TeacherLabels", artifact(), kept=kept, seconds=seconds)
    registry.start("d", "other", {})
    registry.finish_stage("d", "label", "TeacherLabels", artifact(), kept=False, seconds=99.0)
    assert registry.seconds_of("tiny") == {"label": 20.0}
    assert registry.seconds_of("nobody") == {}


def test_the_same_artifact_in_two_runs_is_one_row(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for run in ("a", "b"):
        registry.start(run, "tiny", {})
        registry.finish_stage(run, "label", "TeacherLabels", artifact(seen=run), kept=False, seconds=1)
    with sqlite3.connect(tmp_path / "registry.db") as database:
        assert database.execute("select count(*) from artifact").fetchone() == (1,)
        assert database.execute("select count(*) from stage").fetchone() == (2,)
    database.close()


WRITER = """
import sys
from pathlib import Path
from toolkit.artifacts import Artifact
from toolkit.registry.store import Registry
home, name = Path(sys.argv[1]), sys.argv[2]
for number in range(12):
    registry = Registry(home)
    run = f"{name}-{number}"
    registry.start(run, "tiny", {})
    for stage in ("prepare", "label"):
        registry.finish_stage(run, stage, "Artifact", Artifact(home, f"{number}-{stage}"), kept=False, seconds=1.0)
    registry.end(run)
"""


def test_several_processes_open_make_and_write_it_at_once(tmp_path: Path) -> None:
    """From an empty home, so the migrations meet too, and all write the same artifacts."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("a", "b", "c")
    ]
    problems = [writer.communicate(timeout=120)[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], problems
    runs = Registry(tmp_path).runs(100)
    assert len(runs) == 36
    assert {run.outcome for run in runs} == {"done"}
    assert {len(run.stages) for run in runs} == {2}


@pytest.mark.parametrize("damage", ["text", "head", "folder"])
def test_a_damaged_file_is_an_environment_that_does_not_fit(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "registry.db"
    if damage == "text":
        path.write_text("this is no database " * 100)
    elif damage == "head":
        Registry(tmp_path)
        with sqlite3.connect(path) as database:
            database.execute("pragma wal_checkpoint(truncate)")
        database.close()
        path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    else:
        path.mkdir()
    with pytest.raises(EnvironmentUnfit, match="cannot open the registry") as caught:
        Registry(tmp_path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_a_registry_of_a_newer_toolkit_is_said_to_be_one(tmp_path: Path) -> None:
    Registry(tmp_path)
    with sqlite3.connect(tmp_path / "registry.db") as database:
        database.execute("update alembic_version set version_num = '9999'")
    database.close()
    with pytest.raises(EnvironmentUnfit, match="registry") as caught:
        Registry(tmp_path)
    assert "newer" in caught.value.message + caught.value.hint


def test_a_half_made_registry_is_finished(tmp_path: Path) -> None:
    """A first start that was killed between the tables and the version."""
    sqlite3.connect(tmp_path / "registry.db").close()
    Registry(tmp_path).start("run-1", "tiny", {})
    assert [run.id for run in Registry(tmp_path).runs()] == ["run-1"]
