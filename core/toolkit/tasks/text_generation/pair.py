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
from toolkit.distil.learner import Learner, decay_groups, last_layer
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
from toolkit.tasks.text_generation.beginning import tokenizer_of
from toolkit.tasks.text_generation.coming import Coming
from toolkit.tasks.text_generation.completions import GIVEN
from toolkit.tasks.text_generation.labelling import TOKENIZER, knowledge_of
from toolkit.tasks.text_generation.onpolicy import OnPolicyLesson
from toolkit.tasks.text_generation.packing import PackedBatches, UnitBatches
from toolkit.tasks.text_generation.preflight import Side, preflight
from toolkit.tasks.text_generation.reader import load_corpus, tasks_of
from toolkit.tasks.text_generation.sampling import Drawing, check_room
from toolkit.tasks.text_generation.tokens import Tokenizer, prompt_ids
from toolkit.tasks.text_generation.training import Knowledge, Mixture, SequenceLesson, validator
from toolkit.tasks.text_generation.weighting import TokenWeighting
from toolkit.workspace import canonical_json, write_file

VALIDATED = 8
"""Packed rows that are validated with at once."""


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
    pair = _Pair(plan, dataset, labels, spec, tokenizer_of(plan, dataset, labels), folder, report, processes)
    facts: dict[str, Any] = {"network": dict(spec.describe)}
    precision: Wanted | Precision = plan.compute.precision
    vocabulary = plan.text.vocabulary
    for name, terms in (("student", objectives), ("baseline", LABELS_ALONE)):
        units = pair.units(name)
        if units is None:
            continue
        record = folder / f"{name}.json"
        if not processes.decide(record.exists):
            pair.train(name, terms, units, precision, vocabulary)
        facts[name] = json.loads(processes.decide(record.read_bytes))
        facts[name]["pace"] = processes.decide(functools.partial(read_pace, pace_file(folder, name)))
        # The two are compared: the baseline takes over what was chosen for the student.
        vocabulary = facts[name]["vocabulary"]
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

    def train(
        self, name: str, terms: Sequence[Objective], units: Coming, precision: Wanted | Precision,
        vocabulary: int | None,
    ) -> None:  # fmt: skip
        """Into `folder`/`name`, with its facts beside it; rows of its head beyond `vocabulary` are cut."""
        device = prepare_torch(self.plan.compute, self.processes)
        sharded = self.plan.compute.sharding == "full"
        model: PreTrainedModel = self.spec.build()
        if name == "student":  # the other is like it
            self._check_room(model)
        known = None
        if "response" in carriers(terms):
            known, vocabulary = self._knowledge(model, units)
        adapted = self._shaped(model, vocabulary)
        if not sharded:
            nn.Module.to(model, device)
        lesson = self._lesson(name, terms, units, known)
        filling = self.labels.filling if name == "student" else None
        queue = None if filling is None else filling.figures
        with watched(self.folder, name, f"train the {name}", self.report, queue) as watch:
            fitted = self._fit(name, model, units, lesson, precision, device if sharded else None, watch)
        if not self.processes.first:
            return
        if sharded:  # what was cut into shards stays so
            model = self.spec.build()
            adapted = self._shaped(model, vocabulary)
        model.load_state_dict(fitted.weights)
        facts = fitted.facts()
        if name == "student":
            facts |= {"practice": self._practised(model, units, fitted.precision)}
        if adapted is not None:
            model = adapted.merged()
        students.save(students.Student(model.cpu(), {}), self.folder / name, self.tokenizer)
        facts |= {"vocabulary": model.config.vocab_size, "left_out": units.left_out}
        facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        write_file(self.folder / f"{name}.json", canonical_json(facts))
        shutil.rmtree(self._training(name), ignore_errors=True)

    def _shaped(self, model: PreTrainedModel, vocabulary: int | None) -> Adapted | None:
        """Cut its head and put adapters into it, in place; the adapters, where the plan has any."""
        if vocabulary is not None:
            students.cut_vocabulary(model, vocabulary)
        rank, bits = self.plan.student.lora_rank, self.plan.student.frozen_bits
        return Adapted(model, rank, self.plan.compute.seed, bits=bits) if rank else None

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
        splits = ("train", "validation", "test")
        rows = [row for split in splits for row in load_corpus(self.dataset.path, split)]
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
        recipe = plan.recipe
        weighting = TokenWeighting(
            tasks_of(self.dataset.path),
            by=recipe.task_weighting,
            floor=recipe.task_floor,
            difficulty=recipe.weighting == "difficulty" and known is not None,
        )
        return SequenceLesson(batches, Mixture(terms), known, weighting, self.processes)

    def _fit(
        self,
        name: str,
        model: PreTrainedModel,
        units: Coming,
        lesson: SequenceLesson | OnPolicyLesson,
        precision: Wanted | Precision,
        shard_on: torch.device | None,
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
            shard_on=shard_on,
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

    def _knowledge(self, model: PreTrainedModel, units: Coming) -> tuple[Knowledge, int]:
        """What the teacher said of the tokens, once it is sure that the two count in the same ones; and in how many,
        without what either head is padded with."""
        facts = self.labels.facts
        theirs: Tokenizer = AutoTokenizer.from_pretrained(self.labels.path / TOKENIZER, local_files_only=True)
        found = preflight(
            Side("teacher", theirs, facts["vocabulary"], facts["context"]),
            Side("student", self.tokenizer, model.config.vocab_size, _context(model)),
            [one.row for unit in completions.read(self.labels.path) for one in unit.learnt],
            units.all("train"),
            vocabulary=self.plan.text.vocabulary,
        )
        return knowledge_of(self.labels), found.vocabulary

    def _training(self, name: str) -> Path:
        """What a training that is broken off leaves; gone at its end."""
        return self.folder / f"{name}-training"


def _context(model: PreTrainedModel) -> int:
    """The longest sequence it takes."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def _groups(model: PreTrainedModel) -> list[dict[str, Any]]:
    return decay_groups(model.parameters())
