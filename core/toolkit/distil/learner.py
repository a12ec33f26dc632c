"""A model while it learns: beside its logits, what its last layer is given, in its teacher's width where one asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

from toolkit.distil.objectives import Outputs
from toolkit.errors import PlanError

Value = TypeVar("Value")


class Learner(nn.Module):
    """A student, and a projection to its teacher's features that is trained beside it and never shipped.

    Args:
        head: dotted name of the student's last layer; empty for its last `torch.nn.Linear`.
        width: of the teacher's features; 0 where no objective looks at features.
    """

    def __init__(self, student: nn.Module, head: str = "", width: int = 0) -> None:
        super().__init__()
        self.student = student
        self.head = last_layer(student, head) if width or head else ""
        self.projection = nn.Linear(_feature_width(student, self.head), width) if width else None

    def forward(self, inputs: Tensor) -> Outputs:
        if self.projection is None:
            return Outputs(self.student(inputs))
        logits, features = with_features(self.student, self.head, inputs)
        return Outputs(logits, features, self.projection(features))

    def within(self, do: Callable[[], Value]) -> Value:
        """What `do` returns. A learner that is sharded has all its weights together meanwhile, as in `forward`."""
        return do()


def decay_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups for AdamW: matrices and kernels decay, vectors do not; what is frozen is neither."""
    learnt = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in learnt if p.ndim > 1]},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]


class WithFeatures(nn.Module):
    """A trained network that answers with `logits` [n, k] and `features` [n, d]: what a label store is filled from."""

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return with_features(self.network, self.head, inputs)


def with_features(network: nn.Module, head: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [n, k], and what the layer `head` was given to make them [n, d].

    Raises:
        PlanError: the network does not use that layer.
    """
    seen: list[Tensor] = []
    handle = network.get_submodule(head).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        logits: Tensor = network(inputs)
    finally:
        handle.remove()
    if not seen:
        raise PlanError(
            f"{type(network).__name__} never asks its layer {head}, so that shows no features",
            hint="Name the layer that makes the logits as `head` of its spec.",
        )
    return logits, seen[-1].flatten(1)


def last_layer(network: nn.Module, named: str = "") -> str:
    """The dotted name of a network's last linear layer, or of the one that is `named`.

    Raises:
        PlanError: there is none, or it is not linear, so that its input has no width to speak of.
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    name = named or (linear[-1] if linear else "")
    if name not in linear:
        raise PlanError(
            f"{type(network).__name__} has no linear layer {named or 'at its end'}, so it shows no features",
            hint="Name its last torch.nn.Linear as `head` of its spec, or choose a recipe without features.",
        )
    return name


def _feature_width(network: nn.Module, head: str) -> int:
    last = network.get_submodule(head)
    assert isinstance(last, nn.Linear)
    return last.in_features
