"""Labelling text: the teacher writes the completions that are missing, and says of every token what it would.

What was written lies in the home's journal, for every run, whoever wrote it. A teacher on this machine is looked into
as well: what it says of the tokens goes into the token cache. A student then learns from files alone.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from toolkit.artifacts import Dataset, TeacherLabels
from toolkit.distil.answers import Answered, answered
from toolkit.distil.cache import shelf
from toolkit.distil.cache.codecs import HiddenCodec
from toolkit.distil.cache.mass import LowMass
from toolkit.distil.cache.store import TokenCache
from toolkit.distil.devices import prepare_torch
from toolkit.errors import DataError, PlanError
from toolkit.plan import Plan, TextPlan
from toolkit.protocols import Executor, Report, Workers
from toolkit.tasks.text_generation import completions
from toolkit.tasks.text_generation.completions import Judge, Learnt, Unit, prompts_of
from toolkit.tasks.text_generation.packing import drawn_lot
from toolkit.tasks.text_generation.predictors import LocalWriter
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.teacher import LanguageTeacher, label_as_needed, read_teacher
from toolkit.tasks.text_generation.teacher import label as label_tokens
from toolkit.tasks.text_generation.tokens import tokenise
from toolkit.tasks.text_generation.training import Knowledge
from toolkit.text_teachers import LocalTeacher, TextTeacher
from toolkit.workspace import file_digests

TOKENS, TOKENIZER, HEAD = "cache", "tokenizer", "head.safetensors"

_Rows = Sequence[tuple[Row, str]]
"""Rows, and the split that each lies in."""


def as_asked(teacher: TextTeacher | LocalTeacher) -> TextTeacher:
    """The teacher as one that is asked and never looked into, wherever it is."""
    return teacher if isinstance(teacher, TextTeacher) else LocalWriter(teacher)


def label(
    plan: Plan, dataset: Dataset, teacher: TextTeacher | LocalTeacher, workspace: Path, journal: Path, report: Report,
    executor: Executor,
) -> TeacherLabels:  # fmt: skip
    """Fill `workspace` with completions and with what the teacher says of their tokens; what is there already is not
    done again. A teacher that is asked writes while who reads `filling` goes on.

    Args:
        journal: folder of what this teacher has written to anybody.
        executor: has the workers that look into a teacher on this machine.

    Raises:
        DataError: nothing is left to learn. And what the teacher raises.
    """
    facts: dict[str, Any] = {"name": teacher.name, "record": asdict(teacher.record(plan)), "history": []}
    if isinstance(teacher, TextTeacher):
        return TeacherLabels(
            workspace, "", facts=facts, filling=_filling(plan, dataset, teacher, workspace, journal, facts)
        )
    prepare_torch(plan.compute)
    model = read_teacher(teacher.source(plan), name=teacher.name, vocabulary=plan.text.vocabulary)
    units = []
    for unit in _filling(plan, dataset, LocalWriter(teacher, model), workspace, journal, facts):
        units.append(unit)
        report("the teacher writes", len(units), facts["units"])
    facts |= {
        "architecture": model.model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "vocabulary": model.side.vocabulary,
        "context": model.side.context,
    }
    if plan.text.knowledge != "none":
        facts["mended"] = _mended(workspace)
        rows = [learnt.row for unit in units for learnt in unit.learnt]
        with executor.open(plan) as workers:
            facts["tokens"] = _look_into(plan.text, model, rows, workspace, report, workers)
        facts["files"] |= _digests(workspace, [TOKENIZER, HEAD])
    return TeacherLabels(workspace, "", facts=facts)


def knowledge_of(labels: TeacherLabels) -> Knowledge:
    """What the teacher said of the tokens."""
    cache = TokenCache.at(labels.path / TOKENS / labels.facts["tokens"]["cache"])
    if not isinstance(cache.codec, HiddenCodec):
        return Knowledge(cache)
    head = load_file(labels.path / HEAD)
    return Knowledge(cache, (head["weight"], head.get("bias")))


def _filling(
    plan: Plan, dataset: Dataset, teacher: TextTeacher, workspace: Path, journal: Path, facts: dict[str, Any]
) -> Writing:
    """What came with its completion, then what the teacher writes, as it comes; at the end all of it is in `workspace`,
    and counted in `facts`. How many units of each split there will be, they are told at once.
    """
    given, asked = _rows(plan, dataset)
    facts["units"] = len(given) + len(asked)
    facts["of"] = dict(Counter(split for _, split in (*given, *asked)))
    return Writing(lambda begun: _told(plan, given, asked, teacher, workspace, journal, facts, begun))


class Writing(Iterator[Unit]):
    """Units as they come, and how far the teacher is that writes them.

    Args:
        told: makes them; it hands over the answers that it asks for, once it does.
    """

    def __init__(self, told: Callable[[Callable[[Answered], None]], Generator[Unit]]) -> None:
        self._answers: Answered | None = None
        self._units = told(self._begun)

    def __next__(self) -> Unit:
        return next(self._units)

    def close(self) -> None:
        self._units.close()

    def figures(self) -> Mapping[str, float]:
        return {} if self._answers is None else self._answers.progress().figures()

    def _begun(self, answers: Answered) -> None:
        self._answers = answers


def _told(
    plan: Plan, given: _Rows, asked: _Rows, teacher: TextTeacher, workspace: Path, journal: Path, facts: dict[str, Any],
    begun: Callable[[Answered], None],
) -> Generator[Unit]:  # fmt: skip
    units = [Unit(split, (Learnt(row),)) for row, split in given]
    yield from units
    judge, samples = Judge(teacher.record(plan).id), plan.text.samples
    if asked:
        with answered(journal, teacher, plan, prompts_of((row for row, _ in asked), samples)) as answers:
            begun(answers)
            coming = iter(answers)
            for row, split in asked:
                units.append(judge.unit(row, split, list(islice(coming, samples))))
                yield units[-1]
    judge.check()
    for split in ("train", "validation"):
        if not any(unit.learnt for unit in units if unit.split == split):
            raise DataError(
                f"no completion of a {split} row is left to learn from", hint="Give more, or let the teacher write."
            )
    completions.write(workspace, units)
    facts["completions"] = {"given": len(given), **judge.counts()}
    facts["files"] = _digests(workspace, [completions.FILE])


def _rows(plan: Plan, dataset: Dataset) -> tuple[_Rows, _Rows]:
    """Rows that came with their completion, and rows that the teacher is to answer, each with its split: those of
    training first, drawn by lot, since who trains beside takes them in this order."""
    rows = [
        (row, "train" if split == "unlabelled" else split)
        for split in ("train", "unlabelled", "validation")
        for row in load_corpus(dataset.path, split)
    ]
    anew = plan.text.completions == "teacher"
    rows.sort(key=lambda pair: (pair[1] != "train", drawn_lot(plan.compute.seed, 0, "label", pair[0].id)))
    given = [(row, split) for row, split in rows if row.labelled and not anew]
    asked = [(replace(row, completion=""), split) for row, split in rows if anew or not row.labelled]
    return given, asked


def _mended(workspace: Path) -> Sequence[str]:
    """The shards that are not what was written, by name. They are removed, so that what they held is asked again."""
    names = shelf.damaged(workspace)
    for name in names:
        (workspace / name).unlink(missing_ok=True)
    return list(names)


def _digests(workspace: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Of files that a student learns from, by which `stages.label` sees that they are still what was written."""
    return file_digests(workspace, [file for name in names for file in _files(workspace / name)])


def _files(path: Path) -> Sequence[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []


def _look_into(
    text: TextPlan, model: LanguageTeacher, rows: Sequence[Row], workspace: Path, report: Report, workers: Workers
) -> Mapping[str, Any]:
    """Fill the token cache; keep what it takes to read it without the teacher: its tokenizer and, with hidden states,
    its head."""
    samples = tokenise(rows, model.tokenizer, max_tokens=text.max_tokens).samples
    sampling = {"completions": text.completions}
    settings: dict[str, Any] = {"k": text.top_k, "sampling": sampling, "report": report, "workers": workers}
    if text.knowledge == "topk" or text.knowledge == "hidden":
        try:
            cache = label_tokens(model, samples, workspace / TOKENS, codec=text.knowledge, **settings)
        except LowMass as low:
            raise PlanError(
                str(low), hint="Keep more of them (text.top_k), or --set text.knowledge=auto: as many as it takes."
            ) from low
    else:
        cache = label_as_needed(model, samples, workspace / TOKENS, **settings)
    for other in cache.folder.parent.iterdir():
        if other != cache.folder:
            shutil.rmtree(other)  # begun with, and given up for too little mass
    model.tokenizer.save_pretrained(workspace / TOKENIZER)
    if isinstance(cache.codec, HiddenCodec):
        weight, bias = model.head
        save_file({"weight": weight.contiguous()} | ({} if bias is None else {"bias": bias}), workspace / HEAD)
    return {
        "cache": cache.folder.name,
        "codec": cache.codec.name,
        "tokens": cache.tokens,
        "mass": cache.quality.mass,
    }
