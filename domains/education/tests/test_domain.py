"""The domain `education` as the line calls it: light to import, exact where it teaches, and judged by what it
promises."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from toolkit.artifacts import Dataset, Evaluation, Metric
from toolkit.errors import DataError
from toolkit.plan import Options, Plan
from toolkit.protocols import PredictorFacts
from toolkit.resolve import Layer, draft_layer, resolve
from toolkit.tasks.base import task_of
from toolkit.testing.domains import alone
from toolkit.testing.text_domains import check_text_domain
from toolkit.text import GenerationRequest, Prompt, TextDelta
from toolkit_education import domain
from toolkit_education.domain import practised


def plan_of(**settings: Any) -> Plan:
    plugins = alone("education", domain)
    draft = draft_layer(plugins.hook.draft_plan(options=Options("education")))
    table = {"domain": "education", "education": {"dressings": 2, "tested": 1} | settings}
    return resolve([Layer("--set", table), draft], plugins.settings()).plan


def prepared(plan: Plan, source: Path | None, folder: Path, purpose: str = "train") -> Dataset:
    folder.mkdir()
    found: Dataset = alone("education", domain).hook.prepare_data(
        plan=plan, source=source, purpose=purpose, workspace=folder, classes=(), report=lambda *_: None
    )
    return found


@dataclass
class Saying:
    """A predictor that says what it is told to, prompt by prompt."""

    book: dict[str, str]
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("student", "test", ""))

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        for request in requests:
            yield TextDelta(request.id, self.book.get(request.messages[-1].content, "?"), "stop")

    def logprobs(self, texts: Any) -> Any:
        raise AssertionError("a draft is read, not looked into")


def nobody(name: str, tables: Any = None) -> Any:
    raise AssertionError(f"{name} is asked")


def test_importing_it_brings_nothing_that_only_training_needs() -> None:
    heavy = ("torch", "transformers", "onnx", "sympy", "fastapi", "fsrs")
    code = f"import sys, toolkit_education.domain; print(*sorted(set(sys.modules) & set({heavy!r})))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.strip() == ""


def test_the_exercises_are_rows_and_the_teacher_knows_them_all(tmp_path: Path) -> None:
    plan = plan_of()
    dataset = prepared(plan, None, tmp_path / "dataset")
    assert dataset.facts["sample"]
    assert set(dataset.facts["counts"]) == {"train", "validation", "test"}
    known = practised(plan)
    teacher, _ = domain.register_teachers()
    prompts = [Prompt.of(one.id, one.prompt) for one in known.values()]
    answers = list(teacher.answers(plan, [*prompts, Prompt.of("odd", "never heard")]))
    assert [answer.text for answer in answers[:-1]] == [one.draft for one in known.values()]
    assert answers[-1].finish == "content_filter"
    assert teacher.record(plan).distillation == "allowed"
    assert teacher.fingerprint(plan) != teacher.fingerprint(plan_of(dressings=3))


def test_gold_drafts_score_well_and_copies_and_nonsense_score_nothing(tmp_path: Path) -> None:
    plan = plan_of()
    dataset, known = prepared(plan, None, tmp_path / "dataset"), practised(plan)
    gold = domain.evaluate(plan, dataset, Saying({one.prompt: one.draft for one in known.values()}), nobody)
    assert gold.metrics["accuracy"].value > 0.97
    assert gold.metrics["sense"].value == gold.metrics["accuracy"].value
    copied = {one.prompt: one.prompt.partition(": ")[2] for one in known.values()}
    assert domain.evaluate(plan, dataset, Saying(copied), nobody).metrics["accuracy"].value == 0.0
    nonsense = domain.evaluate(plan, dataset, Saying({}), nobody)
    assert nonsense.metrics["accuracy"].value == 0.0
    assert nonsense.facts["rejected"]
    assert set(gold.slices) == {"en", "zh"}
    assert len({one["text"] for one in gold.facts["samples"]}) == 50
    assert len({one["of"].partition(" ")[0] for one in gold.facts["samples"]}) > 30
    assert all("\n= " in one["beside"] or one["beside"].startswith("= ") for one in gold.facts["samples"])
    assert all({"id", "group", "truth", "predicted", "right", "text", "hits"} <= set(row) for row in gold.per_row)
    assert task_of(plan).judged(gold).metric == "accuracy"


def test_a_folder_of_problems_lies_beside_and_travels_encrypted(tmp_path: Path) -> None:
    source = tmp_path / "problems"
    source.mkdir()
    question = "Anna has 12 red pens and 5 blue pens. How many pens does she have in total?"
    (source / "own.jsonl").write_text(
        json.dumps({"question": question, "answer": "She has 12+5 = <<12+5=17>>17 pens.\n#### 17"}) + "\n{}\n"
    )
    dataset = prepared(plan_of(), source, tmp_path / "dataset")
    assert dataset.facts["bank"] == 1
    assert not dataset.facts["sample"]
    assert any(finding["kind"] == "no-item-model" for finding in dataset.facts["findings"])
    (file,) = domain.package(plan_of(), dataset)
    assert (file.role, file.secret) == ("bank", True)
    assert b"pens" in file.data
    with pytest.raises(DataError):
        prepared(plan_of(), tmp_path, tmp_path / "again")


@pytest.mark.parametrize(("share", "refused"), [(0.59, True), (0.6, False)])
def test_too_few_aligned_drafts_are_a_violation(share: float, refused: bool) -> None:
    evaluation = Evaluation.found({"accuracy": Metric(share, 0.5, 0.7, 100)})
    assert bool(list(domain.check_release(plan_of(), evaluation))) is refused


def test_it_keeps_what_every_domain_of_text_promises(tmp_path: Path) -> None:
    check_text_domain("education", domain, None, tmp_path)
