"""Losses of knowledge distillation on answers: pure functions of tensors, one value a row, each with its source.

What a row is, the caller says: a picture, a series, or a token. Features and relations have files of their own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor


def hard_label(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the true label, in nats.

    Args:
        student_logits: [n, k].
        labels: class indices [n], or class probabilities [n, k] where rows were mixed.

    Returns:
        [n].
    """
    return functional.cross_entropy(student_logits, labels, reduction="none")


def response(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(p_teacher^T || p_student^T), the soft-label loss of Hinton et al. 2015 (arXiv 1503.02531), in nats.

    Args:
        student_logits, teacher_logits: [n, k]; no gradient flows to the teacher.
        temperature: divides both logits; the factor T^2 keeps the gradient's size independent of it.

    Returns:
        [n].
    """
    student = functional.log_softmax(student_logits / temperature, dim=-1)
    teacher = functional.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * torch.sum(teacher.exp() * (teacher - student), dim=-1)
