"""Free drafting on a site: nothing drafted is served before another solved it or a person accepted it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from registry_parts import Cluster, lacking, running_cluster
from typer.testing import CliRunner

from toolkit import defaults
from toolkit.artifacts import Dataset
from toolkit.cli.main import build_app
from toolkit.errors import DataError, EnvironmentUnfit, PlanError, Refused, UsageError
from toolkit.plan import Options, Plan
from toolkit.plugins import load_plugins
from toolkit.protocols import PredictorFacts
from toolkit.registry.database import Database, database, sqlite
from toolkit.resolve import Layer, draft_layer, resolve, thaw
from toolkit.serving.access import Identity
from toolkit.tasks.asking import ask_by
from toolkit.text import Completion, GenerationRequest, Prompt, TextDelta
from toolkit.text_teachers import AskedTeacher
from toolkit_education import domain
from toolkit_education.desk import Wanted
from toolkit_education.draft_records import MOST_REFUSED, DraftRecords
from toolkit_education.draft_room import read_tables
from toolkit_education.drafting import converted
from toolkit_education.learner_records import HEAD, LearnerRecords
from toolkit_education.sense import AGREES, DISAGREES, UNDECIDED, Verdict, number_sets, problem_in
from toolkit_education.sense_gate import Drafted
from toolkit_education.service import desk_of, education_service

GOOD = (
    "Ria bakes 24 muffins and sells 15 of them at the fair. Her brother then brings 8 more muffins. How many muffins "
    "are there now?\nRia has 24-15 = <<24-15=9>>9 muffins left.\nWith her brother's there are 9+8 = <<9+8=17>>17 "
    "muffins.\n#### 17"
)
TURNED = GOOD.replace("8 more", "8 fewer")
ODD = (
    "Omar opens 12 windows for 5 minutes each. How many minutes are windows open in the house?\n"
    "They are open 12*5 = <<12*5=60>>60 minutes.\n#### 60"
)
OPEN = {name: {"value": 1.0, "low": 0.97} for name in ("sense_human", "sense_nonsense", "sense_drafts")}


@dataclass
class Writer:
    """A student that drafts what it is told to, one after the other."""

    texts: Sequence[str]
    written: int = 0
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        """Anything goes."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        assert request.calculator
        text = self.texts[self.written % len(self.texts)]
        self.written += 1
        yield TextDelta(request.id, text, "stop")


def program_of(problem: str) -> str | None:
    """Understands GOOD's sentences, finds nothing in TURNED's, is silent on all else: a stand-in for a large model."""
    words = problem.split()
    if "fewer" in words:
        return "That cannot be.\n#### none"
    if words[:2] != ["Ria", "bakes"]:
        return None
    numbers = [int(one) for one in words if one.isdigit()]
    return f"First {numbers[0]} - {numbers[1]}, then plus {numbers[2]}.\n#### {numbers[0] - numbers[1] + numbers[2]}"


def asking(problems: list[str] | None = None, fails: Exception | None = None, at: str = "") -> Any:
    """`ask` on a site, of one solver; `at` is where it is."""

    def answers(prompts: Sequence[Prompt]) -> Iterator[Completion]:
        for prompt in prompts:
            if fails is not None:
                raise fails
            problem = problem_in(prompt.messages)
            if problems is not None:
                problems.append(problem)
            said = program_of(problem)
            if said is not None:
                yield Completion(prompt.id, said)

    def ask(name: str, tables: Any = None) -> AskedTeacher:
        model = (tables or {}).get("teacher_http", {}).get("model", "large")
        return AskedTeacher(f"http:{model}@there", "f", answers)

    return ask


def bundle_of(metrics: Any = OPEN, **settings: Any) -> dict[str, Any]:
    plugins = load_plugins("education", defaults)
    table = {"free_drafting": True, "solver": "http", "redrawn": 2} | settings
    plan = resolve([Layer("--set", {"domain": "education", "task": "text_generation", "education": table})],
                   plugins.settings()).plan  # fmt: skip
    return {"id": "b-1", "product": "tutor", "plan": plan.model_dump(mode="json"), "files": {"bank": b""},
            "metrics": metrics}  # fmt: skip


def problems_of(desk: Any, many: int = 40) -> list[Any]:
    """What learners are given of the drafts' skills and levels."""
    found = []
    for skill in ("one_step_problems", "two_step_problems"):
        for level in (1, 2, 3, 4, 5):
            found += [
                asyncio.run(desk.serve("", Wanted(skill=skill, level=level, seed=seed))).item for seed in range(many)
            ]
    return found


def drafts_in(items: Sequence[Any]) -> set[str]:
    return {item.source for item in items if item.source.startswith("draft")}


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_what_the_solver_agrees_on_is_served_what_it_refuses_never_and_the_rest_waits(tmp_path: Path) -> None:
    desk, room = desk_of(tmp_path, bundle_of(), Writer([GOOD, TURNED, ODD, "no draft"]), asking())
    made = asyncio.run(room.draft(4))
    assert [one.outcome for one in made] == ["solved", "refused", "waiting", "refused"]
    assert made[1].because == "the solver finds no answer in it"
    assert made[2].because == "the solver says nothing"
    items = problems_of(desk)
    assert drafts_in(items) == {"draft/solver"}
    assert all(item.checks for item in items)
    assert all("Ria bakes" in item.problem for item in items if item.source.startswith("draft"))
    assert len({item.problem for item in items if item.source.startswith("draft")}) > 3
    accepted = room.review(made[2].id, accept=True, reviewer="ms-lin", note="sense enough")
    assert (accepted.outcome, accepted.reviewer, accepted.note) == ("accepted", "ms-lin", "sense enough")
    items = problems_of(desk)
    assert drafts_in(items) == {"draft/solver", "draft/person"}
    room.review(made[0].id, accept=False, reviewer="ms-lin", note="")
    assert drafts_in(problems_of(desk)) == {"draft/person"}


def test_nothing_waiting_refused_or_rejected_is_ever_servable(tmp_path: Path) -> None:
    records = records_of(sqlite(tmp_path / "state.db"))
    model = converted(GOOD)
    for number, outcome in enumerate((UNDECIDED, DISAGREES, AGREES)):
        records.add(Drafted(f"{GOOD}{number}", model, Verdict(outcome, "why")), "student", "solver")
    assert [one.source for one in records.servable(solved=True)] == ["draft/solver"]
    assert records.servable(solved=False) == []
    waiting = records.listed("waiting", 9)[0]
    records.review(waiting.id, "rejected", "me", "")
    assert records.servable(solved=False) == []
    with pytest.raises(DataError, match="is rejected by me and cannot become accepted"):
        records.review(waiting.id, "accepted", "you", "")
    refused = records.listed("refused", 9)[0]
    with pytest.raises(DataError, match="cannot become accepted"):
        records.review(refused.id, "accepted", "you", "")
    with pytest.raises(DataError, match="no such draft"):
        records.review("x", "accepted", "you", "")


@pytest.mark.parametrize("fails", [EnvironmentUnfit("nobody answers there"), Refused("the budget is spent")])
def test_a_solver_that_is_away_leaves_all_to_a_person(fails: Exception, tmp_path: Path) -> None:
    desk, room = desk_of(tmp_path, bundle_of(), Writer([GOOD]), asking(fails=fails))
    (made,) = asyncio.run(room.draft(1))
    assert (made.outcome, made.because) == ("waiting", str(fails))
    assert drafts_in(problems_of(desk, 10)) == set()


def test_the_agreement_of_another_solver_than_the_measured_one_is_left_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "education").mkdir()
    tables = tmp_path / "education" / "solver.toml"
    tables.write_text('[teacher_http]\nurl = "http://elsewhere/v1"\n')
    _, room = desk_of(tmp_path, bundle_of(), Writer([GOOD]), asking())
    assert [one.outcome for one in asyncio.run(room.draft(1))] == ["solved"]
    tables.write_text('[teacher_http]\nmodel = "small"\n')
    other = GOOD.replace("the fair", "the market")
    _, room = desk_of(tmp_path, bundle_of(), Writer([other.replace("muffins", "cakes")]), asking())
    (made,) = asyncio.run(room.draft(1))
    assert made.outcome == "waiting"
    assert "another solver" in made.because


def test_a_person_decides_at_the_command_line(tmp_path: Path) -> None:
    def toolkit(*words: str) -> dict[str, Any]:
        said = CliRunner().invoke(build_app(), ["drafts", *words, "--site", str(tmp_path), "--json"])
        if said.exception is not None:
            raise said.exception
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    with pytest.raises(UsageError, match="no tutor was ever served"):
        toolkit("list")
    desk, room = desk_of(tmp_path, bundle_of(), Writer([ODD]), asking())
    (made,) = asyncio.run(room.draft(1))
    listed = toolkit("list")
    assert (listed["counts"]["waiting"], [one["id"] for one in listed["drafts"]]) == (1, [made.id])
    shown = toolkit("show", made.id)
    assert (shown["because"], shown["items"][0]["answer"]) == ("the solver says nothing", "60")
    assert len({item["problem"] for item in shown["items"]}) == 3
    accepted = toolkit("accept", made.id, "--note", "it makes sense here", "--by", "ms-lin")
    assert (accepted["outcome"], accepted["reviewer"]) == ("accepted", "ms-lin")
    assert drafts_in(problems_of(desk, 10)) == {"draft/person"}
    assert toolkit("reject", made.id)["outcome"] == "rejected"
    with pytest.raises(DataError, match="cannot become accepted"):
        toolkit("accept", made.id)
    text = CliRunner().invoke(build_app(), ["drafts", "list", "--outcome", "rejected", "--site", str(tmp_path)]).stdout
    assert made.id in text
    assert "Omar opens 12 windows" in text


@pytest.mark.parametrize("text", ["x = ", "x = 1", '"', "\x00"])
def test_a_sites_file_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "education").mkdir()
    (tmp_path / "education" / "solver.toml").write_text(text)
    with pytest.raises(DataError, match=r"solver\.toml"):
        read_tables(tmp_path)
    assert read_tables(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("metrics", "settings", "why"),
    [
        ({}, {}, "people's own problems"),
        (OPEN | {"sense_nonsense": {"low": 0.89}}, {}, "planted nonsense"),
        (OPEN | {"sense_drafts": {"low": 0.1}}, {}, "free drafts"),
        (OPEN, {"free_drafting": False}, "is off"),
    ],
)
def test_a_gate_that_is_not_passed_drafts_nothing_and_serves_only_what_a_person_accepted(
    metrics: Any, settings: Any, why: str, tmp_path: Path
) -> None:
    _, before = desk_of(tmp_path, bundle_of(), Writer([GOOD, ODD]), asking())
    solved, waiting = asyncio.run(before.draft(2))
    before.review(waiting.id, accept=True, reviewer="me", note="")
    writer, problems = Writer([GOOD]), list[str]()
    desk, room = desk_of(tmp_path, bundle_of(metrics, **settings), writer, asking(problems))
    with pytest.raises(Refused, match=why):
        asyncio.run(room.draft(1))
    assert (writer.written, problems) == (0, [])
    assert drafts_in(problems_of(desk)) == {"draft/person"}
    assert solved.outcome == "solved"


def test_a_draft_is_no_copy_of_one_that_waits_and_is_kept_once(tmp_path: Path) -> None:
    _, room = desk_of(tmp_path, bundle_of(), Writer([ODD, ODD.replace("12", "14").replace("60", "70")]), asking())
    first, second = asyncio.run(room.draft(1))[0], asyncio.run(room.draft(1))[0]
    assert (first.outcome, second.because) == ("waiting", "it copies a problem of the bank")
    again = asyncio.run(room.draft(1))[0]
    assert (again.id, again.outcome) == (first.id, "waiting"), "it stays what it was"
    assert room.records.counts() == {"waiting": 1, "solved": 0, "accepted": 0, "refused": 1, "rejected": 0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := lacking():
        pytest.skip(reason)
    with running_cluster() as running:
        yield running


# --- the database --------------------------------------------------------------------------------------------------


def records_of(where: Database) -> DraftRecords:
    LearnerRecords(where)
    return DraftRecords(where)


def test_two_reviewers_at_once_do_not_both_decide(tmp_path: Path) -> None:
    records = records_of(sqlite(tmp_path / "state.db"))
    kept = records.add(Drafted(GOOD, converted(GOOD), Verdict(UNDECIDED, "")), "student", "solver")

    def decide(number: int) -> bool:
        mine = DraftRecords(sqlite(tmp_path / "state.db"))
        try:
            mine.review(kept.id, "accepted", f"reviewer-{number}", "")
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(decide, range(8))) == 1


def test_drafts_that_come_at_once_are_numbered_one_by_one(tmp_path: Path) -> None:
    records = records_of(sqlite(tmp_path / "state.db"))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(
            lambda n: records.add(Drafted(f"text {n % 20}", None, Verdict(DISAGREES, "none")), "s", "t"), range(40)
        ))  # fmt: skip
    assert sorted({one.number for one in found}) == list(range(1, 21))
    assert [one.number for one in records.listed("refused", 5, after=7)] == [8, 9, 10, 11, 12]


def test_refused_drafts_are_examples_of_which_the_last_are_kept(tmp_path: Path, monkeypatch: Any) -> None:
    assert MOST_REFUSED >= 100
    monkeypatch.setattr("toolkit_education.draft_records.MOST_REFUSED", 5)
    records = records_of(sqlite(tmp_path / "state.db"))
    hostile = ["", "\x00", "\ud800 half", "“x”" * 9000, "'; drop table education_draft; --"]
    for number in range(12):
        records.add(Drafted(f"{hostile[number % 5]}{number}", None, Verdict(DISAGREES, "none")), "s", "t")
    kept = records.listed("refused", 100)
    assert [one.number for one in kept] == [8, 9, 10, 11, 12]
    assert all(len(one.text) <= 4000 for one in kept)


def test_learners_of_an_older_site_stay_when_the_table_of_drafts_comes(tmp_path: Path) -> None:
    where = sqlite(tmp_path / "state.db")
    learner = LearnerRecords(where).enrol()
    with where.changing() as connection:
        connection.exec_driver_sql("drop table education_draft")
        connection.exec_driver_sql("update education_version set version_num = 'education_0001'")
    again = sqlite(tmp_path / "state.db")
    assert LearnerRecords(again).export(learner)["learner"]["id"] == learner
    assert DraftRecords(again).counts()["waiting"] == 0
    with again.connect() as connection:
        assert connection.exec_driver_sql("select version_num from education_version").scalar() == HEAD


def test_erasing_a_learner_leaves_the_drafts(tmp_path: Path) -> None:
    where = sqlite(tmp_path / "state.db")
    learners, records = LearnerRecords(where), DraftRecords(where)
    kept = records.add(Drafted(GOOD, converted(GOOD), Verdict(UNDECIDED, "")), "student", "solver")
    learners.erase(learners.enrol())
    assert records.find(kept.id).outcome == "waiting"


def test_the_same_on_postgresql(cluster: Cluster) -> None:
    cluster.run("create database drafts")
    records = records_of(database(cluster.url("drafts")))
    kept = records.add(Drafted(GOOD, converted(GOOD), Verdict(UNDECIDED, "why")), "student", "solver")
    assert records.review(kept.id, "accepted", "me", "\u597d").note == "\u597d"
    assert len(records.servable(solved=False)) == 1


# --- over HTTP -----------------------------------------------------------------------------------------------------


def app_of(site: Path, bundle: Any, ask: Any, writer: Writer, role: Any = "operate") -> Any:
    from fastapi import FastAPI, Request

    from toolkit.serving.app import _add_errors

    app = FastAPI()

    @app.middleware("http")
    async def known(request: Request, call_next: Any) -> Any:
        request.state.identity = Identity("ms-lin", role)
        return await call_next(request)

    app.include_router(education_service(site, bundle, writer, ask).routes)
    _add_errors(app)
    return app


def http(app: Any, method: str, route: str, body: Any = None) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            return await client.request(method, route, json=body)

    return asyncio.run(asked())


def test_a_reviewer_lists_accepts_and_rejects_over_http(tmp_path: Path) -> None:
    app = app_of(tmp_path, bundle_of(), asking(), Writer([ODD, GOOD]))
    made = http(app, "POST", "/v1/drafts", {"many": 2}).json()["drafts"]
    assert [one["outcome"] for one in made] == ["waiting", "solved"]
    queue = http(app, "GET", "/v1/drafts").json()
    assert queue["counts"]["waiting"] == 1
    (waiting,) = queue["drafts"]
    assert len(waiting["items"]) == 3
    assert waiting["items"][0]["answer"] == "60"
    assert waiting["items"][0]["steps"]
    taken = http(app, "POST", f"/v1/drafts/{waiting['id']}/accept", {"note": "windows are fine"}).json()
    assert (taken["outcome"], taken["reviewer"]) == ("accepted", "ms-lin")
    assert http(app, "POST", f"/v1/drafts/{waiting['id']}/accept", {}).status_code == 422
    assert http(app, "POST", f"/v1/drafts/{waiting['id']}/reject", {}).json()["outcome"] == "rejected"
    assert http(app, "GET", "/v1/drafts?outcome=accepted").json()["drafts"] == []


@pytest.mark.parametrize(
    ("method", "route", "body"),
    [
        ("POST", "/v1/drafts", {"many": 0}), ("POST", "/v1/drafts", {"many": 1000}), ("POST", "/v1/drafts", {"x": 1}),
        ("GET", "/v1/drafts?outcome=all", None), ("GET", "/v1/drafts?after=-1", None),
        ("POST", "/v1/drafts/none/accept", {}), ("POST", "/v1/drafts/none/reject", {"note": "x" * 2000}),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_is_named(method: str, route: str, body: Any, tmp_path: Path) -> None:
    answer = http(app_of(tmp_path, bundle_of(), asking(), Writer([GOOD])), method, route, body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


def test_a_key_of_a_learners_app_may_neither_draft_nor_review(tmp_path: Path) -> None:
    app = app_of(tmp_path, bundle_of(), asking(), Writer([GOOD]), role="infer")
    for method, route, body in (
        ("POST", "/v1/drafts", {"many": 1}), ("GET", "/v1/drafts", None), ("POST", "/v1/drafts/x/accept", {}),
        ("POST", "/v1/drafts/x/reject", {}),
    ):  # fmt: skip
        answer = http(app, method, route, body)
        assert answer.json()["error"]["code"] == "forbidden", route
    assert http(app, "POST", "/v1/problem", {"skill": "addition"}).status_code == 200


def test_a_gate_that_refuses_says_so_over_http(tmp_path: Path) -> None:
    app = app_of(tmp_path, bundle_of({}), asking(), Writer([GOOD]))
    answer = http(app, "POST", "/v1/drafts", {"many": 1})
    assert answer.json()["error"]["code"] == "refused"
    assert answer.status_code == 409
    assert "people's own problems" in http(app, "GET", "/v1/drafts").json()["drafting"]


# --- a solver behind an endpoint -----------------------------------------------------------------------------------


class StandIn(BaseHTTPRequestHandler):
    """A stand-in for a large model behind OpenAI's chat completions: it reads the problem alone, as `program_of`
    does."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = body["messages"][-1]["content"]
        said = program_of(content.rpartition("\n\n")[2]) or "I cannot tell."
        message = {"role": "assistant", "content": said}
        answer = json.dumps({
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        }).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """It says nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_teacher_http_solves_on_a_site_as_it_is(endpoint: str, tmp_path: Path) -> None:
    plugins = load_plugins("education", defaults)
    bundle = bundle_of()
    bundle["plan"]["teacher_http"] |= {"url": "http://127.0.0.1:9/v1", "model": "stand-in", "licence": "MIT"}
    (tmp_path / "education").mkdir()
    (tmp_path / "education" / "solver.toml").write_text(f'[teacher_http]\nurl = "{endpoint}"\n')
    ask = ask_by(plugins, thaw(bundle["plan"], plugins.settings()))
    _, room = desk_of(tmp_path, bundle, Writer([GOOD, TURNED, ODD]), ask)
    found = asyncio.run(room.draft(3))
    assert [one.outcome for one in found] == ["solved", "refused", "waiting"]
    assert found[0].solver.startswith("http:stand-in@127.0.0.1")


# --- the line ------------------------------------------------------------------------------------------------------


def planned(**settings: Any) -> Plan:
    plugins = load_plugins("education", defaults)
    draft = draft_layer(plugins.hook.draft_plan(options=Options("education")))
    table = {"domain": "education", "education": {"dressings": 2, "tested": 1} | settings}
    return resolve([Layer("--set", table), draft], plugins.settings()).plan


@dataclass
class Compiled:
    """A compiled student as the gate scores it: it drafts one thing, and re-themes nothing."""

    text: str
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("compiled", "test", ""))

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        for request in requests:
            yield TextDelta(request.id, self.text if request.id.startswith("draft-") else "?", "stop")

    def logprobs(self, texts: Any) -> Any:
        raise AssertionError("it is not looked into")


def prepared(plan: Plan, folder: Path) -> Dataset:
    folder.mkdir()
    found: Dataset = load_plugins("education", defaults).hook.prepare_data(
        plan=plan, source=None, purpose="train", workspace=folder, classes=(), report=lambda *_: None
    )
    return found


def test_the_gates_figures_are_measured_of_the_compiled_student_and_no_other(tmp_path: Path) -> None:
    plan = planned(free_drafting=True, solver="curriculum-solver", judged=12, drafts_learnt=20, redrawn=1)
    dataset = prepared(plan, tmp_path / "dataset")
    assert dataset.facts["counts"]["train"]["draft"] > 0
    ask = ask_by(load_plugins("education", defaults), plan, tmp_path / "home")
    found = domain.evaluate(plan, dataset, Compiled(GOOD), ask)
    assert found.metrics["sense_human"].value == 1.0
    assert found.metrics["sense_nonsense"].value == 1.0
    assert found.metrics["sense_drafts"].value == 0.0, "the solver knows nothing of it"
    assert found.facts["sense_gate"]["solver"].startswith("curriculum-solver")
    assert {table["title"] for table in found.facts["tables"]} == {"Planted nonsense", "Free drafts"}
    json.dumps(found.facts)
    student = Compiled(GOOD, PredictorFacts("student", "test", ""))
    assert "sense_human" not in domain.evaluate(plan, dataset, student, ask).metrics
    off = planned()
    assert "sense_human" not in domain.evaluate(off, dataset, Compiled(GOOD), ask).metrics
    assert "draft" not in prepared(off, tmp_path / "other").facts["counts"]["train"]


@pytest.mark.parametrize(
    "settings", [{"free_drafting": True}, {"free_drafting": True, "solver": "http", "drafter": "http"}]
)
def test_a_plan_whose_drafts_nobody_else_solves_is_refused(settings: Any) -> None:
    with pytest.raises(PlanError, match="solver"):
        planned(**settings)


def test_a_problem_with_sense_stays_the_same_problem_with_other_numbers() -> None:
    assert len(number_sets(converted(GOOD), 3, 0)) == 4
