"""GRPO's parts against numbers worked out by hand, and its loss against autograd over whole logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from distil_parts import gradient, tensor
from scipy.special import log_softmax
from torch import Tensor, nn

from toolkit.distil.policy import (
    Clip,
    group_advantages,
    k3,
    policy_losses,
    through_log_probs,
    token_log_probs,
    token_shares,
    without_signal,
)
from toolkit.errors import DataError, PlanError


def test_an_advantage_is_how_much_better_than_its_group_in_deviations() -> None:
    rewards = tensor([[1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
    # (1, 0, 0, 1): mean 1/2, deviation sqrt(1/3). (0, 0, 0, 1): mean 1/4, deviation 1/2.
    expected = [
        [0.5 / (np.sqrt(1 / 3) + 1e-4) * sign for sign in (1, -1, -1, 1)],
        [-0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, 0.75 / 0.5001],
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(group_advantages(rewards), expected)
    plain = [[0.5, -0.5, -0.5, 0.5], [-0.25, -0.25, -0.25, 0.75], [0, 0, 0, 0]]
    np.testing.assert_allclose(group_advantages(rewards, scaled=False), plain)
    assert without_signal(rewards).tolist() == [False, False, True]


def test_an_answer_alone_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to be compared with"):
        group_advantages(tensor([[1.0]]))


def test_the_clip_holds_a_token_where_it_went_far_enough_and_not_where_it_went_wrong() -> None:
    ratios = np.array([1.0, 1.5, 1.5, 0.5, 0.5, 1.25])
    advantages = np.array([2.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    losses, clipped = policy_losses(
        tensor(np.log(ratios) - 3), tensor(np.full(6, -3.0)), tensor(advantages), Clip(0.2, 0.3)
    )
    # Good and likelier than 1.3 is held, bad and likelier not; good and rarer not, bad and rarer than 0.8 is.
    np.testing.assert_allclose(losses, [-2.0, -1.3, 1.5, -0.5, 0.8, -1.25])
    assert clipped.tolist() == [False, True, False, False, True, False]


def test_what_is_held_has_no_gradient() -> None:
    at = tensor(np.log([1.5, 1.5, 0.5, 0.5])).requires_grad_()
    losses, _ = policy_losses(at, torch.zeros(4, dtype=torch.float64), tensor([1.0, -1.0, 1.0, -1.0]), Clip())
    losses.sum().backward()
    np.testing.assert_allclose(at.grad, [0.0, 1.5, -0.5, 0.0])


def test_k3_is_the_divergence_in_the_mean_over_the_students_own_tokens() -> None:
    random = np.random.default_rng(0)
    mine, other = (log_softmax(random.normal(size=9)) for _ in range(2))
    each = k3(tensor(mine), tensor(other)).numpy()
    assert (each >= 0).all()
    assert (np.exp(mine) * each).sum() == pytest.approx((np.exp(mine) * (mine - other)).sum())
    np.testing.assert_allclose(k3(tensor([np.log(0.5)]), tensor([np.log(0.25)])), [0.5 - np.log(0.5) - 1])


def test_what_a_token_counts() -> None:
    lengths = torch.tensor([1, 4, 5])
    np.testing.assert_allclose(token_shares(lengths, "answer", 8), [1 / 3, 1 / 12, 1 / 15])
    np.testing.assert_allclose(token_shares(lengths, "token", 8), [1 / 10] * 3)
    np.testing.assert_allclose(token_shares(lengths, "constant", 8), [1 / 24] * 3)


def whole(hidden: Tensor, head: nn.Linear, labels: Tensor, temperature: float) -> Tensor:
    """Log-probabilities by way of all logits at once."""
    logs = torch.log_softmax((hidden @ head.weight.T) / temperature, dim=-1)
    return logs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [3, 256])
def test_the_loss_and_its_gradients_are_those_of_whole_logits(temperature: float, chunk: int) -> None:
    torch.manual_seed(0)
    hidden, labels = torch.randn(10, 6, dtype=torch.float64), torch.randint(0, 13, (10,))
    head = nn.Linear(6, 13, bias=False, dtype=torch.float64)
    old, reference = (whole(hidden, head, labels, temperature).detach() + 0.4 * torch.randn(10) for _ in range(2))
    advantages, shares = torch.randn(10, dtype=torch.float64), torch.rand(10, dtype=torch.float64)

    def value(log_probs: Tensor) -> Tensor:
        losses, _ = policy_losses(log_probs, old, advantages, Clip())
        return (shares * (losses + 0.3 * k3(log_probs, reference))).sum()

    def run(loss: Callable[[Tensor], Tensor]) -> tuple[float, Tensor, Tensor]:
        at = hidden.clone().requires_grad_()
        head.weight.grad = None
        found = loss(at)
        found.backward()
        assert at.grad is not None
        assert head.weight.grad is not None
        return float(found.detach()), at.grad, head.weight.grad

    expected = run(lambda at: value(whole(at, head, labels, temperature)))
    found = run(lambda at: through_log_probs(at, head, labels, value, temperature=temperature, chunk=chunk))
    assert found[0] == pytest.approx(expected[0])
    torch.testing.assert_close(found[1], expected[1])
    torch.testing.assert_close(found[2], expected[2])
    logs = token_log_probs(hidden, head, labels, temperature=temperature, chunk=chunk)
    torch.testing.assert_close(logs, whole(hidden, head, labels, temperature))
    assert not logs.requires_grad


def test_the_gradient_in_the_states_is_that_of_finite_differences() -> None:
    torch.manual_seed(1)
    labels, weight = torch.randint(0, 7, (4,)), torch.randn(7, 3, dtype=torch.float64)
    head = nn.Linear(3, 7, bias=False, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(weight)
    old, advantages = np.array([-2.0, -1.5, -2.5, -1.0]), np.array([1.0, -1.0, 0.5, 2.0])
    at = np.random.default_rng(2).normal(size=(4, 3))

    def by_hand(states: np.ndarray) -> float:
        logs = log_softmax(states @ weight.numpy().T, axis=1)[np.arange(4), labels.numpy()]
        ratios = np.exp(logs - old)
        return float(-np.minimum(ratios * advantages, np.clip(ratios, 0.8, 1.2) * advantages).sum())

    states = tensor(at).requires_grad_()
    loss = through_log_probs(
        states, head, labels, lambda logs: policy_losses(logs, tensor(old), tensor(advantages), Clip())[0].sum()
    )
    loss.backward()
    assert float(loss.detach()) == pytest.approx(by_hand(at))
    np.testing.assert_allclose(states.grad, gradient(by_hand, at), atol=1e-6)


def test_a_head_with_a_bias_is_not_tempered() -> None:
    with pytest.raises(PlanError, match="temperature 1"):
        token_log_probs(torch.zeros(1, 2), nn.Linear(2, 3), torch.tensor([0]), temperature=0.5)


@pytest.mark.parametrize("ends", [(-0.1, 0.2), (1.0, 0.2), (0.2, -0.1)])
def test_a_clip_that_cannot_be_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(PlanError):
        Clip(*ends)
