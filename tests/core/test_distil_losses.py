"""Losses on answers against numbers worked out by hand, against scipy, and their gradients: one value a row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from distil_parts import gradient, tensor
from scipy.special import log_softmax, rel_entr, softmax

from toolkit.distil.losses import hard_label, response

COUNTS = np.array([1.0, 0.0, 2.5, 0.3, 1.0])
"""How much each row counts, where a gradient is looked at: one of them not at all."""


def logits(seed: int, rows: int = 5, classes: int = 4, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (rows, classes))


def independent_response(student: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
    """T^2 KL(p_teacher^T || p_student^T), by scipy's relative entropy."""
    p, q = softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1)
    return np.asarray(temperature**2 * rel_entr(p, q).sum(axis=1))


def independent_hard_label(student: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.asarray(-(target * log_softmax(student, axis=1)).sum(axis=1))


def test_hard_label_by_hand() -> None:
    """Odds 1:3 give -ln(1/4) for the first class; equal odds give ln 2."""
    student = tensor([[0.0, math.log(3)], [5.0, 5.0]])
    assert hard_label(student, torch.tensor([0, 1])).tolist() == pytest.approx([math.log(4), math.log(2)])


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
    found = response(tensor(student), tensor(teacher), temperature)
    np.testing.assert_allclose(found.numpy(), independent_response(student, teacher, temperature), rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_hard_label_agrees_with_scipy(seed: int) -> None:
    student = logits(seed)
    mixed = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
    np.testing.assert_allclose(hard_label(tensor(student), tensor(mixed)), independent_hard_label(student, mixed))
    sure = np.eye(4)[[0, 1, 2, 3, 0]]
    indices = torch.tensor([0, 1, 2, 3, 0])
    np.testing.assert_allclose(hard_label(tensor(student), indices), independent_hard_label(student, sure))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_response_gradient_by_finite_differences(temperature: float) -> None:
    student, teacher = logits(1), logits(2)
    at = tensor(student).requires_grad_()
    (response(at, tensor(teacher), temperature) @ tensor(COUNTS)).backward()
    wanted = gradient(lambda x: float(independent_response(x, teacher, temperature) @ COUNTS), student)
    assert at.grad is not None
    np.testing.assert_allclose(at.grad.numpy(), wanted, atol=1e-6)


def test_the_hard_label_gradient_by_finite_differences() -> None:
    student, mixed = logits(3), np.random.default_rng(3).dirichlet(np.ones(4), 5)
    at = tensor(student).requires_grad_()
    (hard_label(at, tensor(mixed)) @ tensor(COUNTS)).backward()
    wanted = gradient(lambda x: float(independent_hard_label(x, mixed) @ COUNTS), student)
    assert at.grad is not None
    np.testing.assert_allclose(at.grad.numpy(), wanted, atol=1e-6)


def test_the_gradients_size_does_not_depend_on_a_high_temperature() -> None:
    """Hinton 2015, section 2.1: T^2 dC/dz tends to (z - v) / N for zero-mean logits as T grows (times 1/rows)."""
    student, teacher = logits(4), logits(5)
    student, teacher = student - student.mean(1, keepdims=True), teacher - teacher.mean(1, keepdims=True)
    at = tensor(student).requires_grad_()
    response(at, tensor(teacher), 1000.0).mean().backward()
    assert at.grad is not None
    np.testing.assert_allclose(at.grad.numpy(), (student - teacher) / 4 / 5, rtol=0.02, atol=1e-3)


def test_no_gradient_flows_to_the_teacher() -> None:
    teacher = tensor(logits(6)).requires_grad_()
    student = tensor(logits(7)).requires_grad_()
    response(student, teacher, 2.0).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_a_student_that_answers_as_its_teacher_loses_nothing() -> None:
    teacher = logits(8)
    np.testing.assert_allclose(response(tensor(teacher + 7.5), tensor(teacher), 3.0), np.zeros(5), atol=1e-12)


def test_logits_far_apart_stay_finite() -> None:
    student, teacher = torch.tensor([[1e4, -1e4]]), torch.tensor([[-6e4, 6e4]])
    assert math.isfinite(response(student, teacher, 1.0).item())
    assert math.isfinite(hard_label(student, torch.tensor([1])).item())


def test_a_rows_loss_is_its_own() -> None:
    """Rows beside it change nothing, so that rows can be weighed."""
    student, teacher, mixed = logits(9), logits(10), np.random.default_rng(9).dirichlet(np.ones(4), 5)
    for row in range(5):
        one = slice(row, row + 1)
        alone = response(tensor(student[one]), tensor(teacher[one]), 2.0)
        assert alone.item() == pytest.approx(response(tensor(student), tensor(teacher), 2.0)[row].item(), rel=1e-12)
        alone = hard_label(tensor(student[one]), tensor(mixed[one]))
        assert alone.item() == pytest.approx(hard_label(tensor(student), tensor(mixed))[row].item(), rel=1e-12)
