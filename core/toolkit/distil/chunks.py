"""The loss over a vocabulary, some tokens at a time, so that [tokens, vocabulary] is never held for both models.

The logits of 1,024 tokens over 49,152 others take 201 MB a model, and as much again for each step of arithmetic that
autograd keeps. Here a chunk of tokens is projected, its losses and their slope are taken in closed form (`slopes`), the
slope is carried to the hidden states and to the head, and the next chunk's logits are written over these. `backward`
only scales what is ready. Checkpointing would project every chunk twice, and keep what autograd does of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from toolkit.distil.sequences import (
    IGNORE,
    TopK,
    check_divergence,
    check_indices,
    check_total,
    check_vocabularies,
    precise,
)
from toolkit.distil.slopes import Room, Share, Sloped, full_slopes, hard_label_slopes, top_k_slopes
from toolkit.errors import PlanError

CHUNK = 256
"""Tokens that are projected at once: fewer are slower, more take more memory and are no faster."""


@dataclass(frozen=True)
class HiddenStates:
    """A teacher by the states [n, e] that its head [v, e] makes logits of: exact, at the cost of one more product."""

    states: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def rows(self, part: slice) -> HiddenStates:
        """Some of the n positions."""
        return HiddenStates(self.states[part], self.weight, self.bias)

    def logits(self, room: Room) -> Tensor:
        """[n, v], in single precision at least."""
        return room.product("teacher", self.states.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True)
class Mix:
    """What a token's loss is made of: `hard_label` times the cross-entropy with its label, and `response` times
    T^2 JSD(beta) against its teacher (`sequences.generalised_jsd`; beta 0 is forward KL, 1 reverse KL).

    Raises:
        PlanError: beta or temperature is out of range.
    """

    hard_label: float
    response: float
    beta: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_divergence(self.beta, self.temperature)

    def at(self, progress: float) -> Mix:
        """The same throughout a training, of which `progress`, 0..1, is done."""
        return self


@dataclass(frozen=True)
class Tokens:
    """The n tokens to learn: `labels` int64 [n], IGNORE where one has none; what their teacher says of them, None where
    nobody does; and how much each one's label and its teacher count [n], None where all count alike.

    `said` bool [n]: labels that the teacher wrote itself, which count as much as it is sure of its next token. `usual`:
    where responses are weighed by difficulty, the mean of `VocabularyLoss.difficulty`.
    """

    labels: Tensor
    teacher: TopK | HiddenStates | None = None
    label_weights: Tensor | None = None
    teacher_weights: Tensor | None = None
    said: Tensor | None = None
    usual: float | None = None

    def rows(self, part: slice) -> Tokens:
        """Some of the n tokens."""
        own = (self.label_weights, self.teacher_weights, self.said)
        label, teacher, said = (None if values is None else values[part] for values in own)
        return Tokens(self.labels[part], self.teacher and self.teacher.rows(part), label, teacher, said, self.usual)


@dataclass(frozen=True)
class VocabularyLoss:
    """`loss` carries the gradient; `hard_label` and `response` [n] are each token's own values, unweighted; `agrees`
    bool [n] is whether student and teacher would choose the same token, and False where there is no teacher; `sure` [n]
    is the teacher's highest probability, and 1 where there is none."""

    loss: Tensor
    hard_label: Tensor
    response: Tensor
    agrees: Tensor
    sure: Tensor

    @property
    def difficulty(self) -> Tensor:
        """[n]: how far the student still is from its teacher, as much as that one is sure."""
        return self.sure * self.response


def vocabulary_loss(
    hidden: Tensor, head: nn.Linear | Tensor, tokens: Tokens, mix: Mix, *, total: float, chunk: int = CHUNK
) -> VocabularyLoss:
    """The weighted hard-label and response losses of n tokens, summed and divided by the tokens of the whole step.

    Args:
        hidden: the student's states [n, d] that predict them (`sequences.Completion.take`).
        head: the student's last layer, or its weight [v, d], tied to its embeddings or not.
        total: what `sequences.token_mean` divides by.
        chunk: tokens that are projected at once.

    Returns:
        A loss whose `backward` may be called once. Under autocast the products are in its precision, nothing else.

    Raises:
        DataError: there is no token in the whole step.
        PlanError: the shapes or vocabularies do not fit one another.
    """
    weight, bias = (head.weight, head.bias) if isinstance(head, nn.Linear) else (head, None)
    check_total(total)
    _check(hidden, weight, tokens, mix, chunk)
    found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _Chunked.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, _Work(tokens, mix, total, chunk, torch.is_grad_enabled())
    )
    return VocabularyLoss(*found)


def gradient_shares(
    hidden: Tensor, head: nn.Linear | Tensor, tokens: Tokens, mix: Mix, *, sample: int = 64
) -> dict[str, float]:
    """How much of the pull on the student's hidden states is the hard label's and how much the response's: the norms of
    the two weighted gradients over their sum, on the first `sample` tokens.

    A loss whose share is a hundredth does nothing, whatever its weight says (EasyDistill issue 34).
    """
    weight, bias = (head.weight, head.bias) if isinstance(head, nn.Linear) else (head, None)
    few = tokens.rows(slice(0, sample))
    norms = {}
    for name, hard, response in (("hard-label", mix.hard_label, 0.0), ("response", 0.0, mix.response)):
        alone = _Work(few, Mix(hard, response, mix.beta, mix.temperature), 1.0, CHUNK, True)
        with torch.enable_grad():
            at = hidden[:sample].detach().requires_grad_()
            loss, *_ = _Chunked.apply(  # type: ignore[no-untyped-call]
                at, weight.detach(), None if bias is None else bias.detach(), alone
            )
            norms[name] = float(torch.autograd.grad(loss, at)[0].norm())
    whole = sum(norms.values()) or 1.0
    return {name: norm / whole for name, norm in norms.items()}


@dataclass(frozen=True)
class _Work:
    """What is done with the hidden states: all of it constant, as autograd sees it."""

    tokens: Tokens
    mix: Mix
    total: float
    chunk: int
    learning: bool

    def shares(self, like: Tensor) -> Share:
        """How much each token counts in the loss [n, 1]; a token without a label has no hard-label loss."""
        known = (self.tokens.labels != IGNORE).to(like.dtype)
        hard = self._share(self.mix.hard_label, known, self.tokens.label_weights)
        response = self._share(self.mix.response, torch.ones_like(known), self.tokens.teacher_weights)
        said = None if self.tokens.said is None else self.tokens.said.unsqueeze(-1)
        return Share(hard, response, said, self.tokens.usual)

    def _share(self, weight: float, counted: Tensor, weights: Tensor | None) -> Tensor | None:
        if weight == 0:
            return None
        scaled = counted * (weight / self.total)
        return (scaled if weights is None else scaled * weights.detach()).unsqueeze(-1)

    def sloped(self, logits: Tensor, part: slice, shares: Share, room: Room) -> Sloped:
        """One chunk, its logits written over."""
        labels, mix = self.tokens.labels[part].clamp(min=0), self.mix
        share = shares.rows(part)
        teacher = self.tokens.teacher and self.tokens.teacher.rows(part)
        if teacher is None:
            return hard_label_slopes(logits, labels, share, room)
        if isinstance(teacher, TopK):
            return top_k_slopes(logits, teacher, labels, share, mix.beta, mix.temperature)
        return full_slopes(logits, teacher.logits(room), labels, share, mix.beta, mix.temperature, room)


class _Chunked(torch.autograd.Function):
    """Losses and gradients in the forward pass; the backward pass scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: _Work) -> tuple[Tensor, ...]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with torch.autocast(device, enabled=False):
            wanted = [work.learning and needed for needed in ctx.needs_input_grad[:3]]
            gradients = _Gradients(hidden, weight, bias, wanted)
            states, rows = hidden.to(dtype), weight.to(dtype)
            offset = None if bias is None else bias.to(dtype)
            shares = work.shares(precise(states[:0]))
            hard, response, sure = (precise(states[:0]).new_zeros(len(states)) for _ in range(3))
            loss = hard.new_zeros(())
            agrees = torch.zeros(len(states), dtype=torch.bool, device=states.device)
            room = Room()
            for part in _parts(len(states), work.chunk):
                logits = room.product("student logits", states[part], rows, offset)
                sloped = work.sloped(logits, part, shares, room)
                hard[part], response[part], agrees[part] = sloped.hard_label, sloped.response, sloped.agrees
                sure[part] = sloped.sure
                loss += sloped.share.of(sloped.hard_label, sloped.response)
                gradients.add(part, sloped.slope, states[part], rows)
                del logits, sloped  # before the next chunk's are made, where they do not lie in the room
        hard *= work.tokens.labels != IGNORE
        ctx.gradients = gradients
        ctx.mark_non_differentiable(hard, response, agrees, sure)
        return loss, hard, response, agrees, sure

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of a vocabulary loss is taken once: it is not kept")
        return (*gradients.scaled(slope), None)


class _Gradients:
    """Sums of what the chunks give to the hidden states, the head and its bias, where each is wanted."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: list[bool]) -> None:
        self.dtypes = (hidden.dtype, weight.dtype, weight.dtype)
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.weight = torch.zeros_like(precise(weight)) if wanted[1] else None
        self.bias = torch.zeros_like(precise(bias)) if wanted[2] and bias is not None else None

    def add(self, part: slice, slope: Tensor, states: Tensor, rows: Tensor) -> None:
        """One chunk's slope [c, v]."""
        if self.bias is not None:
            self.bias += slope.sum(dim=0)
        slope = slope.to(rows.dtype)
        if self.hidden is not None:
            self.hidden[part] = slope @ rows
        if self.weight is None:
            return
        if self.weight.dtype == slope.dtype:
            self.weight.addmm_(slope.T, states)
        else:  # Half precision would lose the later chunks of a sum
            self.weight += slope.T @ states

    def scaled(self, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Each in its parameter's own type; written over, since nobody asks twice."""
        sums = (self.hidden, self.weight, self.bias)
        return tuple(
            None if one is None else one.mul_(slope).to(dtype) for one, dtype in zip(sums, self.dtypes, strict=True)
        )


def _parts(n: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def _check(hidden: Tensor, weight: Tensor, tokens: Tokens, mix: Mix, chunk: int) -> None:
    """Refuse what does not fit before the long work."""
    vocabulary, teacher = weight.shape[0], tokens.teacher
    check_indices(tokens.labels[tokens.labels != IGNORE], vocabulary, "a label is")
    if isinstance(teacher, TopK):
        check_indices(teacher.indices, vocabulary, "the teacher names")
    elif teacher is not None:
        check_vocabularies(vocabulary, teacher.weight.shape[0])
    elif mix.response:
        raise PlanError("the response loss has no teacher", hint="Label the tokens first, or weigh the response 0.")
    said = len(hidden) if teacher is None else len(teacher.indices if isinstance(teacher, TopK) else teacher.states)
    if not len(hidden) == len(tokens.labels) == said:
        raise PlanError(
            f"{len(hidden)} states, {len(tokens.labels)} labels and {said} answers of the teacher do not go together",
            hint="Take states and labels with completion_positions, and label with the same tokenizer and template.",
        )
    if chunk < 1:
        raise PlanError(f"a chunk of {chunk} tokens", hint="Choose at least 1.")
