"""What every domain of the task text_generation promises, as one check: `check_text_domain(name, module, source,
tmp_path)`.

Hooks that the domain leaves out are answered by core, as in a run. It knows nothing of what a good text is; that is for
the domain's own tests.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from toolkit.artifacts import BundleFile, Dataset, Evaluation, HardwareBudget, StudentSpec, Violation
from toolkit.errors import Unsupported
from toolkit.plan import Plan
from toolkit.plugins import Plugins
from toolkit.protocols import PredictorFacts
from toolkit.seal.manifest import check_role
from toolkit.services import Service
from toolkit.tasks.asking import ask_by
from toolkit.tasks.base import task_of
from toolkit.testing.domains import NEEDED, alone, check_drafts, check_light, check_metric
from toolkit.text import GenerationRequest, Logprobs, Message, TextDelta

TASK = "text_generation"
HELD_APART = ("train", "validation", "test")


def check_text_domain(name: str, module: ModuleType, source: Path | None, tmp_path: Path) -> None:
    """Run the conformance suite of domains whose models write.

    Args:
        name: what `--domain` takes.
        module: the module that the entry point names.
        source: a folder of data as the domain reads it; None for a domain that brings a sample.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    check_light(module)
    plugins = alone(name, module)
    plan = check_drafts(name, plugins)
    assert plan.task == TASK, f"the plan's task is {plan.task}, not {TASK}"
    dataset = _prepared(plugins, plan, source, tmp_path / "train", "train")
    _check_training_data(plugins, plan, dataset)
    if source is not None:
        found = _prepared(plugins, plan, source, tmp_path / "evaluate", "evaluate")
        assert not len(found.split("train")), "nothing is kept back for training where a folder is scored"
        assert len(found.split("test")), "every readable row is a test row where a folder is scored"
    knowing = _check_scores(plugins, plan, dataset)
    _check_service(plugins, plan, _check_package(plugins, plan, dataset), knowing, tmp_path)


def _prepared(plugins: Plugins, plan: Plan, source: Path | None, workspace: Path, purpose: str) -> Dataset:
    workspace.mkdir()
    dataset = plugins.hook.prepare_data(
        plan=plan, source=source, purpose=purpose, workspace=workspace, classes=(), report=lambda *_: None
    )
    assert isinstance(dataset, Dataset), f"prepare_data gives {type(dataset).__name__}, not a Dataset"
    json.dumps(dict(dataset.facts))
    return dataset


def _check_training_data(plugins: Plugins, plan: Plan, dataset: Dataset) -> None:
    rows = {split: list(dataset.split(split)) for split in HELD_APART}
    for split, found in rows.items():
        assert found, f"the split {split} is empty"
        assert list(dataset.split(split).ids) == [row.id for row in found], f"ids of {split} differ from its rows"
        for row in found:
            messages = row.inputs["messages"]
            assert messages, f"{row.id} asks nothing"
            assert isinstance(messages[-1], Message), f"{row.id} holds no Message"
            assert messages[-1].role == "user", f"the last message of {row.id} is not the user's"
    for what in ("id", "group"):
        sets = [{getattr(row, what) for row in found} for found in rows.values()]
        assert sum(map(len, sets)) == len(set().union(*sets)), f"an {what} is in two of {', '.join(HELD_APART)}"
    assert isinstance(plugins.hook.require_hardware(plan=plan, dataset=dataset), HardwareBudget), "no HardwareBudget"
    spec = plugins.hook.build_student(plan=plan, dataset=dataset)
    assert isinstance(spec, StudentSpec), f"build_student gives {type(spec).__name__}, not a StudentSpec"
    json.dumps(dict(spec.describe))


@dataclass(frozen=True)
class Speaker:
    """A model that no training made: it says of each prompt what its book says, and shows no probabilities."""

    book: Mapping[tuple[Message, ...], str] = field(default_factory=dict)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("student", "stub", "0" * 64))

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        for request in reversed(requests):  # in any order
            yield TextDelta(request.id, self.book.get(request.messages, ""), "stop")

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[Logprobs]:
        raise Unsupported("it shows no probabilities")


@dataclass(frozen=True)
class Served:
    """The same behind a server's queue."""

    speaker: Speaker

    @property
    def facts(self) -> PredictorFacts:
        return self.speaker.facts

    def check(self, request: GenerationRequest) -> None:
        """It takes anything."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        for piece in self.speaker.generate([request]):
            yield piece


def _check_scores(plugins: Plugins, plan: Plan, dataset: Dataset) -> Evaluation:
    """Score a model that says nothing and one that says what the rows say; the latter's evaluation."""
    book = {row.inputs["messages"]: str(row.label) for row in dataset.split("test")}
    silent, knowing = (
        plugins.hook.evaluate(plan=plan, dataset=dataset, predictor=speaker, ask=ask_by(plugins, plan))
        for speaker in (Speaker(), Speaker(book))
    )
    for evaluation in (silent, knowing):
        _check_evaluation(plan, evaluation, dataset)
        for violation in chain.from_iterable(
            plugins.hook.check_release(plan=plan, teacher=knowing, student=evaluation)
        ):
            assert isinstance(violation, Violation), f"check_release gives a {type(violation).__name__}"
            assert violation.by and violation.because, "a violation says who objects, and why"  # noqa: PT018
    best = task_of(plan).judged(knowing)
    assert best.right.mean() > task_of(plan).judged(silent).right.mean(), "who knows the rows does better than silence"
    assert isinstance(knowing, Evaluation)
    return knowing


def _check_evaluation(plan: Plan, evaluation: Any, dataset: Dataset) -> None:
    assert isinstance(evaluation, Evaluation), f"evaluate gives {type(evaluation).__name__}, not an Evaluation"
    assert evaluation.metrics, "an evaluation has a metric"
    for name, metric in chain(evaluation.metrics.items(), *(part.items() for part in evaluation.slices.values())):
        check_metric(name, metric)
    assert [row["id"] for row in evaluation.per_row] == list(dataset.split("test").ids), (
        "one record a test row, in order"
    )
    for row in evaluation.per_row:
        missing = NEEDED | {"text", "hits", "task"}
        assert set(row) >= missing, f"a row's record lacks {', '.join(sorted(missing - set(row)))}"
    json.dumps([[dict(row) for row in evaluation.per_row], dict(evaluation.facts)])
    json.dumps(task_of(plan).shown(dataset, evaluation))


def _check_package(plugins: Plugins, plan: Plan, dataset: Dataset) -> Mapping[str, bytes]:
    """The domain's files, by role."""
    files = list(chain.from_iterable(plugins.hook.package(plan=plan, dataset=dataset, compiled=None)))
    for file in files:
        assert isinstance(file, BundleFile), f"package gives a {type(file).__name__}"
        assert isinstance(file.data, bytes | memoryview), f"{file.role} holds {type(file.data).__name__}, not bytes"
        assert check_role(file.role), f"{file.role!r} cannot be a role: lower-case letters, digits, dots and dashes"
    roles = [file.role for file in files]
    assert len(set(roles)) == len(roles), "each file has a role of its own"
    return {file.role: bytes(file.data) for file in files}


def _check_service(
    plugins: Plugins, plan: Plan, files: Mapping[str, bytes], evaluation: Evaluation, site: Path
) -> None:
    """A site asks for routes with what a bundle holds, and nothing else."""
    from fastapi import FastAPI

    frozen = json.loads(json.dumps(plan.model_dump(mode="json")))
    bundle = {
        "id": "b-1", "version": "1.1", "product": "suite", "domain": plan.domain, "development_keys": True,
        "plan": frozen, "classes": (), "good_class": None, "channels": None, "sample": True, "thresholds": {},
        "metrics": {name: metric.as_record() for name, metric in evaluation.metrics.items()}, "files": files,
    }  # fmt: skip
    ask = ask_by(plugins, plan)
    service = plugins.hook.serve(site=site, bundle=bundle, predictor=Served(Speaker()), ask=ask)
    assert isinstance(service, Service), f"serve gives {type(service).__name__}, not a Service"
    app = FastAPI()
    app.include_router(service.routes)
    assert app.openapi()["paths"] or service.conversation, "a service has a route, or answers at OpenAI's"
