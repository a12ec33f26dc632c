"""Pyramids of features, and what makes a detector of them: how far each place lies from all that good parts show.

A pyramid maps float32 pixels [n, channels, size, size] to feature maps, finest first. A student learns its teacher's
maps of good parts; what it cannot foretell was not among them (STFPM, Wang et al. 2021, arXiv 2103.04257). A place is
described by the maps around it, joined at the finest grid. What good parts show at a place is a Gaussian (PaDiM, Defard
et al. 2021, arXiv 2011.08785, with a covariance a place; here neighbouring places share one, which needs a sixteenth of
the pictures and of the memory), and a score is the Mahalanobis distance from it over what is usual at that place, in
units of the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from toolkit.tasks.image_classification.network import Block, normalise, unit

SHRINKAGE = 0.01
"""Of the covariance towards its mean variance: directions in which good parts never vary say little, and the rounding
of a quantised model lies in them."""

STEADY = 10
"""Good pictures that the mean over all places counts as, in what is usual at one: few say little of a place."""

REGION = 4
"""Places a side that share a covariance. Grids are multiples of it, as pictures are of 32 pixels."""

STEADY_PLACES = 300
"""Good places that the covariance over all regions counts as, in that of one."""

STEEPNESS = 8.0
"""Of the score turned into a share between 0 and 1. It says which pictures are called, never how likely a defect is."""


class PyramidNet(nn.Module):
    """A student: the stem and blocks of a student of pictures, seen after some of its blocks."""

    def __init__(self, *, channels: int, stem: int, blocks: Sequence[Sequence[int]], seen: Sequence[int]) -> None:
        super().__init__()
        self.stem = unit(nn.Conv2d(channels, stem, 7, 4, 3, bias=False))
        widths = [stem, *(width for width, _ in blocks)]
        self.blocks = nn.ModuleList(
            Block(before, width, stride) for before, (width, stride) in zip(widths, blocks, strict=False)
        )
        self.seen = tuple(seen)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features, maps = self.stem(normalise(pixels)), []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.seen:
                maps.append(features)
        return tuple(maps)


class Foretelling(nn.Module):
    """A student's pyramid in its teacher's channels: what it expects the teacher to see."""

    def __init__(self, trunk: nn.Module, widths: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Conv2d(width, wide, 1) for width, wide in zip(widths, channels, strict=True))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(head(level) for head, level in zip(self.heads, self.trunk(pixels), strict=True))


class Standard(nn.Module):
    """A teacher's levels [n, c_i, h_i, w_i] in units of each channel's own deviation over good parts, so that the few
    channels that are large do not make the directions."""

    centres: Tensor
    spreads: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.register_buffer("centres", torch.zeros(sum(channels)))
        self.register_buffer("spreads", torch.ones(sum(channels)))

    @classmethod
    def of(cls, levels: Sequence[Tensor]) -> Standard:
        """That of these good parts."""
        standard = cls([level.shape[1] for level in levels])
        standard.centres.copy_(torch.cat([level.mean(dim=(0, 2, 3)) for level in levels]))
        standard.spreads.copy_(torch.cat([level.std(dim=(0, 2, 3)) for level in levels]).clamp(min=1e-6))
        return standard

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        found, first = [], 0
        for level, wide in zip(levels, self.channels, strict=True):
            centre, spread = (one[first : first + wide].view(1, -1, 1, 1) for one in (self.centres, self.spreads))
            found.append((level - centre) / spread)
            first += wide
        return tuple(found)


class Surprise(nn.Module):
    """Teacher and student side by side: level by level, the teacher's direction less the one that was foretold."""

    def __init__(self, teacher: nn.Module, student: nn.Module, standard: Standard) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.standard = standard

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return surprises(self.standard(self.teacher(pixels)), self.student(pixels))


def surprises(seen: Sequence[Tensor], foretold: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Differences of directions, place by place: of levels [n, c_i, h_i, w_i] in units of their deviation."""
    return tuple(
        functional.normalize(mine, dim=1) - functional.normalize(theirs, dim=1)
        for mine, theirs in zip(seen, foretold, strict=True)
    )


class TeacherPyramid(nn.Module):
    """A pretrained network seen at some of its layers, by their dotted names, finest first."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(layers)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}

        def keep(name: str) -> torch.utils.hooks.RemovableHandle:
            layer = self.network.get_submodule(name)
            return layer.register_forward_hook(lambda module, given, said: found.update({name: said}))

        handles = [keep(name) for name in self.layers]
        try:
            self.network(pixels)
        finally:
            for handle in handles:
                handle.remove()
        return tuple(found[name] for name in self.layers)


class Detector(nn.Module):
    """Feature maps [n, c_i, h_i, w_i] to `map` [n, h, w], at the finest grid, and `probabilities` [n, 2], of a defect
    and of a good part: above the limit, 1.0 in the map, a defect is likelier. A picture scores as its strangest place.
    """

    centre: Tensor
    whiten: Tensor
    usual: Tensor
    limit: Tensor
    least: Tensor

    def __init__(self, width: int, places: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width, *places))
        self.register_buffer("whiten", torch.eye(width).repeat(places[0] * places[1] // REGION**2, 1, 1))
        self.register_buffer("usual", torch.ones(places))
        self.register_buffer("limit", torch.ones(()))
        self.register_buffer("least", torch.tensor(1e-6), persistent=False)

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        found = self.distances(maps) / self.limit
        highest = torch.maximum(found.flatten(1).amax(dim=1), self.least)  # a quantiser would take a clamp for its own
        strange = torch.sigmoid(STEEPNESS * highest.log())
        return torch.stack([strange, 1 - strange], dim=1), found

    def size(self) -> int:
        """Numbers that it was fitted with."""
        return self.centre.numel() + self.whiten.numel() + self.usual.numel()

    def distances(self, maps: Sequence[Tensor]) -> Tensor:
        """Mahalanobis distances [n, h, w], over the root of the number of dimensions and what is usual at a place."""
        whitened = by_region(joined(maps) - self.centre) @ self.whiten
        height, width = self.usual.shape
        squares = whitened.square().mean(dim=2)
        cells = squares.reshape(height // REGION, width // REGION, -1, REGION, REGION).permute(2, 0, 3, 1, 4)
        return cells.reshape(-1, height, width).sqrt() / self.usual


def joined(maps: Sequence[Tensor]) -> Tensor:
    """[n, sum of c_i, h, w]: each level smoothed over its neighbours, brought to the finest grid."""
    smooth = [functional.avg_pool2d(level, 3, 1, 1, count_include_pad=False) for level in maps]
    height, width = smooth[0].shape[2:]
    rest = [
        functional.interpolate(level, (height, width), mode="bilinear", align_corners=False) for level in smooth[1:]
    ]
    return torch.cat([smooth[0], *rest], dim=1)


def by_region(places: Tensor) -> Tensor:
    """[n, c, h, w] to [regions, n * REGION^2, c]."""
    channels, height, width = places.shape[1:]
    cells = places.reshape(-1, channels, height // REGION, REGION, width // REGION, REGION)
    return cells.permute(2, 4, 0, 3, 5, 1).reshape(height * width // REGION**2, -1, channels)


class DetectingNet(nn.Module):
    """A pyramid and the detector on top: float32 pixels [n, channels, size, size] to what a Detector gives."""

    def __init__(self, pyramid: nn.Module, detector: Detector) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        said: tuple[Tensor, Tensor] = self.detector(*self.pyramid(pixels))
        return said


OUTPUTS = ("probabilities", "map")
"""Names of what a DetectingNet gives."""


@torch.no_grad()
def fit_detector(good: Callable[[], Iterable[Sequence[Tensor]]]) -> Detector:
    """The Gaussians of good places, and what is usual at each, from feature maps batch by batch, which are gone through
    twice; its limit is 1 still."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for maps in good():
        places = joined(maps).double()
        regions = by_region(places)
        count, total = count + len(places), total + places.sum(dim=0)
        products = products + regions.transpose(1, 2) @ regions
    mean = total / count
    width, size = len(mean), (mean.shape[1], mean.shape[2])
    centre = (total + STEADY * mean.mean(dim=(1, 2), keepdim=True)) / (count + STEADY)
    detector = Detector(width, size)
    detector.centre.copy_(centre)
    detector.whiten.copy_(_whitening(products, mean, centre, count))
    pictures, usual = 0, torch.zeros(size)
    for maps in good():
        distances = detector.distances(maps)
        pictures, usual = pictures + len(distances), usual + distances.sum(dim=0)
    usual = (usual + STEADY * usual.mean() / pictures) / (pictures + STEADY)
    detector.usual.copy_(usual.clamp(min=1e-6))
    return detector.eval()


def _whitening(products: Tensor, mean: Tensor, centre: Tensor, count: int) -> Tensor:
    """[regions, c, c]: what places less their centre are multiplied by, from the right, for a Mahalanobis distance.

    Args:
        products: [regions, c, c], the sums of the places' outer products.    mean, centre: [c, h, w].
        count: pictures.
    """
    middle, moved = by_region(mean[None]), by_region((mean - centre)[None])
    about_centre = products + count * (moved.transpose(1, 2) @ moved - middle.transpose(1, 2) @ middle)
    number, width = count * REGION**2, len(mean)
    shared = about_centre.mean(dim=0) / number
    covariance = (about_centre + STEADY_PLACES * shared) / (number + STEADY_PLACES)
    spread, eye = shared.diagonal().mean().clamp(min=1e-12), torch.eye(width, dtype=torch.double)
    # With covariance = L L^T, |L^-1 d| is the Mahalanobis distance of d; rows of places are multiplied from the left.
    lower = torch.linalg.cholesky(covariance + SHRINKAGE * spread * eye)
    inverse: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False)
    return inverse.transpose(1, 2)


@torch.no_grad()
def highest(detector: Detector, pictures: Iterable[Sequence[Tensor]]) -> Tensor:
    """The distance of each picture's strangest place [n], from feature maps batch by batch."""
    return torch.cat([detector.distances(maps).flatten(1).amax(dim=1) for maps in pictures])


def limit_of(good: Tensor, overkill: float) -> float:
    """The limit that about a share `overkill` of good pictures will exceed, from the scores of good ones that were not
    learnt from: the conformal quantile (Vovk et al. 2005), never above the highest."""
    ranked = good.sort().values
    place = min(len(ranked), int(torch.ceil(torch.tensor((len(ranked) + 1) * (1 - overkill)))))
    return float(ranked[place - 1].clamp(min=1e-6))
