"""What rows and tasks weigh, by hand and by scipy, and what holds of it whatever the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from distil_parts import TASKS, one_thread, tensor, train
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr, softmax

from toolkit.distil.objectives import Batch, Outputs
from toolkit.distil.weighting import (
    LEAST,
    MOST,
    TaskWeights,
    Weighting,
    by_difficulty,
    confidence,
    loss_ratio_weights,
    uncertainty_weights,
)

LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def outputs(seed: int, rows: int = 4) -> Outputs:
    return Outputs(tensor(np.random.default_rng(seed).normal(0, 2, (rows, 3))))


def observed(weighting: Weighting, *epochs: list[float]) -> list[dict[str, float]]:
    """What is told of epochs in which the tasks have these losses, a row each."""
    told = []
    for losses in epochs:
        batch = Batch(tensor(0), LABELS, tasks=torch.arange(len(losses)))
        weighting.observe(batch, tensor(losses))
        told.append(weighting.close_epoch())
    return told


def test_confidence_is_the_teachers_highest_probability() -> None:
    teacher = Outputs(tensor([[math.log(3), 0.0], [0.0, 0.0]]))
    assert confidence(teacher).tolist() == pytest.approx([0.75, 0.5])


def test_difficulty_by_scipy() -> None:
    """The divergence in units of its mean, times the teacher's highest probability, held, and of mean one again."""
    student, teacher = outputs(1, 30), outputs(2, 30)
    p, q = softmax(teacher.logits.numpy(), axis=1), softmax(student.logits.numpy(), axis=1)
    divergence = rel_entr(p, q).sum(axis=1)
    held = np.clip(p.max(axis=1) * divergence / divergence.mean(), LEAST, MOST)
    assert {LEAST, MOST} & set(held)
    np.testing.assert_allclose(by_difficulty(student, teacher), held / held.mean())


def test_difficulty_by_hand() -> None:
    """A teacher of 3:1 and students of 1:1 and 3:1: all of the divergence is the first's, twice its mean, times 3/4;
    the second's is nothing, and is held at a quarter. 1.5 and 0.25 have the mean 0.875."""
    teacher = Outputs(tensor([[math.log(3), 0.0]] * 2))
    student = Outputs(tensor([[0.0, 0.0], [math.log(3), 0.0]]))
    assert by_difficulty(student, teacher).tolist() == pytest.approx([1.5 / 0.875, 0.25 / 0.875])


@given(
    arrays(np.float64, (6, 3), elements=st.floats(-1e4, 1e4)), arrays(np.float64, (6, 3), elements=st.floats(-60, 60))
)
@settings(max_examples=50, deadline=None)
def test_difficulty_has_the_mean_one_and_no_row_outweighs_another_by_more_than_the_bounds(
    student: np.ndarray, teacher: np.ndarray
) -> None:
    weights = by_difficulty(Outputs(tensor(student)), Outputs(tensor(teacher)))
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights.max() / weights.min()) <= MOST / LEAST * (1 + 1e-9)
    assert torch.isfinite(weights).all()


def test_where_nothing_is_left_to_learn_all_rows_weigh_alike() -> None:
    assert by_difficulty(outputs(3), outputs(3)).tolist() == pytest.approx([1] * 4)


def test_no_gradient_flows_through_a_weight() -> None:
    student = Outputs(outputs(4).logits.requires_grad_())
    assert not by_difficulty(student, outputs(5)).requires_grad


def test_nothing_weighs_anything_where_nothing_is_asked_for() -> None:
    batch = Batch(tensor(0), LABELS, outputs(6), tasks=LABELS)
    weighed = Weighting(tasks=TaskWeights(TASKS)).weigh(batch, outputs(7))
    assert weighed.label_weights is None
    assert weighed.teacher_weights is None


def test_difficulty_weighs_the_teachers_answers_and_leaves_the_labels_alone() -> None:
    known, sure = tensor([1, 1, 0, 1]), tensor([1, 1, 0.5, 1])
    batch = Batch(tensor(0), LABELS, outputs(8), known, sure)
    weighed = Weighting(difficulty=True).weigh(batch, outputs(9))
    torch.testing.assert_close(weighed.label_weights, known)
    torch.testing.assert_close(weighed.teacher_weights, sure * by_difficulty(outputs(9), outputs(8)))
    weighed = Weighting(difficulty=True).weigh(Batch(tensor(0), LABELS, outputs(8)), outputs(9))
    torch.testing.assert_close(weighed.teacher_weights, by_difficulty(outputs(9), outputs(8)))


def test_difficulty_without_a_teacher_weighs_nothing() -> None:
    """As in the baseline's training."""
    weighed = Weighting(difficulty=True).weigh(Batch(tensor(0), LABELS), outputs(9))
    assert weighed.teacher_weights is None


def test_dynamic_weight_averaging_by_hand() -> None:
    """Losses 2, 4 and then 1, 4: ratios 1/2 and 1, over T = 2 e^0.25 and e^0.5, of sum 2 (arXiv 1803.10704, eq. 7)."""
    one, other = math.exp(0.25), math.exp(0.5)
    weights = loss_ratio_weights(tensor([2, 4]), tensor([1, 4]), 0.0)
    assert weights.tolist() == pytest.approx([2 * one / (one + other), 2 * other / (one + other)])


def test_the_floor_by_hand() -> None:
    """0.876 and 1.124 by the test above: with a floor of 0.9, the first is at it and the second has what is left."""
    assert loss_ratio_weights(tensor([2, 4]), tensor([1, 4]), 0.9).tolist() == pytest.approx([0.9, 1.1])


@given(
    arrays(np.float64, 5, elements=st.floats(0, 1e6)), arrays(np.float64, 5, elements=st.floats(0, 1e6)),
    st.floats(0, 0.95),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_task_weights_have_the_mean_one_and_none_is_under_the_floor(
    before: np.ndarray, last: np.ndarray, floor: float
) -> None:
    weights = loss_ratio_weights(tensor(before), tensor(last), floor)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights.min()) >= floor - 1e-9


def test_a_task_of_which_nothing_was_seen_before_is_no_emergency() -> None:
    """No rows in an epoch make a loss of 0; what follows is not a loss that rose without bounds."""
    weights = loss_ratio_weights(tensor([1, 0, 1]), tensor([1, 2, 1]), 0.0)
    assert weights.tolist() == pytest.approx([1, 1, 1])


def test_the_slower_a_tasks_loss_falls_the_more_it_weighs() -> None:
    weights = loss_ratio_weights(tensor([1, 1, 1]), tensor([0.2, 0.6, 1.0]), 0.5).tolist()
    assert weights == sorted(weights)
    assert weights[0] < weights[-1]


def test_tasks_weigh_alike_until_two_epochs_are_known() -> None:
    weighting = Weighting(tasks=TaskWeights(("a", "b"), by="loss-ratio", floor=0.0))
    told = observed(weighting, [2.0, 4.0], [1.0, 4.0], [1.0, 2.0], [1.0, 1.0])
    assert [(record["task/a"], record["task/b"]) for record in told] == [(2, 4), (1, 4), (1, 2), (1, 1)]
    weights = [(record["weight/a"], record["weight/b"]) for record in told]
    assert weights[:2] == [(1, 1), (1, 1)]
    assert weights[2] == pytest.approx(loss_ratio_weights(tensor([2, 4]), tensor([1, 4]), 0.0).tolist(), rel=1e-6)
    assert weights[3] == pytest.approx(loss_ratio_weights(tensor([1, 4]), tensor([1, 2]), 0.0).tolist(), rel=1e-6)


def test_uncertainty_by_hand_and_where_its_own_loss_is_least() -> None:
    """Losses 1 and 3: weights in the proportion of 3 to 1, of mean one. L / v + log v is least at v = L."""
    assert uncertainty_weights(tensor([1, 3]), 0.0).tolist() == pytest.approx([1.5, 0.5])
    assert uncertainty_weights(tensor([1, 3]), 0.8).tolist() == pytest.approx([1.2, 0.8])
    for loss in (0.3, 1.0, 2.5):
        found = minimize_scalar(lambda v, loss=loss: loss / v + math.log(v), bounds=(1e-3, 10), method="bounded")
        assert found.x == pytest.approx(loss, rel=1e-3)


def test_a_task_of_which_nothing_is_known_weighs_as_the_others_do() -> None:
    assert uncertainty_weights(tensor([1, 0, 3]), 0.0).tolist() == pytest.approx([1.5, 1.0, 0.5])
    assert uncertainty_weights(tensor([0, 0]), 0.0).tolist() == [1, 1]


@given(arrays(np.float64, 5, elements=st.floats(0, 1e6)), st.floats(0, 0.95))
@settings(max_examples=100, deadline=None)
def test_uncertainty_weights_have_the_mean_one_and_none_is_under_the_floor(last: np.ndarray, floor: float) -> None:
    weights = uncertainty_weights(tensor(last), floor)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights.min()) >= floor - 1e-9


def test_tasks_weigh_by_uncertainty_as_soon_as_an_epoch_is_known() -> None:
    weighting = Weighting(tasks=TaskWeights(("a", "b"), by="uncertainty", floor=0.0))
    told = observed(weighting, [1.0, 3.0], [2.0, 2.0], [1.0, 1.0])
    assert [(record["weight/a"], record["weight/b"]) for record in told] == [(1, 1), (1.5, 0.5), (1, 1)]


def test_a_tasks_loss_is_the_mean_over_its_rows_of_all_steps() -> None:
    weighting = Weighting(tasks=TaskWeights(("a", "b")))
    weighting.observe(Batch(tensor(0), LABELS, tasks=torch.tensor([0, 0, 1])), tensor([1, 2, 5]))
    weighting.observe(Batch(tensor(0), LABELS, tasks=torch.tensor([0, 1, 1])), tensor([6, 7, 9]))
    assert weighting.close_epoch() == {"task/a": pytest.approx(3), "task/b": pytest.approx(7)}


def test_a_task_without_a_row_in_an_epoch_keeps_what_was_last_known_of_it() -> None:
    weighting = Weighting(tasks=TaskWeights(("a", "b"), by="loss-ratio", floor=0.0))
    observed(weighting, [2.0, 4.0])
    weighting.observe(Batch(tensor(0), LABELS, tasks=torch.tensor([0])), tensor([2.0]))
    assert weighting.close_epoch()["task/b"] == 4
    told = observed(weighting, [2.0, 4.0])[0]
    assert (told["weight/a"], told["weight/b"]) == pytest.approx((1, 1))


def test_a_tasks_weight_is_that_of_its_rows_labels_and_answers() -> None:
    weighting = Weighting(tasks=TaskWeights(("a", "b", "c"), by="loss-ratio", floor=0.2))
    observed(weighting, [2.0, 4.0, 1.0], [1.0, 4.0, 0.1])
    wanted = loss_ratio_weights(tensor([2, 4, 1]), tensor([1, 4, 0.1]), 0.2)[LABELS]
    known = tensor([1, 0, 1, 1])
    weighed = weighting.weigh(Batch(tensor(0), LABELS, outputs(1), known, tasks=LABELS), outputs(2))
    np.testing.assert_allclose(weighed.label_weights, known * wanted, rtol=1e-6)
    np.testing.assert_allclose(weighed.teacher_weights, wanted, rtol=1e-6)


def test_difficulty_and_tasks_multiply() -> None:
    weighting = Weighting(difficulty=True, tasks=TaskWeights(("a", "b", "c"), by="loss-ratio"))
    observed(weighting, [2.0, 4.0, 1.0], [1.0, 4.0, 0.1])
    tasks = loss_ratio_weights(tensor([2, 4, 1]), tensor([1, 4, 0.1]), 0.5)[LABELS]
    weighed = weighting.weigh(Batch(tensor(0), LABELS, outputs(1), tasks=LABELS), outputs(2))
    np.testing.assert_allclose(weighed.teacher_weights, tasks * by_difficulty(outputs(2), outputs(1)), rtol=1e-6)
    np.testing.assert_allclose(weighed.label_weights, tasks, rtol=1e-6)


def test_what_was_saved_goes_on_where_it_was(tmp_path: Path) -> None:
    one = Weighting(tasks=TaskWeights(("a", "b"), by="loss-ratio"))
    observed(one, [2.0, 4.0], [1.0, 4.0])
    one.observe(Batch(tensor(0), LABELS, tasks=torch.tensor([0, 1])), tensor([1, 3]))
    other = Weighting(tasks=TaskWeights(("a", "b"), by="loss-ratio"))
    torch.save(one.state(), tmp_path / "state")
    other.restore(torch.load(tmp_path / "state", weights_only=True))
    assert other.close_epoch() == one.close_epoch() != {}
    assert observed(other, [1.0, 2.0]) == observed(one, [1.0, 2.0])


def test_the_curves_show_each_tasks_loss_and_weight_and_each_terms_pull(tmp_path: Path) -> None:
    history = train(tmp_path, everything=True).history
    for record in history:
        pulls = [share for name, share in record.items() if name.startswith("pull/")]
        assert len(pulls) == 7
        assert sum(pulls) == pytest.approx(1)
        assert sum(record[f"weight/{name}"] for name in TASKS) == pytest.approx(3)
        assert min(record[f"weight/{name}"] for name in TASKS) >= 0.3 - 1e-6
        assert all(record[f"task/{name}"] > 0 for name in TASKS)
    assert [record["weight/one"] == 1 for record in history] == [True, True, False, False]
    losses = [torch.tensor([record[f"task/{name}"] for name in TASKS]) for record in history]
    wanted = loss_ratio_weights(losses[1], losses[2], 0.3).tolist()
    assert [history[3][f"weight/{name}"] for name in TASKS] == pytest.approx(wanted, rel=1e-5)
