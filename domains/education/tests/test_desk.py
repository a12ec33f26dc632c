"""The tutor: what it serves is verified and new, follows the theme where that can be trusted, and is marked and
remembered."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from toolkit.errors import DataError
from toolkit.plan import Plan
from toolkit.protocols import PredictorFacts
from toolkit.registry.database import sqlite
from toolkit.serving.written import SEEN, seen
from toolkit.stages.check import _curl_of
from toolkit.text import GenerationRequest, Message, TextDelta
from toolkit_education.banks import read_bank
from toolkit_education.desk import Desk, Wanted, by_place
from toolkit_education.domain import EducationPlan
from toolkit_education.generators import models, templates
from toolkit_education.generators.themes import theme, themes
from toolkit_education.items import as_record, compute
from toolkit_education.learner_records import LearnerRecords
from toolkit_education.own_words import checked_words, with_words
from toolkit_education.practising import said
from toolkit_education.records import model_from_record
from toolkit_education.relations import carried
from toolkit_education.retheming import draft_of, prompt_of
from toolkit_education.service import desk_of, education_service

ART = theme("art").words
DRAGONS = {"A": "Zed", "thing": "dragon", "things": "dragons"}
BANK = by_place([replace(one, source="own", id=f"own/{one.id}") for one in models("two_step_problems", 2, "en", "art")])
GOLD = {
    prompt_of(model): draft_of(model, said(template, language, ART[language]))
    for skill, several in templates().items()
    for template in several
    for language in ART
    for model in models(skill, template.levels[0], language, "art")
    if model.id.startswith(template.key)
}


@dataclass
class Student:
    """Knows the words of the curriculum, or says one thing; counts how often it was asked."""

    says: str | None = None
    asked: int = 0
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        """Anything goes."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        self.asked += 1
        text = self.says if self.says is not None else GOLD.get(request.messages[-1].content, "")
        yield TextDelta(request.id, text, "stop")


UNFIT = {
    "en": (
        "guns", "bitches", "whores", "dicks", "penises", "g-u-n-s", "f u c k s", "fückers", "guuuuns", "poisons",
        "Guns",
    ),
    "zh": ("鸡巴", "妓女", "做爱", "毒药", "枪", "槍", "赌具", "賭具", "手枪"),
}  # fmt: skip


def request(messages: Sequence[Message], **how: Any) -> GenerationRequest:
    return GenerationRequest("r", tuple(messages), **how)


def nobody(name: str, tables: Any = None) -> Any:
    raise AssertionError(f"{name} is asked")


@pytest.fixture
def records(tmp_path: Path) -> LearnerRecords:
    return LearnerRecords(sqlite(tmp_path / "state.db"))


def served(desk: Desk, learner: str = "", **wanted: Any) -> Any:
    return asyncio.run(desk.serve(learner, Wanted(**wanted)))


def of_bank(desk: Desk, **wanted: Any) -> Sequence[Any]:
    """Those of many problems served that are the bank's."""
    found = [served(desk, skill="two_step_problems", level=2, seed=n, **wanted) for n in range(16)]
    ours = [one for one in found if one.item.model.startswith("own/")]
    assert ours
    return ours


def test_what_is_served_is_verified_as_asked_and_never_the_same_twice(records: LearnerRecords) -> None:
    desk, learner = Desk(Student(), request, records, {}), records.enrol()
    seen = set()
    for number in range(40):
        found = served(desk, learner, skill="addition", level=1 + number % 3, language=("en", "zh")[number % 2])
        item = found.item
        assert (item.skill, item.level, item.language) == ("addition", 1 + number % 3, ("en", "zh")[number % 2])
        assert len(item.checks) > 5
        assert item.id not in seen
        seen.add(item.id)
        model = next(
            one
            for theme in ("animals", "space", "sport", "cooking", "art")
            for one in models("addition", item.level, item.language, theme)
            if one.id == item.model
        )
        quantities = {quantity.name: item.values[quantity.name] for quantity in model.quantities}
        assert compute(model, quantities)[model.answer] == item.answer
        assert "answer" not in found.problem()
        assert str(item.answer) not in json.dumps(found.problem()["provenance"])


def test_a_generators_problem_takes_a_learners_own_words_without_the_student(records: LearnerRecords) -> None:
    student = Student("nonsense")
    desk = Desk(student, request, records, {})
    found = [served(desk, skill="two_step_problems", level=2, words=DRAGONS, theme="art", seed=n) for n in range(12)]
    assert {one.theming for one in found} == {"generator"}
    assert all("Zed" in one.item.problem or "dragon" in one.item.problem for one in found)
    assert student.asked == 0


def test_words_that_would_change_what_is_asked_are_left_out(records: LearnerRecords) -> None:
    desk = Desk(Student(), request, records, {})
    words = {"thing": "half as many pen", "things": "half as many pens"}
    found = [served(desk, skill="two_step_problems", level=2, words=words, seed=n) for n in range(12)]
    assert {one.theming for one in found} == {"none"}
    assert all("refused" in one.because and "half as many pen" not in one.item.problem for one in found)


@pytest.mark.parametrize(
    ("word", "language", "heavy"),
    [
        ("dragon", "en", False), ("long boats", "en", False), ("twice the pens", "en", True), ("7 pens", "en", True),
        ("more pens", "en", True), ("three pens", "en", True), ("乐高积木", "zh", False), ("长颈鹿", "zh", False),
        ("多米诺骨牌", "zh", False), ("一半的笔", "zh", True), ("3支笔", "zh", True), ("多", "zh", True),
        ("平均的笔", "zh", True),
    ],
)  # fmt: skip
def test_a_word_is_a_name_and_carries_no_arithmetic(word: str, language: str, heavy: bool) -> None:
    assert bool(carried(word, language)) is heavy


def test_a_banks_problem_takes_a_learners_own_words_by_the_student_once_a_model(records: LearnerRecords) -> None:
    student = Student()
    found = of_bank(Desk(student, request, records, BANK), words=DRAGONS)
    assert {one.theming for one in found} == {"student"}
    assert all("Zed" in one.item.problem or "dragon" in one.item.problem for one in found)
    assert student.asked == len({one.item.model.partition("~")[0] for one in found})


@pytest.mark.parametrize("says", ["", "nonsense", "thing={a}", "things=W99", "A=W1; B=W1"])
def test_a_draft_that_is_refused_leaves_the_problem_as_it_is_and_says_so(says: str, records: LearnerRecords) -> None:
    for found in of_bank(Desk(Student(says), request, records, BANK), words=DRAGONS):
        assert found.theming == "none"
        assert "refused" in found.because
        assert "dragon" not in found.item.problem
        assert found.item.checks


def test_a_draft_that_fell_back_is_for_a_person_to_look_at_once(records: LearnerRecords) -> None:
    noted = [seen((Message("user", "asked"),), "nonsense", cut=False)]
    token = SEEN.set(noted)
    try:
        of_bank(Desk(Student("nonsense"), request, records, BANK), words=DRAGONS)
    finally:
        SEEN.reset(token)
    assert set(noted[-1].why) == {"fallen-back"}


def test_the_example_that_a_deployment_prints_is_answered(tmp_path: Path) -> None:
    plan = Plan(domain="education", task="text_generation").model_dump(mode="json")
    plan["education"] = EducationPlan().model_dump(mode="json")
    bundle = {"id": "b", "product": "tutor", "plan": plan, "files": {"bank": b""}, "metrics": {}}
    app = FastAPI()
    app.include_router(education_service(tmp_path, bundle, Student(), nobody).routes)
    curl = shlex.split(_curl_of(app.openapi()))
    assert curl[-1] == "http://127.0.0.1:8080/v1/problem"

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            return await client.post("/v1/problem", json=json.loads(curl[curl.index("-d") + 1]))

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["skill"]) == (200, "two_step_problems")


def test_a_student_whose_themes_make_no_sense_is_not_asked(tmp_path: Path) -> None:
    plan = Plan(domain="education", task="text_generation").model_dump(mode="json")
    plan["education"] = EducationPlan().model_dump(mode="json")
    packed = "".join(json.dumps(as_record(one)) + "\n" for several in BANK.values() for one in several).encode()
    for sense, by in ((0.89, {"none"}), (0.9, {"student"}), (None, {"none"})):
        student = Student()
        metrics = {"sense": {"value": sense}} if sense is not None else {}
        bundle = {"id": "b-1", "product": "tutor", "plan": plan, "files": {"bank": packed}, "metrics": metrics}
        (tmp_path / str(sense)).mkdir()
        desk, _ = desk_of(tmp_path / str(sense), bundle, student, nobody)
        found = of_bank(desk, words=DRAGONS)
        assert {one.theming for one in found} == by
        assert bool(student.asked) is (by == {"student"})
        assert by == {"student"} or all("make sense" in one.because for one in found)


def test_the_learner_model_chooses_and_moves_on_with_right_answers(records: LearnerRecords) -> None:
    desk, learner = Desk(Student(), request, records, {}), records.enrol()
    first = served(desk, learner)
    skills = set()
    for _ in range(30):
        found = served(desk, learner)
        skills.add(found.item.skill)
        marking = desk.answer(learner, desk.item(learner, found.item.id), str(found.item.answer), "")
        assert marking["right"], (found.item.problem, marking)
    assert first.choice.because
    assert len(skills) > 2
    assert records.state(learner).knowledge


def test_a_wrong_answer_is_explained_by_its_first_wrong_step(records: LearnerRecords) -> None:
    desk, learner = Desk(Student(), request, records, {}), records.enrol()
    item = served(desk, learner, skill="addition", level=1).item
    a, b = (value for name, value in item.values.items() if name in ("a", "b"))
    marking = desk.answer(learner, item, str(item.answer + 1), f"{a} + {b} = {item.answer + 1}")
    assert (marking["right"], marking["verdict"]) == (False, "wrong")
    assert marking["first_wrong_step"]["kind"] == "arithmetic"
    assert marking["steps"]


def test_what_cannot_be_read_is_no_answer_and_the_solution_is_not_told(records: LearnerRecords) -> None:
    desk, learner = Desk(Student(), request, records, {}), records.enrol()
    item = served(desk, learner, skill="addition", level=1).item
    for answer in ("no idea", "not 5", "?"):
        marking = desk.answer(learner, item, answer, "1 + 1 = 3")
        assert (marking["verdict"], marking["right"]) == ("unreadable", False)
        assert (marking["answer"], marking["answer_text"], marking["steps"]) == (None, None, [])
        assert marking["first_wrong_step"] is None
        assert not re.search(rf"\b{item.answer}\b", json.dumps(marking, ensure_ascii=False).replace(item.id, ""))
    assert records.export(learner)["answers"] == []
    assert not records.state(learner).knowledge


def test_an_item_counts_once_for_its_solution_is_told_with_the_first_answer(records: LearnerRecords) -> None:
    desk, learner = Desk(Student(), request, records, {}), records.enrol()
    item = served(desk, learner, skill="addition", level=1).item
    told = desk.answer(learner, item, str(item.answer + 1), "")["answer_text"]
    known = records.state(learner)
    for _ in range(12):
        assert desk.answer(learner, item, told, "")["right"]
    after = records.state(learner)
    assert (after.knowledge["addition"].answers, after.difficulties) == (1, known.difficulties)
    assert after.knowledge["addition"].mean == known.knowledge["addition"].mean
    assert [one["right"] for one in records.export(learner)["answers"]] == [False]


def test_a_learner_reads_a_unit_and_not_its_code(records: LearnerRecords) -> None:
    desk = Desk(Student(), request, records, {})
    for language, name in (("en", "km/h"), ("zh", "千米/时")):
        found = next(
            one
            for one in (served(desk, skill="speed", level=2, language=language, seed=seed) for seed in range(30))
            if one.item.unit == "km_per_hour"
        )
        assert found.problem()["unit"] == name
        assert desk.answer("", found.item, "1 kg", "")["unit"] == name


def test_nobodys_items_are_remembered_for_marking_and_a_strangers_are_not(records: LearnerRecords) -> None:
    desk = Desk(Student(), request, records, {})
    item = served(desk, skill="addition").item
    assert desk.item("", item.id) == item
    with pytest.raises(DataError, match="was not given here"):
        desk.item(records.enrol(), item.id)
    with pytest.raises(DataError, match="neither a skill nor a learner"):
        served(desk)
    with pytest.raises(DataError, match="no skill is named"):
        served(desk, skill="astrology")


@pytest.mark.parametrize(
    "words",
    [
        {"robot": "x"},
        {"thing": ""},
        {"thing": "a" * 41},
        {"thing": "{a}"},
        {"thing": "7 pens"},
        {"A": "[B]"},
        {"A": "<b>"},
        {"box": "crate"},
        {"A": "gunз"},
        {"A": "ʙɪᴛᴄʜ"},
        {"A": "they"},
        {"A": "my friends"},
        {"A": "Leo", "B": "leo"},
        {"thing": "apple", "things": "apples", "other": "apple", "others": "Apples"},
        {"thing": "candy", "things": "candy"},
        {"group": "water"},
        *({"thing": word, "things": word} for word in UNFIT["en"]),
    ],
)
def test_words_that_could_carry_more_than_a_word_are_refused(words: dict[str, str]) -> None:
    with pytest.raises(DataError):
        checked_words(words, "en")
    assert checked_words({"A": " Anne  Marie "}, "en") == {"A": "Anne Marie"}
    assert checked_words({"thing": "魔方"}, "zh") == {"thing": "魔方", "m": "个"}
    assert checked_words({"thing": "积木", "m": "块"}, "zh") == {"thing": "积木", "m": "块"}
    assert checked_words({"A": "my mum", "group": "children"}, "en") == {"A": "my mum", "group": "children"}
    assert checked_words({"A": "Zoë", "B": "Dick"}, "en") == {"A": "Zoë", "B": "Dick"}


@pytest.mark.parametrize("word", [*UNFIT["zh"], "gunз", "ぬいぐるみ"])
def test_a_chinese_word_that_does_not_suit_a_child_is_refused(word: str) -> None:
    with pytest.raises(DataError):
        checked_words({"thing": word}, "zh")
    for allowed in ("爱心卡片", "妈妈的苹果", "魔方", "恐龙"):
        assert checked_words({"thing": allowed}, "zh")["thing"] == allowed


@pytest.mark.parametrize(
    ("language", "theme", "words"),
    [
        ("en", "animals", {"A": "Leo"}),
        ("en", "animals", {"thing": "apple", "things": "apples"}),
        ("en", "art", {"box": "pencil", "boxes": "pencils"}),
        ("zh", "animals", {"A": "小林"}),
        ("zh", "animals", {"thing": "苹果", "m": "个"}),
    ],
)
def test_a_learners_word_that_the_theme_has_too_leaves_two_different_ones(
    language: str, theme: str, words: dict[str, str]
) -> None:
    merged = with_words(themes()[theme], checked_words(words, language), language).words[language]
    assert merged.items() >= words.items()
    for one, other in (("A", "B"), ("thing", "other"), ("thing", "box")):
        assert merged[one].lower() != merged[other].lower()
    if language == "en":
        assert merged["others"].lower().startswith(merged["other"].lower()[:3])
    assert dict(merged) != dict(themes()[theme].words[language])


def test_a_word_that_is_no_name_begins_a_sentence_with_a_capital(records: LearnerRecords) -> None:
    desk = Desk(Student(), request, records, {})
    words = checked_words({"A": "my mum"}, "en")
    found = [served(desk, skill="addition", level=2, words=words, seed=seed).item.problem for seed in range(8)]
    assert any("my mum" in problem for problem in found)
    assert not any(re.search(r"(^|[.?!] )my mum", problem) for problem in found)
    assert any(problem.startswith("My mum") for problem in found)


def test_a_folder_of_problems_becomes_a_bank(tmp_path: Path) -> None:
    (model,) = models("addition", 1, "en", "art")[:1]
    question = (
        "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many?"
    )
    rows = [
        {
            "question": question,
            "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>72.\n#### 72",
        },
        as_record(model),
        {"question": "no sums", "answer": "#### 3"},
        {"odd": 1},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    found, left = read_bank(tmp_path)
    assert {one.source for one in found} >= {"generator"}
    assert len(found) + len(left) == 5
    assert "a line is no JSON" in left
    assert model_from_record(as_record(found[0])) == found[0]
    place = by_place(found)
    assert place["addition", 1, "en"]
    (tmp_path / "a.jsonl").write_text("not json\n")
    with pytest.raises(DataError, match="no problem that can be used"):
        read_bank(tmp_path)
    with pytest.raises(DataError, match=r"no \.jsonl file"):
        read_bank(tmp_path / "nowhere")


def app_of(site: Path) -> Any:
    from fastapi import FastAPI

    from toolkit.serving.app import _add_errors

    plan = Plan(domain="education", task="text_generation").model_dump(mode="json")
    plan["education"] = EducationPlan().model_dump(mode="json")
    app = FastAPI()
    bundle = {"id": "b-1", "product": "tutor", "plan": plan, "files": {"bank": b""}, "metrics": {}}
    app.include_router(education_service(site, bundle, Student(), nobody).routes)
    _add_errors(app)
    return app


def ask(app: Any, method: str, route: str, body: Any = None) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            return await client.request(method, route, json=body)

    return asyncio.run(asked())


def test_a_learner_practises_over_http_and_is_erased(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    learner = ask(app, "POST", "/v1/learners").json()["learner"]
    problem = ask(app, "POST", "/v1/problem", {"learner": learner, "language": "zh"}).json()
    assert problem["problem"]
    assert "answer" not in problem
    body = {"learner": learner, "item": problem["item"], "answer": "12345678"}
    marking = ask(app, "POST", "/v1/answer", body).json()
    assert marking["verdict"] in ("wrong", "right")
    assert Fraction(marking["answer"]) >= 0
    assert ask(app, "GET", f"/v1/learners/{learner}").json()[problem["skill"]]["answers"] == 1
    assert ask(app, "GET", f"/v1/learners/{learner}/export").json()["learner"]["id"] == learner
    assert ask(app, "DELETE", f"/v1/learners/{learner}").status_code == 204
    assert ask(app, "POST", "/v1/problem", {"learner": learner}).status_code == 422
    assert {skill["id"] for skill in ask(app, "GET", "/v1/skills").json()} >= {"addition"}
    assert "space" in ask(app, "GET", "/v1/themes").json()


@pytest.mark.parametrize(
    ("kind", "begins"), [("qti", b"PK"), ("gift", b""), ("moodle", b"<?xml"), ("html", b"<!DOCTYPE html>")]
)
def test_sheets_and_exports_are_given_out(kind: str, begins: bytes, tmp_path: Path) -> None:
    body = {"kind": kind, "skill": "addition", "level": 2, "items": 5, "language": "zh", "title": "加法"}
    answer = ask(app_of(tmp_path), "POST", "/v1/export", body)
    assert answer.status_code == 200
    assert answer.content.lower().startswith(begins.lower())
    assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    "body",
    [
        {"skill": "nothing"},
        {},
        {"skill": "addition", "level": 9},
        {"skill": "addition", "theme": "war"},
        {"learner": "x" * 32},
        {"skill": "addition", "words": {"thing": "{a}"}},
        {"skill": "addition", "language": "fr"},
        {"skill": "addition", "lvl": 2},
    ],
)
def test_a_request_that_cannot_be_is_named(body: Any, tmp_path: Path) -> None:
    answer = ask(app_of(tmp_path), "POST", "/v1/problem", body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]
