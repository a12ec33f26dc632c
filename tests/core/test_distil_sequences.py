"""Losses per token against numbers worked out by hand, against scipy and numpy, and their gradients by differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, logsumexp, rel_entr, softmax
from scipy.stats import wasserstein_distance_nd

from toolkit.distil import sequences
from toolkit.distil.sequences import (
    IGNORE,
    TopK,
    completion_positions,
    forward_kl,
    generalised_jsd,
    reverse_kl,
    token_mean,
    top_k_kl,
    universal_logit_distance,
)
from toolkit.errors import DataError, PlanError

BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)


def logits(seed: int, tokens: int = 5, vocabulary: int = 7, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (tokens, vocabulary))


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def independent_jsd(student: np.ndarray, teacher: np.ndarray, beta: float, temperature: float) -> np.ndarray:
    """T^2 JSD(beta) [tokens], by scipy's relative entropy."""
    q, p = softmax(student / temperature, axis=1), softmax(teacher / temperature, axis=1)
    if beta in (0, 1):
        return temperature**2 * (rel_entr(p, q) if beta == 0 else rel_entr(q, p)).sum(axis=1)
    mixture = beta * p + (1 - beta) * q
    whole = beta * rel_entr(p, mixture) + (1 - beta) * rel_entr(q, mixture)
    return temperature**2 * whole.sum(axis=1)


def independent_buckets(of: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Log-probabilities [tokens, k + 1]: those at `indices`, and of all others together."""
    logs = log_softmax(of, axis=1)
    rows = []
    for log_probs, best in zip(logs, indices, strict=True):
        others = np.delete(log_probs, best)
        rows.append([*log_probs[best], logsumexp(others) if others.size else -np.inf])
    return np.array(rows)


def differences(loss: Callable[[np.ndarray], np.ndarray], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The slope of the sum of `loss` in every entry, by central differences."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        found[index] = (loss(up).sum() - loss(down).sum()) / (2 * step)
    return found


def slope(loss: Callable[[torch.Tensor], torch.Tensor], at: np.ndarray) -> np.ndarray:
    """The same, by autograd."""
    student = tensor(at).requires_grad_()
    loss(student).sum().backward()
    assert student.grad is not None
    return student.grad.numpy()


HALF, THIRDS = [[0.0, 0.0]], [[math.log(3), 0.0]]
"""Logits of 1/2 : 1/2, and of 3/4 : 1/4."""


def test_forward_kl_by_hand() -> None:
    """Teacher 3/4 : 1/4 against a student of even odds: 3/4 ln(3/2) + 1/4 ln(1/2)."""
    wanted = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert forward_kl(tensor(HALF), tensor(THIRDS)).item() == pytest.approx(wanted, rel=1e-12)


def test_reverse_kl_by_hand() -> None:
    """The other way round: 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3)."""
    assert reverse_kl(tensor(HALF), tensor(THIRDS)).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-12)


def test_the_generalised_divergence_by_hand() -> None:
    """beta 1/4: the mixture is 1/4 (3/4, 1/4) + 3/4 (1/2, 1/2) = (9/16, 7/16)."""
    of_teacher = 0.75 * math.log(0.75 / (9 / 16)) + 0.25 * math.log(0.25 / (7 / 16))
    of_student = 0.5 * math.log(0.5 / (9 / 16)) + 0.5 * math.log(0.5 / (7 / 16))
    found = generalised_jsd(tensor(HALF), tensor(THIRDS), 0.25).item()
    assert found == pytest.approx(0.25 * of_teacher + 0.75 * of_student, rel=1e-12)


def test_a_temperature_by_hand() -> None:
    """9 : 1 at T = 2 is 3 : 1; the value carries T^2."""
    found = forward_kl(tensor(HALF), tensor([[math.log(9), 0.0]]), 2.0).item()
    assert found == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_the_divergences_agree_with_scipy(beta: float, temperature: float) -> None:
    student, teacher = logits(1), logits(2)
    found = generalised_jsd(tensor(student), tensor(teacher), beta, temperature).numpy()
    np.testing.assert_allclose(found, independent_jsd(student, teacher, beta, temperature), rtol=1e-10)


def test_half_is_the_jensen_shannon_divergence() -> None:
    student, teacher = logits(3), logits(4)
    wanted = jensenshannon(softmax(student, axis=1), softmax(teacher, axis=1), axis=1) ** 2
    np.testing.assert_allclose(generalised_jsd(tensor(student), tensor(teacher), 0.5).numpy(), wanted, rtol=1e-10)


def test_the_ends_are_forward_and_reverse_kl_and_what_the_middle_tends_to() -> None:
    student, teacher = tensor(logits(5)), tensor(logits(6))
    forward, reverse = forward_kl(student, teacher), reverse_kl(student, teacher)
    assert torch.equal(generalised_jsd(student, teacher, 0.0), forward)
    assert torch.equal(generalised_jsd(student, teacher, 1.0), reverse)
    near = 1e-7
    torch.testing.assert_close(generalised_jsd(student, teacher, near) / near, forward, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(generalised_jsd(student, teacher, 1 - near) / near, reverse, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("beta", BETAS)
def test_the_gradients_by_finite_differences(beta: float, temperature: float) -> None:
    student, teacher = logits(7), logits(8)
    found = slope(lambda at: generalised_jsd(at, tensor(teacher), beta, temperature), student)
    wanted = differences(lambda at: independent_jsd(at, teacher, beta, temperature), student)
    np.testing.assert_allclose(found, wanted, atol=1e-7)


@pytest.mark.parametrize("beta", BETAS)
def test_no_gradient_flows_to_the_teacher(beta: float) -> None:
    student, teacher = tensor(logits(9)).requires_grad_(), tensor(logits(10)).requires_grad_()
    generalised_jsd(student, teacher, beta).sum().backward()
    assert teacher.grad is None
    top_k_kl(student, TopK.of_logits(teacher, 3), beta=beta).sum().backward()
    universal_logit_distance(student, teacher).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("beta", BETAS)
def test_tokens_that_cannot_come_do_not_make_the_loss_nan(beta: float) -> None:
    """Rows that pad a vocabulary are often masked by minus infinity, in both models."""
    student, teacher = logits(11), logits(12)
    masked = [np.concatenate([one, np.full((5, 2), -np.inf)], axis=1) for one in (student, teacher)]
    at = tensor(masked[0]).requires_grad_()
    found = generalised_jsd(at, tensor(masked[1]), beta)
    np.testing.assert_allclose(found.detach().numpy(), independent_jsd(student, teacher, beta, 1.0), rtol=1e-10)
    found.sum().backward()
    assert at.grad is not None
    assert torch.isfinite(at.grad).all()


@pytest.mark.parametrize("beta", BETAS)
def test_half_precision_logits_are_compared_in_single(beta: float) -> None:
    student, teacher = (torch.tensor(logits(seed, vocabulary=5000)).bfloat16() for seed in (13, 14))
    found = generalised_jsd(student, teacher, beta)
    assert found.dtype == torch.float32
    wanted = independent_jsd(student.double().numpy(), teacher.double().numpy(), beta, 1.0)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)


def test_vocabularies_of_different_size_are_refused() -> None:
    with pytest.raises(PlanError, match="152,064"):
        generalised_jsd(torch.zeros(1, 151_936), torch.zeros(1, 152_064), 0.5)


@pytest.mark.parametrize(("beta", "temperature"), [(-0.1, 1), (1.1, 1), (math.nan, 1), (0, 0), (0, -1), (0, math.inf)])
def test_what_is_no_divergence_is_refused(beta: float, temperature: float) -> None:
    with pytest.raises(PlanError):
        generalised_jsd(torch.zeros(1, 2), torch.zeros(1, 2), beta, temperature)
    with pytest.raises(PlanError):
        top_k_kl(torch.zeros(1, 2), TopK.of_logits(torch.zeros(1, 2), 1), temperature, beta)


def test_top_k_with_its_tail_by_hand() -> None:
    """Teacher 1/2, 1/4, 1/8, 1/8 and its best one: buckets 1/2 and 1/2; a student of even odds: 1/4 and 3/4."""
    teacher = TopK(torch.tensor([[0]]), tensor([[math.log(0.5)]]), tensor([math.log(0.5)]))
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert top_k_kl(tensor([[0.0] * 4]), teacher).item() == pytest.approx(wanted, rel=1e-12)
    reversed_ = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert top_k_kl(tensor([[0.0] * 4]), teacher, beta=1.0).item() == pytest.approx(reversed_, rel=1e-12)


def test_without_the_tail_it_would_not_be_a_divergence() -> None:
    """The same numbers: the one term that is left over is negative as soon as the student is surer than the teacher."""
    teacher = TopK(torch.tensor([[0]]), tensor([[math.log(0.5)]]), tensor([math.log(0.5)]))
    student = tensor([[math.log(9), 0.0, 0.0, 0.0]])  # 3/4 on the first token
    assert 0.5 * math.log(0.5 / 0.75) < 0
    assert top_k_kl(student, teacher).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-12)


def test_the_k_best_and_the_rest_of_a_teacher() -> None:
    teacher = logits(15, vocabulary=11)
    found = TopK.of_logits(tensor(teacher), 4)
    np.testing.assert_array_equal(found.indices.numpy(), np.argsort(-teacher, axis=1)[:, :4])
    wanted = independent_buckets(teacher, found.indices.numpy())
    np.testing.assert_allclose(found.buckets().numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize("beta", BETAS)
def test_top_k_agrees_with_scipy(beta: float) -> None:
    student, teacher = logits(16, vocabulary=11), logits(17, vocabulary=11)
    entries = TopK.of_logits(tensor(teacher), 4)
    buckets = [independent_buckets(of, entries.indices.numpy()) for of in (student, teacher)]
    found = top_k_kl(tensor(student), entries, beta=beta).numpy()
    np.testing.assert_allclose(found, independent_jsd(buckets[0], buckets[1], beta, 1.0), rtol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_the_top_k_gradient_by_finite_differences(beta: float, temperature: float) -> None:
    student, teacher = logits(18, vocabulary=9), logits(19, vocabulary=9)
    entries = TopK.of_logits(tensor(teacher), 3)
    indices = entries.indices.numpy()

    def independent(at: np.ndarray) -> np.ndarray:
        return independent_jsd(
            independent_buckets(at, indices), independent_buckets(teacher, indices), beta, temperature
        )

    found = slope(lambda at: top_k_kl(at, entries, temperature, beta), student)
    np.testing.assert_allclose(found, differences(independent, student), atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_buckets_lose_and_never_add(seed: int) -> None:
    """The log-sum inequality: 0 <= KL over buckets <= KL, and more buckets lose less."""
    student, teacher = tensor(logits(20 + seed, 50, 30)), tensor(logits(40 + seed, 50, 30))
    whole = forward_kl(student, teacher)
    previous = torch.zeros_like(whole)
    for k in (1, 5, 20, 29):
        found = top_k_kl(student, TopK.of_logits(teacher, k))
        assert (found >= previous - 1e-12).all()
        previous = found
    torch.testing.assert_close(previous, whole)  # 29 and the one that is left: nothing is put together
    assert torch.allclose(top_k_kl(teacher, TopK.of_logits(teacher, 4)), torch.zeros(50, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ([0.0, 0.0, 0.0, 0.0], [90.0, 80.0, -90.0, -90.0]),
        ([90.0, 80.0, -90.0, -90.0], [0.0, 0.0, 0.0, 0.0]),
        ([90.0, 80.0, -90.0, -90.0], [80.0, 90.0, -90.0, -90.0]),
        ([1e4, 0.0, -1e4, -1e4], [-1e4, 0.0, 1e4, 1e4]),
        ([0.0, 0.0, -math.inf, -math.inf], [0.0, 0.0, -math.inf, -math.inf]),
        ([-math.inf, 0.0, 0.0, 0.0], [0.0, -math.inf, 0.0, 0.0]),
    ],
)
def test_a_tail_of_next_to_nothing_is_safe(
    student: list[float], teacher: list[float], beta: float, dtype: torch.dtype
) -> None:
    at = torch.tensor([student], dtype=dtype).requires_grad_()
    loss = top_k_kl(at, TopK.of_logits(torch.tensor([teacher], dtype=dtype), 2), beta=beta)
    loss.sum().backward()
    assert at.grad is not None
    assert torch.isfinite(loss).all()
    assert torch.isfinite(at.grad).all()
    assert loss.item() >= -1e-6


def test_a_small_tail_is_exact_in_single_precision() -> None:
    """1 - (what the best share) would have no digit right at e^-20; summing the others has them all."""
    student = torch.tensor([[20.0, 0.0, 0.0, 0.0]])
    teacher = TopK(torch.tensor([[0]]), torch.tensor([[math.log(0.9)]]), torch.tensor([math.log(0.1)]))
    tail = 3 * math.exp(-20) / (1 + 3 * math.exp(-20))
    wanted = 0.9 * math.log(0.9 / (1 - tail)) + 0.1 * math.log(0.1 / tail)
    assert top_k_kl(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_all_of_a_vocabulary_leaves_a_tail_of_nothing() -> None:
    student, teacher = tensor(logits(60)), tensor(logits(61))
    entries = TopK.of_logits(teacher, 100)
    assert entries.indices.shape == (5, 7)
    torch.testing.assert_close(top_k_kl(student, entries), forward_kl(student, teacher))


@pytest.mark.parametrize("index", [-1, 4])
def test_a_token_outside_the_vocabulary_is_refused(index: int) -> None:
    strange = TopK(torch.tensor([[index]]), torch.zeros(1, 1), torch.full((1,), -9.0))
    with pytest.raises(PlanError, match=str(index)):
        top_k_kl(torch.zeros(1, 4), strange)


def test_entries_of_a_cache_become_tensors() -> None:
    arrays = {
        "indices": np.array([[3, 65_535]], np.uint16), "log_probs": np.array([[-0.5, -1.0]], np.float16),
        "log_rest": np.array([-65_504.0], np.float16),
    }  # fmt: skip
    for one in arrays.values():
        one.flags.writeable = False
    found = TopK.of_arrays(arrays)
    assert found.indices.tolist() == [[3, 65_535]]
    assert found.log_probs.dtype == torch.float32
    assert found.buckets().tolist() == [[-0.5, -1.0, sequences.FLOOR]]


def test_the_distance_across_vocabularies_by_hand() -> None:
    """Sorted 1/2, 1/4, 1/4 against 3/4, 1/4 and a token that is not there: 1/4 + 0 + 1/4."""
    student, teacher = tensor([[0.0, math.log(2), 0.0]]), tensor([[0.0, math.log(3)]])
    assert universal_logit_distance(student, teacher).item() == pytest.approx(0.5, rel=1e-12)
    assert universal_logit_distance(teacher, student).item() == pytest.approx(0.5, rel=1e-12)


def test_the_distance_is_a_cheapest_transport() -> None:
    """ULD moves mass between ranks at a cost of 1 whatever the way: half the sum of differences is what must move, by
    scipy's transport between corners of a simplex, all 1 apart."""
    student, teacher = logits(62, vocabulary=5), logits(63, vocabulary=8)
    corners = np.eye(8) / math.sqrt(2)
    found = universal_logit_distance(tensor(student), tensor(teacher)).numpy()
    for row, (mine, theirs) in enumerate(zip(student, teacher, strict=True)):
        p = np.sort(np.concatenate([softmax(mine), np.zeros(3)]))[::-1]
        q = np.sort(softmax(theirs))[::-1]
        assert found[row] / 2 == pytest.approx(wasserstein_distance_nd(corners, corners, p, q), rel=1e-6)


def test_the_distance_does_not_care_which_token_is_which() -> None:
    student, teacher = tensor(logits(64)), tensor(logits(65))
    shuffled = teacher[:, torch.randperm(7, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(
        universal_logit_distance(student, shuffled, 2.0), universal_logit_distance(student, teacher, 2.0)
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_distances_gradient_by_finite_differences(temperature: float) -> None:
    student, teacher = logits(66), logits(67, vocabulary=9)

    def independent(at: np.ndarray) -> np.ndarray:
        p = np.sort(np.pad(softmax(at / temperature, axis=1), ((0, 0), (0, 2))), axis=1)
        return np.abs(p - np.sort(softmax(teacher / temperature, axis=1), axis=1)).sum(axis=1)

    found = slope(lambda at: universal_logit_distance(at, tensor(teacher), temperature), student)
    np.testing.assert_allclose(found, differences(independent, student), atol=1e-7)


def test_a_state_predicts_the_token_after_it_and_only_completions_are_learnt() -> None:
    labels = torch.tensor(
        [
            [IGNORE, IGNORE, 11, 12, 13],  # a prompt of two: its second state predicts 11
            [IGNORE, 21, 22, IGNORE, IGNORE],  # padding behind
            [31, IGNORE, IGNORE, IGNORE, 35],  # the first token is predicted by nothing; packed, a gap between
            [IGNORE] * 5,
        ]
    )
    found = completion_positions(labels)
    assert found.positions.tolist() == [1, 2, 3, 5, 6, 13]
    assert found.targets.tolist() == [11, 12, 13, 21, 22, 35]
    assert found.lengths.tolist() == [3, 2, 1, 0]
    states = torch.arange(4 * 5 * 2).reshape(4, 5, 2)
    assert found.take(states).tolist() == [states[row, column].tolist() for row, column in
                                           [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 3)]]  # fmt: skip


def test_the_shift_is_that_of_transformers_own_loss() -> None:
    """Cross-entropy at these places is what transformers computes from the same labels."""
    transformers = pytest.importorskip("transformers", reason="comes with the teacher plugins")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.randint(0, 50, (3, 9))
    labels = tokens.masked_fill(torch.arange(9) < torch.tensor([[2], [5], [8]]), IGNORE)
    with torch.no_grad():
        said = model(input_ids=tokens, labels=labels)
    found = completion_positions(labels)
    values = torch.nn.functional.cross_entropy(found.take(said.logits), found.targets, reduction="none")
    assert token_mean(values, len(found.targets)).item() == pytest.approx(said.loss.item(), rel=1e-5)


@pytest.mark.parametrize("length", [0, 1])
def test_a_sequence_too_short_to_predict_anything_has_no_place(length: int) -> None:
    found = completion_positions(torch.zeros(2, length, dtype=torch.int64))
    assert found.positions.tolist() == []
    assert found.lengths.tolist() == [0, 0]


def test_micro_batches_add_up_to_the_batch_whatever_their_lengths() -> None:
    """A mean of means would weigh the short one's tokens three times as much."""
    values = tensor([1.0, 2.0, 3.0, 10.0])
    parts = [values[:3], values[3:], values[:0]]
    assert sum(token_mean(part, 4).item() for part in parts) == pytest.approx(4.0)
    assert sum(part.mean().item() for part in parts[:2]) / 2 == pytest.approx(6.0)


def test_a_step_without_a_token_is_refused() -> None:
    with pytest.raises(DataError):
        token_mean(torch.zeros(0), 0)
