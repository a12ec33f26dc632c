"""The student's network: a wide first stride, then depthwise-separable blocks (MobileNet, arXiv 1704.04861)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

FLAT = 8 / 255
"""Added to a picture's deviation, so that sensor noise on an even surface is not blown up."""


class DepthwiseSeparableNet(nn.Module):
    """Float32 [n, channels, size, size] to logits [n, classes].

    Each picture is first brought to zero mean and unit deviation: lamps age and exposures drift between the pictures a
    plant trains on and those it inspects. The stem covers 7x7 pixels at stride 4: the widest activation is a sixteenth
    of the picture, so that memory and time are spent on features, not on pixels. Every layer folds into plain
    convolutions when it is exported.
    """

    def __init__(self, *, channels: int, stem: int, blocks: Sequence[Sequence[int]], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(nn.Conv2d(channels, stem, 7, 4, 3, bias=False))]
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
        self.depthwise = _unit(nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False))
        self.pointwise = _unit(nn.Conv2d(width, wider, 1, bias=False))
        self.shortcut = stride == 1 and width == wider

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.pointwise(self.depthwise(features))
        return features + found if self.shortcut else found


def normalise(pixels: Tensor) -> Tensor:
    """Zero mean and unit deviation a picture; a flat picture stays flat."""
    centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / (deviation + FLAT)


def _unit(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
