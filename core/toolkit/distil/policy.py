"""Reinforcement learning with verifiable rewards: group-relative policy optimisation (GRPO), as pure functions.

Several answers to one question are compared with one another, so that no critic is needed (DeepSeekMath, Shao et al.
2024, arXiv 2402.03300, equations 3 and 4). What Dr. GRPO (Liu et al. 2025, arXiv 2503.20783) takes out of it, the
division by a group's deviation and by an answer's length, is a choice here, and so is DAPO's (Yu et al. 2025, arXiv
2503.14476) mean over tokens and its wider upper clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from toolkit.distil.chunks import CHUNK, Mix, Tokens, vocabulary_loss
from toolkit.errors import DataError, PlanError

Norm = Literal["answer", "token", "constant"]
"""What a token's loss is divided by: the length of its answer, then the number of answers (GRPO); the number of tokens
(DAPO); or the most tokens that the answers could have had (Dr. GRPO)."""

LEAST_DEVIATION = 1e-4
"""Is added to a group's deviation, in units of the reward, as TRL's GRPOTrainer does."""


@dataclass(frozen=True)
class Clip:
    """How far the odds of a token may move, as a ratio, before it is no longer pushed: 1 - low to 1 + high.

    Raises:
        PlanError: they are out of range.
    """

    low: float = 0.2
    high: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.low < 1 or self.high < 0:
            raise PlanError(
                f"a ratio cannot be clipped to 1 - {self.low} and 1 + {self.high}",
                hint="Choose 0 to 1 below and at least 0 above, such as 0.2 each.",
            )


def group_advantages(rewards: Tensor, *, scaled: bool = True) -> Tensor:
    """How much better each answer is than the others of its group: less the mean and, where `scaled`, in units of the
    group's standard deviation (that of a sample, with Bessel's correction).

    Args:
        rewards: [groups, answers], at least two answers each.

    Returns:
        [groups, answers]; 0 throughout a group whose rewards are all alike.

    Raises:
        DataError: a group of one answer has nothing to be compared with.
    """
    if rewards.shape[1] < 2:
        raise DataError("an answer alone has nothing to be compared with", hint="Draw at least two answers a problem.")
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + LEAST_DEVIATION) if scaled else centred


def without_signal(rewards: Tensor) -> Tensor:
    """Of rewards [groups, answers] whether a group's are all alike, so that it teaches nothing: bool [groups]."""
    return (rewards == rewards[:, :1]).all(dim=1)


def policy_losses(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: Clip) -> tuple[Tensor, Tensor]:
    """The clipped surrogate of each token (Schulman et al. 2017, arXiv 1707.06347, equation 7), negative: a loss.

    Args:
        log_probs: of the tokens drawn [n], under the student as it is; the gradient's way.
        old: the same [n] under the student that drew them.
        advantages: [n], each token's answer's.

    Returns:
        The losses [n], and whether the clip cut the token's gradient off, bool [n].
    """
    ratios = (log_probs - old).exp()
    clipped = ratios.clamp(1 - clip.low, 1 + clip.high)
    plain, cut = ratios * advantages, clipped * advantages
    return -torch.minimum(plain, cut), (cut < plain).detach()


def k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """KL(student || reference) of each token, estimated from the token drawn: p_ref/p - log(p_ref/p) - 1, never
    negative (Schulman 2020, "Approximating KL divergence", k3; DeepSeekMath, equation 4). Both [n]."""
    log_ratios = reference - log_probs
    return log_ratios.exp() - log_ratios - 1


def token_shares(lengths: Tensor, norm: Norm, most: int) -> Tensor:
    """How much each token of some answers counts in the loss; see `Norm`.

    Args:
        lengths: int64 [answers], tokens of each.
        most: tokens that an answer could have had.

    Returns:
        [answers], the share of every token of that answer.
    """
    answers = len(lengths)
    if norm == "answer":
        return 1 / (answers * lengths.double().clamp(min=1))
    divisor = lengths.sum().double() if norm == "token" else torch.tensor(answers * most, dtype=torch.float64)
    return (1 / divisor.clamp(min=1)).expand(answers)


def token_log_probs(
    hidden: Tensor, head: nn.Linear, labels: Tensor, *, temperature: float = 1.0, chunk: int = CHUNK
) -> Tensor:
    """The log-probability [n] of the tokens `labels` int64 [n] after states [n, d], logits divided by the temperature;
    [n, vocabulary] is never held, and no gradient kept."""
    with torch.no_grad():
        states = _tempered(hidden, head, temperature)
        found = vocabulary_loss(states, head, Tokens(labels), Mix(1.0, 0.0), total=1.0, chunk=chunk)
    return -found.hard_label


def through_log_probs(
    hidden: Tensor, head: nn.Linear, labels: Tensor, value: Callable[[Tensor], Tensor], *,
    temperature: float = 1.0, chunk: int = CHUNK,
) -> Tensor:  # fmt: skip
    """`value` of the tokens' log-probabilities, with its gradient in the states and the head.

    The head is gone through twice, a chunk at a time: for the log-probabilities, and for the cross-entropy that each
    token weighs by how `value` changes with its log-probability, whose gradient is that of `value`.

    Args:
        hidden, head, labels, temperature, chunk: as for `token_log_probs`.
        value: of log-probabilities [n] a scalar.
    """
    log_probs = token_log_probs(hidden, head, labels, temperature=temperature, chunk=chunk)
    with torch.enable_grad():
        at = log_probs.requires_grad_()
        total = value(at)
        (slope,) = torch.autograd.grad(total, at)
    tokens = Tokens(labels, label_weights=-slope)
    carrier = vocabulary_loss(
        _tempered(hidden, head, temperature), head, tokens, Mix(1.0, 0.0), total=1.0, chunk=chunk
    ).loss
    return carrier + (total.detach() - carrier.detach())


def _tempered(hidden: Tensor, head: nn.Linear, temperature: float) -> Tensor:
    """States whose logits are those of `hidden` divided by the temperature."""
    if temperature == 1:
        return hidden
    bias: Tensor | None = head.bias
    if bias is not None:
        raise PlanError("a head with a bias draws at temperature 1 alone", hint="Draw at temperature 1.")
    return hidden / temperature
