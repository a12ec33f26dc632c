"""What can go wrong with a machined surface: scratch, pit, stain, crack, inclusion.

A flaw is a change of relief and of tint, where it lies, and how plainly it must show. It knows the surface it lies on,
for a scratch must cross the lay; it knows nothing of the light or the camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from toolkit_industry.sample_surface import WIDTH, Field, Surface, clouds, grid, lay_angle, ramp, rotate

_FINER = 4  # outlines are drawn this many times finer and averaged down, which makes their edges smooth


@dataclass(frozen=True)
class Flaw:
    """A flaw, all fields of shape (size, size).

    `relief` is added to the surface's, `tint` multiplies it; `mask` is where an eye would point to. `contrast` is the
    mean change inside the mask as a share of the picture's light; `above_lay` says how many standard deviations of the
    sound surface that must be at least.
    """

    relief: Field
    tint: Field
    mask: npt.NDArray[np.bool_]
    contrast: float
    above_lay: float


def scratch(rng: np.random.Generator, surface: Surface) -> Flaw:
    """A long, thin, slightly curved furrow with raised flanks that crosses the lay; sometimes two side by side."""
    size = surface.relief.shape[0]
    x, y = grid(size)
    row, column = rng.integers(int(0.3 * size), int(0.7 * size), 2)
    angle = lay_angle(surface, row, column) + rng.choice((-1.0, 1.0)) * rng.uniform(0.6, math.pi / 2)
    along, across = rotate(x - x[row, column], y - y[row, column], angle)
    length, sag, width = rng.uniform(100.0, 220.0), rng.uniform(-15.0, 15.0), rng.uniform(0.8, 1.5)
    shine = rng.choice((-0.30, 0.45), p=(0.3, 0.7))
    relief, furrows = np.zeros_like(x), np.zeros_like(x)
    for offset in (0.0, rng.uniform(4.0, 9.0))[: 1 + int(rng.uniform() < 0.3)]:
        bow = 2.0 * sag / length
        place = (along + 3.0 * offset) / (length / 2)
        distance = (across - offset - sag * place**2) / np.sqrt(1.0 + (2.0 * bow * place) ** 2) / width
        pressure = ramp((1.0 - np.abs(place)) * 4.0) * np.interp(place, np.linspace(-1, 1, 12), rng.uniform(0.6, 1, 12))
        furrow = pressure * np.exp(-(distance**2))
        burr = pressure * np.exp(-((np.abs(distance) - 1.7) ** 2))
        relief += width * (0.5 * burr - furrow)
        furrows = np.maximum(furrows, furrow)
    return Flaw(0.45 * relief, 1.0 + shine * furrows, furrows > 0.3, rng.uniform(0.24, 0.5), 3.0)


def pit(rng: np.random.Generator, surface: Surface) -> Flaw:
    """A cluster of small round dimples, each shaded by the light and darker at its bottom."""
    x, y = grid(surface.relief.shape[0])
    spread = rng.uniform(11.0, 26.0)
    centre = rng.uniform(-40.0, 40.0, 2)
    relief, floor = np.zeros_like(x), np.zeros_like(x)
    for radius in rng.uniform(2.2, 5.2, rng.integers(8, 22)):
        centre_x, centre_y = np.clip(centre + spread * rng.standard_normal(2), -WIDTH / 2 + 6, WIDTH / 2 - 6)
        bowl = np.maximum(1.0 - ((x - centre_x) ** 2 + (y - centre_y) ** 2) / radius**2, 0.0)
        relief = np.minimum(relief, -0.3 * radius * bowl)
        floor = np.maximum(floor, bowl)
    return Flaw(relief, 1.0 - 0.45 * ramp(1.5 * floor), floor > 0.1, rng.uniform(0.22, 0.42), 3.0)


def stain(rng: np.random.Generator, surface: Surface) -> Flaw:
    """A film that dried: an irregular soft-edged darkening, often with a darker rim and a drop or two beside it."""
    size = surface.relief.shape[0]
    x, y = grid(size)
    warp = 0.26 * clouds(rng, size, 22.0) + 0.09 * clouds(rng, size, 7.0)
    centre, reach = rng.uniform(-38.0, 38.0, 2), rng.uniform(20.0, 48.0)
    inside = np.full_like(x, -np.inf)
    for share in (1.0, *rng.uniform(0.2, 0.5, rng.integers(3))):
        centre_x, centre_y = centre + (share < 1.0) * reach * rng.uniform(-1.6, 1.6, 2)
        u, v = rotate(x - centre_x, y - centre_y, rng.uniform(0.0, math.pi))
        stretch = rng.uniform(1.0, 1.7)
        inside = np.maximum(inside, share * (1.0 - np.hypot(u / stretch, v * stretch) / (share * reach)))
    inside += warp
    film = ramp(inside / rng.uniform(0.2, 0.6))
    rim = film * np.exp(-(((inside - 0.2) / 0.12) ** 2))
    cloud = 1.0 + 0.15 * clouds(rng, size, 14.0)
    tint = 1.0 - 0.3 * (film * cloud + rng.uniform(0.2, 0.9) * rim)
    return Flaw(np.zeros_like(x), tint, film > 0.4, rng.uniform(0.16, 0.36), 2.0)


def crack(rng: np.random.Generator, surface: Surface) -> Flaw:
    """A dark, thin, jagged and branching line: a random walk that keeps its heading, with walks that leave it."""
    trunk = _walk(rng, rng.uniform(0.0, 2.0 * math.pi), rng.uniform(70.0, 140.0))
    trunk += rng.uniform(-25.0, 25.0, 2) - trunk.mean(axis=0)
    width = rng.uniform(1.2, 2.2)
    ribbons = [_ribbon(rng, trunk, width)]
    for fork in rng.integers(len(trunk) // 5, 4 * len(trunk) // 5, rng.integers(2, 5)):
        step_x, step_y = trunk[fork + 1] - trunk[fork]
        heading = math.atan2(step_y, step_x) + rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.1)
        ribbons.append(_ribbon(rng, trunk[fork] + _walk(rng, heading, rng.uniform(18.0, 50.0)), 0.75 * width))
    gap = _filled(surface.relief.shape[0], ribbons)
    return Flaw(-0.1 * gap, 1.0 - 0.8 * gap, gap > 0.35, rng.uniform(0.3, 0.6), 3.0)


def inclusion(rng: np.random.Generator, surface: Surface) -> Flaw:
    """Angular foreign particles, stretched and strung out along the direction in which the metal was rolled."""
    size = surface.relief.shape[0]
    rolling, centre = rng.uniform(0.0, math.pi), rng.uniform(-38.0, 38.0, 2)
    frame = np.array(((math.cos(rolling), math.sin(rolling)), (-math.sin(rolling), math.cos(rolling))))
    particles: list[Field] = []
    for length in (rng.uniform(8.0, 14.0), *rng.uniform(4.0, 10.0, rng.integers(1, 6))):
        corners = rng.integers(5, 9)
        turns = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2.0 * math.pi / corners)
        outline = np.stack((np.cos(turns), rng.uniform(0.25, 0.42) * np.sin(turns)), axis=1)
        outline *= length * rng.uniform(0.7, 1.15, (corners, 1))
        particles.append(centre + (outline + rng.normal(0.0, (18.0, 3.5)) * bool(particles)) @ frame)
    body = _filled(size, particles)
    shade = rng.choice((-0.55, 0.6), p=(0.75, 0.25)) * (1.0 + 0.25 * clouds(rng, size, 2.5))
    return Flaw(0.3 * body, 1.0 + shade * body, body > 0.5, rng.uniform(0.32, 0.6), 3.0)


def _walk(rng: np.random.Generator, heading: float, length: float) -> Field:
    """The corners (n, 2) of a jagged walk from the origin in steps of about four units."""
    steps = rng.uniform(2.5, 5.5, max(4, round(length / 4.0)))
    drift = np.cumsum(rng.normal(0.0, 0.12, len(steps)))
    turns = heading + drift + rng.normal(0.0, 0.55, len(steps))
    corners = np.cumsum(steps[:, None] * np.stack((np.cos(turns), np.sin(turns)), axis=1), axis=0)
    return np.vstack((np.zeros((1, 2)), corners))


def _ribbon(rng: np.random.Generator, corners: Field, width: float) -> Field:
    """The outline (2n, 2) of a line through `corners` whose width wavers and runs out towards its end."""
    step_x, step_y = np.gradient(corners, axis=0).T
    normal = np.stack((-step_y, step_x), axis=1) / np.hypot(step_x, step_y)[:, None]
    half = 0.5 * width * rng.uniform(0.7, 1.4, len(corners)) * np.linspace(1.2, 0.5, len(corners))
    return np.vstack((corners + half[:, None] * normal, (corners - half[:, None] * normal)[::-1]))


def _filled(size: int, outlines: Sequence[Field]) -> Field:
    """How much of each pixel the polygons cover, 0 to 1; outlines are (n, 2) points in units."""
    canvas = Image.new("L", (size * _FINER, size * _FINER))
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        pixels = (outline / WIDTH + 0.5) * (size * _FINER) - 0.5
        pen.polygon([(float(x), float(y)) for x, y in pixels], fill=255)
    return np.asarray(canvas.reduce(_FINER), dtype=np.float64) / 255.0


FLAWS: Mapping[str, Callable[[np.random.Generator, Surface], Flaw]] = MappingProxyType(
    {"scratch": scratch, "pit": pit, "stain": stain, "crack": crack, "inclusion": inclusion}
)
