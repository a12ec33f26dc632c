"""Another teacher than the plan's own: found by its name, asked once, and part of what an evaluation is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkit import defaults
from toolkit.distil.journal import journal_of
from toolkit.errors import PlanError, Unsupported
from toolkit.hookspecs import hookimpl
from toolkit.pipeline import check_plan
from toolkit.plan import Plan, Section
from toolkit.plugins import Plugins, load_plugins
from toolkit.protocols import Settings
from toolkit.resolve import Layer, resolve
from toolkit.tasks.asking import ask_by
from toolkit.text import Prompt


class MineSection(Section):
    solver: str = ""


class Mine:
    @hookimpl
    def register_settings(self) -> Any:
        return [Settings("mine", MineSection, {"evaluate": ("solver",)}, teachers=("solver",))]


def planned(book: Path, solver: str = "recorded") -> tuple[Plugins, Plan]:
    plugins = load_plugins("education", defaults)
    plugins.manager.register(Mine(), "mine")
    values = {
        "domain": "education", "task": "text_generation", "teacher_recorded": {"path": str(book), "licence": "MIT"},
        "mine": {"solver": solver}, "teacher": {"name": "curriculum"},
        "recipe": {"name": "sequence", "teacher_weight": 0.0}, "student": {"vocabulary": 512},
    }  # fmt: skip
    return plugins, resolve([Layer("--set", values)], plugins.settings()).plan


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"prompt": "2 + 2?", "completion": "4"}) + "\n")
    return path


def test_it_answers_by_name_and_a_home_keeps_what_it_said(book: Path, tmp_path: Path) -> None:
    plugins, plan = planned(book)
    for home in (None, tmp_path / "home"):
        found = ask_by(plugins, plan, home)("recorded")
        assert [one.text for one in found.answers([Prompt.of("a", "2 + 2?")])] == ["4"]
    kept = journal_of(tmp_path / "home", plugins.teachers()["recorded"], plan) / "answers.jsonl"
    assert b'"4"' in kept.read_bytes()
    assert "MIT" not in found.id
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "2 + 2?", "completion": "5"}) + "\n")
    replaced = ask_by(plugins, plan)("recorded", {"teacher_recorded": {"path": str(other)}})
    assert [one.text for one in replaced.answers([Prompt.of("a", "2 + 2?")])] == ["5"]
    assert replaced.fingerprint != found.fingerprint


def test_what_cannot_be_asked_is_said(book: Path) -> None:
    plugins, plan = planned(book)
    ask = ask_by(plugins, plan)
    with pytest.raises(PlanError, match="no teacher is named recorder"):
        ask("recorder")
    with pytest.raises(PlanError, match="no table"):
        ask("recorded", {"teacher_unheard": {"path": "x"}})
    with pytest.raises(PlanError, match="teacher_recorded"):
        ask("recorded", {"teacher_recorded": {"paht": "x"}})
    with pytest.raises(Unsupported, match="cannot be asked here"):
        ask("transformers")


def test_a_named_teacher_counts_in_the_digest_and_an_unknown_one_is_refused(book: Path) -> None:
    plugins, plan = planned(book)
    before = plugins.section_values(plan, "evaluate")["mine.solver"]
    assert plugins.section_values(plan, "compile").get("mine.solver") is None
    book.write_text(json.dumps({"prompt": "2 + 2?", "completion": "5"}) + "\n")
    assert plugins.section_values(plan, "evaluate")["mine.solver"] != before
    check_plan(plan, plugins)
    plugins, plan = planned(book, "nobody")
    with pytest.raises(PlanError, match="no teacher is named nobody"):
        check_plan(plan, plugins)
