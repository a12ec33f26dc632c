"""Reinforcement learning with verifiable rewards (recipe `grpo`) as a lesson of the one training loop (docs/adr/0018).

A step takes some problems, has the student answer each several times, has a verifier score the answers, and raises the
odds of those that are better than the others of their group (`distil.policy`). Several updates may be made from the
same answers; what they need is the lesson's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from toolkit.distil.chunks import CHUNK
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import Taught
from toolkit.distil.policy import (
    Clip,
    Norm,
    group_advantages,
    k3,
    policy_losses,
    through_log_probs,
    token_log_probs,
    token_shares,
    without_signal,
)
from toolkit.distil.precision import Precision
from toolkit.errors import PlanError
from toolkit.tasks.text_generation.dealing import Dealt
from toolkit.tasks.text_generation.packing import snug
from toolkit.tasks.text_generation.sampling import asked, seed_of
from toolkit.tasks.text_generation.solving import Solver
from toolkit.tasks.text_generation.students import head_of
from toolkit.tasks.text_generation.tokens import Tokenised
from toolkit.tasks.text_generation.training import completion_states
from toolkit.text import Prompt


@dataclass(frozen=True)
class Reinforcement:
    """`group` answers a problem; `updates` made from them; how far each may go (`clip`); what a token counts (`norm`);
    whether a group's advantages are in units of its deviation (`scaled`); and `kl` times the divergence from the
    student that training began with. Dr. GRPO is norm "constant", not scaled, and no kl.

    Raises:
        PlanError: a number is out of range.
    """

    group: int = 8
    updates: int = 1
    clip: Clip = field(default_factory=Clip)
    norm: Norm = "answer"
    scaled: bool = True
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.group < 2 or self.updates < 1 or self.kl < 0:
            raise PlanError(
                f"groups of {self.group}, {self.updates} updates and a KL weight of {self.kl} cannot be",
                hint="Choose at least two answers a problem, at least one update, and a weight of at least 0.",
            )


@dataclass(frozen=True)
class Part:
    """A micro-batch: of the answers to `problems`, `group` each, those at `places`. `turn` names the answers, of which
    this is the update number `update`."""

    problems: tuple[Prompt, ...]
    places: slice
    turn: tuple[int, int]
    update: int
    seed: int


@dataclass(frozen=True)
class Rollout:
    """Answers to the problems of a step, group by group, each sample's id its number; `scores` and `ended` [answers];
    and of each the log-probabilities [learnt] under the student that wrote it and under the one that training began
    with, where they are needed."""

    turn: tuple[int, int]
    samples: tuple[Tokenised, ...]
    scores: tuple[float, ...]
    ended: tuple[bool, ...]
    old: tuple[Tensor, ...] | None
    reference: tuple[Tensor, ...] | None

    @property
    def lengths(self) -> Tensor:
        """int64 [answers], in tokens."""
        return torch.tensor([sample.learnt for sample in self.samples])

    def rewards(self, group: int) -> Tensor:
        """[problems, group]."""
        return torch.tensor(self.scores, dtype=torch.float64).view(-1, group)

    def record(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        samples = [[sample.id, list(sample.ids), sample.prompt] for sample in self.samples]
        plain = {"turn": list(self.turn), "scores": list(self.scores), "ended": list(self.ended), "samples": samples}
        return plain | {name: None if (v := getattr(self, name)) is None else list(v) for name in ("old", "reference")}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Rollout:
        """What `record` gave."""
        samples = tuple(Tokenised(name, tuple(ids), prompt) for name, ids, prompt in record["samples"])
        old, reference = (None if record[name] is None else tuple(record[name]) for name in ("old", "reference"))
        first, second = record["turn"]
        return cls((first, second), samples, tuple(record["scores"]), tuple(record["ended"]), old, reference)


class GrpoLesson:
    """Problems, answered by the student and scored by a verifier.

    Args:
        problems: a step is so many of them; with `updates` above 1, the next steps take the same ones.
        rows: answers of a micro-batch.
        reference: the student that training began with, frozen; needed where `kl` is not 0.
        chunk: completion tokens whose logits are held at once.

    Raises:
        PlanError: answers are drawn from another distribution than the student's own, or there is no reference.
    """

    def __init__(
        self, problems: Dealt[Prompt], solver: Solver, how: Reinforcement, *, rows: int,
        reference: PreTrainedModel | None = None, seed: int = 0, chunk: int = CHUNK, pad: int = 0,
    ) -> None:  # fmt: skip
        if solver.drawing.top_p != 1 or not solver.drawing.temperature:
            raise PlanError(
                "answers to learn from are drawn from the student's whole distribution",
                hint="Choose top_p 1 and a temperature above 0.",
            )
        if how.kl and reference is None:
            raise PlanError("a KL weight needs the student that training began with", hint="Give it, or set kl to 0.")
        self._problems, self._solver, self._how, self._reference = problems, solver, how, reference
        self._rows, self._seed, self._chunk, self._pad = rows, seed, chunk, pad
        self._rollout: Rollout | None = None

    @property
    def steps(self) -> int:
        return self._problems.steps * self._how.updates

    def parts(self, epoch: int, step: int) -> Sequence[Part]:
        batch, update = divmod(step, self._how.updates)
        problems, seed = self._problems.step(epoch, batch), seed_of(self._seed, "answers", epoch, batch)
        starts = range(0, len(problems) * self._how.group, self._rows)
        return [Part(problems, slice(at, at + self._rows), (epoch, batch), update, seed) for at in starts]

    def teach(self, learner: Learner, part: Part, progress: float, precision: Precision) -> Taught:
        first = not part.places.start
        rollout = self._rollout
        if rollout is None or rollout.turn != part.turn or (first and not part.update):
            rollout = self._rollout = self._answer(learner, part, precision)
        model, drawing = cast(PreTrainedModel, learner.student), self._solver.drawing
        batch = snug(rollout.samples[part.places], self._pad)
        with precision.products(learner):
            states, places = completion_states(model, batch)
            token = _Terms.of(rollout, batch.samples, self._how, drawing.max_tokens, states.device)
            loss = through_log_probs(
                states, head_of(model), places.targets, token.loss, temperature=drawing.temperature, chunk=self._chunk
            )
        return Taught(loss, token.told | (self._figures(rollout) if first else {}))

    def _answer(self, learner: Learner, part: Part, precision: Precision) -> Rollout:
        """Write, verify, and look up what the updates need of this very student."""
        model = cast(PreTrainedModel, learner.student)
        found = self._solver.attempts(model, part.problems, each=self._how.group, seed=part.seed)
        attempts = [attempt for group in found for attempt in group]
        samples = tuple(replace(attempt.sample, id=str(number)) for number, attempt in enumerate(attempts))
        old = reference = None
        if self._how.updates > 1:
            with precision.products(learner):
                old = self._log_probs(model, samples)
        if self._how.kl and self._reference is not None:
            reference = self._log_probs(self._reference, samples)
        scores, ended = tuple(one.score for one in attempts), tuple(one.ended for one in attempts)
        return Rollout(part.turn, samples, scores, ended, old, reference)

    def _log_probs(self, model: PreTrainedModel, samples: Sequence[Tokenised]) -> tuple[Tensor, ...]:
        """Of each sample's completion, a micro-batch at a time, in evaluation mode, as it was written."""
        found: dict[int, Tensor] = {}
        with torch.no_grad(), asked(model):
            for start in range(0, len(samples), self._rows):
                batch = snug(samples[start : start + self._rows], self._pad)
                states, places = completion_states(model, batch)
                values = token_log_probs(
                    states, head_of(model), places.targets, temperature=self._solver.drawing.temperature,
                    chunk=self._chunk,
                )  # fmt: skip
                parts = torch.split(values.cpu(), [sample.learnt for sample in batch.samples])
                found |= {int(sample.id): part for sample, part in zip(batch.samples, parts, strict=True)}
        return tuple(found[number] for number in range(len(samples)))

    def _figures(self, rollout: Rollout) -> dict[str, float]:
        """Of all the answers of a step."""
        return {
            "reward": float(rollout.rewards(self._how.group).mean()),
            "no-signal": float(without_signal(rollout.rewards(self._how.group)).double().mean()),
            "length": float(rollout.lengths.double().mean()),
            "ended": sum(rollout.ended) / len(rollout.ended),
        }

    def close_step(self) -> None:
        """Each process has verified all answers."""

    def close_epoch(self) -> Mapping[str, float]:
        return {}

    def twin(self) -> GrpoLesson:
        other = GrpoLesson(
            self._problems, self._solver, self._how, rows=self._rows, reference=self._reference, seed=self._seed,
            chunk=self._chunk, pad=self._pad,
        )  # fmt: skip
        other._rollout = self._rollout
        return other

    def state(self) -> dict[str, Any]:
        """The answers that updates are still made from."""
        kept = self._how.updates > 1 and self._rollout is not None
        return {"rollout": self._rollout.record() if kept and self._rollout is not None else None}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._rollout = None if saved["rollout"] is None else Rollout.of(saved["rollout"])


class _Terms:
    """What the tokens of a micro-batch count, and what became of them."""

    def __init__(
        self, advantages: Tensor, shares: Tensor, old: Tensor | None, reference: Tensor | None, how: Reinforcement,
        tokens: int,
    ) -> None:  # fmt: skip
        self._advantages, self._shares, self._old, self._reference = advantages, shares, old, reference
        self._how, self._tokens = how, tokens
        self.told: dict[str, float] = {}

    @classmethod
    def of(
        cls, rollout: Rollout, samples: Sequence[Tokenised], how: Reinforcement, most: int, device: torch.device
    ) -> _Terms:
        """For `samples` of the rollout, token by token in their order."""
        numbers = [int(sample.id) for sample in samples]
        lengths = torch.tensor([sample.learnt for sample in samples])

        def spread(values: Tensor) -> Tensor:
            return values[numbers].float().repeat_interleave(lengths).to(device)

        def joined(values: Sequence[Tensor] | None) -> Tensor | None:
            return None if values is None else torch.cat([values[number] for number in numbers]).to(device)

        advantages = group_advantages(rollout.rewards(how.group), scaled=how.scaled).flatten()
        shares = token_shares(rollout.lengths, how.norm, most)
        tokens = int(rollout.lengths.sum())
        return cls(spread(advantages), spread(shares), joined(rollout.old), joined(rollout.reference), how, tokens)

    def loss(self, log_probs: Tensor) -> Tensor:
        """Of log-probabilities [n], with its gradient in them."""
        old = log_probs.detach() if self._old is None else self._old
        losses, clipped = policy_losses(log_probs, old, self._advantages, self._how.clip)
        self.told["clipped"] = float(clipped.sum()) / self._tokens
        if self._reference is not None:
            divergences = k3(log_probs, self._reference)
            self.told["kl"] = float(divergences.detach().sum()) / self._tokens
            losses = losses + self._how.kl * divergences
        return (self._shares * losses).sum()
