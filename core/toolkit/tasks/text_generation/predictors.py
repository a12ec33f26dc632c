"""A language model as who scores it, or asks it, sees it: in torch, or a teacher that only answers."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, starmap
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from toolkit.distil.answers import answered
from toolkit.distil.chunks import CHUNK
from toolkit.errors import Unsupported
from toolkit.plan import Plan
from toolkit.protocols import PredictorFacts, TeacherRecord
from toolkit.tasks.text_generation.constraints import constraint_of
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.sampling import Drawing, seed_of, write
from toolkit.tasks.text_generation.teacher import BATCH_TOKENS, LanguageTeacher, batches_of, read_teacher
from toolkit.tasks.text_generation.tokens import encode, opening_ids, stops_of
from toolkit.text import Completion, GenerationRequest, Logprobs, Message, Prompt, Sampling, TextDelta, Usage
from toolkit.text_teachers import LocalTeacher, TextTeacher

BATCH = 32
"""Prompts that are answered side by side."""


@dataclass(frozen=True)
class LanguagePredictor:
    """A causal language model in torch: a teacher's or a student's."""

    model: LanguageTeacher
    facts: PredictorFacts

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        """A whole answer at a time, those to prompts of like length side by side."""
        alike: dict[Drawing, list[GenerationRequest]] = defaultdict(list)
        for request in requests:
            alike[Drawing(request.max_tokens, request.temperature, request.top_p, BATCH)].append(request)
        for drawing, group in alike.items():
            group.sort(key=lambda request: sum(len(message.content) for message in request.messages))
            for start in range(0, len(group), BATCH):
                yield from (delta for delta, _ in _written(self.model, group[start : start + BATCH], drawing))

    @torch.inference_mode()
    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[Logprobs]:
        rows = [Row(str(number), messages, completion) for number, (messages, completion) in enumerate(texts)]
        samples = [encode(row, self.model.tokenizer) for row in rows]
        found: dict[str, Logprobs] = {}
        for batch in batches_of(samples, BATCH_TOKENS):
            for sample, states in zip(batch, self.model.states(batch), strict=True):
                targets = torch.tensor(sample.ids[sample.prompt :], device=states.device)
                parts = zip(torch.split(states, CHUNK), torch.split(targets, CHUNK), strict=True)
                found[sample.id] = Logprobs(*map(np.concatenate, zip(*starmap(self._said, parts), strict=True)))
        return [found[row.id] for row in rows]

    def _said(self, states: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
        logits = self.model.logits(states)
        losses = functional.cross_entropy(logits, targets, reduction="none")
        return -losses.cpu().numpy(), (logits.argmax(dim=-1) == targets).cpu().numpy()


@dataclass(frozen=True)
class AnsweringPredictor:
    """A teacher that is asked, out of what it has said already where it has: nobody pays for a score twice."""

    teacher: TextTeacher
    plan: Plan
    journal: Path
    facts: PredictorFacts

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[TextDelta]:
        """How it draws is its own affair."""
        prompts = [Prompt(request.id, request.messages) for request in requests]
        with answered(self.journal, self.teacher, self.plan, prompts) as answers:
            for answer in answers:
                yield TextDelta(answer.prompt_id, answer.text, answer.finish)

    def logprobs(self, texts: Sequence[tuple[tuple[Message, ...], str]]) -> Sequence[Logprobs]:
        raise Unsupported(f"{self.teacher.name} shows no probabilities", hint="Score what it writes.")


@dataclass(frozen=True)
class LocalWriter:
    """A teacher on this machine as one that is asked: `TextTeacher`, so that what it writes is kept as any other's. Its
    model is read when it is asked, where nobody has done so."""

    teacher: LocalTeacher
    model: LanguageTeacher | None = None
    gives: frozenset[str] = frozenset({"text"})

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def tasks(self) -> frozenset[str]:
        return self.teacher.tasks

    def record(self, plan: Plan) -> TeacherRecord:
        return self.teacher.record(plan)

    def fingerprint(self, plan: Plan) -> str:
        return self.teacher.fingerprint(plan)

    def sampling(self, plan: Plan) -> Sampling:
        return Sampling(plan.text.temperature, 1.0, plan.text.answer_tokens, plan.compute.seed)

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        """Nothing can be said before it writes."""

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Generator[Completion]:
        """Batch by batch, as prompts may be read; the same prompts in the same batches give the same answers, and two
        batches of one prompt's samples are drawn apart."""
        model = self.model or read_teacher(self.teacher.source(plan), name=self.name)
        waiting = iter(prompts)
        drawing = Drawing(plan.text.answer_tokens, plan.text.temperature, rows=BATCH)
        while batch := list(islice(waiting, BATCH)):
            requests = [
                GenerationRequest(
                    p.id, p.messages, drawing.max_tokens, drawing.temperature, seed=seed_of(plan.compute.seed, p.id)
                )
                for p in batch
            ]
            for delta, usage in _written(model, requests, drawing):
                yield Completion(delta.id, delta.text, delta.finish or "stop", usage)


def _written(
    model: LanguageTeacher, requests: Sequence[GenerationRequest], drawing: Drawing
) -> Iterator[tuple[TextDelta, Usage]]:
    """The answers to requests that are drawn alike, in one batch seeded by the first of them."""
    tokenizer = model.tokenizer
    prompts = [opening_ids(request, tokenizer) for request in requests]
    stops = frozenset().union(*(stops_of(request.messages, tokenizer) for request in requests))
    constraints = [constraint_of(request, tokenizer) for request in requests]
    seed = secrets.randbits(63) if requests[0].seed is None else requests[0].seed
    found = write(model.model, prompts, drawing, stops=stops, seed=seed, constraints=constraints)
    for request, prompt, ids in zip(requests, prompts, found, strict=True):
        ended = bool(ids) and ids[-1] in stops
        text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
        yield TextDelta(request.id, text, "stop" if ended else "length"), Usage(len(prompt), len(ids))
