"""On-policy distillation (GKD, Agarwal et al. 2024, arXiv 2306.13649): the student writes, its teacher scores.

Which of two texts a step learns from is drawn with the probability lambda: completions that were given, as `sequence`
learns them, or what the student writes to the same prompts as it is now. Lambda and the divergence change as training
goes on: from given text and forward KL, which covers all that the teacher says, to the student's own and reverse KL,
which mends its own mistakes. Logits are made for a chunk of tokens at a time, of both models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from toolkit.distil.chunks import CHUNK, HiddenStates, Mix, Tokens, gradient_shares, vocabulary_loss
from toolkit.distil.devices import moved
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import Taught
from toolkit.distil.precision import Precision
from toolkit.distil.sequences import TopK
from toolkit.tasks.text_generation.dealing import Dealt
from toolkit.tasks.text_generation.packing import Packed, snug
from toolkit.tasks.text_generation.sampling import Drawing, seed_of, write
from toolkit.tasks.text_generation.students import head_of
from toolkit.tasks.text_generation.teacher import BATCH_TOKENS, LanguageTeacher, batches_of
from toolkit.tasks.text_generation.tokens import Tokenised
from toolkit.tasks.text_generation.training import Mixture, completion_states


class Says(Protocol):
    """What a teacher says of samples: out of its cache (`training.Knowledge`), or asked here and now (`InMemory`)."""

    def of(self, samples: Sequence[Tokenised], device: torch.device) -> TopK | HiddenStates:
        """Of each completion token of the samples, one after the other."""
        ...


@dataclass(frozen=True)
class InMemory:
    """A teacher that is asked in every step. `batch_tokens`: of what goes through it at once, padding included."""

    teacher: LanguageTeacher
    batch_tokens: int = BATCH_TOKENS

    def of(self, samples: Sequence[Tokenised], device: torch.device) -> HiddenStates:
        # By number, for a student may write the same twice
        numbered = [replace(sample, id=str(number)) for number, sample in enumerate(samples)]
        states: dict[int, Tensor] = {}
        for batch in batches_of(numbered, self.batch_tokens):
            for sample, found in zip(batch, self.teacher.states(batch), strict=True):
                states[int(sample.id)] = found
        weight, bias = self.teacher.head
        return moved(HiddenStates(torch.cat([states[number] for number in range(len(samples))]), weight, bias), device)


@dataclass(frozen=True)
class Course:
    """A value that moves evenly from `first` to `last` as training goes on."""

    first: float
    last: float

    def at(self, progress: float) -> float:
        """`progress`, 0..1, of the training is done."""
        return self.first + (self.last - self.first) * progress


RESPONSE_ALONE = Mix(0.0, 1.0)


@dataclass(frozen=True)
class Exposure:
    """How a step learns: with probability `own` from what the student writes; from either by `response` times the
    divergence at `beta` (0 is forward KL, 1 reverse KL), and from what is given by `hard_label` times its label too, as
    `given` has them; its own beta is not looked at.

    GKD's own settings are `own` 0 or 0.5 or 1 throughout and one beta.
    """

    own: Course = Course(0.0, 1.0)
    beta: Course = Course(0.0, 1.0)
    given: Mixture | Mix = RESPONSE_ALONE

    def mix(self, progress: float, *, own: bool) -> Mix:
        """What a token's loss is made of there."""
        mix = self.given.at(progress)
        return replace(mix, hard_label=0.0 if own else mix.hard_label, beta=self.beta.at(progress))


@dataclass(frozen=True)
class Part:
    """A micro-batch of a step: `step` are the samples of the whole step, of which it has those at `places`. `lot`,
    0..1, decides whose text is learnt, and `seed` what the student draws."""

    step: tuple[Tokenised, ...]
    places: slice
    lot: float
    seed: int


class OnPolicyLesson:
    """Given completions and the student's own (recipe `on-policy`). What a checkpoint holds of it is nothing: what was
    written lasts for its step.

    Args:
        samples: prompts with given completions; a step is so many of them.
        teacher: what scores what the student writes.
        given: what the teacher said of the given completions; None: `teacher` is asked for those too.
        stops: tokens that end an answer (`sampling.stops_of`).
        rows: samples of a micro-batch.
        chunk: completion tokens whose logits are held at once.
        pad: id for padding, any of the vocabulary.
    """

    def __init__(
        self, samples: Dealt[Tokenised], exposure: Exposure, teacher: Says, drawing: Drawing, stops: Collection[int], *,
        rows: int, given: Says | None = None, seed: int = 0, chunk: int = CHUNK, pad: int = 0,
    ) -> None:  # fmt: skip
        self._samples, self._exposure, self._teacher, self._drawing = samples, exposure, teacher, drawing
        self._given, self._stops = given or teacher, frozenset(stops)
        self._rows, self._seed, self._chunk, self._pad = rows, seed, chunk, pad
        self._written: tuple[int, Sequence[Tokenised]] | None = None

    @property
    def steps(self) -> int:
        return self._samples.steps

    def parts(self, epoch: int, step: int) -> Sequence[Part]:
        samples = self._samples.step(epoch, step)
        lot = seed_of(self._seed, "lot", epoch, step) / 2**63
        seed = seed_of(self._seed, "text", epoch, step)
        starts = range(0, len(samples), self._rows)
        return [Part(samples, slice(start, start + self._rows), lot, seed) for start in starts]

    def teach(self, learner: Learner, part: Part, progress: float, precision: Precision) -> Taught:
        model = cast(PreTrainedModel, learner.student)
        own = part.lot < self._exposure.own.at(progress)
        samples = self._own(model, part) if own else part.step
        batch = snug(samples[part.places], self._pad)
        total = sum(sample.learnt for sample in samples)
        says, mix = (self._teacher if own else self._given), self._exposure.mix(progress, own=own)
        taught = self._taught(learner, batch, says, mix, total, precision, first=not part.places.start)
        return Taught(taught.loss, {**taught.told, **self._figures(samples[part.places], len(samples), own=own)})

    def _own(self, model: PreTrainedModel, part: Part) -> Sequence[Tokenised]:
        """What the student writes to the prompts of the step, once: it is the same for all parts."""
        if self._written is None or self._written[0] != part.seed or not part.places.start:
            self._written = part.seed, self._write(model, part)
        return self._written[1]

    def _write(self, model: PreTrainedModel, part: Part) -> Sequence[Tokenised]:
        prompts = [sample.ids[: sample.prompt] for sample in part.step]
        texts = write(model, prompts, self._drawing, stops=self._stops, seed=part.seed)
        return tuple(
            replace(sample, ids=(*prompt, *text))
            for sample, prompt, text in zip(part.step, prompts, texts, strict=True)
        )

    def _taught(
        self, learner: Learner, batch: Packed, says: Says, mix: Mix, total: int, precision: Precision, *, first: bool
    ) -> Taught:
        model = cast(PreTrainedModel, learner.student)
        said = says.of(batch.samples, model.device)  # in the teacher's own precision
        with precision.products(learner):
            states, places = completion_states(model, batch)
            tokens = Tokens(places.targets, said)
            found = vocabulary_loss(states, head_of(model), tokens, mix, total=total, chunk=self._chunk)
            told = {"response": float(found.response.sum()) / total, "tokens": float(len(places.targets))}
            if mix.hard_label:
                told["hard-label"] = float(found.hard_label.sum()) / total
            if first and mix.hard_label and mix.response:
                shares = gradient_shares(states, head_of(model), tokens, mix)
                told |= {f"pull/{name}": share for name, share in shares.items()}
        return Taught(found.loss, told)

    def _figures(self, mine: Sequence[Tokenised], whole: int, *, own: bool) -> Mapping[str, float]:
        """The share of the step that the student wrote, and how much of it ended by itself."""
        ended = sum(sample.ids[-1] in self._stops for sample in mine)
        return {"own": own * len(mine) / whole, "own-ended": own * ended / whole}

    def close_step(self) -> None:
        """There is no state."""

    def close_epoch(self) -> Mapping[str, float]:
        return {}

    def twin(self) -> OnPolicyLesson:
        return OnPolicyLesson(
            self._samples, self._exposure, self._teacher, self._drawing, self._stops, rows=self._rows,
            given=self._given, seed=self._seed, chunk=self._chunk, pad=self._pad,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        del saved
