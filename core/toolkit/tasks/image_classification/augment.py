"""Views of training pictures: what a camera over a line might also have seen. A view is a pure function of
(seed, view, row), so that teacher and student look at the same pixels (Beyer et al. 2021, arXiv 2106.05237)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from toolkit.artifacts import Rows


@dataclass(frozen=True)
class Augmentation:
    """How far a view may stray. Surfaces have no up and down, so flips are free; turns are small, for a rolling
    direction means something. Light may change a lot: it does between the pictures one trains on and those to come."""

    smallest_crop: float = 0.6  # share of the area
    stretch: float = 0.1  # log of the aspect ratio
    rotation: float = 10.0  # degrees
    brightness: float = 0.3  # added, of the white point
    contrast: float = 0.5  # factor about the picture's mean, less one
    mixup: float = 0.0  # share of rows blended with another one


@dataclass(frozen=True)
class Views:
    """Training pictures in memory, uint8 [n, channels, side, side], and their views."""

    pictures: Tensor
    seed: int
    augmentation: Augmentation

    def render(self, rows: Tensor, view: int, size: int) -> Tensor:
        """Float32 [b, channels, size, size] in 0..1 of `rows` [b] under `view`."""
        draw = self._draw(view)
        pixels = self._render(rows, draw, size)
        share = draw["share"][rows]
        if bool((share > 0).any()):
            other = self._render(draw["partner"][rows], draw, size)
            pixels = torch.lerp(pixels, other, share.view(-1, 1, 1, 1))
        return pixels

    def mixed_labels(self, rows: Tensor, view: int, one_hot: Tensor) -> Tensor:
        """The labels of that view, float32 [b, classes]: blended as the pixels are. `one_hot` is [n, classes]."""
        draw = self._draw(view)
        return torch.lerp(one_hot[rows], one_hot[draw["partner"][rows]], draw["share"][rows].unsqueeze(1))

    def _render(self, rows: Tensor, draw: dict[str, Tensor], size: int) -> Tensor:
        source = self.pictures[rows].float().div_(255)
        grid = sampling_grid(draw["affine"][rows], size)
        pixels = functional.grid_sample(source, grid, padding_mode="reflection", align_corners=False)
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        gain, offset = draw["gain"][rows].view(-1, 1, 1, 1), draw["offset"][rows].view(-1, 1, 1, 1)
        return ((pixels - mean) * gain + mean + offset).clamp_(0, 1)

    def _draw(self, view: int) -> dict[str, Tensor]:
        return draw_parameters(len(self.pictures), self.seed, view, self.augmentation)


def sampling_grid(affine: Tensor, size: int) -> Tensor:
    """Where each pixel of a view lies in its picture: float32 [b, size, size, 2] in -1..1.

    What functional.affine_grid gives without aligned corners, by broadcasting, in half its time.
    """
    steps = (torch.arange(size) * 2.0 + 1) / size - 1
    column, row = affine[:, :, 0], affine[:, :, 1]
    grid = row[:, None, None] * steps[None, :, None, None] + column[:, None, None] * steps[None, None, :, None]
    return grid + affine[:, None, None, :, 2]


@functools.lru_cache(maxsize=4)
def draw_parameters(rows: int, seed: int, view: int, augmentation: Augmentation) -> dict[str, Tensor]:
    """Every row's parameters under one view."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + view) % 2**63)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(rows).uniform_(low, high, generator=generator)

    side = uniform(augmentation.smallest_crop, 1.0).sqrt()
    stretch = uniform(-augmentation.stretch, augmentation.stretch).exp()
    width, height = (side * stretch).clamp(max=1.0), (side / stretch).clamp(max=1.0)
    angle = uniform(-augmentation.rotation, augmentation.rotation) * (math.pi / 180)
    flip = torch.randint(0, 2, (2, rows), generator=generator) * 2.0 - 1.0
    shift_x, shift_y = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
    row_x = torch.stack([width * flip[0] * angle.cos(), -width * flip[0] * angle.sin(), shift_x], dim=1)
    row_y = torch.stack([height * flip[1] * angle.sin(), height * flip[1] * angle.cos(), shift_y], dim=1)
    mixed = uniform(0, 1) < augmentation.mixup
    return {
        "affine": torch.stack([row_x, row_y], dim=1),
        "gain": 1 + uniform(-augmentation.contrast, augmentation.contrast),
        "offset": uniform(-augmentation.brightness, augmentation.brightness),
        "partner": torch.randperm(rows, generator=generator),
        "share": uniform(0, 0.5) * mixed,
    }


@functools.lru_cache(maxsize=2)
def shuffled(rows: int, seed: int, epoch: int) -> Tensor:
    """The order of the rows in one epoch, int64 [rows]."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed((seed + 1) * 7919 + epoch))


def stack_pictures(rows: Rows, side: int) -> Tensor:
    """All pictures of a split, resized as the shipped graph resizes them: uint8 [n, channels, side, side]."""
    return torch.cat([resize(row.inputs["image"][None], side).round().clamp(0, 255).byte() for row in rows])


def resize(images: np.ndarray, side: int) -> Tensor:
    """Antialiased bilinear resize of uint8 [n, h, w, c] to float32 [n, c, side, side], in 0..255."""
    planes = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return functional.interpolate(planes, (side, side), mode="bilinear", antialias=True, align_corners=False)


def label_indices(labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Class names to indices, int64 [n]."""
    index = {name: position for position, name in enumerate(classes)}
    return torch.tensor([index[label] for label in labels], dtype=torch.int64)
