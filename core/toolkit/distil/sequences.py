"""Losses per token, between what a student and its teacher say of the next token: pure functions, values [tokens].

What every language loss must agree on is said here once: which hidden state predicts which token
(`completion_positions`, the only causal shift there is) and what a batch is divided by (`token_mean`, the only mean).
Nothing here knows a tokenizer, a cache or a training loop; a head's logits by chunks are in `chunks`.

The divergences take a temperature T, which divides both logits, and carry the factor T^2, as `losses.response` does
(Hinton et al. 2015, arXiv 1503.02531): the gradient's size, and with it a recipe's weights, do not depend on T.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from toolkit.errors import DataError, PlanError

IGNORE = -100
"""A label that is not learnt: a prompt's or a padding's token."""

FLOOR = -60.0
"""Where the logarithm of a bucket's probability ends, in nats: what is less is nothing, and pulls on nothing."""

LOWEST = -1e30
"""Stands for the logarithm of nothing, so that nothing times it is nothing and not NaN."""


@dataclass(frozen=True)
class Completion:
    """The places of a batch that are learnt, sample by sample in order.

    `positions` int64 [n] index the flattened [batch * length] hidden states; `targets` int64 [n] are the tokens that
    those states are to predict; `lengths` int64 [batch] is how many of the n belong to each sample.
    """

    positions: Tensor
    targets: Tensor
    lengths: Tensor

    def take(self, states: Tensor) -> Tensor:
        """Of [batch, length, d] the states [n, d] that predict a token of a completion."""
        return states.flatten(0, 1)[self.positions]


def completion_positions(labels: Tensor, ignore: int = IGNORE) -> Completion:
    """Where a completion is predicted: the state at t predicts the token at t + 1, so a sample's first token never is.

    Args:
        labels: int64 [batch, length], the tokens themselves with `ignore` wherever nothing is learnt. Where samples are
            packed into one row, each one's first token carries `ignore`: nothing before it may predict it.
    """
    ahead = labels[:, 1:]
    learnt = ahead != ignore
    rows, columns = learnt.nonzero(as_tuple=True)
    return Completion(rows * labels.shape[1] + columns, ahead[learnt], learnt.sum(dim=1))


def token_mean(values: Tensor, tokens: float) -> Tensor:
    """The sum of values [n] over the number of tokens that the whole optimiser step learns from.

    Micro-batches of unlike length are so weighed as one batch would be, where a mean of means is not (TRL issue 6006).

    Args:
        tokens: completion tokens in all micro-batches of the step and in all processes; where gradients are averaged
            over processes (DDP, FSDP), that number divided by the number of processes.

    Raises:
        DataError: there is no token to learn from.
    """
    check_total(tokens)
    return values.sum() / tokens


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(teacher || student), which covers all that the teacher would say.

    Args:
        student_logits, teacher_logits: [n, v]; no gradient flows to the teacher.

    Returns:
        [n], in nats.
    """
    return generalised_jsd(student_logits, teacher_logits, 0.0, temperature)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(student || teacher), which keeps to what the teacher finds likely (MiniLLM, arXiv 2306.08543).

    Arguments and value as those of `forward_kl`.
    """
    return generalised_jsd(student_logits, teacher_logits, 1.0, temperature)


def generalised_jsd(student_logits: Tensor, teacher_logits: Tensor, beta: float, temperature: float = 1.0) -> Tensor:
    """T^2 JSD(beta) = T^2 (beta KL(teacher || m) + (1 - beta) KL(student || m)) with m = beta teacher + (1 - beta)
    student (GKD, Agarwal et al. 2024, arXiv 2306.13649, equation 1).

    Args:
        student_logits, teacher_logits: [n, v]; no gradient flows to the teacher.
        beta: 0 and 1, where the formula is 0, stand for the divergences it tends to once divided by beta or 1 - beta:
            forward and reverse KL, as TRL's GKDTrainer has it.

    Returns:
        [n], in nats.

    Raises:
        PlanError: the two have vocabularies of different size, or beta or temperature is out of range.
    """
    check_divergence(beta, temperature)
    check_vocabularies(student_logits.shape[-1], teacher_logits.shape[-1])
    student = _log_probabilities(student_logits, temperature)
    teacher = _log_probabilities(teacher_logits.detach(), temperature)
    return temperature**2 * divergence(student, teacher, beta)


def divergence(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """JSD(beta) of log-probabilities [n, v], finite ones: [n]. See `generalised_jsd`."""
    if beta == 0:
        return (teacher.exp() * (teacher - student)).sum(dim=-1)
    if beta == 1:
        return (student.exp() * (student - teacher)).sum(dim=-1)
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    of_teacher = (teacher.exp() * (teacher - mixture)).sum(dim=-1)
    return beta * of_teacher + (1 - beta) * (student.exp() * (student - mixture)).sum(dim=-1)


@dataclass(frozen=True)
class TopK:
    """A teacher's k best tokens at n positions, and how much is left.

    `indices` int64 [n, k], all different in a row; `log_probs` [n, k] at temperature 1; `log_rest` [n], the logarithm
    of the mass that all other tokens share.
    """

    indices: Tensor
    log_probs: Tensor
    log_rest: Tensor

    @classmethod
    def of_logits(cls, logits: Tensor, k: int) -> TopK:
        """The k best of logits [n, v]; the rest is summed, not what rounding leaves of 1."""
        exact = precise(logits.detach())
        best, indices = exact.topk(min(k, exact.shape[-1]), dim=-1)
        rest = _others(exact, indices, best)
        total = torch.logaddexp(best.logsumexp(dim=-1), rest)
        return cls(indices, best - total.unsqueeze(-1), rest - total)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TopK:
        """What a cache of top-k entries holds of n positions, in single precision."""
        return cls(
            torch.from_numpy(arrays["indices"].astype(np.int64)),
            torch.from_numpy(arrays["log_probs"].astype(np.float32)),
            torch.from_numpy(arrays["log_rest"].astype(np.float32)),
        )

    def rows(self, part: slice) -> TopK:
        """Some of the n positions."""
        return TopK(self.indices[part], self.log_probs[part], self.log_rest[part])

    def buckets(self) -> Tensor:
        """The k best and the rest as logits [n, k + 1], none of which is minus infinity."""
        logs = torch.cat([self.log_probs, self.log_rest.unsqueeze(-1)], dim=-1)
        return precise(logs.detach()).clamp(min=FLOOR)


def top_k_kl(student_logits: Tensor, teacher: TopK, temperature: float = 1.0, beta: float = 0.0) -> Tensor:
    """T^2 JSD(beta), forward KL by default, over the teacher's k best tokens and ONE bucket for all others.

    The bucket makes it a divergence: never negative, 0 only where both agree. Without it what is summed is no KL
    (verl issue 7856). What is lost is how the rest is shared out: by the log-sum inequality the value at T = 1 is at
    most that over the whole vocabulary. The student's part of the bucket is summed over its other tokens, so it is
    exact down to e^FLOOR. At another temperature it is the k + 1 probabilities that are softened, on both sides: how
    much the rest weighs at T cannot be told from its mass.

    Args:
        student_logits: [n, v].
        teacher: its k best tokens; no gradient flows to it.

    Returns:
        [n], in nats.

    Raises:
        PlanError: the teacher names a token that the student lacks, or beta or temperature is out of range.
    """
    check_divergence(beta, temperature)
    check_indices(teacher.indices, student_logits.shape[-1], "the teacher names")
    return bucket_divergence(student_buckets(student_logits, teacher.indices), teacher.buckets(), temperature, beta)


def student_buckets(logits: Tensor, indices: Tensor) -> Tensor:
    """Of logits [n, v] those at `indices` [n, k] and the logarithm of the sum of all others, as logits [n, k + 1]."""
    exact = precise(logits)
    best = exact.gather(-1, indices)
    return torch.cat([best, _others(exact, indices, best).unsqueeze(-1)], dim=-1)


def bucket_divergence(student: Tensor, teacher: Tensor, temperature: float, beta: float) -> Tensor:
    """T^2 JSD(beta) between buckets given as logits [n, k + 1]: [n]."""
    mine, wanted = _log_probabilities(student, temperature), _log_probabilities(teacher, temperature)
    return temperature**2 * divergence(mine, wanted, beta)


def universal_logit_distance(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The distance of the sorted probabilities, across vocabularies that have nothing to do with one another: the
    Wasserstein distance where moving anything anywhere costs 1 (ULD, Boizard et al. 2024, arXiv 2402.12030).

    Args:
        student_logits: [n, v]; teacher_logits: [n, w], of which the smaller is filled up with tokens of probability 0;
            no gradient flows to the teacher. Row by row they must speak of the same place in the text.

    Returns:
        [n], from 0 to 2.

    Raises:
        PlanError: the temperature is out of range.
    """
    check_divergence(0.0, temperature)
    width = max(student_logits.shape[-1], teacher_logits.shape[-1])
    student, teacher = (
        functional.pad(probabilities, (0, width - probabilities.shape[-1]))
        for probabilities in (_sorted(student_logits, temperature), _sorted(teacher_logits.detach(), temperature))
    )
    return (student - teacher).abs().sum(dim=-1)


def check_divergence(beta: float, temperature: float) -> None:
    """Refuse what is no divergence.

    Raises:
        PlanError: beta is not between 0 and 1, or temperature not above 0.
    """
    if not 0 <= beta <= 1:
        raise PlanError(f"beta is {beta}", hint="Choose 0 (forward KL) to 1 (reverse KL).")
    if not 0 < temperature < math.inf:
        raise PlanError(f"the temperature is {temperature}", hint="Choose a temperature above 0, such as 1.")


def check_total(tokens: float) -> None:
    """Refuse to divide by no token.

    Raises:
        DataError: there is none.
    """
    if not tokens > 0:
        raise DataError("no token of this step is learnt", hint="Shorten the prompts, or raise the maximum length.")


def check_vocabularies(student: int, teacher: int) -> None:
    """Refuse to compare, token by token, models whose outputs have different numbers of tokens.

    Raises:
        PlanError: they do.
    """
    if student != teacher:
        raise PlanError(
            f"the student's vocabulary has {student:,} tokens, the teacher's {teacher:,}",
            hint="Where the tokenizer is the same, cut both heads to its size: --set text.vocabulary=SIZE; else learn "
            "by the teacher's text alone: --set recipe.teacher_weight=0",
        )


def check_indices(indices: Tensor, vocabulary: int, by: str) -> None:
    """Refuse tokens that are not in the vocabulary.

    Raises:
        PlanError: there is one.
    """
    strange = indices[(indices < 0) | (indices >= vocabulary)]
    if strange.numel():
        raise PlanError(
            f"{by} the token {int(strange[0])}, and the student's vocabulary has {vocabulary:,}",
            hint="Give the student the teacher's tokenizer, or learn by its text alone: --set recipe.teacher_weight=0",
        )


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """In single precision at least; a token that cannot come (a logit of minus infinity) stays a number."""
    return functional.log_softmax(precise(logits) / temperature, dim=-1).clamp(min=LOWEST)


def _others(logits: Tensor, indices: Tensor, best: Tensor) -> Tensor:
    """The log-sum-exp [n] of what `indices` [n, k] leave of logits [n, v], no less than FLOOR below `best` [n, k]."""
    rest = logits.scatter(-1, indices, torch.finfo(logits.dtype).min).logsumexp(dim=-1)
    return torch.maximum(rest, best.detach().logsumexp(dim=-1) + FLOOR)


def _sorted(logits: Tensor, temperature: float) -> Tensor:
    return functional.softmax(precise(logits) / temperature, dim=-1).sort(dim=-1, descending=True).values


def precise(values: Tensor) -> Tensor:
    """In single precision at least: half precision cannot hold the sum over a vocabulary."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
