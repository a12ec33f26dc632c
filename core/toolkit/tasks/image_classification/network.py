"""The student's network: a wide first stride, then depthwise-separable blocks (MobileNet, arXiv 1704.04861)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FLAT = 8 / 255
"""Added to a picture's deviation, so that sensor noise on an even surface is not blown up."""

PHOTOGRAPH_MEAN, PHOTOGRAPH_DEVIATION = 0.45, 0.25
"""What ImageNet's pictures have, about, in 0..1."""


class DepthwiseSeparableNet(nn.Module):
    """Float32 [n, channels, size, size] to logits [n, classes].

    Each picture is first brought to zero mean and unit deviation: lamps age and exposures drift between the pictures a
    plant trains on and those it inspects. The stem covers 7x7 pixels at stride 4: the widest activation is a sixteenth
    of the picture, so that memory and time are spent on features, not on pixels. Every layer folds into plain
    convolutions when it is exported.
    """

    def __init__(self, *, channels: int, stem: int, blocks: Sequence[Sequence[int]], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [unit(nn.Conv2d(channels, stem, 7, 4, 3, bias=False))]
        width = stem
        for wider, stride in blocks:
            layers.append(Block(width, wider, stride))
            width = wider
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(normalise(pixels)).mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """A depthwise and a pointwise convolution, with a shortcut where nothing changes shape."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.depthwise = unit(nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False))
        self.pointwise = unit(nn.Conv2d(width, wider, 1, bias=False))
        self.shortcut = stride == 1 and width == wider

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.pointwise(self.depthwise(features))
        return features + found if self.shortcut else found


class PictureNormalised(nn.Module):
    """A pretrained network behind the same normalisation per picture as the student's: float32
    [n, 1 or 3, size, size] in 0..1 to its logits. Every picture reaches it with the mean and the deviation of an
    ordinary photograph, in the units that it was pretrained on; one channel becomes three equal ones."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        photograph = normalise(pixels) * PHOTOGRAPH_DEVIATION + PHOTOGRAPH_MEAN
        logits: Tensor = self.network((photograph - self.mean) / self.std)
        return logits


def normalise(pixels: Tensor) -> Tensor:
    """Zero mean and unit deviation a picture; a flat picture stays flat."""
    centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / (deviation + FLAT)


def unit(convolution: nn.Conv2d) -> nn.Sequential:
    """A convolution as every student's layer is made: batch norm and a rectifier after it."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
