"""The student, and beside it the same student on the labels alone: what the engine is handed of a plan."""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from toolkit.artifacts import Dataset, StudentSpec, TeacherLabels
from toolkit.distil.devices import prepare_torch
from toolkit.distil.learner import Learner, last_layer
from toolkit.distil.loop import Fitted, Schedule, Score, fit
from toolkit.distil.precision import Precision, Wanted
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.recipes import LABELS_ALONE, carriers
from toolkit.distil.watching import Watch, pace_file, read_pace, watched
from toolkit.errors import PlanError
from toolkit.plan import Plan
from toolkit.protocols import Objective, Report
from toolkit.tasks.text_generation import completions, practice, students
from toolkit.tasks.text_generation.adapters import Adapted
from toolkit.tasks.text_generation.coming import Coming
from toolkit.tasks.text_generation.completions import GIVEN
from toolkit.tasks.text_generation.labelling import TOKENIZER, knowledge_of
from toolkit.tasks.text_generation.onpolicy import OnPolicyLesson
from toolkit.tasks.text_generation.packing import PackedBatches, UnitBatches
from toolkit.tasks.text_generation.preflight import Side, preflight
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.sampling import Drawing, check_room
from toolkit.tasks.text_generation.shapes import Target
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.tasks.text_generation.tokens import Tokenizer, prompt_ids, tokenise
from toolkit.tasks.text_generation.training import Knowledge, Mixture, SequenceLesson, validator
from toolkit.workspace import canonical_json, write_file

CALIBRATION = 64
"""Training rows whose tokens tell what of a teacher matters, where a student is pruned from it."""

VALIDATED = 8
"""Packed rows that are validated with at once."""


def build(plan: Plan, dataset: Dataset) -> PreTrainedModel:
    """The student before training: from a checkpoint, from a config alone, or pruned from the teacher.

    Raises:
        PlanError: there is none of them, or the teacher cannot be pruned.
    """
    folder = plan.student.checkpoint
    if folder is not None and not students.has_weights(folder):
        return students.from_config(folder, seed=plan.compute.seed).model
    if folder is not None:
        return students.from_checkpoint(folder).model
    assert plan.teacher.checkpoint is not None
    teacher = read_teacher(plan.teacher.checkpoint, vocabulary=plan.text.vocabulary)
    rows = [row for row in load_corpus(dataset.path, "train") if row.labelled] or load_corpus(dataset.path, "train")
    shown = [replace(row, completion=row.completion or row.messages[-1].content) for row in rows[:CALIBRATION]]
    samples = tokenise(shown, teacher.tokenizer, max_tokens=plan.text.max_tokens).samples
    calibration = [torch.tensor([sample.ids]) for sample in samples]
    target = Target(parameters=plan.student.parameters)
    model = students.from_teacher(teacher.model, target, calibration).model
    nn.Module.to(model, torch.float32)
    return model


def train_pair(
    plan: Plan,
    dataset: Dataset,
    labels: TeacherLabels,
    spec: StudentSpec,
    objectives: Sequence[Objective],
    folder: Path,
    report: Report,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train both into `folder`; the facts of a Student. There is no baseline where no row came with its completion.

    Where the teacher still answers, the student learns beside it: its first epoch takes rows as they come.
    """
    if processes.several and plan.recipe.name in practice.IN_ONE_PROCESS:
        raise PlanError(f"the recipe {plan.recipe.name} trains in one process", hint="Start it without torchrun.")
    pair = _Pair(plan, dataset, labels, spec, tokenizer_of(plan, labels), folder, report, processes)
    facts: dict[str, Any] = {"network": dict(spec.describe)}
    precision: Wanted | Precision = plan.compute.precision
    for name, terms in (("student", objectives), ("baseline", LABELS_ALONE)):
        units = pair.units(name)
        if units is None:
            continue
        record = folder / f"{name}.json"
        if not processes.decide(record.exists):
            pair.train(name, terms, units, precision)
        facts[name] = json.loads(processes.decide(record.read_bytes))
        facts[name]["pace"] = processes.decide(functools.partial(read_pace, pace_file(folder, name)))
        # The two are compared: the baseline takes over what was chosen for the student.
        precision = replace(Precision.of(facts[name]["precision"]), why="as the student, which it is compared to")
    return facts


@dataclass(frozen=True)
class _Pair:
    """What both are trained with."""

    plan: Plan
    dataset: Dataset
    labels: TeacherLabels
    spec: StudentSpec
    tokenizer: Tokenizer
    folder: Path
    report: Report
    processes: Processes

    def units(self, name: str) -> Coming | None:
        """What is learnt: the student takes all, as it comes; the baseline what came with its row, None where there is
        too little or nobody wants it."""
        most = self.plan.text.max_tokens
        if name == "student":
            coming = completions.read(self.labels.path) if self.labels.filling is None else self.labels.filling
            return Coming(coming, self.labels.facts["of"], self.tokenizer, most)
        for _ in self.labels.filling or ():
            pass  # whoever begins with the baseline waits for the rest
        units = completions.read(self.labels.path)
        given = [unit for unit in units if any(one.by == GIVEN for one in unit.learnt)]
        of = Counter(unit.split for unit in given)
        if not self.plan.recipe.baseline or not all(of[split] for split in ("train", "validation")):
            return None
        return Coming(given, of, self.tokenizer, most)

    def train(self, name: str, terms: Sequence[Objective], units: Coming, precision: Wanted | Precision) -> None:
        """Into `folder`/`name`, with its facts beside it."""
        device = prepare_torch(self.plan.compute, self.processes)
        model: PreTrainedModel = self.spec.build()
        self._check_room(model)
        known = self._knowledge(model, units) if "response" in carriers(terms) else None
        rank = self.plan.student.lora_rank
        adapted = Adapted(model, rank, self.plan.compute.seed) if rank else None
        nn.Module.to(model, device)
        lesson = self._lesson(name, terms, units, known)
        with watched(self.folder, name, f"train the {name}", self.report) as watch:
            fitted = self._fit(name, model, units, lesson, precision, watch)
        model.load_state_dict(fitted.weights)
        facts = fitted.facts()
        if name == "student":
            facts |= {"practice": self._practised(model, units, fitted.precision)}
        if adapted is not None:
            model = adapted.merged()
        if not self.processes.first:
            return
        students.save(students.Student(model.cpu(), {}), self.folder / name, self.tokenizer)
        facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        write_file(self.folder / f"{name}.json", canonical_json(facts))
        shutil.rmtree(self._training(name), ignore_errors=True)

    def _check_room(self, model: PreTrainedModel) -> None:
        """The student has room for its tokens, its samples and its answers, before anybody waits for it.

        Raises:
            PlanError: it has not, with what would help.
        """
        text, context, known = self.plan.text, _context(model), model.config.vocab_size
        if len(self.tokenizer) > known:
            raise PlanError(
                f"the student's tokenizer has {len(self.tokenizer):,} tokens, its model only {known:,}",
                hint="Use the tokenizer it was saved with, or enlarge it with model.resize_token_embeddings.",
            )
        if text.max_tokens > context:
            raise PlanError(
                f"samples may have {text.max_tokens:,} tokens, and the student takes {context:,}",
                hint=f"Leave longer ones out: --set text.max_tokens={context}",
            )
        rows = [row for split in ("train", "validation", "test") for row in load_corpus(self.dataset.path, split)]
        longest = max(len(prompt_ids(row.messages, self.tokenizer)) for row in rows)
        check_room(model, longest, Drawing(text.answer_tokens))

    def _lesson(
        self, name: str, terms: Sequence[Objective], units: Coming, known: Knowledge | None
    ) -> SequenceLesson | OnPolicyLesson:
        plan = self.plan
        if plan.recipe.name == "on-policy" and name == "student":
            assert known is not None
            return practice.on_policy(plan, self.dataset, units.all("train"), terms, known, self.tokenizer)
        batches = UnitBatches(
            units.split("train"),
            capacity=plan.text.capacity,
            taken=plan.recipe.batch_size,
            parts=plan.recipe.accumulation,
            seed=plan.compute.seed,
        )
        return SequenceLesson(batches, Mixture(terms), known)

    def _fit(
        self,
        name: str,
        model: PreTrainedModel,
        units: Coming,
        lesson: SequenceLesson | OnPolicyLesson,
        precision: Wanted | Precision,
        watch: Watch,
    ) -> Fitted:
        recipe, capacity = self.plan.recipe, self.plan.text.capacity
        if recipe.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})

        @functools.cache
        def validate() -> Callable[[nn.Module], Score]:
            """Validation rows may come last, so they are not asked for before the first epoch is over."""
            units.all("train")
            return validator(PackedBatches(units.all("validation"), capacity=capacity, rows=VALIDATED))

        return fit(
            Learner(model, last_layer(model)),
            lesson,
            Schedule(recipe.epochs, recipe.learning_rate, recipe.weight_decay, seed=self.plan.compute.seed),
            groups=_groups(model),
            validate=lambda module: validate()(module),
            folder=self._training(name) / "completions",
            report=functools.partial(self.report, f"train the {name}"),
            precision=precision,
            processes=self.processes,
            watch=watch,
        )

    def _practised(self, model: PreTrainedModel, units: Coming, precision: Precision) -> Mapping[str, Any]:
        """What the student gained by its own verified answers, where the recipe has it write some."""
        work = self.plan, self.dataset, model, self.tokenizer
        folder = self._training("student") / "practice"
        if self.plan.recipe.name == "self":
            return practice.improve(*work, units.all("train"), _groups, folder, self.report, precision)
        if self.plan.recipe.name == "grpo":
            return practice.reinforce(*work, _groups, folder, self.folder, self.report, precision)
        return {}

    def _knowledge(self, model: PreTrainedModel, units: Coming) -> Knowledge:
        """What the teacher said of the tokens, once it is sure that the two count in the same ones; what either head is
        padded with is cut."""
        facts = self.labels.facts
        theirs: Tokenizer = AutoTokenizer.from_pretrained(self.labels.path / TOKENIZER, local_files_only=True)
        found = preflight(
            Side("teacher", theirs, facts["vocabulary"], facts["context"]),
            Side("student", self.tokenizer, model.config.vocab_size, _context(model)),
            [one.row for unit in completions.read(self.labels.path) for one in unit.learnt],
            units.all("train"),
            vocabulary=self.plan.text.vocabulary,
        )
        students.cut_vocabulary(model, found.vocabulary)
        return knowledge_of(self.labels)

    def _training(self, name: str) -> Path:
        """What a training that is broken off leaves; gone at its end."""
        return self.folder / f"{name}-training"


def _context(model: PreTrainedModel) -> int:
    """The longest sequence it takes."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def _groups(model: PreTrainedModel) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not; what is frozen is neither."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learnt if p.ndim > 1]},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]


def tokenizer_of(plan: Plan, labels: TeacherLabels) -> Tokenizer:
    """The student's own, or its teacher's.

    Raises:
        PlanError: there is neither.
    """
    folders = [folder for folder in (plan.student.checkpoint, labels.path / TOKENIZER) if folder is not None]
    for folder in folders:
        if (folder / "tokenizer.json").is_file() or (folder / "tokenizer_config.json").is_file():
            found: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            return found
    raise PlanError(
        "neither the student's checkpoint nor its teacher has a tokenizer",
        hint="Save one beside the student: tokenizer.save_pretrained(student.checkpoint).",
    )
