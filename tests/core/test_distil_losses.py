"""Losses against numbers worked out by hand, against an independent implementation, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from toolkit.distil.losses import hard_label, response
from toolkit.distil.objectives import Batch, total_loss
from toolkit.distil.recipes import LABELS_ALONE, SoftLabels
from toolkit.errors import PlanError
from toolkit.plan import Plan, RecipePlan
from toolkit.protocols import Objective


def logits(seed: int, rows: int = 5, classes: int = 4, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (rows, classes))


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def independent_response(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T^2 KL(p_teacher^T || p_student^T), by scipy's relative entropy."""
    p, q = softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1)
    return float(temperature**2 * rel_entr(p, q).sum(axis=1).mean())


def independent_hard_label(student: np.ndarray, target: np.ndarray) -> float:
    return float(-(target * log_softmax(student, axis=1)).sum(axis=1).mean())


def gradient(loss: object, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of `loss` in every entry."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        found[index] = (loss(up) - loss(down)) / (2 * step)  # type: ignore[operator]
    return found


def test_hard_label_by_hand() -> None:
    """Odds 1:3 give -ln(1/4) for the first class; equal odds give ln 2."""
    student = tensor([[0.0, math.log(3)], [5.0, 5.0]])
    assert hard_label(student, torch.tensor([0, 1])).item() == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_hard_label_of_mixed_rows_by_hand() -> None:
    """A row that is one quarter a and three quarters b: 1/4 ln 4 + 3/4 ln(4/3)."""
    student = tensor([[0.0, math.log(3)]])
    wanted = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert hard_label(student, tensor([[0.25, 0.75]])).item() == pytest.approx(wanted)


def test_response_by_hand() -> None:
    """Teacher 3:1, student 1:1: KL = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    teacher, student = tensor([[math.log(3), 0.0]]), tensor([[2.0, 2.0]])
    wanted = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert response(student, teacher, 1.0).item() == pytest.approx(wanted)


def test_response_at_a_temperature_by_hand() -> None:
    """Teacher 9:1 at T = 2 is 3:1, student even: T^2 times the number above."""
    teacher, student = tensor([[math.log(9), 0.0]]), tensor([[0.0, 0.0]])
    wanted = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert response(student, teacher, 2.0).item() == pytest.approx(wanted)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_response_agrees_with_scipy(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 100)
    found = response(tensor(student), tensor(teacher), temperature).item()
    assert found == pytest.approx(independent_response(student, teacher, temperature), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_hard_label_agrees_with_scipy(seed: int) -> None:
    student = logits(seed)
    mixed = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
    assert hard_label(tensor(student), tensor(mixed)).item() == pytest.approx(independent_hard_label(student, mixed))
    sure = np.eye(4)[[0, 1, 2, 3, 0]]
    indices = torch.tensor([0, 1, 2, 3, 0])
    assert hard_label(tensor(student), indices).item() == pytest.approx(independent_hard_label(student, sure))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_response_gradient_by_finite_differences(temperature: float) -> None:
    student, teacher = logits(1), logits(2)
    at = tensor(student).requires_grad_()
    response(at, tensor(teacher), temperature).backward()
    wanted = gradient(lambda x: independent_response(x, teacher, temperature), student)
    assert at.grad is not None
    np.testing.assert_allclose(at.grad.numpy(), wanted, atol=1e-6)


def test_the_hard_label_gradient_by_finite_differences() -> None:
    student, mixed = logits(3), np.random.default_rng(3).dirichlet(np.ones(4), 5)
    at = tensor(student).requires_grad_()
    hard_label(at, tensor(mixed)).backward()
    wanted = gradient(lambda x: independent_hard_label(x, mixed), student)
    assert at.grad is not None
    np.testing.assert_allclose(at.grad.numpy(), wanted, atol=1e-6)


def test_the_gradients_size_does_not_depend_on_a_high_temperature() -> None:
    """Hinton 2015, section 2.1: T^2 dC/dz tends to (z - v) / N for zero-mean logits as T grows (times 1/rows)."""
    student, teacher = logits(4), logits(5)
    student, teacher = student - student.mean(1, keepdims=True), teacher - teacher.mean(1, keepdims=True)
    at = tensor(student).requires_grad_()
    response(at, tensor(teacher), 1000.0).backward()
    assert at.grad is not None
    np.testing.assert_allclose(at.grad.numpy(), (student - teacher) / 4 / 5, rtol=0.02, atol=1e-3)


def test_no_gradient_flows_to_the_teacher() -> None:
    teacher = tensor(logits(6)).requires_grad_()
    student = tensor(logits(7)).requires_grad_()
    response(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_a_student_that_answers_as_its_teacher_loses_nothing() -> None:
    teacher = logits(8)
    assert response(tensor(teacher + 7.5), tensor(teacher), 3.0).item() == pytest.approx(0, abs=1e-12)


def test_logits_far_apart_stay_finite() -> None:
    student, teacher = torch.tensor([[1e4, -1e4]]), torch.tensor([[-6e4, 6e4]])
    assert math.isfinite(response(student, teacher, 1.0).item())
    assert math.isfinite(hard_label(student, torch.tensor([1])).item())


def test_the_sum_is_weighted_and_each_terms_own_value_is_told() -> None:
    student, teacher = logits(9), logits(10)
    batch = Batch(tensor(0), torch.tensor([0, 1, 2, 3, 0]), tensor(teacher))
    objectives = [Objective("hard-label", 0.3), Objective("response", 0.7, 2.5)]
    total, terms = total_loss(objectives, tensor(student), batch)
    hard = independent_hard_label(student, np.eye(4)[[0, 1, 2, 3, 0]])
    soft = independent_response(student, teacher, 2.5)
    assert total.item() == pytest.approx(0.3 * hard + 0.7 * soft)
    assert terms == {"hard-label": pytest.approx(hard), "response": pytest.approx(soft)}


@pytest.mark.parametrize("name", ["response", "feature"])
def test_an_objective_that_cannot_be_computed_is_refused(name: str) -> None:
    batch = Batch(tensor(0), torch.tensor([0]))
    with pytest.raises(PlanError, match=name):
        total_loss([Objective(name, 1.0)], tensor([[0.0, 1.0]]), batch)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_soft_labels_shares_the_loss_between_label_and_teacher(weight: float) -> None:
    plan = Plan(domain="x", recipe=RecipePlan(teacher_weight=weight, temperature=5.0))
    objectives = {objective.name: objective for objective in SoftLabels().objectives(plan)}
    assert objectives["response"].weight == pytest.approx(weight)
    assert objectives["response"].temperature == 5.0
    assert sum(objective.weight for objective in objectives.values()) == pytest.approx(1)
    assert SoftLabels().needs == {"response"}


def test_the_baseline_sees_the_labels_alone() -> None:
    student = logits(11)
    batch = Batch(tensor(0), torch.tensor([0, 1, 2, 3, 0]), tensor(logits(12)))
    total, terms = total_loss(LABELS_ALONE, tensor(student), batch)
    assert total.item() == pytest.approx(independent_hard_label(student, np.eye(4)[[0, 1, 2, 3, 0]]))
    assert set(terms) == {"hard-label"}
