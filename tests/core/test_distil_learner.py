"""What a model shows while it learns, and that the projection beside it is never shipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from distil_parts import CLASSES, EVERYTHING, FEATURES, WIDTH, TinyBatches, one_thread, tiny_module, validate
from torch import nn

from toolkit.distil.learner import Learner, WithFeatures, last_layer, with_features
from toolkit.distil.lessons import BatchLesson
from toolkit.distil.loop import Schedule, fit
from toolkit.errors import PlanError

INPUTS = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


class Pictures(nn.Module):
    """A last layer with a name of its own, behind a pooling, and another linear layer that comes after it in order."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 5, 3)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(5, 2))
        self.auxiliary = nn.Linear(5, 9)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.pooled(inputs))
        return logits

    def pooled(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(inputs)).mean(dim=(2, 3))


def test_features_are_what_the_last_layer_is_given() -> None:
    module = tiny_module().eval()
    logits, features = with_features(module, "4", INPUTS)
    torch.testing.assert_close(features, module[:4](INPUTS), rtol=0, atol=0)
    torch.testing.assert_close(logits, module(INPUTS), rtol=0, atol=0)


def test_features_of_a_named_layer_are_what_that_layer_is_given() -> None:
    network, pictures = Pictures().eval(), torch.randn(3, 1, 8, 8)
    logits, features = with_features(network, "classifier.1", pictures)
    torch.testing.assert_close(features, network.pooled(pictures), rtol=0, atol=0)
    torch.testing.assert_close(logits, network(pictures), rtol=0, atol=0)


def test_what_a_label_store_is_filled_from_is_the_same_pair() -> None:
    module = tiny_module().eval()
    logits, features = WithFeatures(module, "4")(INPUTS)
    torch.testing.assert_close(logits, module(INPUTS), rtol=0, atol=0)
    torch.testing.assert_close(features, module[:4](INPUTS), rtol=0, atol=0)


def test_features_take_part_in_the_gradient() -> None:
    module = tiny_module().train()
    logits, features = with_features(module, "4", INPUTS)
    (slope,) = torch.autograd.grad(logits.sum(), features, retain_graph=True)
    torch.testing.assert_close(slope, module[4].weight.sum(0).expand(len(INPUTS), -1))
    features.sum().backward()
    assert module[0].weight.grad is not None
    assert module[4].weight.grad is None


def test_looking_leaves_nothing_behind_even_where_the_network_fails() -> None:
    module = tiny_module()
    with_features(module.eval(), "4", INPUTS)
    with pytest.raises(RuntimeError):
        with_features(module, "4", torch.randn(2, FEATURES + 1))
    assert not any(layer._forward_pre_hooks for layer in module.modules())


def test_a_layer_that_the_network_never_asks_is_said_to_show_nothing() -> None:
    network = Pictures()
    with pytest.raises(PlanError, match="auxiliary") as caught:
        with_features(network, "auxiliary", torch.randn(3, 1, 8, 8))
    assert caught.value.hint


def test_the_last_layer_is_the_last_linear_one_or_the_one_that_is_named() -> None:
    assert last_layer(tiny_module()) == "4"
    assert last_layer(Pictures()) == "auxiliary"
    assert last_layer(Pictures(), "classifier.1") == "classifier.1"
    assert last_layer(nn.Linear(3, 2)) == ""


@pytest.mark.parametrize(
    ("network", "named"),
    [(nn.Sequential(nn.Conv2d(1, 2, 3)), ""), (tiny_module(), "1"), (tiny_module(), "9"), (Pictures(), "classifier")],
)
def test_a_network_without_such_a_layer_shows_no_features(network: nn.Module, named: str) -> None:
    with pytest.raises(PlanError, match=named or "at its end") as caught:
        last_layer(network, named)
    assert type(network).__name__ in caught.value.message
    assert "head" in caught.value.hint
    with pytest.raises(PlanError):
        Learner(network, named, width=4)


def test_a_learner_shows_only_what_it_is_asked_for() -> None:
    outputs = Learner(tiny_module())(INPUTS)
    assert outputs.features is None
    assert outputs.projected is None
    outputs = Learner(tiny_module(), width=WIDTH)(INPUTS)
    assert (outputs.logits.shape, outputs.features.shape, outputs.projected.shape) == (
        (8, CLASSES), (8, 10), (8, WIDTH)
    )  # fmt: skip


def test_a_student_without_a_linear_layer_learns_where_nobody_looks_at_features() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert Learner(network)(torch.randn(2, 1, 5, 5)).logits.shape == (2, 2)


def test_projected_features_are_a_linear_map_of_the_features() -> None:
    learner = Learner(tiny_module(), width=WIDTH).eval()
    outputs = learner(INPUTS)
    assert learner.projection is not None
    weight, bias = learner.projection.weight, learner.projection.bias
    torch.testing.assert_close(outputs.projected, outputs.features @ weight.T + bias)


def test_the_students_first_weights_do_not_depend_on_a_projection() -> None:
    plain, projected = Learner(tiny_module(seed=4)), Learner(tiny_module(seed=4), width=WIDTH)
    assert plain.student.state_dict().keys() == projected.student.state_dict().keys()
    for name, weight in plain.student.state_dict().items():
        assert torch.equal(weight, projected.student.state_dict()[name]), name


def test_the_projection_is_trained_and_never_among_the_weights_that_are_picked(tmp_path: Path) -> None:
    learner = Learner(tiny_module(), width=WIDTH)
    assert learner.projection is not None
    before, modules = learner.projection.weight.detach().clone(), []

    def looked_at(module: nn.Module) -> object:
        modules.append(type(module))
        return validate(module)

    fitted = fit(
        learner, BatchLesson(TinyBatches(everything=True), EVERYTHING), Schedule(2, 0.02, 0.0),
        groups=[{"params": list(learner.parameters())}], validate=looked_at,  # type: ignore[arg-type]
        folder=tmp_path, report=lambda *_: None,
    )  # fmt: skip
    assert fitted.weights.keys() == tiny_module().state_dict().keys()
    assert modules == [nn.Sequential] * 2
    assert not torch.equal(before, learner.projection.weight)
    tiny_module().load_state_dict(fitted.weights)
