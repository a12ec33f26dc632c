"""A language student in the forms of its target: each tried on validation, one chosen and compared with torch, in what
it says of every next token and in what it writes."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.artifacts import Dataset, Facts
from toolkit.compile.choice import Tried, choose, facts_of
from toolkit.compile.parity import Parity, compare_texts
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.plan import Plan
from toolkit.protocols import CompiledForm, HardwareProfile, PredictorFacts, Report, Target
from toolkit.serving.drawing import Drawn
from toolkit.serving.language import CONFIG, LanguageSession
from toolkit.serving.sessions import CPU
from toolkit.tasks.text_generation.compiled import CompiledPredictor, targets
from toolkit.tasks.text_generation.installed import (
    FILES,
    GENERATION,
    GOLDEN,
    MODEL,
    TOKENIZER,
    generation_record,
    golden_record,
    written_ids,
)
from toolkit.tasks.text_generation.predictors import LanguagePredictor
from toolkit.tasks.text_generation.reader import load_corpus
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.spelling import SiteTokenizer, check_alike, record_of
from toolkit.tasks.text_generation.tokens import Tokenised, prompt_ids, stops_of, tokenise
from toolkit.text import GenerationRequest, LanguageTarget, TextPredictor
from toolkit.workspace import canonical_json, write_file

GOLDEN_ROWS = 8
"""Prompts that a site's model is proven on."""

TRIED_ROWS = 64
"""Validation rows that forms are tried and compared on."""

ROUNDING = 0.01
"""Most that fp32 may change a token's probability by; forms that round are for `choose` to judge."""

TIMED = 3
"""Times that the same answers are written, for the median of what a token takes."""


@dataclass(frozen=True)
class Trial:
    """What forms are tried on: samples with a completion, and prompts to be answered by at most so many tokens."""

    samples: Sequence[Tokenised]
    requests: Sequence[GenerationRequest]


def compile_student(
    plan: Plan, dataset: Dataset, checkpoint: Path, torch_student: LanguagePredictor, target: Target,
    profile: HardwareProfile, folder: Path, report: Report,
) -> Facts:  # fmt: skip
    """Build every form of the student in `checkpoint` that the target offers, and keep one in `folder`, as the files
    that `installed` names: what is tried here is what a site has, its tokenizer too.

    Raises:
        PlanError: the target takes no language models, or a site cannot read the tokenizer. EnvironmentUnfit: what was
        built is not the student.
    """
    if not isinstance(target, LanguageTarget):
        raise PlanError(f"the target {target.name} takes no language models", hint="Choose another: toolkit targets.")
    rows = load_corpus(dataset.path, "validation")
    spelt = record_of(torch_student.model.tokenizer)
    tokenizer = SiteTokenizer(spelt)
    check_alike(tokenizer, torch_student.model.tokenizer, [row.messages for row in rows[:TRIED_ROWS]])
    requests = _requests(plan, rows)
    texts = _texts(torch_student, requests)
    given = [row for row in rows if row.labelled] or [
        replace(row, completion=texts[row.id]) for row in rows if texts.get(row.id)
    ]
    trial = Trial(tokenise(given[:TRIED_ROWS], tokenizer, max_tokens=plan.text.max_tokens).samples, requests)
    stops = frozenset().union(*(stops_of(row.messages, tokenizer) for row in rows[:TRIED_ROWS]))
    report("build and try the forms", 1, 4)

    def opened(form: CompiledForm) -> CompiledPredictor:
        session = LanguageSession(form.model, form.beside[CONFIG], stops=stops, threads=profile.threads)
        facts = PredictorFacts("compiled", CPU, hashlib.sha256(form.model).hexdigest())
        return CompiledPredictor(session, tokenizer, facts)

    forms = target.compile_language(checkpoint, profile, folder)
    tried = [_try(form, opened(form), trial) for form in forms]  # one at a time in memory
    chosen, because = choose(tried, plan.target.precision, plan.target.margin)
    report("compare with the torch student", 3, 4)
    predictor = opened(chosen.form)
    parity = exact = compare_texts(_both(torch_student, predictor, trial.samples))
    if chosen is not tried[-1]:
        exact = compare_texts(_both(torch_student, opened(tried[-1].form), trial.samples))
    _check_exact(exact)
    prompts = [prompt_ids(request.messages, tokenizer) for request in requests]
    answers = written_ids(predictor.session, prompts, [request.max_tokens for request in requests])
    content = {
        MODEL: chosen.form.model,
        GENERATION: canonical_json(generation_record(chosen.form.beside[CONFIG], stops)),
        TOKENIZER: spelt,
        GOLDEN: canonical_json(golden_record(prompts, answers)),
    }
    for role, data in content.items():
        write_file(folder / FILES[role], data)
    written = [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]
    report("compare with the torch student", 4, 4)
    return facts_of(tried, chosen, because) | {
        "parity": parity.as_record(),
        "same_texts": sum(text == texts[one.id] for one, text in zip(requests, written, strict=True)) / len(requests),
    }


def _check_exact(fp32: Parity) -> None:
    if fp32.largest_difference > ROUNDING:
        raise EnvironmentUnfit(
            f"the compiled student is another one: in fp32 a token's probability is off by up to "
            f"{fp32.largest_difference:.3f}",
            hint="The builder misreads this architecture; choose a student of another, or another onnxruntime-genai.",
        )


def _requests(plan: Plan, rows: Sequence[Row]) -> list[GenerationRequest]:
    return [GenerationRequest(row.id, row.messages, plan.text.answer_tokens) for row in rows[:GOLDEN_ROWS]]


def _try(form: CompiledForm, predictor: CompiledPredictor, trial: Trial) -> Tried:
    """The share of completion tokens that it would choose itself, and the milliseconds a token that it writes."""
    right = [predictor.said(sample).argmax(axis=1) == targets(sample) for sample in trial.samples]
    prompts = [prompt_ids(request.messages, predictor.tokenizer) for request in trial.requests]
    drawn = [Drawn(request.max_tokens) for request in trial.requests]
    list(predictor.session.write(prompts[:1], drawn[:1]))  # what the first call sets up does not count
    took = []
    for _ in range(TIMED):
        started = time.perf_counter()
        tokens = sum(token is not None for _, token, _ in predictor.session.write(prompts, drawn))
        took.append(1e3 * (time.perf_counter() - started) / max(1, tokens))
    return Tried(form, float(np.concatenate(right).mean()), statistics.median(took))


def _both(
    torch_student: LanguagePredictor, predictor: CompiledPredictor, samples: Sequence[Tokenised]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for sample in samples:
        logits = torch_student.model.logits(torch_student.model.states([sample])[0])
        yield logits.softmax(dim=-1).cpu().numpy(), np.exp(predictor.said(sample))


def _texts(predictor: TextPredictor, requests: Sequence[GenerationRequest]) -> dict[str, str]:
    found = dict.fromkeys((request.id for request in requests), "")
    for delta in predictor.generate(requests):
        found[delta.id] += delta.text
    return found
