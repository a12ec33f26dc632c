"""The task text_generation, as the line calls it: messages in, text out.

What trains is imported inside the functions that train, so that a site can load this module without torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.artifacts import CompiledModel, Dataset, Evaluation, Facts, Student, StudentSpec, TeacherLabels
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.recipes import carriers
from toolkit.errors import IntegrityError, PlanError
from toolkit.plan import STAGES, Plan
from toolkit.protocols import Executor, HardwareProfile, Objective, PredictorFacts, Report, Target
from toolkit.services import Service
from toolkit.tasks.base import Measured, Request
from toolkit.tasks.text_generation import reader
from toolkit.tasks.text_generation.estimate import estimate
from toolkit.tasks.text_generation.evaluate import READ, evaluate, judged
from toolkit.tasks.text_generation.installed import NEAR, behind, bundle_files, open_installed, prove, queue
from toolkit.tasks.text_generation.installed import compiled_predictor as open_compiled
from toolkit.tasks.text_generation.objectives import check_objectives
from toolkit.tasks.text_generation.tokens import prompt_ids
from toolkit.text import Message, ServedText, TextPredictor
from toolkit.text_teachers import AnyTeacher, LocalTeacher, TextTeacher

__all__ = [
    "bundle_files", "estimate", "evaluate", "judged", "open_installed", "prove", "queue", "source_digest",
]  # fmt: skip

WORDS = {
    "row": "row", "step": "token", "part": "Task", "request": "Prompt in, whole answer out",
    "around": "As a request meets it: the prompt is read, and its whole answer is written.",
}  # fmt: skip
CURL = (
    "-H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' "
    """-d '{"messages": [{"role": "user", "content": "..."}]}' """
    "http://127.0.0.1:8080/v1/chat/completions"
)

source_digest = reader.source_digest


def prepare(plan: Plan, source: Path, purpose: str, folder: Path, classes: tuple[str, ...], report: Report) -> Dataset:
    """Read, check and split a folder of JSON lines into `folder`."""
    del classes
    report("read and check rows", 0, 1)
    facts = reader.prepare_rows(
        source, purpose=purpose, settings=plan.data, seed=plan.compute.seed, folder=folder, system=plan.text.system
    )
    report("read and check rows", 1, 1)
    return open_dataset(folder, "", facts)


def open_dataset(folder: Path, digest: str, facts: Facts) -> Dataset:
    """A prepared data set with its rows behind it."""
    return Dataset(folder, digest, facts=facts, reader=partial(reader.load_rows, folder))


def check(plan: Plan, teacher: AnyTeacher, objectives: Sequence[Objective]) -> None:
    """Refuse objectives that tokens do not have, a teacher that cannot be looked into where a recipe wants to, and a
    student of whom nothing is known."""
    check_objectives(objectives)
    local = isinstance(teacher, LocalTeacher)
    if "response" in carriers(objectives) and (not local or plan.text.knowledge == "none"):
        why = f"{teacher.name} only answers" if not local else "text.knowledge is none"
        raise PlanError(
            f"the recipe {plan.recipe.name} needs response, what the teacher says of every token, and {why}",
            hint="Learn from its text alone: --set recipe.teacher_weight=0; or name a local teacher.",
        )
    if plan.recipe.name == "on-policy" and "response" not in carriers(objectives):
        raise PlanError(
            "on-policy has the teacher score what the student writes, and nothing here learns from that",
            hint="Give recipe.teacher_weight above 0, or use --set recipe.name=sequence.",
        )
    if plan.student.frozen_bits != 32 and not plan.student.lora_rank:
        raise PlanError(
            "student.frozen_bits is of weights that are frozen, and this plan trains them",
            hint="Train adapters beside them: --set student.lora_rank=16",
        )
    if plan.student.vocabulary:
        _check_scratch(plan, objectives)
    elif plan.student.checkpoint is None and not local:
        raise PlanError(
            f"a student can be pruned from a teacher on this machine only, and {teacher.name} is none",
            hint="Name a checkpoint, or the folder of a config.json: --set student.checkpoint=FOLDER; or begin from "
            "nothing: --set student.vocabulary=4096",
        )
    if plan.student.checkpoint is not None and not (plan.student.checkpoint / "config.json").is_file():
        raise PlanError(
            f"{plan.student.checkpoint} has no config.json",
            hint="student.checkpoint names a folder as save_pretrained writes it, with or without weights.",
        )


def _check_scratch(plan: Plan, objectives: Sequence[Objective]) -> None:
    if plan.student.checkpoint is not None:
        raise PlanError(
            "a student begins from a checkpoint or from nothing",
            hint="Give student.checkpoint or student.vocabulary, not both.",
        )
    if "response" in carriers(objectives):
        raise PlanError(
            "a student that learns its tokenizer from the rows counts in other tokens than its teacher",
            hint="Learn from its text alone: --set recipe.teacher_weight=0 --set text.knowledge=none",
        )


def check_end(plan: Plan, until: str) -> None:
    """Refuse to train, for hours, a student that cannot be compiled then."""
    if STAGES.index(until) >= STAGES.index("compile") and plan.student.checkpoint is not None:
        from toolkit.compile.language import check_student

        check_student(plan.student.checkpoint)


def build_student(plan: Plan, dataset: Dataset) -> StudentSpec:
    """The student that the plan names; it is read, made or pruned when it is built."""

    def build() -> Any:
        from toolkit.tasks.text_generation import beginning

        return beginning.build(plan, dataset)

    origin = {"from": "teacher", "parameters": plan.student.parameters}
    if plan.student.vocabulary:
        origin = {"from": "nothing", "parameters": plan.student.parameters, "vocabulary": plan.student.vocabulary}
    if plan.student.checkpoint is not None:
        origin = {"from": plan.student.checkpoint.name}
    return StudentSpec(build, {"ids": ()}, {"logits": ()}, origin)


def label(
    plan: Plan, dataset: Dataset, teacher: AnyTeacher, folder: Path, journal: Path, report: Report, executor: Executor
) -> TeacherLabels:
    """Completions, and what a teacher on this machine says of their tokens."""
    from toolkit.tasks.text_generation import labelling

    assert isinstance(teacher, TextTeacher | LocalTeacher)
    return labelling.label(plan, dataset, teacher, folder, journal, report, executor)


def teacher_predictor(
    plan: Plan, teacher: AnyTeacher, labels: TeacherLabels, journal: Path, threads: int
) -> TextPredictor:
    """The teacher itself: asked, or read anew. torch's threads are the process's own affair."""
    del threads
    from toolkit.tasks.text_generation.predictors import AnsweringPredictor, LanguagePredictor
    from toolkit.tasks.text_generation.teacher import read_teacher

    if isinstance(teacher, TextTeacher):
        return AnsweringPredictor(teacher, plan, journal, PredictorFacts("teacher", teacher.name, labels.digest))
    assert isinstance(teacher, LocalTeacher)
    model = read_teacher(teacher.source(plan), name=teacher.name, vocabulary=plan.text.vocabulary)
    return LanguagePredictor(model, PredictorFacts("teacher", "torch", labels.digest))


def train(
    plan: Plan,
    dataset: Dataset,
    labels: TeacherLabels,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    folder: Path,
    report: Report,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train the student and, where the plan wants it, its baseline on the labels alone, into `folder`."""
    from toolkit.tasks.text_generation import pair

    return pair.train_pair(plan, dataset, labels, spec, objectives, folder, report, processes)


def student_predictor(student: Student, spec: StudentSpec, which: str) -> TextPredictor:
    """The torch `student` or `baseline`."""
    from toolkit.tasks.text_generation.predictors import LanguagePredictor
    from toolkit.tasks.text_generation.teacher import read_teacher

    del spec
    model = read_teacher(student.path / which, name=which)
    return LanguagePredictor(model, PredictorFacts(which, "torch", student.digest))


def compile_student(
    plan: Plan, dataset: Dataset, student: Student, spec: StudentSpec, target: Target, profile: HardwareProfile,
    folder: Path, report: Report,
) -> Facts:  # fmt: skip
    """The form to ship, and what the others were like."""
    from toolkit.tasks.text_generation import compiling
    from toolkit.tasks.text_generation.predictors import LanguagePredictor

    torch_student = student_predictor(student, spec, "student")
    assert isinstance(torch_student, LanguagePredictor)
    checkpoint = student.path / "student"
    return compiling.compile_student(plan, dataset, checkpoint, torch_student, target, profile, folder, report)


def compiled_predictor(compiled: CompiledModel, target: Target, profile: HardwareProfile) -> TextPredictor:
    """What compiling left; its runtime is the CPU's, whatever the target."""
    del target
    return open_compiled(compiled, profile.threads)


def measure(
    plan: Plan, dataset: Dataset, labels: TeacherLabels, teacher: AnyTeacher, compiled: CompiledModel, folder: Path,
    report: Report,
) -> Measured:  # fmt: skip
    """A token by the models alone, and a whole answer."""
    from toolkit.tasks.text_generation import costs

    del labels
    return costs.measure(plan, dataset, teacher, compiled, folder, report)


def shown(dataset: Dataset, evaluation: Evaluation) -> Mapping[str, Any]:
    """What it wrote to the first rows, beside what was given there; the wrong ones first. And what a domain's
    evaluation has among its facts: `samples`, of what, the text, and what stands beside it; and `tables`, each with its
    title, what explains it, its columns, and rows of text."""
    written = [row for row in evaluation.per_row if row["text"] is not None]
    written = sorted(written, key=lambda row: row["right"] is not False)[:READ]
    rows = {row.id: row for row in dataset.split("test")}
    return {
        "texts": [
            {
                "id": row["id"],
                "asked": rows[row["id"]].inputs["messages"][-1].content,
                "given": rows[row["id"]].label or rows[row["id"]].inputs["answer"],
                "written": row["text"],
                "right": row["right"],
            }
            for row in written
        ],
        "samples": evaluation.facts.get("samples", []),
        "tables": evaluation.facts.get("tables", []),
    }


def request(plan: Plan, dataset: Dataset) -> Request:
    """The first test row, to be answered as it was scored."""
    row = next(iter(dataset.split("test")))
    messages = [{"role": message.role, "content": message.content} for message in row.inputs["messages"]]
    body = {"messages": messages, "max_tokens": plan.text.answer_tokens, "temperature": 0}
    if wanted := row.inputs["wanted"]:
        body["wanted"] = list(wanted)
    return Request("/v1/chat/completions", json.dumps(body).encode(), "application/json", row.id)


def check_answer(
    request: Request, answer: Mapping[str, Any], scored: Mapping[str, Any], compiled: CompiledModel
) -> str:
    """The text's first words. It must be the one of the gate, where that was kept, unless two tokens are about as
    likely: then an answer by itself may go on otherwise than one among others. Where a domain makes its `text` of what
    a model writes, that is the `draft`."""
    said, known = str(answer["choices"][0]["message"]["content"]), scored.get("draft", scored["text"])
    if known is not None and said != known:
        model = open_compiled(compiled, 1)
        messages = [Message(one["role"], one["content"]) for one in json.loads(request.body)["messages"]]
        ids = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (known, said)]
        if behind(model.session, prompt_ids(messages, model.tokenizer), *ids) > NEAR:
            raise IntegrityError(
                f"the server answers {scored['id']} with {said[:80]!r}, at the gate it was {known[:80]!r}",
                part="served answer",
                hint="Run `toolkit verify` on the site, then deploy again.",
            )
    return " ".join(said.split())[:60]


def serve(bundle: Mapping[str, Any], predictor: ServedText) -> Service:
    """`POST /v1/chat/completions`."""
    from toolkit.tasks.text_generation.service import text_service

    return text_service(bundle, predictor)


def headline(stage: str, facts: Facts) -> str:
    """Rows by split; what the teacher wrote and said; what the student got."""
    if stage == "prepare":
        counts = ", ".join(f"{split} {sum(tasks.values()):,}" for split, tasks in facts["counts"].items())
        return f"{counts}, unlabelled {facts['unlabelled']:,}" if facts["unlabelled"] else counts
    if stage == "label":
        found, tokens = facts["completions"], facts.get("tokens")
        wrote = f"; {found['kept']:,} of {found['asked']:,} answers kept" if found["asked"] else ""
        said = f"; {tokens['tokens']:,} tokens by {tokens['codec']}" if tokens else ""
        return f"{facts['name']}: {found['given']:,} completions given{wrote}{said}"
    if stage == "distil":
        student = facts["student"]
        out = f"; {student['left_out']:,} too long and left out" if student["left_out"] else ""
        return f"{student['parameters']:,} parameters: {student['validation_accuracy']:.1%} of validation tokens{out}"
    shown = []
    for form, metrics in facts["metrics"].items():
        figures = [f"{metrics['accuracy']['value']:.1%} right"] if "accuracy" in metrics else []
        figures += [f"{metrics['log_loss']['value']:.3f} nats a token"] if "log_loss" in metrics else []
        shown.append(f"{form} {', '.join(figures)}")
    return "; ".join(shown)
