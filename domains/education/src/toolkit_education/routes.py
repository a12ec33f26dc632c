"""The routes of the education service: the next problem, its marking, learners, skills, and sheets to take away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from toolkit.errors import DataError
from toolkit.services import Seen
from toolkit.serving.bodies import Body
from toolkit_education.curriculum import curriculum
from toolkit_education.desk import CurriculumSkills, Desk, Wanted
from toolkit_education.draft_room import DraftRoom
from toolkit_education.draft_routes import add_drafts
from toolkit_education.exports.gift import gift
from toolkit_education.exports.moodle_xml import moodle_xml
from toolkit_education.exports.qti import qti_package
from toolkit_education.exports.sheets import sheet
from toolkit_education.generators.themes import themes
from toolkit_education.items import Item
from toolkit_education.learner import belief, expected, mastered
from toolkit_education.own_words import checked_words

Language = Literal["en", "zh"]
MOST_ITEMS = 200
KINDS = {
    "qti": ("application/zip", "items.zip"), "gift": ("text/plain; charset=utf-8", "items.gift.txt"),
    "moodle": ("application/xml", "items.xml"), "html": ("text/html; charset=utf-8", "sheet.html"),
}  # fmt: skip


class ProblemIn(Body):
    """The body of POST /v1/problem."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"skill": "two_step_problems", "level": 2}]})

    learner: str = Field("", max_length=64, description="Of POST /v1/learners; without one nothing is remembered.")
    skill: str = Field("", max_length=64, description="Of GET /v1/skills; without one the learner model chooses.")
    level: int = Field(0, ge=0, le=5, description="1 to 5; 0 is 1, or what the learner model chooses.")
    language: Language = "en"
    theme: str = Field("", max_length=40)
    words: dict[str, str] = Field(default_factory=dict, max_length=20, description="A learner's own, by slot.")
    seed: int | None = Field(None, ge=0, lt=2**31)

    def wanted(self) -> Wanted:
        words = checked_words(self.words, self.language)
        return Wanted(self.language, self.skill, self.level, self.theme, words, self.seed)


class AnswerIn(Body):
    """The body of POST /v1/answer."""

    learner: str = Field("", max_length=64)
    item: str = Field(max_length=64)
    answer: str = Field(max_length=200)
    working: str = Field("", max_length=4000, description="Lines such as 12 * 3 = 36.")


class ExportIn(Body):
    """The body of POST /v1/export."""

    kind: Literal["qti", "gift", "moodle", "html"]
    skill: str = Field(max_length=64)
    level: int = Field(1, ge=1, le=5)
    language: Language = "en"
    theme: str = Field("", max_length=40)
    items: int = Field(10, ge=1, le=MOST_ITEMS)
    title: str = Field("", max_length=200)
    seed: int = Field(0, ge=0, lt=2**31)


def education_routes(desk: Desk, room: DraftRoom) -> APIRouter:
    """The routes over one tutor, and over the room where new problems are drafted and reviewed."""
    router = APIRouter(tags=["education"])
    _add_practice(router, desk)
    _add_learners(router, desk)
    _add_sheets(router, desk)
    add_drafts(router, room)
    return router


def _add_practice(router: APIRouter, desk: Desk) -> None:
    @router.post(
        "/v1/problem", summary="The next problem: verified, new to the learner, without its answer.",
        response_model=None,
        description="`theming` says who put it into the theme that was asked for: the generator, the student, or none "
        "and why. `provenance` says where it comes from and which checks it passed.",
    )  # fmt: skip
    async def problem(body: ProblemIn) -> JSONResponse:
        return JSONResponse((await desk.serve(body.learner, body.wanted())).problem())

    @router.post("/v1/answer", summary="Mark an answer; find the first wrong step of the working.", response_model=None)
    async def answer(body: AnswerIn, request: Request) -> JSONResponse:
        item = await asyncio.to_thread(desk.item, body.learner, body.item)
        found = await asyncio.to_thread(desk.answer, body.learner, item, body.answer, body.working)
        told = {"question": item.problem, "answer": body.answer, "working": body.working, "reason": found["reason"]}
        content = json.dumps(told, ensure_ascii=False).encode()
        request.state.seen = [Seen("text", content, verdict=found["verdict"])]  # kept where a learner disputes it
        return JSONResponse(found)

    @router.get("/v1/skills", summary="The curriculum: skills, prerequisites, levels.")
    async def skills() -> JSONResponse:
        return JSONResponse([
            {
                "id": skill.id, "names": dict(skill.names), "strand": skill.strand, "stage": skill.stage,
                "prerequisites": list(skill.prerequisites), "levels": len(skill.levels), "ccss": list(skill.ccss),
                "china": list(skill.china),
            }
            for skill in curriculum().values()
        ])  # fmt: skip

    @router.get("/v1/themes", summary="The themes, and the words that each is made of.")
    async def all_themes() -> JSONResponse:
        return JSONResponse({
            theme.id: {language: dict(words) for language, words in theme.words.items()} for theme in themes().values()
        })  # fmt: skip


def _add_learners(router: APIRouter, desk: Desk) -> None:
    @router.post(
        "/v1/learners", summary="A new learner, by a random id: the school keeps whose it is.", status_code=201
    )
    async def enrol() -> dict[str, str]:
        return {"learner": await asyncio.to_thread(desk.records.enrol)}

    @router.get("/v1/learners/{learner}", summary="What a learner can do by now, skill by skill.", response_model=None)
    async def standing(learner: str) -> JSONResponse:
        state = await asyncio.to_thread(desk.records.state, learner)
        skills = CurriculumSkills()
        return JSONResponse({
            skill: {
                "answers": known.answers, "ability": round(known.mean, 3), "error": round(known.error, 3),
                "mastery": round(belief(state, skills, skill), 4), "mastered": mastered(state, skills, skill),
                "expected_by_level": [
                    round(expected(state, skill, level), 3) for level in range(1, skills.levels(skill) + 1)
                ],
            }
            for skill, known in state.knowledge.items()
        })  # fmt: skip

    @router.get("/v1/learners/{learner}/export", summary="All that is kept about a learner.", response_model=None)
    async def export(learner: str) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(desk.records.export, learner))

    @router.delete("/v1/learners/{learner}", summary="Erase a learner, without a trace.", status_code=204)
    async def erase(learner: str) -> Response:
        await asyncio.to_thread(desk.records.erase, learner)
        return Response(status_code=204)


def _add_sheets(router: APIRouter, desk: Desk) -> None:
    @router.post(
        "/v1/export", summary="Different verified problems as QTI 3.0, GIFT, Moodle XML or a sheet to print.",
        response_model=None,
    )  # fmt: skip
    async def export(body: ExportIn) -> Response:
        wanted = Wanted(body.language, body.skill, body.level, body.theme, {}, body.seed)
        items = await asyncio.to_thread(lambda: list(desk.drawn(wanted, body.items)))
        if not items:
            raise DataError(f"nothing can be drawn of {body.skill} at level {body.level}", hint="Choose another level.")
        made = _made(body, items)
        kind, name = KINDS[body.kind]
        data = made.encode() if isinstance(made, str) else made
        return Response(data, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def _made(body: ExportIn, items: Sequence[Item]) -> str | bytes:
    match body.kind:
        case "qti":
            return qti_package(items)
        case "gift":
            return gift(items)
        case "moodle":
            return moodle_xml(items, body.title)
        case "html":
            return sheet(items, body.title, body.language)
