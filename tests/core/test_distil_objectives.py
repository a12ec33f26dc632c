"""From objectives to one number: what each term weighs, when, over which rows, and how strongly it pulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distil_parts import tensor
from scipy.special import log_softmax, rel_entr, softmax

from toolkit.distil import features
from toolkit.distil.learner import Learner
from toolkit.distil.objectives import COMPARISONS, Batch, Outputs, Term, pulls, row_losses, weighted_terms
from toolkit.distil.recipes import CARRIERS, LABELS_ALONE
from toolkit.errors import PlanError
from toolkit.protocols import Objective

LABELS = torch.tensor([0, 1, 2, 3, 0])
BY_FEATURES = sorted(name for name, carrier in CARRIERS.items() if carrier == "features")


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (5, 4))


def hard_labels(student: np.ndarray) -> np.ndarray:
    """Cross-entropy by scipy, a row each."""
    return np.asarray(-log_softmax(student, axis=1)[np.arange(5), LABELS.numpy()])


def responses(student: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
    p, q = softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1)
    return np.asarray(temperature**2 * rel_entr(p, q).sum(axis=1))


def outputs(seed: int, width: int = 6, projected: int = 8) -> Outputs:
    draw = np.random.default_rng(seed)
    return Outputs(tensor(logits(seed)), tensor(draw.normal(size=(5, width))), tensor(draw.normal(size=(5, projected))))


def test_each_terms_own_value_is_told_beside_its_weight() -> None:
    student, teacher = logits(9), logits(10)
    batch = Batch(tensor(0), LABELS, Outputs(tensor(teacher)))
    objectives = [Objective("hard-label", 0.3), Objective("response", 0.7, 2.5)]
    terms = weighted_terms(objectives, Outputs(tensor(student)), batch)
    hard, soft = hard_labels(student), responses(student, teacher, 2.5)
    np.testing.assert_allclose(terms["hard-label"].rows, hard)
    np.testing.assert_allclose(terms["response"].rows, soft)
    assert {name: term.mean.item() for name, term in terms.items()} == {
        "hard-label": pytest.approx(hard.mean()), "response": pytest.approx(soft.mean())
    }  # fmt: skip
    assert {name: term.weight for name, term in terms.items()} == {"hard-label": 0.3, "response": 0.7}
    total = sum(term.weight * term.mean for term in terms.values())
    assert float(total) == pytest.approx(0.3 * hard.mean() + 0.7 * soft.mean())


def test_a_label_counts_as_its_row_weighs_and_an_answer_as_the_teachers() -> None:
    """Two rows have no label, and the teacher is half sure of one of them."""
    student, teacher = logits(1), logits(2)
    known, sure = np.array([1, 0, 1, 0, 1.0]), np.array([1, 0.5, 1, 2, 1.0])
    batch = Batch(tensor(0), LABELS, Outputs(tensor(teacher)), tensor(known), tensor(sure))
    terms = weighted_terms([Objective("hard-label", 1.0), Objective("response", 1.0)], Outputs(tensor(student)), batch)
    hard, soft = hard_labels(student), responses(student, teacher, 1.0)
    assert terms["hard-label"].mean.item() == pytest.approx(hard[[0, 2, 4]].mean())
    assert terms["response"].mean.item() == pytest.approx((soft * sure).sum() / 5.5)
    np.testing.assert_allclose(terms["hard-label"].rows, hard)


@pytest.mark.parametrize("name", BY_FEATURES)
def test_what_looks_at_features_counts_as_the_teachers_answers_do(name: str) -> None:
    student, teacher, sure = outputs(3), outputs(4, width=8), np.array([1, 0, 2, 0.5, 1.0])
    batch = Batch(tensor(0), LABELS, teacher, label_weights=tensor(np.zeros(5)), teacher_weights=tensor(sure))
    term = weighted_terms([Objective(name, 2.0)], student, batch)[name]
    assert term.mean.item() == pytest.approx(float((term.rows.numpy() * sure).sum() / 4.5))
    assert term.mean.item() > 0


def test_a_batch_in_which_no_row_has_a_label_teaches_no_label() -> None:
    student = tensor(logits(5)).requires_grad_()
    batch = Batch(tensor(0), LABELS, label_weights=tensor(np.zeros(5)))
    term = weighted_terms([Objective("hard-label", 1.0)], Outputs(student), batch)["hard-label"]
    term.mean.backward()
    assert term.mean.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize(
    ("schedule", "wanted"), [("constant", [2, 2, 2]), ("rise", [0, 0.5, 2]), ("fall", [2, 1.5, 0])]
)
def test_a_weight_rises_or_falls_evenly_with_the_training(schedule: str, wanted: list[float]) -> None:
    objective = Objective("hard-label", 2.0, schedule=schedule)  # type: ignore[arg-type]
    for progress, weight in zip((0.0, 0.25, 1.0), wanted, strict=True):
        term = weighted_terms([objective], Outputs(tensor(logits(6))), Batch(tensor(0), LABELS), progress)["hard-label"]
        assert term.weight == pytest.approx(weight)
        assert term.mean.item() == pytest.approx(hard_labels(logits(6)).mean())


@pytest.mark.parametrize("name", sorted(name for name, carrier in CARRIERS.items() if carrier != "maps"))
def test_every_objective_that_a_plan_may_name_can_be_computed(name: str) -> None:
    """Of a row; what compares places is in the lesson of the task that has them, anomaly_maps."""
    rows = row_losses(Objective(name, 1.0), outputs(7), Batch(tensor(0), LABELS, outputs(8, width=8)))
    assert rows.shape == (5,)
    assert torch.isfinite(rows).all()


def test_hints_look_at_the_projection_and_relations_at_the_students_own_features() -> None:
    student, teacher = outputs(11), outputs(12, width=8)
    batch = Batch(tensor(0), LABELS, teacher)
    assert student.features is not None
    assert student.projected is not None
    assert teacher.features is not None
    for name, loss, mine in (
        ("feature", features.feature_cosine, student.projected),
        ("feature-distance", features.feature_distance, student.projected),
        ("similarity", features.similarity, student.features),
        ("relation-distance", features.relation_distance, student.features),
        ("relation-angle", features.relation_angle, student.features),
    ):
        torch.testing.assert_close(row_losses(Objective(name, 1.0), student, batch), loss(mine, teacher.features))
    assert set(COMPARISONS) == set(BY_FEATURES)


@pytest.mark.parametrize("name", ["response", *BY_FEATURES, "nonsense"])
@pytest.mark.parametrize("teacher", ["none", "logits"])
def test_an_objective_that_cannot_be_computed_is_refused(name: str, teacher: str) -> None:
    if (name, teacher) == ("response", "logits"):
        return
    batch = Batch(tensor(0), LABELS, None if teacher == "none" else Outputs(tensor(logits(1))))
    with pytest.raises(PlanError, match=name) as caught:
        weighted_terms([Objective(name, 1.0)], outputs(2), batch)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_the_baseline_sees_the_labels_alone() -> None:
    student = logits(11)
    batch = Batch(tensor(0), LABELS, Outputs(tensor(logits(12))))
    terms = weighted_terms(LABELS_ALONE, Outputs(tensor(student)), batch)
    assert set(terms) == {"hard-label"}
    assert terms["hard-label"].mean.item() == pytest.approx(hard_labels(student).mean())
    assert terms["hard-label"].weight == 1


def test_pulls_at_the_logits_by_hand() -> None:
    """Slopes of the means: (softmax - one hot) / n for the label, T (softmax^T - teacher^T) / n for the answer."""
    student, teacher = logits(13), logits(14)
    made = Outputs(tensor(student).requires_grad_())
    batch = Batch(tensor(0), LABELS, Outputs(tensor(teacher)))
    terms = weighted_terms([Objective("hard-label", 0.3), Objective("response", 0.7, 2.0)], made, batch)
    hard = 0.3 * np.linalg.norm((softmax(student, axis=1) - np.eye(4)[LABELS]) / 5)
    soft = 0.7 * np.linalg.norm(2 * (softmax(student / 2, axis=1) - softmax(teacher / 2, axis=1)) / 5)
    assert pulls(terms, made) == {
        "pull/hard-label": pytest.approx(hard / (hard + soft)), "pull/response": pytest.approx(soft / (hard + soft))
    }  # fmt: skip


def test_pulls_at_the_features_by_hand() -> None:
    """The label's slope at the features is its slope at the logits through the last layer's weights; a distance's is
    2 (projection - teacher) / d through the projection's."""
    torch.manual_seed(0)
    learner = Learner(torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4)), width=8)
    learner = learner.double()
    inputs, teacher = torch.randn(5, 3, dtype=torch.float64), outputs(15, width=8)
    made = learner(inputs)
    terms = weighted_terms(
        [Objective("hard-label", 0.5), Objective("feature-distance", 3.0)], made, Batch(inputs, LABELS, teacher)
    )
    assert teacher.features is not None
    assert learner.projection is not None
    head = learner.student.get_submodule("2").weight.detach().numpy()
    slope = (softmax(made.logits.detach().numpy(), axis=1) - np.eye(4)[LABELS]) / 5
    hard = 0.5 * np.linalg.norm(slope @ head)
    difference = (made.projected.detach() - teacher.features).numpy()
    hint = 3.0 * np.linalg.norm(2 * difference / 8 / 5 @ learner.projection.weight.detach().numpy())
    assert pulls(terms, made)["pull/feature-distance"] == pytest.approx(hint / (hard + hint))
    assert sum(pulls(terms, made).values()) == pytest.approx(1)


def test_looking_at_the_pulls_leaves_the_gradients_alone() -> None:
    made = Outputs(tensor(logits(16)).requires_grad_())
    batch = Batch(tensor(0), LABELS, Outputs(tensor(logits(17))))
    terms = weighted_terms([Objective("hard-label", 1.0), Objective("response", 1.0)], made, batch)
    pulls(terms, made)
    assert made.logits.grad is None
    sum(term.mean for term in terms.values()).backward()  # type: ignore[union-attr]
    assert made.logits.grad is not None


def test_a_term_that_weighs_nothing_pulls_nothing_and_one_alone_is_not_compared() -> None:
    made = Outputs(tensor(logits(18)).requires_grad_())
    batch = Batch(tensor(0), LABELS, Outputs(tensor(logits(19))))
    rising = [Objective("hard-label", 1.0), Objective("response", 1.0, schedule="rise")]
    assert pulls(weighted_terms(rising, made, batch, 0.0), made) == {"pull/hard-label": 1.0, "pull/response": 0.0}
    assert pulls(weighted_terms(LABELS_ALONE, made, batch), made) == {}


def test_where_nothing_pulls_no_share_is_made_up() -> None:
    at = tensor(logits(20)).requires_grad_()
    still = {name: Term(at.sum(1), (at * 0).sum(), 1.0) for name in ("hard-label", "response")}
    assert pulls(still, Outputs(at)) == {"pull/hard-label": 0.0, "pull/response": 0.0}


def test_a_batch_moves_with_all_it_holds() -> None:
    """`meta` is a device that every torch has."""
    batch = Batch(tensor([[1.0]]), torch.tensor([0]), outputs(1), tensor([1.0]), None, torch.tensor([0]))
    moved = batch.to(torch.device("meta"))
    assert moved.teacher is not None
    assert moved.teacher.features is not None
    held = (moved.inputs, moved.labels, moved.teacher.logits, moved.teacher.features, moved.label_weights, moved.tasks)
    assert [value.device.type for value in held if value is not None] == ["meta"] * 6
    assert moved.teacher_weights is None
