"""Recipes by which a student learns from what it writes itself, as a plan asks for them: taken up where it was broken
off, each leaves the student, and the record of what it gained, that an undisturbed training leaves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from distil_parts import Interrupted, one_thread
from text_line_parts import student_config, write_rows
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from toolkit.artifacts import Dataset, TeacherLabels
from toolkit.defaults import register_recipes
from toolkit.distil.recipes import objectives_of
from toolkit.errors import DataError
from toolkit.executors import LocalExecutor
from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord
from toolkit.tasks.text_generation import task
from toolkit.workspace import file_digest

RECIPES = ("on-policy", "self", "grpo")


class Local:
    """A teacher on this machine."""

    name, tasks, gives = "local", frozenset({"text_generation"}), frozenset({"response", "text"})

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord("local", "MIT", "", "allowed")

    def fingerprint(self, plan: Plan) -> str:
        return "0" * 64

    def source(self, plan: Plan) -> Path:
        return self.folder


class Class:
    """Sums, a teacher's labels of them, and a student to train."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sums = [(a, b) for a in range(6) for b in range(6)]
        rows = [
            {"prompt": f"{a}+{b}", "completion": f"#### {(a + b) % 2}", "answer": str((a + b) % 2)} for a, b in sums
        ]
        write_rows(folder / "lot" / "train.jsonl", rows[::2])
        write_rows(folder / "lot" / "validation.jsonl", rows[1::4])
        write_rows(folder / "lot" / "test.jsonl", rows[3::4])
        student_config(folder / "student", hidden_size=16, intermediate_size=16, num_hidden_layers=1)
        AutoTokenizer.from_pretrained(folder / "student").save_pretrained(folder / "teacher")
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        LlamaForCausalLM(LlamaConfig(vocab_size=257, **sizes)).save_pretrained(folder / "teacher")
        self.teacher, plan = Local(folder / "teacher"), self.plan("sequence")
        prepared = folder / "prepared"
        prepared.mkdir()
        self.data: Dataset = task.prepare(plan, folder / "lot", "train", prepared, (), quiet)
        (folder / "labels").mkdir()
        self.labels: TeacherLabels = task.label(
            plan, self.data, self.teacher, folder / "labels", folder / "said", quiet, LocalExecutor()
        )

    def plan(self, recipe: str) -> Plan:
        return Plan.model_validate({
            "domain": "sums", "task": "text_generation",
            "teacher": {"name": "local", "checkpoint": self.folder / "teacher"},
            "student": {"checkpoint": self.folder / "student"},
            "text": {"answer_tokens": 8, "max_tokens": 64},
            "recipe": {
                "name": recipe, "epochs": 6, "batch_size": 6, "learning_rate": 1e-2, "baseline": False
            },
            "practice": {"rounds": 2, "answers": 4, "learning_rate": 1e-3},
            "compute": {"threads": 1},
        })  # fmt: skip

    def train(self, recipe: str, folder: Path, *, break_off: tuple[str, int] = ("", 0)) -> dict[str, Any]:
        """`break_off`: the kind of work in which the training is killed, and after how many reports of it."""
        plan = self.plan(recipe)
        recipes = {one.name: one for one in register_recipes()}
        left = Counter(dict([break_off]))

        def report(what: str, done: int, total: int) -> None:
            left[what] -= 1
            if what == break_off[0] and not left[what]:
                raise Interrupted

        spec = task.build_student(plan, self.data)
        objectives = objectives_of(plan, recipes[recipe])
        task.check(plan, self.teacher, objectives)
        folder.mkdir(exist_ok=True)
        found: dict[str, Any] = task.train(plan, self.data, self.labels, spec, objectives, folder, report)
        return found


def quiet(what: str, done: int, total: int) -> None:
    del what, done, total


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Class:
    return Class(tmp_path_factory.mktemp("sums"))


@pytest.mark.parametrize(
    ("recipe", "killed_in"),
    [
        ("on-policy", ("train the student", 10)),
        ("self", ("write", 3)),  # as the second round begins
        ("self", ("train", 5)),
        ("grpo", ("reward its answers", 2)),
    ],
)
@pytest.mark.usefixtures("every_step")
def test_a_training_that_was_killed_ends_as_one_that_was_not(
    recipe: str, killed_in: tuple[str, int], sums: Class, tmp_path: Path
) -> None:
    with one_thread():
        whole = sums.train(recipe, tmp_path / "whole")
        with pytest.raises(Interrupted):
            sums.train(recipe, tmp_path / "killed", break_off=killed_in)
        again = sums.train(recipe, tmp_path / "killed")
    weights = [file_digest(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    for found in (whole, again):
        pace = found["student"].pop("pace")  # what a clock says differs
        assert all(epoch["tokens_per_second"] > 0 for epoch in pace)
    assert json.dumps(whole) == json.dumps(again)
    assert not (tmp_path / "killed" / "student-training").exists()


def test_what_each_recipe_did_is_on_record(sums: Class, tmp_path: Path) -> None:
    found = {recipe: sums.train(recipe, tmp_path / recipe)["student"] for recipe in RECIPES}
    own = [epoch["own"] for epoch in found["on-policy"]["history"]]
    assert own[0] < own[-1], "at first given text, at the end the student's own"
    rounds = found["self"]["practice"]["rounds"]
    assert [one["number"] for one in rounds] == [1, 2]
    assert all(one["problems"] == 18 and one["written"] == 72 for one in rounds)
    assert rounds[1]["before"] == rounds[0]["after"]
    assert rounds[0]["after"]["n"] == 9, "held out are the validation rows"
    rewarded = found["grpo"]["practice"]
    assert rewarded["problems"] == 18
    assert 0 <= rewarded["history"][0]["reward"] <= 1
    assert [len(one["history"]) for one in found.values()] == [6, 6, 6]


def test_problems_need_answers(sums: Class, tmp_path: Path) -> None:
    lot = tmp_path / "lot"
    rows = [{"prompt": f"say {n}", "completion": f"well, {n}"} for n in range(20)]
    for split, part in (("train", rows[:12]), ("validation", rows[12:16]), ("test", rows[16:])):
        write_rows(lot / f"{split}.jsonl", part)
    (tmp_path / "prepared").mkdir()
    plan = sums.plan("self")
    data = task.prepare(plan, lot, "train", tmp_path / "prepared", (), quiet)
    (tmp_path / "labels").mkdir()
    labels = task.label(plan, data, sums.teacher, tmp_path / "labels", tmp_path / "said", quiet, LocalExecutor())
    spec = task.build_student(plan, data)
    recipes = {one.name: one for one in register_recipes()}
    (tmp_path / "student").mkdir()
    with pytest.raises(DataError, match="no train row has one"):
        task.train(plan, data, labels, spec, objectives_of(plan, recipes["self"]), tmp_path / "student", quiet)
