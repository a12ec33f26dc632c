"""Losses on features and relations: by hand, against numpy written from the papers, and what the papers say of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from distil_parts import gradient, tensor
from scipy.spatial.distance import cosine
from scipy.stats import ortho_group

from toolkit.distil import features

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Independent = Callable[[np.ndarray, np.ndarray], np.ndarray]


# --- independent implementations, a loop over the paper's sums ---------------------------------------------------


def huber(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) <= 1 else abs(difference) - 0.5


def by_cosine(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    return np.array([cosine(mine, wanted) for mine, wanted in zip(student, teacher, strict=True)])


def by_distance(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    pairs = zip(student, teacher, strict=True)
    return np.array([np.linalg.norm(mine - wanted) ** 2 / len(mine) for mine, wanted in pairs])


def tung_mori(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """arXiv 1907.09682, equations 1 to 4; a row's part of the sum, times the batch, so that their mean is the loss."""
    rows = len(student)

    def normalised(taken: np.ndarray) -> np.ndarray:
        found = np.array([[float(np.dot(one, other)) for other in taken] for one in taken])
        return np.array([row / math.sqrt(sum(value**2 for value in row)) for row in found])

    mine, wanted = normalised(student), normalised(teacher)
    return np.array([sum((mine[i, j] - wanted[i, j]) ** 2 for j in range(rows)) / rows for i in range(rows)])


def rkd_distance(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """arXiv 1904.05068, equations 4 to 7: the distance in units of its mean over all pairs of different rows."""
    rows = range(len(student))

    def relative(taken: np.ndarray) -> dict[tuple[int, int], float]:
        found = {(i, j): float(np.linalg.norm(taken[i] - taken[j])) for i, j in itertools.permutations(rows, 2)}
        mean = sum(found.values()) / len(found)
        return {pair: distance / mean for pair, distance in found.items()}

    mine, wanted = relative(student), relative(teacher)
    return np.array([np.mean([huber(mine[i, j] - wanted[i, j]) for j in rows if j != i]) for i in rows])


def rkd_angle(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """arXiv 1904.05068, equations 8 and 9, by the law of cosines on the three distances. Where two of the three rows
    are one there is no angle at it: nothing to compare."""
    rows = range(len(student))

    def angle(taken: np.ndarray, at: int, one: int, other: int) -> float:
        a, b = np.linalg.norm(taken[at] - taken[one]), np.linalg.norm(taken[at] - taken[other])
        return float((a**2 + b**2 - np.linalg.norm(taken[one] - taken[other]) ** 2) / (2 * a * b))

    found = np.zeros(len(student))
    for at, one, other in itertools.permutations(rows, 3):
        found[at] += huber(angle(student, at, one, other) - angle(teacher, at, one, other)) / len(student) ** 2
    return found


def zagoruyko(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """arXiv 1612.03928, equation 2 for p = 2, with the mean over positions; the teacher's channels are twice as large
    and are pooled by blocks of two by two."""
    n, c, h, w = teacher.shape
    pooled = teacher.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))

    def normalised(maps: np.ndarray) -> np.ndarray:
        vector = (maps**2).sum(axis=0).ravel()
        return np.asarray(vector / np.sqrt((vector**2).sum()))

    pairs = zip(student, pooled, strict=True)
    return np.array([((normalised(mine) - normalised(wanted)) ** 2).mean() for mine, wanted in pairs])


def stfpm(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """arXiv 2103.04257, equations 1 and 2."""
    n, _, h, w = student.shape
    found = np.zeros((n, h, w))
    for i, y, x in np.ndindex(n, h, w):
        mine, wanted = student[i, :, y, x], teacher[i, :, y, x]
        found[i, y, x] = 0.5 * np.linalg.norm(mine / np.linalg.norm(mine) - wanted / np.linalg.norm(wanted)) ** 2
    return found


VECTORS: dict[str, tuple[Loss, Independent, int, int]] = {
    "feature_cosine": (features.feature_cosine, by_cosine, 4, 4),
    "feature_distance": (features.feature_distance, by_distance, 4, 4),
    "similarity": (features.similarity, tung_mori, 4, 6),
    "relation_distance": (features.relation_distance, rkd_distance, 4, 6),
    "relation_angle": (features.relation_angle, rkd_angle, 4, 6),
}
MAPS: dict[str, tuple[Loss, Independent, tuple[int, ...], tuple[int, ...]]] = {
    "attention": (features.attention, zagoruyko, (3, 2, 3, 4), (3, 5, 6, 8)),
    "feature_map": (features.feature_map, stfpm, (3, 4, 2, 3), (3, 4, 2, 3)),
}
RELATIONS = ("similarity", "relation_distance", "relation_angle")


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def value(name: str, student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    loss = VECTORS[name][0] if name in VECTORS else MAPS[name][0]
    return loss(tensor(student), tensor(teacher)).numpy()


def shapes(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if name in MAPS:
        return MAPS[name][2], MAPS[name][3]
    return (5, VECTORS[name][2]), (5, VECTORS[name][3])


# --- numbers worked out by hand ----------------------------------------------------------------------------------


def test_feature_cosine_by_hand() -> None:
    """45 degrees; 3-4-5 against 4-3-5, of cosine 24/25; opposite ways."""
    student, teacher = [[1, 0], [3, 4], [2, 0]], [[1, 1], [4, 3], [-5, 0]]
    assert value("feature_cosine", student, teacher).tolist() == pytest.approx([1 - math.sqrt(0.5), 0.04, 2])


def test_feature_distance_by_hand() -> None:
    assert value("feature_distance", [[1, 2], [0, 0]], [[3, 5], [0, 1]]).tolist() == pytest.approx([6.5, 0.5])


def test_similarity_by_hand() -> None:
    """Rows at right angles: (1, 0) and (0, 1). Equal rows: (1, 1) / sqrt 2 twice. (1 - s)^2 + s^2 = 2 - 2 s, halved."""
    found = value("similarity", [[1, 0], [0, 1]], [[1, 0, 0], [1, 0, 0]])
    assert found.tolist() == pytest.approx([1 - math.sqrt(0.5)] * 2)


def test_relation_distance_by_hand() -> None:
    """0, 1, 3 on a line: distances 1, 3, 2, mean 2, so 0.5, 1.5, 1. 0, 1, 2: 0.75, 1.5, 0.75. They differ by 0.25 at
    the pairs 0-1 and 1-2, which makes 1/32 each."""
    found = value("relation_distance", [[0], [1], [3]], [[0], [1], [2]])
    assert found.tolist() == pytest.approx([1 / 64, 1 / 32, 1 / 64])


def test_relation_distance_by_hand_where_huber_is_linear() -> None:
    """Four rows in one place and one beside: distances 0 and, in units of the mean 0.4, 2.5. The teacher's are all 1:
    differences -1 (loss 0.5) and 1.5 (loss 1)."""
    found = value("relation_distance", [[0], [0], [0], [0], [1]], np.eye(5))
    assert found.tolist() == pytest.approx([(3 * 0.5 + 1) / 4] * 4 + [1])


def test_relation_angle_by_hand() -> None:
    """Half a square has a right angle and two of 45 degrees; an even triangle's cosines are 0.5. Two of nine entries
    at a row are such an angle."""
    square, even = [[0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0], [0.5, math.sqrt(0.75)]]
    right, sharp = 0.5 * 0.5**2, 0.5 * (math.sqrt(0.5) - 0.5) ** 2
    assert value("relation_angle", square, even).tolist() == pytest.approx([2 * right / 9] + [2 * sharp / 9] * 2)


def test_attention_by_hand() -> None:
    """Squares 9 and 16 of norm sqrt 337, against all attention at the first of two places."""
    student, teacher = np.array([[[[3.0, 4.0]]]]), np.array([[[[1.0, 0.0]], [[-1.0, 0.0]]]])
    norm = math.sqrt(337)
    assert value("attention", student, teacher).tolist() == pytest.approx([((9 / norm - 1) ** 2 + 256 / 337) / 2])


def test_feature_map_by_hand() -> None:
    """One minus the cosine at each place: 24/25, and the same way."""
    student = np.array([[[[3.0, 1.0]], [[4.0, 0.0]]]])
    teacher = np.array([[[[4.0, 7.0]], [[3.0, 0.0]]]])
    np.testing.assert_allclose(value("feature_map", student, teacher), [[[0.04, 0.0]]], atol=1e-12)


# --- against the independent implementations ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [*VECTORS, *MAPS])
@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_numpy_written_from_the_paper(name: str, seed: int) -> None:
    mine, wanted = shapes(name)
    student, teacher = drawn(seed, *mine), drawn(seed + 50, *wanted)
    independent = (VECTORS | MAPS)[name][1]  # type: ignore[operator]
    np.testing.assert_allclose(value(name, student, teacher), independent(student, teacher), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*VECTORS, *MAPS])
def test_its_gradient_is_that_of_finite_differences(name: str) -> None:
    """Every row counts differently, so that each value's own slope is seen."""
    mine, wanted = shapes(name)
    student, teacher = drawn(7, *mine), drawn(57, *wanted)
    loss, independent = (VECTORS | MAPS)[name][:2]  # type: ignore[operator]
    at = tensor(student).requires_grad_()
    values = loss(at, tensor(teacher))
    counts = np.random.default_rng(1).uniform(0, 2, values.shape)
    (values * tensor(counts)).sum().backward()
    assert at.grad is not None
    slope = gradient(lambda x: float((independent(x, teacher) * counts).sum()), student)
    np.testing.assert_allclose(at.grad.numpy(), slope, atol=1e-6)


@pytest.mark.parametrize("name", [*VECTORS, *MAPS])
def test_no_gradient_flows_to_the_teacher(name: str) -> None:
    mine, wanted = shapes(name)
    student, teacher = tensor(drawn(8, *mine)).requires_grad_(), tensor(drawn(58, *wanted)).requires_grad_()
    (VECTORS | MAPS)[name][0](student, teacher).sum().backward()  # type: ignore[operator]
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("name", [*VECTORS, "feature_map"])
def test_a_student_that_sees_what_its_teacher_sees_loses_nothing(name: str) -> None:
    seen = drawn(9, *shapes(name)[0])
    np.testing.assert_allclose(value(name, seen, seen), 0, atol=1e-12)


@pytest.mark.parametrize("name", RELATIONS)
def test_rows_in_another_order_have_the_same_losses(name: str) -> None:
    student, teacher, order = drawn(10, 5, 4), drawn(60, 5, 6), [3, 1, 4, 0, 2]
    np.testing.assert_allclose(
        value(name, student[order], teacher[order]), value(name, student, teacher)[order], rtol=1e-9
    )


# --- what the papers say changes nothing -------------------------------------------------------------------------


def turned(points: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.asarray(points @ ortho_group.rvs(points.shape[1], random_state=seed))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("feature_cosine", lambda x: 37.5 * x),
        ("feature_cosine", lambda x: np.array([[0.1], [1], [2], [30], [4]]) * x),
        ("similarity", lambda x: turned(x)),
        ("similarity", lambda x: turned(12.5 * x)),
        ("relation_distance", lambda x: 37.5 * x),
        ("relation_distance", lambda x: turned(x) + 3),
        ("relation_angle", lambda x: 37.5 * turned(x) + 3),
        ("relation_angle", lambda x: 0.01 * x - 5),
    ],
)
def test_what_the_paper_says_changes_nothing_does_not(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Cosine: scale, of each row. Gram: orthogonal maps. RKD-D: scale and movement. RKD-A: similarity transforms."""
    student, teacher = drawn(11, *shapes(name)[0]), drawn(61, *shapes(name)[1])
    plain = value(name, student, teacher)
    np.testing.assert_allclose(value(name, change(student), teacher), plain, rtol=1e-7)
    np.testing.assert_allclose(value(name, student, change(teacher)), plain, rtol=1e-7)


@pytest.mark.parametrize(("name", "change"), [("similarity", 3.0), ("feature_distance", 3.0)])
def test_what_does_change_it_does(name: str, change: float) -> None:
    """Gram matrices look from an origin, and a distance has a scale: the tests above are no tautologies."""
    student, teacher = drawn(12, *shapes(name)[0]), drawn(62, *shapes(name)[1])
    assert np.abs(value(name, student + change, teacher) - value(name, student, teacher)).max() > 0.01


def test_attention_knows_no_scale_and_no_order_of_channels() -> None:
    student, teacher = drawn(13, 3, 2, 3, 4), drawn(63, 3, 5, 6, 8)
    plain = value("attention", student, teacher)
    np.testing.assert_allclose(value("attention", 9 * student[:, ::-1], 0.2 * teacher[:, [4, 2, 0, 1, 3]]), plain)


def test_an_anomaly_map_knows_no_scale_at_any_place() -> None:
    student, teacher, scale = drawn(14, 3, 4, 2, 3), drawn(64, 3, 4, 2, 3), np.exp(drawn(15, 3, 1, 2, 3))
    np.testing.assert_allclose(
        value("feature_map", student * scale, teacher / scale), value("feature_map", student, teacher), rtol=1e-9
    )


# --- where rows coincide or say nothing --------------------------------------------------------------------------


def odd_batches() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    def with_row(row: int, seen: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.cat([seen[:row], other.reshape(1, *seen.shape[1:]), seen[row + 1 :]])

    return {
        "two identical rows": lambda seen: with_row(1, seen, seen[0]),
        "identical rows": lambda seen: seen[:1].repeat(len(seen), *[1] * (seen.ndim - 1)),
        "a row of zeros": lambda seen: with_row(2, seen, torch.zeros_like(seen[0])),
        "zeros": torch.zeros_like,
    }


@pytest.mark.parametrize("batch", list(odd_batches()))
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
@pytest.mark.parametrize("name", [*VECTORS, *MAPS])
def test_where_rows_coincide_or_say_nothing_no_gradient_explodes(name: str, whose: str, batch: str) -> None:
    """One such row must not outweigh a training: what has no direction gets no push, instead of one over an epsilon."""
    mine, wanted = shapes(name)
    student, teacher = torch.tensor(drawn(16, *mine)).float(), torch.tensor(drawn(66, *wanted)).float()
    change = odd_batches()[batch]
    student = (change(student) if whose != "teacher" else student).requires_grad_()
    teacher = change(teacher) if whose != "student" else teacher
    values = (VECTORS | MAPS)[name][0](student, teacher)  # type: ignore[operator]
    values.mean().backward()
    assert student.grad is not None
    assert torch.isfinite(values).all()
    assert float(student.grad.norm()) < 100
