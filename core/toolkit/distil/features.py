"""Losses of knowledge distillation on features and relations: pure functions, one value a row, each with its source."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

NOTHING = 1e-24
"""The squared length of a vector without a direction."""

ROUNDING = 1e-12
"""The same of a difference of features: what is left of equal ones."""


def feature_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine between the student's projected features and the teacher's: a hint (FitNets, Romero et al.
    2015, arXiv 1412.6550) that does not depend on the features' scale.

    Args:
        student, teacher: [n, d]; no gradient flows to the teacher.

    Returns:
        [n], from 0 to 2.
    """
    return 1 - (_directions(student) * _directions(teacher.detach())).sum(dim=-1)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference over dimensions (FitNets, arXiv 1412.6550).

    Args:
        student, teacher: [n, d]; no gradient flows to the teacher.

    Returns:
        [n].
    """
    return (student - teacher.detach()).square().mean(dim=-1)


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently the two see the batch's rows resemble one another: the squared differences of their
    row-normalised Gram matrices (Tung and Mori 2019, arXiv 1907.09682), whose mean over rows is that paper's loss.

    Args:
        student: [n, d]; teacher: [n, e]; no gradient flows to the teacher.

    Returns:
        [n].
    """
    mine, wanted = (_directions(features @ features.T) for features in (student, teacher.detach()))
    return (mine - wanted).square().sum(dim=1) / len(student)


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the rows' distances to one another, each model's in units of its mean distance (RKD-D, Park
    et al. 2019, arXiv 1904.05068).

    Args:
        student: [n, d]; teacher: [n, e]; n of at least 2; no gradient flows to the teacher.

    Returns:
        [n], a row's mean over the other rows.
    """
    mine, wanted = _distances(student), _distances(teacher.detach())
    rows = len(student)
    return functional.huber_loss(mine, wanted, reduction="none").sum(dim=1) / (rows - 1)


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of the angles that every two rows make at a third (RKD-A, arXiv 1904.05068).

    Args:
        student: [n, d]; teacher: [n, e]; no gradient flows to the teacher. Takes n^3 numbers.

    Returns:
        [n], the mean over the angles at that row.
    """
    mine, wanted = _angles(student), _angles(teacher.detach())
    return functional.huber_loss(mine, wanted, reduction="none").mean(dim=(1, 2))


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the two attention maps, each the normalised sum of squared channels (Zagoruyko and Komodakis
    2017, arXiv 1612.03928).

    Args:
        student: [n, c, h, w]; teacher: [n, e, i, j], resized to h x w; no gradient flows to the teacher.

    Returns:
        [n], the mean over positions.
    """
    resized = functional.adaptive_avg_pool2d(teacher.detach(), (student.shape[2], student.shape[3]))
    mine, wanted = (_directions(maps.square().mean(dim=1).flatten(1)) for maps in (student, resized))
    return (mine - wanted).square().mean(dim=1)


def feature_map(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the channel vectors, normalised, at each position: a level of a student-teacher
    feature pyramid (STFPM, Wang et al. 2021, arXiv 2103.04257).

    Args:
        student, teacher: [n, c, h, w]; no gradient flows to the teacher.

    Returns:
        [n, h, w]: an anomaly map of each row; its mean over positions is the training loss.
    """
    mine, wanted = _directions(student, dim=1), _directions(teacher.detach(), dim=1)
    return 0.5 * (mine - wanted).square().sum(dim=1)


def _directions(vectors: Tensor, dim: int = -1, nothing: float = NOTHING) -> Tensor:
    """Each vector over its length. One without a length stays as it is and gets no gradient: it has no direction to
    turn to, and one over an epsilon would outweigh all others."""
    squared = vectors.square().sum(dim=dim, keepdim=True)
    there = squared > nothing
    return torch.where(there, vectors * torch.where(there, squared, 1.0).rsqrt(), 0.0)


def _distances(features: Tensor) -> Tensor:
    """Euclidean [n, n], divided by the mean over pairs of different rows; its gradient is finite where rows agree."""
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    rows = len(features)
    return distances / (distances.sum() / (rows * (rows - 1))).clamp(min=1e-12)


def _angles(features: Tensor) -> Tensor:
    """[n, n, n]: at row i, the cosine of the angle between the ways to rows j and k."""
    ways = _directions(features.unsqueeze(0) - features.unsqueeze(1), nothing=ROUNDING)
    return ways @ ways.transpose(1, 2)
