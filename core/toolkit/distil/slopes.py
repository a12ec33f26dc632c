"""The losses of some tokens over a vocabulary, together with their slope in the student's logits, in closed form.

The values are those of `sequences.generalised_jsd`, `sequences.top_k_kl` and the cross-entropy; the tests hold both to
one another. Nothing here records a gradient: of what autograd would keep of every step nothing is held, the logits
given are written over, and whatever else is as large lies in a `Room`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from toolkit.distil.sequences import FLOOR, LOWEST, TopK, bucket_divergence, precise
from toolkit.distil.weighting import held


@dataclass(frozen=True)
class Share:
    """How much each of c tokens' hard label and its response count in the loss, [c, 1] each; None: not at all.

    `said` bool [c, 1]: labels that the teacher wrote itself, which count as much as it is sure. `usual`: the mean of
    what the responses are weighed by, where they are weighed by difficulty (`weighting.held`).
    """

    hard_label: Tensor | None
    response: Tensor | None
    said: Tensor | None = None
    usual: float | None = None

    def rows(self, part: slice) -> Share:
        """Some of the tokens."""
        hard, response, said = (None if w is None else w[part] for w in (self.hard_label, self.response, self.said))
        return Share(hard, response, said, self.usual)

    def weighed(self, sure: Tensor, response: Tensor) -> Share:
        """Once it is known how sure the teacher is of each token [c, 1], and how far the student is from it [c]."""
        hard, counted = self.hard_label, self.response
        if hard is not None and self.said is not None:
            hard = torch.where(self.said, hard * sure, hard)
        if counted is not None and self.usual is not None:
            counted = counted * held(sure * response.unsqueeze(-1) / self.usual)
        return Share(hard, counted)

    def of(self, hard_label: Tensor, response: Tensor) -> Tensor:
        """The loss: both values [c] as they count, summed."""
        total = hard_label.new_zeros(())
        for share, value in ((self.hard_label, hard_label), (self.response, response)):
            if share is not None:
                total = total + share.squeeze(-1) @ value
        return total


class Room:
    """Memory for what is made of one chunk of tokens after the other, the largest first, over one vocabulary. Fresh
    memory of this size costs a CPU more than the arithmetic in it: the system clears every page first."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, tokens: int, width: int, like: Tensor) -> Tensor:
        """[tokens, width], with anything in it, until somebody takes the same name again."""
        if name not in self._kept:
            self._kept[name] = like.new_empty(tokens, width)
        return self._kept[name][:tokens]

    def beside(self, name: str, logits: Tensor) -> Tensor:
        """As large as some logits [c, v]."""
        return self.take(name, len(logits), logits.shape[1], logits)

    def product(self, name: str, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The logits [c, v] that a head makes of states [c, d], in single precision at least."""
        if precise(weight[:0]).dtype != weight.dtype:
            return precise(functional.linear(states, weight, bias))
        made = self.take(name, len(states), len(weight), weight)
        if bias is None:
            return torch.mm(states, weight.T, out=made)
        return torch.addmm(bias, states, weight.T, out=made)


@dataclass(frozen=True)
class Sloped:
    """Of c tokens the hard-label loss [c] and the response loss [c], neither weighted, the slope [c, v] in the logits
    of their weighted sum, and whether student and teacher would choose the same token, bool [c]; never without one.
    `share` is what both counted in the end, `sure` [c] the teacher's highest probability, 1 without one."""

    hard_label: Tensor
    response: Tensor
    slope: Tensor
    agrees: Tensor
    share: Share
    sure: Tensor


def hard_label_slopes(logits: Tensor, labels: Tensor, share: Share, room: Room) -> Sloped:
    """Cross-entropy alone: softmax - one-hot."""
    logs = _log_softmax(logits, room.beside("student", logits))
    hard = -logs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    slope = _less_label(logs.exp_(), labels, share.hard_label)
    none = torch.zeros_like(hard)
    return Sloped(hard, none, slope, torch.zeros_like(labels, dtype=torch.bool), share, torch.ones_like(hard))


def full_slopes(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, share: Share, beta: float, temperature: float, room: Room
) -> Sloped:
    """The response over the whole vocabulary, T^2 JSD(beta), and the cross-entropy.

    With q the student's and p the teacher's probabilities at T, and m their mixture, the slope of the response is
    T (q - p) for beta 0, T q (log q/p - KL(q || p)) for beta 1, and T (1 - beta) q (log q/m - KL(q || m)) between.

    Args:
        logits, teacher_logits: [c, v], both written over.
        labels: int64 [c].
    """
    plain = student = _log_softmax(logits, room.beside("student", logits))
    hard = -plain.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if temperature != 1:
        student = _log_softmax(logits.div_(temperature), room.beside("softened", logits))
    teacher = _log_softmax(teacher_logits.div_(temperature), logits)
    highest, wanted = teacher.max(dim=-1, keepdim=True)
    sure, agrees = highest.exp(), _chooses(student, wanted, student.amax(dim=-1, keepdim=True))
    value, slope = _response(student, teacher, beta, teacher_logits, room)
    value = temperature**2 * value
    share = share.weighed(sure, value)
    slope.mul_(temperature * (0.0 if share.response is None else share.response))
    if share.hard_label is not None:
        slope.addcmul_(plain.exp_(), share.hard_label)
        slope.scatter_add_(-1, labels.unsqueeze(-1), -share.hard_label)
    return Sloped(hard, value, slope, agrees, share, sure.squeeze(-1))


def top_k_slopes(
    logits: Tensor, teacher: TopK, labels: Tensor, share: Share, beta: float, temperature: float
) -> Sloped:
    """The response over the teacher's k best tokens and the bucket of all others, and the cross-entropy.

    The slope in the k + 1 buckets is small enough for autograd; that of the last is shared out over its tokens by
    their probability.

    Args:
        logits: [c, v], written over.
        labels: int64 [c].
    """
    label, best = labels.unsqueeze(-1), logits.gather(-1, teacher.indices)
    peak, of_label = logits.amax(dim=-1, keepdim=True), logits.gather(-1, label)
    agrees = _chooses(best, teacher.log_probs.argmax(dim=-1, keepdim=True), peak)
    odds = logits.sub_(peak).exp_()
    best_odds = odds.gather(-1, teacher.indices)
    odds.scatter_(-1, teacher.indices, 0.0)
    rest = odds.sum(dim=-1, keepdim=True)
    total = rest + best_odds.sum(dim=-1, keepdim=True)
    least = best.logsumexp(dim=-1, keepdim=True) + FLOOR
    log_rest = torch.maximum(peak + rest.log(), least)
    value, pull = _bucket_response(torch.cat([best, log_rest], dim=-1), teacher, beta, temperature)
    sure = teacher.log_probs.amax(dim=-1, keepdim=True).exp().to(value)
    share = share.weighed(sure, value)
    pull = torch.zeros_like(pull) if share.response is None else pull.mul_(share.response)
    # Below the floor the bucket is a constant: nothing pulls on its tokens
    rest_pull = torch.where(log_rest > least, pull[:, -1:] / rest, 0.0)
    of_hard = torch.zeros_like(total) if share.hard_label is None else share.hard_label / total
    slope = odds.mul_(rest_pull + of_hard)
    slope.scatter_(-1, teacher.indices, pull[:, :-1] + of_hard * best_odds)
    if share.hard_label is not None:
        slope.scatter_add_(-1, label, -share.hard_label)
    return Sloped((peak + total.log() - of_label).squeeze(-1), value, slope, agrees, share, sure.squeeze(-1))


def _chooses(values: Tensor, token: Tensor, peak: Tensor) -> Tensor:
    """Whether of `values` [c, n] that at `token` [c, 1] is the highest there is [c, 1]: bool [c]."""
    return (values.gather(-1, token) >= peak).squeeze(-1)


def _response(student: Tensor, teacher: Tensor, beta: float, spare: Tensor, room: Room) -> tuple[Tensor, Tensor]:
    """JSD(beta) [c] of log-probabilities [c, v], and T times its slope in the student's logits. `teacher` and `spare`,
    as large, are written over."""
    if beta == 0:
        wanted = torch.exp(teacher, out=spare)
        value = _dots(wanted, teacher.sub_(student))
        return value, torch.exp(student, out=teacher).sub_(wanted)
    mine = torch.exp(student, out=spare)
    if beta == 1:
        against, of_teacher = teacher, torch.zeros_like(student[:, 0])
    else:
        wanted, against = torch.exp(teacher, out=room.beside("wanted", teacher)), room.beside("mixture", teacher)
        torch.mul(mine, 1 - beta, out=against).add_(wanted, alpha=beta)
        against.clamp_(min=torch.finfo(against.dtype).tiny).log_()  # where both are 0, so is their part in the sums
        of_teacher = _dots(wanted, teacher.sub_(against))
    ratio = torch.sub(student, against, out=against)
    of_student = _dots(mine, ratio)
    kept = 1.0 if beta == 1 else 1 - beta
    slope = ratio.sub_(of_student.unsqueeze(-1)).mul_(mine).mul_(kept)
    return beta * of_teacher + kept * of_student, slope


def _dots(some: Tensor, others: Tensor) -> Tensor:
    """The inner products [c] of rows [c, v]; on a CPU a third of vecdot's time."""
    return torch.bmm(some.unsqueeze(1), others.unsqueeze(2)).flatten()


def _bucket_response(student: Tensor, teacher: TopK, beta: float, temperature: float) -> tuple[Tensor, Tensor]:
    """T^2 JSD(beta) [c] between buckets, and its slope in the student's [c, k + 1]."""
    with torch.enable_grad():
        at = student.requires_grad_()
        value = bucket_divergence(at, teacher.buckets(), temperature, beta)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope


def _log_softmax(logits: Tensor, into: Tensor) -> Tensor:
    """Over the logits [c, v]; a token that cannot come (minus infinity) stays a number."""
    return torch.log_softmax(logits, dim=-1, out=into).clamp_(min=LOWEST)


def _less_label(probabilities: Tensor, labels: Tensor, share: Tensor | None) -> Tensor:
    """share (softmax - one-hot), over the probabilities."""
    if share is None:
        return probabilities.zero_()
    return probabilities.mul_(share).scatter_add_(-1, labels.unsqueeze(-1), -share)
