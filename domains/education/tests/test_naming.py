"""A large model as a teacher of names: asked in words, taken back to signs, and believed only where a problem can be
re-themed by what it said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from toolkit.artifacts import Dataset
from toolkit.plan import Options, Plan
from toolkit.protocols import PredictorFacts, TeacherRecord
from toolkit.resolve import Layer, draft_layer, resolve
from toolkit.testing.domains import alone
from toolkit.text import Completion, GenerationRequest, Prompt, Sampling, TextDelta
from toolkit_education import domain
from toolkit_education.domain import practised
from toolkit_education.naming import Namer, draft_from, naming_teacher
from toolkit_education.practising import Exercise, exercises
from toolkit_education.retheming import source_of
from toolkit_education.signs import SIGN

EXERCISES = list(exercises(0, dressings=2, tested=1))
KNOWN = {one.prompt: one for one in EXERCISES}


def in_words(one: Exercise) -> str:
    """As a large model would answer."""
    return "; ".join(f"{slot}={word}" for slot, word in one.words.items() if word in source_of(one.model))


@dataclass
class Sage:
    """Answers what is asked in words about an exercise; notes what it saw."""

    says: str | None = None
    asked: list[Prompt] = field(default_factory=list)
    name: str = "sage"
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord("sage", "MIT", "", "allowed")

    def fingerprint(self, plan: Plan) -> str:
        return "0" * 64

    def sampling(self, plan: Plan) -> Sampling:
        return Sampling()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        self.asked += prompts

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Iterator[Completion]:
        for prompt in prompts:
            self.asked.append(prompt)
            question = prompt.messages[-1].content
            found = [one for one in EXERCISES if one.model.text in question]
            yield Completion(prompt.id, self.says if self.says is not None else in_words(found[0]) if found else "?")


def plan_of(**settings: object) -> Plan:
    plugins = alone("education", domain)
    draft = draft_layer(plugins.hook.draft_plan(options=Options("education")))
    table = {"domain": "education", "education": {"dressings": 2, "tested": 1}, **settings}
    return resolve([Layer("--set", table), draft], plugins.settings()).plan


def named(sage: Sage, some: Sequence[Exercise]) -> list[Completion]:
    teacher = naming_teacher(sage, {one.prompt: one.model for one in some}, Namer.of(EXERCISES))
    return list(teacher.answers(plan_of(), [Prompt.of(one.id, one.prompt) for one in some]))


@pytest.mark.parametrize(
    "said",
    ["A=Mia; things=carrots", "A: Mia\nthings: carrots.", "<think>A=Leo</think>A = 'Mia'; things = carrots; robot=x"],
)
def test_what_is_named_in_words_is_taken_back_to_signs(said: str) -> None:
    model = next(one.model for one in EXERCISES if one.model.language == "en")
    plain = replace(model, text="Mia has {a} carrots. How many carrots are left?", steps=())
    assert draft_from(plain, said) == "A=P1; things=S2"
    assert draft_from(plain, "nothing of it") == ""
    assert draft_from(plain, "A=Leo") == ""


def test_a_teacher_that_knows_gives_the_exact_drafts_and_never_sees_a_sign() -> None:
    some = [one for one in EXERCISES if one.split == "test"]
    sage = Sage()
    answers = named(sage, some)
    right = sum(answer.text == one.draft for answer, one in zip(answers, some, strict=True))
    assert right >= 0.95 * len(some)
    assert {answer.finish for answer in answers if answer.text in {one.draft for one in some}} == {"stop"}
    for prompt, one in zip(sage.asked, some, strict=True):
        assert one.model.text in prompt.messages[-1].content
        assert not SIGN.search(prompt.messages[-1].content)
        assert [message.role for message in prompt.messages] == ["user", "assistant"] * 2 + ["user"]


@pytest.mark.parametrize("says", ["", "I cannot tell.", "thing=nothing; A=Nobody", "place=W1"])
def test_what_re_themes_nothing_is_held_back(says: str) -> None:
    assert {answer.finish for answer in named(Sage(says), EXERCISES[:20])} == {"content_filter"}


def prepared(plan: Plan, source: Path, folder: Path) -> Dataset:
    folder.mkdir()
    found: Dataset = alone("education", domain).hook.prepare_data(
        plan=plan, source=source, purpose="train", workspace=folder, classes=(), report=lambda *_: None
    )
    return found


def test_a_banks_problems_are_asked_about_where_the_teacher_is_not_the_curriculum(tmp_path: Path) -> None:
    source = tmp_path / "problems"
    source.mkdir()
    row = {
        "question": "Anna has 12 red pens and 5 blue pens. How many pens does she have in total?",
        "answer": "She has 12+5 = <<12+5=17>>17 pens.\n#### 17",
    }
    (source / "own.jsonl").write_text(json.dumps(row) + "\n")
    own = prepared(plan_of(), source, tmp_path / "own")
    assert not len(own.split("unlabelled"))
    plan = plan_of(teacher={"name": "sage"})
    asked = prepared(plan, source, tmp_path / "asked")
    (found,) = asked.split("unlabelled")
    assert found.id.startswith("bank/own-1")
    assert "{q0}" in found.inputs["messages"][-1].content
    assert domain.label(plan_of(), own, domain.register_teachers()[0], *[None] * 4) is None  # type: ignore[arg-type]
    labels = domain.label(
        plan,
        asked,
        Sage("A=Anna; things=pens"),
        tmp_path / "labels",
        tmp_path / "journal",
        lambda *_: None,
        None,  # type: ignore[arg-type]
    )
    assert labels is not None
    assert labels.filling is not None
    learnt = {one.row.id: one.row.completion for unit in labels.filling for one in unit.learnt}
    assert learnt[found.id].startswith("A=P1; things=S")


def test_a_teacher_is_scored_as_it_is_asked_in_words(tmp_path: Path) -> None:
    plan = plan_of(teacher={"name": "sage"})
    plugins = alone("education", domain)
    folder = tmp_path / "dataset"
    folder.mkdir()
    dataset = plugins.hook.prepare_data(
        plan=plan, source=None, purpose="train", workspace=folder, classes=(), report=lambda *_: None
    )
    known = practised(plan)

    class Speaking:
        facts = PredictorFacts("teacher", "sage", "0" * 64)

        def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
            for request in requests:
                yield TextDelta(request.id, in_words(known[request.id]), "stop")

    def nobody(name: str, tables: object = None) -> object:
        raise AssertionError(f"{name} is asked")

    found = domain.evaluate(plan, dataset, Speaking(), nobody)  # type: ignore[arg-type]
    assert found.metrics["accuracy"].value > 0.95
