"""What a site's education service is made of: the bundle's bank, the site's learners, and the student.

Loads no web framework until a service is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.registry.database import Database, database, sqlite
from toolkit.services import Panel, Service
from toolkit.tasks.text_generation.service import Manner
from toolkit.text import Conversation, ServedText
from toolkit.text_teachers import Ask
from toolkit_education.desk import Desk, by_place
from toolkit_education.draft_records import DraftRecords
from toolkit_education.draft_room import DraftRoom, room_of
from toolkit_education.learner_records import LearnerRecords
from toolkit_education.records import model_from_record

SECTION, STATE = "education", "state.db"
URL = "education/database"
"""Of a site: a file with the URL of a PostgreSQL database for learners; without it they are in SITE/state.db."""


def education_service(site: Path, bundle: Mapping[str, Any], predictor: ServedText, ask: Ask) -> Service:
    """The routes of the bundle's student.

    Raises:
        IntegrityError: the bundle's bank is none. EnvironmentUnfit: the learners' database cannot be reached.
        DataError: the site's file about its solver is none.
    """
    from toolkit_education.routes import education_routes  # brings fastapi

    desk, room = desk_of(site, bundle, predictor, ask)
    conversation = Conversation(desk.predictor, Manner.of(bundle).request)
    package = files("toolkit_education")
    panels = Panel("tutor", package / "panel"), Panel("drafts", package / "drafts_panel", role="operate")
    return Service(education_routes(desk, room), conversation, panels)


def desk_of(site: Path, bundle: Mapping[str, Any], predictor: ServedText, ask: Ask) -> tuple[Desk, DraftRoom]:
    """The site's tutor, and where new problems are drafted. Raises as `education_service` does."""
    settings, database, bank = bundle["plan"][SECTION], learners_of(site), _bank(bundle["files"])
    learners = LearnerRecords(database)  # which brings the tables up to date, those of drafts too
    room = room_of(site, bundle, predictor, ask, DraftRecords(database), bank)
    desk = Desk(
        predictor, Manner.of(bundle).request, learners, by_place(bank),
        mistrust=_mistrust(bundle["metrics"], settings["least_sense"]), tries=settings["most_tries"], free=room.at,
    )  # fmt: skip
    return desk, room


def _mistrust(metrics: Mapping[str, Mapping[str, Any]], least: float) -> str:
    """Why the student's themes are not used; empty where they are."""
    sense: float = metrics.get("sense", {}).get("value", 0.0)
    return "" if sense >= least else f"{sense:.0%} of the student's themes make sense, and {least:.0%} are asked for"


def learners_of(site: Path) -> Database:
    """The site's database of learners."""
    url = site / URL
    if url.is_file():
        return database(url.read_text(encoding="utf-8").strip())
    return sqlite(site / STATE)


def _bank(files: Mapping[str, bytes]) -> list[Any]:
    try:
        return [model_from_record(json.loads(line)) for line in files.get("bank", b"").split(b"\n") if line]
    except ValueError as error:
        raise IntegrityError("the bundle's bank cannot be used", part="bank", hint="Build the bundle again.") from error
