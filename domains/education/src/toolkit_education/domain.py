"""What a school knows: a curriculum, problems that are certainly right, and what a learner should meet next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from typer import Typer

from toolkit.artifacts import BundleFile, Dataset, Evaluation, Metric, TeacherLabels, Violation
from toolkit.hookspecs import hookimpl
from toolkit.plan import GatePlan, Options, Plan, RecipePlan, Section, StudentPlan, TeacherPlan, TextPlan
from toolkit.protocols import Executor, Report, Settings
from toolkit.services import Service
from toolkit.tasks.base import task_of
from toolkit.text import ServedText, TextPredictor
from toolkit.text_teachers import AnyTeacher, Ask, LocalTeacher, TextTeacher
from toolkit.workspace import write_file
from toolkit_education.drafting import lessons
from toolkit_education.exact_solver import CurriculumSolver
from toolkit_education.items import ItemModel, as_record
from toolkit_education.practising import Exercise, exercises
from toolkit_education.records import model_from_record
from toolkit_education.retheming import prompt_of
from toolkit_education.sense_gate import BOUNDS, WORDY
from toolkit_education.teaching import NAME, CurriculumTeacher

SECTION = "education"
BANK, ROWS, LICENCE = "bank.jsonl", "rows", "LICENSE"


class EducationPlan(Section):
    """The table [education] of toolkit.toml."""

    dressings: int = Field(24, ge=1, le=1000, description="Words that each template is practised in.")
    tested: int = Field(2, ge=1, le=100, description="Words of each template that is kept for test.")
    asked: int = Field(
        2000, ge=0, le=1_000_000,
        description="Most problems of a bank of which a teacher names the words, to learn from.",
    )  # fmt: skip
    least_aligned: float = Field(0.6, ge=0, le=1, description="Least share of first drafts that must ask the same.")
    least_sense: float = Field(
        0.9, ge=0, le=1,
        description="Sense at which the student re-themes the problems of a bank; below it they stay as they are.",
    )  # fmt: skip
    most_tries: int = Field(8, ge=1, le=100, description="Draws of an item's numbers, before another model is taken.")
    free_drafting: bool = Field(False, description="Whether new problems may be drafted, behind the sense gate.")
    drafter: str = Field("", description="The teacher that drafts new problems; empty: the student itself.")
    solver: str = Field("", description="The teacher that solves drafts from their text alone: another than drafted.")
    redrawn: int = Field(3, ge=0, le=20, description="Sets of numbers that a solver is asked about, beside a draft's.")
    solvings: int = Field(1, ge=1, le=16, description="Answers of the solver to each, of which most must agree.")
    judged: int = Field(
        100, ge=1, le=10_000, description="Problems by people, planted ones and drafts, of each, for the sense gate."
    )
    drafts_learnt: int = Field(1500, ge=0, le=100_000, description="Problems from which a student learns to draft.")
    least_human: float = Field(0.8, ge=0, le=1, description="Least share of people's problems that pass, surely.")
    least_nonsense: float = Field(0.9, ge=0, le=1, description="Least share of planted nonsense kept out, surely.")
    least_drafts: float = Field(0.5, ge=0, le=1, description="Least share of free drafts that pass, surely.")

    @model_validator(mode="after")
    def _solved_by_another(self) -> EducationPlan:
        if self.free_drafting and not self.solver:
            raise ValueError("free drafting needs education.solver, a teacher that solves what was drafted")
        if self.free_drafting and self.solver == self.drafter:
            raise ValueError("who drafted a problem cannot be its independent solver; name another education.solver")
        return self


def settings_of(plan: Plan) -> EducationPlan:
    found: EducationPlan = getattr(plan, SECTION)
    return found


@hookimpl
def register_commands(cli: Typer) -> None:
    """`toolkit drafts`."""
    from toolkit_education.drafts_verb import app

    cli.add_typer(app, name="drafts", rich_help_panel="On a site")


@hookimpl
def register_settings() -> Iterable[Settings]:
    """Offer the table [education]."""
    gate = ("free_drafting", "drafter", "solver", "redrawn", "solvings", "judged")
    read_by = {
        "prepare": ("dressings", "tested", "asked", "free_drafting", "drafter", "drafts_learnt"),
        "label": ("dressings", "tested"), "evaluate": ("dressings", "tested"),
        "gate": ("dressings", "tested", "least_aligned", *gate),
        "seal": ("least_sense", "most_tries", *gate, *BOUNDS.values()),
    }  # fmt: skip
    return [Settings(SECTION, EducationPlan, read_by=read_by, teachers=("drafter", "solver"))]


@hookimpl
def register_teachers() -> Iterable[TextTeacher]:
    """Offer `curriculum`, which is exact, and the solver of its own sentences."""
    teacher = CurriculumTeacher(lambda plan: {one.prompt: one.draft for one in practised(plan).values()})
    return [teacher, CurriculumSolver()]


@hookimpl
def draft_plan(options: Options) -> Plan:
    """A small student from nothing, which learns to re-theme the curriculum's problems.

    Its teacher is exact, and it is tested on templates that it never met: so it need retain less than others, and what
    it must reach is `least_aligned`. It is used only where `least_sense` is reached too.
    """
    recipe = RecipePlan(
        name="sequence", epochs=10, batch_size=8, learning_rate=2e-3, weight_decay=0.05, teacher_weight=0.0,
        baseline=False,
    )  # fmt: skip
    return Plan(
        domain=options.domain, task="text_generation", teacher=TeacherPlan(name=NAME), recipe=recipe,
        student=StudentPlan(vocabulary=1536, parameters=3_000_000),
        text=TextPlan(max_tokens=448, answer_tokens=64, knowledge="none"),
        gate=GatePlan(retain=0.5, small_sample="warn" if options.data is None else "refuse"),
    )  # fmt: skip


def practised(plan: Plan) -> Mapping[str, Exercise]:
    """The plan's exercises by their ids."""
    settings = settings_of(plan)
    return _practised(plan.compute.seed, settings.dressings, settings.tested)


@lru_cache(maxsize=2)
def _practised(seed: int, dressings: int, tested: int) -> Mapping[str, Exercise]:
    return {one.id: one for one in exercises(seed, dressings=dressings, tested=tested)}


@hookimpl
def prepare_data(
    plan: Plan, source: Path | None, purpose: str, workspace: Path, classes: tuple[str, ...], report: Report
) -> Dataset:
    """The curriculum's exercises; a folder of problems becomes a bank of item models beside them."""
    report("dress problems", 0, 2)
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for one in practised(plan).values():
        row = {
            "id": one.id, "prompt": one.prompt, "completion": one.draft, "group": one.template,
            "task": one.model.language,
        }  # fmt: skip
        rows[one.split].append(json.dumps(row, ensure_ascii=False) + "\n")
    report("read problems", 1, 2)
    bank, findings = _bank(source)
    if purpose == "train":
        rows["train"] += _lessons(plan, bank)
    if plan.teacher.name != NAME and purpose == "train":
        rows["unlabelled"] = [
            json.dumps({"id": f"bank/{one.id}", "prompt": prompt_of(one), "task": one.language}, ensure_ascii=False)
            + "\n"
            for one in bank[: settings_of(plan).asked]
        ]
    folder = workspace / ROWS
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in rows.items():
        write_file(folder / f"{split}.jsonl", "".join(lines).encode())
    (folder / LICENCE).write_text("Apache-2.0\n")
    models = (json.dumps(as_record(model), ensure_ascii=False) + "\n" for model in bank)
    write_file(workspace / BANK, "".join(models).encode())
    task = task_of(plan)
    facts = dict(task.prepare(plan, folder, purpose, workspace, classes, report).facts)
    facts |= {"source": "curriculum" if source is None else str(source), "sample": source is None, "bank": len(bank)}
    facts["findings"] = [*facts["findings"], *findings]
    report("read problems", 2, 2)
    return task.open_dataset(workspace, "", facts)


def _lessons(plan: Plan, bank: Sequence[ItemModel]) -> list[str]:
    """What a student that may draft freely learns it by."""
    settings = settings_of(plan)
    if not settings.free_drafting or settings.drafter or not settings.drafts_learnt:
        return []
    return [
        json.dumps({
            "id": f"draft/{number}", "prompt": asked, "completion": text, "group": f"draft/{model.id}", "task": "draft",
        }, ensure_ascii=False) + "\n"
        for number, (model, asked, text) in enumerate(lessons(plan.compute.seed, bank, settings.drafts_learnt))
    ]  # fmt: skip


def _bank(source: Path | None) -> tuple[Sequence[ItemModel], list[dict[str, Any]]]:
    """The item models of a folder's problems, and what was left out."""
    if source is None:
        return (), []
    from toolkit_education.banks import read_bank

    models, left = read_bank(source)
    told = ", ".join(f"{reason} ({number:,})" for reason, number in Counter(left).most_common(8))
    finding = {"kind": "no-item-model", "severity": "note", "rows": [], "message": f"problems left out: {told}"}
    return models, [finding] if left else []


@hookimpl
def label(
    plan: Plan, dataset: Dataset, teacher: AnyTeacher, workspace: Path, journal: Path, report: Report,
    executor: Executor,
) -> TeacherLabels | None:  # fmt: skip
    """A teacher that is none of the curriculum's is asked in words, about the problems of the bank; what re-themes them
    is learnt."""
    if teacher.name == NAME:
        return None
    from toolkit.tasks.text_generation import labelling
    from toolkit_education.naming import Namer, naming_teacher

    assert isinstance(teacher, TextTeacher | LocalTeacher)
    known = practised(plan)
    models = {one.prompt: one.model for one in known.values()}
    models |= {prompt_of(model).strip(): model for model in _read_bank(dataset)}
    namer = naming_teacher(labelling.as_asked(teacher), models, Namer.of(known.values()))
    return labelling.label(plan, dataset, namer, workspace, journal, report, executor)


@hookimpl
def evaluate(plan: Plan, dataset: Dataset, predictor: TextPredictor, ask: Ask) -> Evaluation:
    """Whether first drafts ask the same as the problems that they re-theme; of the compiled student, where it is to
    draft freely, the sense gate's figures too."""
    from toolkit_education import scoring

    found = scoring.evaluate(plan, dataset, predictor, practised(plan))
    if predictor.facts.form != "compiled" or not settings_of(plan).free_drafting:
        return found
    metrics, facts = _sense(plan, dataset, predictor, ask)
    tables = facts.pop("tables")
    return Evaluation.found(
        {**found.metrics, **metrics}, per_row=found.per_row, slices=found.slices,
        facts={**found.facts, "sense_gate": facts, "tables": tables},
    )  # fmt: skip


def _sense(
    plan: Plan, dataset: Dataset, predictor: TextPredictor, ask: Ask
) -> tuple[dict[str, Metric], dict[str, Any]]:
    from toolkit_education import sense_gate
    from toolkit_education.sense import Solver

    settings, seed = settings_of(plan), plan.compute.seed
    if settings.drafter:
        texts = sense_gate.drafts_of(ask(settings.drafter, WORDY), settings.judged, seed)
    else:
        texts = sense_gate.drafts_by(predictor, settings.judged, seed)
    solver = Solver(ask(settings.solver, WORDY), settings.redrawn, settings.solvings, seed)
    return sense_gate.measured(_read_bank(dataset), texts, solver, settings.judged, seed)


def _read_bank(dataset: Dataset) -> list[ItemModel]:
    lines = (dataset.path / BANK).read_text(encoding="utf-8").splitlines()
    return [model_from_record(json.loads(line)) for line in lines]


@hookimpl
def check_release(plan: Plan, student: Evaluation) -> Iterable[Violation]:
    """Enough first drafts that ask the same: what fails falls back to a problem without the learner's theme."""
    least, metric = settings_of(plan).least_aligned, student.metrics["accuracy"]
    if metric.value < least:
        measured = f"{metric.value:.1%} of {metric.n} ({metric.low:.1%} to {metric.high:.1%})"
        yield Violation(SECTION, "too few first drafts ask the same", measured, f"at least {least:.0%}")


@hookimpl
def package(plan: Plan, dataset: Dataset) -> Iterable[BundleFile]:
    """The bank of item models: whose they are, they stay encrypted."""
    yield BundleFile("bank", (dataset.path / BANK).read_bytes())


@hookimpl
def serve(site: Path, bundle: Mapping[str, Any], predictor: ServedText, ask: Ask) -> Service:
    """`POST /v1/problem` and what belongs to it."""
    from toolkit_education.service import education_service

    return education_service(site, bundle, predictor, ask)
