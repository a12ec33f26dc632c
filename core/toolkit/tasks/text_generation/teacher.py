"""A language teacher on this machine, looked into: what it says of each token of a completion, kept once for all runs.

It reads a Hugging Face checkpoint or a GGUF file, runs whole sequences without generating, and projects completion
positions alone. What it says goes into `distil.cache`, by the digest of the tokens it was said of: a row whose text
changes is labelled again, and no other. It answers no prompts; that is a text teacher's work (`toolkit.text`).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from toolkit.distil.cache.codecs import Codec, HiddenCodec, TopKCodec, bytes_per_token
from toolkit.distil.cache.mass import ENOUGH, LowMass
from toolkit.distil.cache.store import Origin, Sample, TokenCache
from toolkit.distil.chunks import CHUNK
from toolkit.distil.sequences import TopK, precise
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.executors import LocalWorkers
from toolkit.protocols import Report, Workers
from toolkit.tasks.text_generation.preflight import Side, check_disk
from toolkit.tasks.text_generation.students import check_checkpoint, head_of, whole_model
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, template_digest, tokenizer_digest
from toolkit.workspace import file_digest

BATCH_TOKENS = 4096
"""Tokens that go through the teacher at once, padding included."""


@dataclass(frozen=True)
class LanguageTeacher:
    """A causal language model in evaluation mode. `sha256` is of its weights; `vocabulary` how many rows of its head
    count, all but padding."""

    name: str
    sha256: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    vocabulary: int

    @property
    def side(self) -> Side:
        """As `preflight` looks at it."""
        context = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        return Side("teacher", self.tokenizer, self.model.config.vocab_size, int(context))

    @property
    def head(self) -> tuple[Tensor, Tensor | None]:
        """Weight [vocabulary, width] and bias [vocabulary]: with the last hidden states, all it says."""
        layer = head_of(self.model)
        bias = None if layer.bias is None else layer.bias[: self.vocabulary]
        return layer.weight.detach()[: self.vocabulary], bias

    @torch.inference_mode()
    def states(self, samples: Sequence[Tokenised]) -> Sequence[Tensor]:
        """For each sample the last hidden states [learnt, width] that predict its completion's tokens."""
        ids = torch.zeros(len(samples), max(len(sample) for sample in samples), dtype=torch.int64)
        for row, sample in enumerate(samples):
            ids[row, : len(sample)] = torch.tensor(sample.ids)
        # Padding stands behind: with causal attention, no token that counts sees it
        hidden = self.model.base_model(input_ids=ids.to(self.model.device), use_cache=False).last_hidden_state
        return [hidden[row, sample.prompt - 1 : len(sample) - 1] for row, sample in enumerate(samples)]

    @torch.inference_mode()
    def logits(self, states: Tensor) -> Tensor:
        """What the head makes of states [n, width]: [n, vocabulary], in single precision at least."""
        weight, bias = self.head
        return precise(functional.linear(states.to(weight), weight, bias))


def read_teacher(source: Path, *, name: str = "", vocabulary: int | None = None) -> LanguageTeacher:
    """Load a teacher from a checkpoint's folder or from a .gguf file.

    Args:
        vocabulary: rows of its head that count, as `preflight` found them; None: all.

    Raises:
        PlanError: it is neither, is damaged, or makes logits of more than a head's product.
        EnvironmentUnfit: a GGUF file, and gguf or accelerate, which transformers reads it with, is not installed.
    """
    if source.suffix.lower() == ".gguf":
        folder, files, extra = source.parent, [source], {"gguf_file": source.name}
        if not source.is_file():
            raise PlanError(f"the teacher {source} does not exist", hint="Name a .gguf file or a checkpoint's folder.")
        if missing := [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]:
            raise EnvironmentUnfit(
                f"{source.name} is a GGUF file, and what reads it is not installed: {', '.join(missing)}",
                hint=f"pip install {' '.join(missing)}, or give the teacher as a Hugging Face checkpoint.",
            )
    else:
        check_checkpoint(source)
        folder, extra = source, {}
        weights = sorted(source.glob("*.safetensors")) or sorted(source.glob("pytorch_model*.bin"))
        files = [source / "config.json", *weights]
    model = whole_model(source, folder, dtype="auto", **extra)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **extra)
    except (OSError, ValueError, RuntimeError) as error:
        raise PlanError(
            f"the tokenizer of {source} cannot be loaded: {str(error).splitlines()[0]}",
            hint="Save it again with save_pretrained, beside the weights.",
        ) from error
    model.train(False)
    model.requires_grad_(False)
    if extra:
        _forget_quantisation(model)
    _check_head(model, source)
    digest = hashlib.sha256("".join(file_digest(path) for path in files).encode()).hexdigest()
    size = model.config.vocab_size if vocabulary is None else vocabulary
    return LanguageTeacher(name or source.stem, digest, model, tokenizer, size)


def label(
    teacher: LanguageTeacher,
    samples: Sequence[Tokenised],
    root: Path,
    *,
    codec: Literal["topk", "hidden"] = "topk",
    k: int = 64,
    tokenizer: Tokenizer | None = None,
    sampling: Mapping[str, Any] | None = None,
    enough: float = ENOUGH,
    batch_tokens: int = BATCH_TOKENS,
    report: Report | None = None,
    workers: Workers | None = None,
) -> TokenCache:
    """Have the teacher say of each completion token what it would, into the cache under `root` that is its own; what is
    there already is not asked again, and a run that was killed goes on.

    Args:
        tokenizer: what made the samples, the student's, where it is not the teacher's own object.
        sampling: how completions were drawn, and by whom; part of the cache's digest.
        enough: the mean mass that the k best tokens must have; 0 takes any.
        batch_tokens: tokens that go through the teacher at once.
        report: told ("label", samples done, samples in all).
        workers: who runs the teacher, a batch at a time; this process where none are given. They change no bit.

    Returns:
        The cache, finished; a sample's entries are under its `digest`.

    Raises:
        LowMass: the k best tokens are too few: see `label_as_needed`.
        EnvironmentUnfit: the disk is too small, or another process writes.
        IntegrityError: the teacher says what is no number.
    """
    asked = tokenizer or teacher.tokenizer
    origin = Origin(
        teacher.name, teacher.sha256, tokenizer_digest(asked), template_digest(asked), sampling=dict(sampling or {})
    )
    kind = _codec(teacher, codec, k)
    cache = TokenCache.open(root, origin, kind)
    by_digest = {sample.digest: sample for sample in samples}
    missing = [by_digest[digest] for digest in cache.missing(by_digest)]
    check_disk(root, sum(sample.learnt for sample in missing), bytes_per_token(kind))
    threads = torch.get_num_threads() if workers is None else workers.threads
    saying = Saying(teacher, kind.k if isinstance(kind, TopKCodec) else None, threads)
    batches, done = list(batches_of(missing, batch_tokens)), len(by_digest) - len(missing)
    cache.write(_said(saying, batches, workers or LocalWorkers(threads), done, report), enough=enough)
    cache.finish(by_digest)
    return cache


def label_as_needed(
    teacher: LanguageTeacher, samples: Sequence[Tokenised], root: Path, *, k: int = 64, **settings: Any
) -> TokenCache:
    """`label` with the k best tokens; where those have too little mass, with more of them or with hidden states, as the
    cache advises."""
    try:
        return label(teacher, samples, root, codec="topk", k=k, **settings)
    except LowMass as low:
        if low.advice.action == "hidden":
            return label(teacher, samples, root, codec="hidden", **settings)
        return label_as_needed(teacher, samples, root, k=low.advice.k, **settings)


def _codec(teacher: LanguageTeacher, name: Literal["topk", "hidden"], k: int) -> Codec:
    weight, _ = teacher.head
    if name == "topk":
        return TopKCodec(min(k, teacher.vocabulary), teacher.vocabulary)

    def log_probs(states: np.ndarray) -> np.ndarray:
        logits = teacher.logits(torch.from_numpy(states).to(weight.device))
        return np.asarray(functional.log_softmax(logits, dim=-1).cpu().numpy())

    return HiddenCodec(weight.shape[1], teacher.vocabulary, log_probs)


@dataclass(frozen=True)
class Saying:
    """What a worker takes with it: the teacher, and of which it keeps what it says: the `k` best tokens, or the hidden
    states where that is None."""

    teacher: LanguageTeacher
    k: int | None
    threads: int

    def __call__(self) -> Callable[[Sequence[Tokenised]], Sequence[Sample]]:
        torch.set_num_threads(self.threads)
        return self.said

    def said(self, batch: Sequence[Tokenised]) -> Sequence[Sample]:
        states = zip(batch, self.teacher.states(batch), strict=True)
        return [Sample(sample.digest, _entries(self.teacher, self.k, of_it)) for sample, of_it in states]


def _said(
    saying: Saying, batches: Sequence[Sequence[Tokenised]], workers: Workers, done: int, report: Report | None
) -> Iterator[Sample]:
    """Batch by batch, in their order, whoever was first; `done` samples of all were said before."""
    whole = done + sum(map(len, batches))
    with closing(workers.map(saying, batches)) as found:
        for samples in found:
            yield from samples
            done += len(samples)
            if report is not None:
                report("label", done, whole)


def batches_of(samples: Sequence[Tokenised], tokens: int) -> Iterator[Sequence[Tokenised]]:
    """Samples of like length together, the longest first, so that what does not fit in memory fails at once."""
    batch: list[Tokenised] = []
    for sample in sorted(samples, key=lambda sample: (-len(sample), sample.digest)):
        if batch and (len(batch) + 1) * len(batch[0]) > tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _entries(teacher: LanguageTeacher, k: int | None, states: Tensor) -> Mapping[str, np.ndarray]:
    """What a codec keeps of some states, a chunk of tokens at a time."""
    if k is None:
        return {"hidden": states.float().cpu().numpy()}
    parts = [TopK.of_logits(teacher.logits(chunk), k) for chunk in torch.split(states, CHUNK)]
    fields = ("indices", "log_probs", "log_rest")
    return {name: torch.cat([getattr(part, name) for part in parts]).cpu().numpy() for name in fields}


def _forget_quantisation(model: PreTrainedModel) -> None:
    """The weights of a GGUF file are plain numbers once they are read; a copy that said otherwise could not be saved,
    and a student pruned from it not be read again."""
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


@torch.inference_mode()
def _check_head(model: PreTrainedModel, source: Path) -> None:
    """Whether the head's product with the last hidden state is all there is: some scale or cap their logits."""
    ids = torch.arange(min(4, model.config.vocab_size), device=model.device).unsqueeze(0)
    head = head_of(model)
    whole = model(input_ids=ids, use_cache=False).logits
    mine = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    if not torch.allclose(whole.float(), mine.float(), rtol=1e-3, atol=1e-3):
        raise PlanError(
            f"the logits of {source.name} are more than its head's product with its last hidden state",
            hint="Choose another teacher, or learn from its text alone.",
        )
