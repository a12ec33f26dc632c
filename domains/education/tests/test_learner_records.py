"""Learners in SQLite and in a real PostgreSQL: nothing lost, all exported, nothing left after an erasure."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from registry_parts import Cluster, lacking, running_cluster
from sqlalchemy import event, text

import toolkit_education
from toolkit.errors import DataError, EnvironmentUnfit
from toolkit.registry import database
from toolkit.registry.store import Registry
from toolkit_education import learner_records
from toolkit_education.learner import State, answered
from toolkit_education.learner_records import LearnerRecords
from toolkit_education.learner_tables import PREFIX, Base

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := lacking():
        pytest.skip(reason)
    with running_cluster() as running:
        yield running


@dataclass(frozen=True)
class Place:
    url: str

    def open(self) -> LearnerRecords:
        return LearnerRecords(database.database(self.url))

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        engine = database.database(self.url).engine
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            found = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return found


numbers = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(f"sqlite:///{tmp_path / 'site.db'}")
    cluster: Cluster = request.getfixturevalue("cluster")
    name = f"learners{next(numbers)}"
    cluster.run(f"create database {name}")
    return Place(cluster.url(name))


def answer(records: LearnerRecords, learner: str, number: int = 0, *, right: bool = True, skill: str = "add") -> None:
    records.answer(
        learner, f"item-{number}", skill, 1 + number % 3, right=right, verdict="equal" if right else "wrong: 7 for 12",
        when=NOON + timedelta(minutes=number),
    )  # fmt: skip


def together(*work: Callable[[], object]) -> None:
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


def test_what_is_kept_is_what_the_model_computes(place: Place) -> None:
    records = place.open()
    learner = records.enrol()
    state = State()
    for number in range(8):
        right, skill = number % 3 != 1, "add" if number % 2 else "area"
        answer(records, learner, number, right=right, skill=skill)
        state = answered(state, skill, 1 + number % 3, right, NOON + timedelta(minutes=number))
    found = place.open().state(learner)
    assert dict(found.difficulties) == dict(state.difficulties)
    assert found.knowledge.keys() == state.knowledge.keys() == {"add", "area"}
    for skill, known in state.knowledge.items():
        kept = found.knowledge[skill]
        assert kept.posterior.tolist() == known.posterior.tolist()
        assert (kept.mean, kept.error, kept.answers) == (known.mean, known.error, known.answers)
        assert kept.card.to_dict() == known.card.to_dict()


def test_difficulties_are_the_sites_and_knowledge_is_the_learners(place: Place) -> None:
    records = place.open()
    one, two = records.enrol(), records.enrol()
    answer(records, one, right=False)
    answer(records, two, right=False)
    assert records.state(one).difficulties["add", 1].answers == 2
    assert records.state(one).knowledge["add"].answers == 1
    assert one != two
    assert len(one) == 32


def test_only_the_first_answer_to_an_item_is_kept(place: Place) -> None:
    records = place.open()
    learner, other = records.enrol(), records.enrol()
    together(*[lambda: answer(place.open(), learner, 7, right=False)] * 4)
    before = records.state(learner)
    answer(records, learner, 7)
    assert len(records.export(learner)["answers"]) == records.state(learner).knowledge["add"].answers == 1
    assert records.state(learner).difficulties == before.difficulties
    answer(records, other, 7)
    assert len(records.export(other)["answers"]) == 1


def test_answers_of_one_learner_at_once_are_all_kept(place: Place) -> None:
    records = place.open()
    learner, other = records.enrol(), records.enrol()
    each, threads = 5, 6

    def work(who: str, start: int) -> Callable[[], None]:
        own = place.open()
        return lambda: [answer(own, who, start + number) for number in range(each)] and None

    together(*(work(learner if part % 3 else other, part * each) for part in range(threads)))
    expected = {learner: each * 4, other: each * 2}
    for who, count in expected.items():
        found = records.export(who)
        assert len(found["answers"]) == count
        assert found["knowledge"][0]["answers"] == count
    total = sum(one.answers for one in records.state(learner).difficulties.values())
    assert total == each * threads


def test_several_processes_may_answer_at_once(place: Place) -> None:
    records = place.open()
    learner = records.enrol()
    script = (
        "import sys; from datetime import UTC, datetime\n"
        "from toolkit.registry import database\n"
        "from toolkit_education.learner_records import LearnerRecords\n"
        "records = LearnerRecords(database.database(sys.argv[1]))\n"
        "for n in range(5):\n"
        "    records.answer(sys.argv[2], f'{sys.argv[3]}-{n}', 'add', 1, right=True, verdict='equal',"
        " when=datetime.now(UTC))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, place.url, learner, str(n)]) for n in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert records.state(learner).knowledge["add"].answers == 15


def test_first_starts_at_once_make_the_tables_once(place: Place) -> None:
    together(*[place.open] * 4)
    assert place.rows("select version_num from education_version") == [(learner_records.HEAD,)]


def test_an_item_is_served_to_a_learner_once(place: Place) -> None:
    records = place.open()
    learner, other = records.enrol(), records.enrol()
    content = {"problem": "小明有 3 个苹果", "answer": "3/4"}
    assert records.serve(learner, "item-1", "add", 2, when=NOON, content=content)
    assert not records.serve(learner, "item-1", "add", 2, when=NOON)
    assert records.repeated(learner, "item-1")
    assert not records.repeated(other, "item-1")
    assert not records.repeated(learner, "item-2")
    assert records.serve(other, "item-1", "add", 2, when=NOON)
    assert records.content(learner, "item-1") == content
    assert records.content(other, "item-1") is None
    won: list[bool] = []
    together(*[lambda: won.append(place.open().serve(learner, "item-9", "area", 1, when=NOON))] * 4)
    assert sorted(won) == [False, False, False, True]
    assert records.recent(learner) == ["add", "area"]


def test_an_export_holds_every_row_of_the_learner_and_no_other_and_is_json(place: Place) -> None:
    records = place.open()
    learner, other = records.enrol(), records.enrol()
    for number in range(3):
        answer(records, learner, number, right=number != 1)
        records.serve(learner, f"item-{number}", "add", 1, when=NOON, content={"problem": f"{number} + 1"})
    answer(records, other, 77)
    found = json.loads(json.dumps(records.export(learner)))
    assert found["format"] == learner_records.FORMAT
    assert found["learner"]["id"] == learner
    assert [one["verdict"] for one in found["answers"]] == ["equal", "wrong: 7 for 12", "equal"]
    assert [one["right"] for one in found["answers"]] == [True, False, True]
    assert found["answers"][1]["answered"] == "2026-03-02T12:01:00+00:00"
    assert found["served"][2]["content"] == {"problem": "2 + 1"}
    assert found["knowledge"][0]["ability"] == records.state(learner).knowledge["add"].mean
    assert other not in json.dumps(found)
    assert "item-77" not in json.dumps(found)
    sections = {"education_learner": [found["learner"]], "education_answer": found["answers"]}
    sections |= {"education_served": found["served"], "education_knowledge": found["knowledge"]}
    personal = {n: t for n, t in Base.metadata.tables.items() if "learner" in t.c or n == "education_learner"}
    assert sections.keys() == personal.keys()  # a new table about learners must be exported and erased too
    for name, table in personal.items():
        assert set(table.c.keys()) <= set(sections[name][0]), name


def test_an_erased_learner_is_nowhere_and_the_others_stay(place: Place) -> None:
    records = place.open()
    learner, other = records.enrol(), records.enrol()
    for number in range(4):
        for who in (learner, other):
            answer(records, who, number)
            records.serve(who, f"item-{number}", "add", 1, when=NOON)
    before = records.export(other)
    records.erase(learner)
    for name, table in Base.metadata.tables.items():
        for row in place.rows(f"select * from {name}"):
            assert learner not in map(str, row), name
        if "learner" in table.c:
            assert place.rows(f"select count(*) from {name}") != [(0,)]
    assert records.export(other) == before
    for use in (records.state, records.export, records.erase, records.recent):
        with pytest.raises(DataError, match="no such learner"):
            use(learner)
    with pytest.raises(DataError, match="no such learner"):
        answer(records, learner)
    with pytest.raises(DataError, match="no such learner"):
        records.serve(learner, "item-1", "add", 1, when=NOON)
    assert records.state(other).difficulties["add", 1].answers == 4  # two items each: means stay


def test_no_byte_of_an_erased_learner_stays_in_the_file_or_its_log(tmp_path: Path) -> None:
    opened = [database.sqlite(tmp_path / "site.db") for _ in range(2)]
    for one in opened:  # some builds of SQLite overwrite what is deleted by themselves: not to be relied on
        event.listen(one.engine, "connect", lambda connection, _: connection.execute("pragma secure_delete = off"))
    records, keeper = map(LearnerRecords, opened)
    learner, other = records.enrol(), records.enrol()
    for number in range(30):
        answer(records, learner, number, skill=f"skill-{number % 5}")
        answer(keeper, other, number)

    def held() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.glob("site.db*")))

    assert learner.encode() in held()
    records.erase(learner)
    assert learner.encode() not in held()
    assert other.encode() in held()


def test_a_reader_that_keeps_the_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_records, "PATIENCE_SECONDS", 0.2)
    records = Place(f"sqlite:///{tmp_path / 'site.db'}").open()
    learner = records.enrol()
    reader = sqlite3.connect(tmp_path / "site.db")
    reader.execute("begin")
    reader.execute("select * from education_learner").fetchall()
    with pytest.raises(EnvironmentUnfit, match="still holds what was erased"):
        records.erase(learner)
    reader.close()
    records.purge()
    assert (tmp_path / "site.db-wal").stat().st_size == 0


def test_answering_while_the_learner_is_erased_leaves_nothing_behind(place: Place) -> None:
    records = place.open()
    learner = records.enrol()

    def keep_answering() -> None:
        own, until = place.open(), time.monotonic() + 40
        for number in itertools.count():
            try:
                answer(own, learner, number)
            except DataError:
                return
            assert time.monotonic() < until, "the learner was never erased"
            time.sleep(0.005)  # SQLite is no fair queue: whoever asks again at once keeps the others out

    together(keep_answering, lambda: records.erase(learner))
    assert place.rows("select count(*) from education_answer") == [(0,)]
    assert place.rows("select count(*) from education_knowledge") == [(0,)]


def test_a_failed_answer_changes_nothing(place: Place) -> None:
    records = place.open()
    learner = records.enrol()
    with pytest.raises(DataError, match="no level 0"):
        records.answer(learner, "item", "add", 0, right=True, verdict="equal", when=NOON)
    with pytest.raises(DataError, match="no time zone"):
        records.answer(learner, "item", "add", 1, right=True, verdict="equal", when=NOON.replace(tzinfo=None))
    assert records.state(learner) == State()
    assert records.export(learner)["answers"] == []


def test_the_migrations_make_exactly_the_tables_of_the_models(place: Place) -> None:
    place.open()
    engine = database.database(place.url).engine

    def ours(item: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        return kind != "table" or ((name or "").startswith(PREFIX) and name != "education_version")

    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
    engine.dispose()


def test_the_registry_and_the_learners_share_a_database_in_either_order(place: Place, tmp_path: Path) -> None:
    Registry(tmp_path, place.url)
    learner = place.open().enrol()
    assert Registry(tmp_path, place.url).runs() == []
    assert place.open().state(learner) == State()
    assert len(place.rows("select * from alembic_version")) == 1


def test_the_migration_can_be_undone_and_a_newer_database_is_refused(place: Place) -> None:
    place.open()
    place.rows("update education_version set version_num = 'education_9999'")
    with pytest.raises(EnvironmentUnfit, match="newer version"):
        place.open()
    place.rows(f"update education_version set version_num = '{learner_records.HEAD}'")
    config = Config()
    config.set_main_option("script_location", str(Path(toolkit_education.__file__).parent / "migrations"))
    engine = database.database(place.url).engine
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "education@base")
        assert not connection.dialect.has_table(connection, "education_learner")
    engine.dispose()
    assert place.open().enrol()


def test_no_column_could_hold_a_name_or_the_schools_id() -> None:
    columns = [(name, column) for name, table in Base.metadata.tables.items() for column in table.c]
    words = ("name", "school", "mail", "class", "birth")
    assert [(name, column.name) for name, column in columns if any(word in column.name for word in words)] == []
