"""What a language student is taught: samples packed into rows, and of each completion token its label and what a
teacher said of it.

Logits are made for a chunk of completion tokens at a time (`distil.chunks`), and for a prompt never. The teacher is not
asked: all it has to say is in its cache.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from transformers import PreTrainedModel

from toolkit.distil.cache.codecs import TopKCodec
from toolkit.distil.cache.store import TokenCache
from toolkit.distil.chunks import CHUNK, HiddenStates, Mix, gradient_shares, vocabulary_loss
from toolkit.distil.devices import moved
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import Taught
from toolkit.distil.loop import Score
from toolkit.distil.objectives import WEIGHT
from toolkit.distil.precision import Precision
from toolkit.distil.processes import ALONE, Processes
from toolkit.distil.sequences import Completion, TopK, completion_positions
from toolkit.protocols import Objective
from toolkit.tasks.text_generation.attending import laid_out
from toolkit.tasks.text_generation.objectives import check_objectives
from toolkit.tasks.text_generation.packing import Packed, PackedBatches, UnitBatches
from toolkit.tasks.text_generation.students import head_of
from toolkit.tasks.text_generation.tokens import Tokenised
from toolkit.tasks.text_generation.weighting import TokenWeighting


class Knowledge:
    """What a teacher said of samples, out of its cache.

    Args:
        head: for a cache of hidden states, the weight [v, width] and bias [v] that make logits of them. It moves to the
            student's device with the first batch and stays there.
    """

    def __init__(self, cache: TokenCache, head: tuple[Tensor, Tensor | None] | None = None) -> None:
        self._cache, self._head = cache, head

    def of(self, samples: Sequence[Tokenised], device: torch.device) -> TopK | HiddenStates:
        """Of each completion token of the samples, one after the other."""
        arrays = self._cache.read_many([sample.digest for sample in samples])
        if isinstance(self._cache.codec, TopKCodec):
            return moved(TopK.of_arrays(arrays), device)
        assert self._head is not None
        said = moved(HiddenStates(torch.from_numpy(arrays["hidden"]), *self._head), device)
        self._head = said.weight, said.bias
        return said


@dataclass(frozen=True)
class Mixture:
    """The objectives of a recipe as one mix, which their schedules change on the way.

    Raises:
        PlanError: one of them cannot be computed of tokens.
    """

    objectives: Sequence[Objective]

    def __post_init__(self) -> None:
        check_objectives(self.objectives)

    def at(self, progress: float) -> Mix:
        """When so much, 0..1, of the training is done."""
        by_name = {objective.name: objective for objective in self.objectives}
        label, response = by_name.get("hard-label"), by_name.get("response")
        return Mix(
            hard_label=0.0 if label is None else label.weight * label.factor(progress),
            response=0.0 if response is None else response.weight * response.factor(progress),
            beta=0.0 if response is None else response.beta,
            temperature=1.0 if response is None else response.temperature,
        )


@dataclass(frozen=True)
class Part:
    """A micro-batch, the completion tokens of its whole step, and whether it is the first of it."""

    batch: Packed
    total: int
    first: bool


@dataclass(frozen=True)
class SequenceLesson:
    """Completions by their labels and their teacher (recipe `sequence`). Its state is that of the weighting.

    Args:
        mix: what a token's loss is made of.
        knowledge: what the teacher said; None where labels are all there is.
        weighting: what each token counts.
        processes: those that share out the parts of a step.
        chunk: completion tokens whose logits are held at once.
    """

    batches: PackedBatches | UnitBatches
    mix: Mix | Mixture
    knowledge: Knowledge | None = None
    weighting: TokenWeighting = field(default_factory=TokenWeighting)
    processes: Processes = ALONE
    chunk: int = CHUNK

    @property
    def steps(self) -> int:
        return self.batches.steps

    def parts(self, epoch: int, step: int) -> Sequence[Part]:
        found = self.batches.step(epoch, step)
        return [Part(batch, found.total, number == 0) for number, batch in enumerate(found.batches)]

    def teach(self, learner: Learner, part: Part, progress: float, precision: Precision) -> Taught:
        model = cast(PreTrainedModel, learner.student)
        mix = self.mix.at(progress)
        with precision.products(learner):
            states, places = completion_states(model, part.batch)
            said = None if self.knowledge is None else self.knowledge.of(part.batch.samples, states.device)
            tokens = self.weighting.tokens(part.batch.samples, places.targets, said)
            found = vocabulary_loss(states, head_of(model), tokens, mix, total=part.total, chunk=self.chunk)
            self.weighting.observe(part.batch.samples, found, mix)
            told = {"hard-label": float(found.hard_label.sum()) / part.total, "tokens": float(len(places.targets))}
            if said is not None:
                told["response"] = float(found.response.sum()) / part.total
                told["agreement"] = float(found.agrees.sum()) / part.total
                if part.first and mix.hard_label and mix.response:
                    shares = gradient_shares(states, head_of(model), tokens, mix)
                    told |= {f"pull/{name}": share for name, share in shares.items()}
                    told |= {f"{WEIGHT}hard-label": mix.hard_label, f"{WEIGHT}response": mix.response}
        return Taught(found.loss, told)

    def close_step(self) -> None:
        self.weighting.close_step(self.processes)

    def close_epoch(self) -> Mapping[str, float]:
        return self.weighting.close_epoch()

    def twin(self) -> SequenceLesson:
        return replace(self, weighting=copy.deepcopy(self.weighting))

    def state(self) -> dict[str, Any]:
        return self.weighting.state()

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.weighting.restore(saved)


def completion_states(model: PreTrainedModel, batch: Packed) -> tuple[Tensor, Completion]:
    """The last hidden states [n, d] that predict the n completion tokens of packed rows, and those tokens."""
    batch, given = laid_out(batch, model)
    hidden = model.base_model(**given, use_cache=False).last_hidden_state
    places = completion_positions(torch.from_numpy(batch.labels).to(model.device))
    return places.take(hidden), places


def validator(batches: PackedBatches, chunk: int = CHUNK) -> Callable[[nn.Module], Score]:
    """Scores a student on the samples of `batches`: the share of completion tokens it would choose itself, and the
    cross-entropy a token (nats). Tokens of one sample are not independent, so the noise is that of as many samples."""
    # A step may hold a row more than another, so every one is asked for once, and no sample is left out.
    packed = [batch for step in range(batches.steps) for batch in batches.step(0, step).batches]
    samples = sum(len(batch.samples) for batch in packed)

    @torch.inference_mode()
    def validate(module: nn.Module) -> Score:
        model = cast(PreTrainedModel, module)
        right = loss = 0.0
        tokens = 0
        for batch in packed:
            states, places = completion_states(model, batch)
            for part, targets in zip(torch.split(states, chunk), torch.split(places.targets, chunk), strict=True):
                logits = head_of(model)(part).float()
                right += float((logits.argmax(dim=-1) == targets).sum())
                loss += float(functional.cross_entropy(logits, targets, reduction="sum"))
            tokens += len(places.targets)
        return Score(right / tokens, loss / tokens, samples)

    return validate
