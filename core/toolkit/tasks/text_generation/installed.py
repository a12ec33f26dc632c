"""A bundle's language model on a site: opened out of RAM, proven on prompts with known answers, and queued for.

Loads neither torch nor transformers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.artifacts import BundleFile, CompiledModel
from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import PredictorFacts
from toolkit.serving.batching import Observer
from toolkit.serving.drawing import Drawn
from toolkit.serving.language import CONFIG, LanguageSession
from toolkit.serving.language import MODEL as MODEL_FILE
from toolkit.serving.runtime import SealedFiles, misfit
from toolkit.serving.sessions import CPU
from toolkit.serving.writing import Writer
from toolkit.tasks.text_generation.compiled import CompiledPredictor
from toolkit.tasks.text_generation.spelling import SiteTokenizer
from toolkit.workspace import mapped

MODEL, GENERATION, TOKENIZER, GOLDEN = "model", "generation", "tokenizer", "golden"
"""Roles in a bundle."""

FILES = {MODEL: MODEL_FILE, GENERATION: "generation.json", TOKENIZER: "tokenizer.json", GOLDEN: "golden.json"}
"""The files of a compiled student, by role."""

NEAR = 0.25
"""Nats by which a token may be less likely here than another, where the release chose it: rounding differs between
processors, and where two tokens are as good as one another that decides."""


def bundle_files(compiled: CompiledModel) -> Iterable[BundleFile]:
    """What compiling left, by role."""
    return [BundleFile(role, mapped(compiled.path / name)) for role, name in FILES.items()]


def compiled_predictor(compiled: CompiledModel, threads: int) -> CompiledPredictor:
    """What compiling left, opened as a site opens it."""
    facts = PredictorFacts("compiled", "", compiled.digest)
    return open_installed(CompiledFiles(compiled.path), facts, threads)


@dataclass(frozen=True)
class CompiledFiles:
    """`SealedFiles` that nobody has sealed yet."""

    path: Path
    roles: Sequence[str] = tuple(FILES)

    def read(self, role: str) -> bytes:
        return (self.path / FILES[role]).read_bytes()

    def forget(self, role: str) -> None:
        """Nothing is kept."""


def generation_record(config: bytes, stops: Iterable[int]) -> Mapping[str, Any]:
    """How the runtime is to run the model: its config, and the tokens that end an answer."""
    return {CONFIG: json.loads(config), "stops": sorted(stops)}


def open_installed(files: SealedFiles, facts: PredictorFacts, threads: int) -> CompiledPredictor:
    """The bundle's model, from RAM into a session; the decrypted copies are wiped once it stands. 0 `threads` are
    one a core: texts share a step, and there is one step at a time."""
    try:
        how = json.loads(files.read(GENERATION))
        config, stops = json.dumps(how[CONFIG]).encode(), [int(stop) for stop in how["stops"]]
    except (KeyError, TypeError, ValueError) as error:
        raise misfit(GENERATION) from error
    threads = threads or len(os.sched_getaffinity(0))
    try:
        session = LanguageSession(files.read(MODEL), config, stops=stops, threads=threads)
    except (KeyError, TypeError) as error:
        raise misfit(GENERATION) from error
    tokenizer = SiteTokenizer(files.read(TOKENIZER))
    for role in (MODEL, GENERATION, TOKENIZER):
        files.forget(role)
    return CompiledPredictor(session, tokenizer, PredictorFacts(facts.form, CPU, facts.digest))


def prove(predictor: CompiledPredictor, golden: bytes) -> None:
    """Warm the model up on prompts whose answers are known.

    Args:
        golden: JSON, a list of {"prompt": ids, "answer": ids}.

    Raises:
        EnvironmentUnfit: this machine's answers are other ones than those the model was released with, and not because
            two tokens are about as likely.
        IntegrityError: the file is no such thing.
    """
    try:
        known = [([*map(int, one["prompt"])], [*map(int, one["answer"])]) for one in json.loads(golden)]
    except (KeyError, TypeError, ValueError) as error:
        raise misfit(GOLDEN) from error
    if not known:
        raise misfit(GOLDEN)
    written = written_ids(predictor.session, [p for p, _ in known], [len(a) for _, a in known])
    for (prompt, expected), found in zip(known, written, strict=True):
        short = behind(predictor.session, prompt, expected, found)
        if not short <= NEAR:
            raise EnvironmentUnfit(
                f"the model does not answer here as it did when it was released: a token that it then chose is "
                f"{short:.2g} nats behind another, {NEAR:g} is allowed",
                hint="Compare this machine and its onnxruntime with the bundle's profile, or compile for this one.",
            )


def behind(session: LanguageSession, prompt: Sequence[int], expected: Sequence[int], found: Sequence[int]) -> float:
    """Where an answer leaves the one that was expected, how many nats the expected token is behind the likeliest one
    here; 0 where it never does, or only goes on after it."""
    pairs = zip(expected, found, strict=False)
    at = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(found)))
    if at == len(expected):
        return 0.0
    logits = session.after([*prompt, *expected[:at]])
    return float(logits.max() - logits[expected[at]])


def written_ids(session: LanguageSession, prompts: Sequence[Sequence[int]], most: Sequence[int]) -> list[list[int]]:
    """The likeliest answers as token ids, without what ends them."""
    found: list[list[int]] = [[] for _ in prompts]
    for place, token, _ in session.write(prompts, [Drawn(max(1, length)) for length in most]):
        if token is not None:
            found[place].append(token)
    return found


def golden_record(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[dict[str, list[int]]]:
    """What `prove` reads."""
    pairs = zip(prompts, answers, strict=True)
    return [{"prompt": [*map(int, p)], "answer": [*map(int, a)]} for p, a in pairs]


def queue(
    predictor: CompiledPredictor, *, together: int, delay_ms: float, limit: int, preparers: int, observer: Observer
) -> Writer:
    """What stands between requests and the model. None is held back for company: a text takes long enough."""
    del delay_ms, preparers
    return Writer(predictor, together=together, queue_limit=limit, observer=observer)
