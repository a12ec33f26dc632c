"""The domain `content` as the line calls it: light to import, clean in what is learnt, and judged by what it
promises."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toolkit.artifacts import Dataset, Evaluation, Metric
from toolkit.errors import DataError
from toolkit.plan import Options, Plan
from toolkit.protocols import PredictorFacts
from toolkit.resolve import Layer, draft_layer, resolve
from toolkit.seal.manifest import check_role
from toolkit.testing.domains import alone
from toolkit.testing.text_domains import check_text_domain
from toolkit.text import Completion, GenerationRequest, Message, Prompt, Sampling, TextDelta
from toolkit.text_teachers import record_of
from toolkit_content import domain
from toolkit_content.domain import packs_of, scanner_of
from toolkit_content.preparing import products_in
from toolkit_content.slots import faults_of
from toolkit_content.teaching import copywriter
from toolkit_content.wording import Asking

SMALL = {"sample_products": 20, "sample_tested": 8, "sample_untold": 4}


def plan_of(**settings: Any) -> Plan:
    plugins = alone("content", domain)
    draft = draft_layer(plugins.hook.draft_plan(options=Options("content")))
    return resolve([Layer("--set", {"domain": "content", "content": SMALL | settings}), draft], plugins.settings()).plan


def prepared(plan: Plan, source: Path | None, folder: Path, purpose: str = "train") -> Dataset:
    folder.mkdir()
    found: Dataset = alone("content", domain).hook.prepare_data(
        plan=plan, source=source, purpose=purpose, workspace=folder, classes=(), report=lambda *_: None
    )
    return found


@dataclass
class Saying:
    """A predictor that says what it is told to of a row."""

    say: Callable[[str], str]
    facts: PredictorFacts

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        for request in requests:
            yield TextDelta(request.id, self.say(request.id), "stop")

    def logprobs(self, texts: Any) -> Any:
        raise AssertionError("a draft is read, not looked into")


def test_importing_it_brings_nothing_that_only_training_needs() -> None:
    heavy = ("torch", "transformers", "onnx", "sacrebleu", "fastapi", "pypinyin", "opencc", "openpyxl")
    code = f"import sys, toolkit_content.domain; print(*sorted(set(sys.modules) & set({heavy!r})))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.strip() == ""


def test_every_text_of_the_sample_is_faithful_in_every_form_and_language(tmp_path: Path) -> None:
    plan = plan_of()
    dataset, packs = prepared(plan, None, tmp_path / "dataset"), packs_of(plan)
    assert dataset.facts["sample"]
    assert dataset.facts["unlabelled"] == 4
    told = products_in(dataset.path)
    assert {one.brief.form for one in told.values()} == {"description", "title", "bullets", "post"}
    assert {one.brief.language for one in told.values()} == {"en", "zh"}
    for one in told.values():
        for text in one.texts:
            assert faults_of(one.product, text, packs[one.brief.language]) == [], (one, text)
            assert not [hit for hit in scanner_of(plan).scan(text) if hit.term.severity == "block"]


def test_gold_drafts_score_and_mistakes_do_not(tmp_path: Path) -> None:
    plan = plan_of()
    dataset = prepared(plan, None, tmp_path / "dataset")
    rows = {row.id: row for row in dataset.split("test")}
    student = PredictorFacts("student", "test", "")
    gold = domain.evaluate(plan, dataset, Saying(lambda row: rows[row].label, student))
    assert gold.metrics["accuracy"].value == 1.0
    assert gold.metrics["slot_error_rate"].value == 0.0
    assert set(gold.slices) == {"en", "zh"}
    silent = domain.evaluate(plan, dataset, Saying(lambda row: "", student))
    assert silent.metrics["slot_error_rate"].value == 1.0
    spoilt = domain.evaluate(plan, dataset, Saying(lambda row: rows[row].label + " [nothing] 77", student))
    assert spoilt.metrics["accuracy"].value == 0.0
    told = products_in(dataset.path)
    teacher = Saying(lambda row: told[row].texts[0], PredictorFacts("teacher", "test", ""))
    assert domain.evaluate(plan, dataset, teacher).metrics["accuracy"].value == 1.0, "a teacher speaks without marks"


def test_a_catalogue_is_cleaned_and_what_was_left_out_is_told(tmp_path: Path) -> None:
    source = tmp_path / "catalogue"
    source.mkdir()
    rows = [
        {"id": f"k{n}", "brand": "Nordal", "model": f"K{n}", "category": "kettle", "colour": "red",
         "text": f"The Nordal K{n} is a {'red' if n % 5 else 'blue'} kettle."}
        for n in range(60)
    ]  # fmt: skip
    (source / "all.json").write_text(
        json.dumps([*rows, {"id": "u", "brand": "Sol", "model": "U1", "category": "kettle"}, {}])
    )
    (source / "LICENSE").write_text("CC-BY-4.0\n")
    plan = plan_of(patterns=20)
    dataset = prepared(plan, source, tmp_path / "dataset")
    told = products_in(dataset.path)
    trained = [told[row.id] for split in ("train", "validation") for row in dataset.split(split)]
    assert not [one for one in trained for text in one.texts if one.product.id[0] == "k" and "blue" in text]
    assert [row.id for row in dataset.split("unlabelled")] == ["u:description:0"]
    assert sum(row.id.startswith("pattern-en") for row in dataset.split("train")) > 0
    kinds = {finding["kind"] for finding in dataset.facts["findings"]}
    assert {"unfaithful", "no-product"} <= kinds
    assert dataset.facts["licence"]["text"] == "CC-BY-4.0"
    kept = prepared(plan_of(patterns=0, clean=False), source, tmp_path / "dirty")
    assert [text for row in kept.split("train") for text in products_in(kept.path)[row.id].texts if "blue" in text]
    with pytest.raises(DataError):
        prepared(plan, tmp_path, tmp_path / "nothing")


class Parrot:
    """A text teacher that says one thing."""

    name, tasks, gives = "parrot", frozenset({"text_generation"}), frozenset({"text"})

    def __init__(self, say: Callable[[Prompt], str]) -> None:
        self.say, self.asked = say, list[tuple[Message, ...]]()

    def record(self, plan: Plan) -> Any:
        return record_of("parrot", "MIT")

    def fingerprint(self, plan: Plan) -> str:
        return "0" * 64

    def sampling(self, plan: Plan) -> Sampling:
        return Sampling()

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """Anything goes."""

    def answers(self, plan: Plan, prompts: Any, *, spent: float = 0.0) -> Any:
        for prompt in prompts:
            self.asked.append(prompt.messages)
            yield Completion(prompt.id, self.say(prompt))


def test_a_teacher_is_asked_in_words_and_only_what_is_right_is_taken_back(tmp_path: Path) -> None:
    plan = plan_of()
    dataset, packs = prepared(plan, None, tmp_path / "dataset"), packs_of(plan)
    told = products_in(dataset.path)
    row = next(
        row for row in dataset.split("train") if told[row.id].brief.form == "description" and row.inputs["task"] == "en"
    )
    text = told[row.id].texts[0]
    asking = Asking.of(packs, (told[one] for one in dataset.split("train").ids))
    says = iter([text, text + " It is the world's best.", text + " 99 W.", "Nothing."])
    teacher = Parrot(lambda prompt: next(says))
    writer = copywriter(teacher, told, asking, scanner_of(plan))
    prompts = [Prompt(f"{row.id}#{n}" if n else row.id, row.inputs["messages"], n) for n in range(4)]
    answers = list(writer.answers(plan, prompts))
    assert [answer.finish for answer in answers] == ["stop", *["content_filter"] * 3]
    assert answers[0].text == row.label
    asked = teacher.asked[0]
    assert [message.role for message in asked] == ["user", "assistant"] * 2 + ["user"]
    values = [value for several in told[row.id].product.attributes.values() for value in several]
    assert all(value in asked[-1].content for value in values)
    assert writer.fingerprint(plan) != teacher.fingerprint(plan)


def test_the_rules_travel_with_the_model(tmp_path: Path) -> None:
    plan = plan_of()
    dataset = prepared(plan, None, tmp_path / "dataset")
    files = {file.role: file for file in domain.package(plan, dataset)}
    assert set(files) == {
        "pack-en.toml", "pack-zh.toml", "lexicon-0.toml", "lexicon-1.toml", "copies",
    }  # fmt: skip
    assert {role for role, file in files.items() if file.secret} == {"copies"}
    assert all(check_role(role) for role in files)


@pytest.mark.parametrize(("rate", "refused"), [(0.021, True), (0.02, False)])
def test_too_many_slot_errors_are_a_violation(rate: float, refused: bool) -> None:
    evaluation = Evaluation.found({"slot_error_rate": Metric(rate, 0.0, 0.1, 100, "share", False)})
    assert bool(list(domain.check_release(plan_of(), evaluation))) is refused


def test_two_packs_of_one_language_are_refused() -> None:
    with pytest.raises(DataError, match="two packs are of the language en"):
        packs_of(plan_of(packs=["household-en", "restaurant"]))


def test_it_keeps_what_every_domain_of_text_promises(tmp_path: Path) -> None:
    check_text_domain("content", domain, None, tmp_path)
