"""Machined metal as a relief: what the tool left behind and what lies harmlessly on it.

A surface is a *lay*, the coordinates across and along the path of the tool, and a *profile* over them. Lengths are in
units: a picture is 160 units wide, whatever its pixels. This module knows nothing of flaws, light or cameras.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]

WIDTH = 160.0
"""The width of every picture in units."""


@dataclass(frozen=True)
class Part:
    """How one part was machined.

    `direction` of the lay in radians; `radius` of its arcs and `pitch` of its grooves in units; `slope` is the root
    mean square of the relief's slope (no unit); `wear` is how unevenly the tool cut, 0 to 1.
    """

    process: str
    direction: float
    radius: float
    pitch: float
    slope: float
    wear: float


@dataclass(frozen=True)
class Surface:
    """A part's face, all fields of shape (size, size).

    `relief` in units of height; `tint` multiplies the light that comes back; `across` and `along` are the lay's
    coordinates in units.
    """

    relief: Field
    tint: Field
    across: Field
    along: Field


def grid(size: int) -> tuple[Field, Field]:
    """The x and y of every pixel's centre in units, the origin in the middle of the picture."""
    x, y = np.meshgrid(_ticks(size), _ticks(size))
    return x, y


def rotate(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Coordinates along and across a direction of `angle` radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def ramp(t: Field) -> Field:
    """0 below 0, 1 above 1, and a smooth cubic between (Hermite)."""
    return _eased(np.clip(t, 0.0, 1.0))


def slopes(relief: Field) -> tuple[Field, Field]:
    """The relief's slope along x and along y."""
    spacing = WIDTH / relief.shape[0]
    along_x: Field = np.gradient(relief, spacing, axis=1)
    along_y: Field = np.gradient(relief, spacing, axis=0)
    return along_x, along_y


def value_noise(rng: np.random.Generator, u: Field, v: Field) -> Field:
    """A smooth random field over coordinates counted in cells: normal knots, cubic ramps between them.

    Source: value noise, as in Ebert et al., Texturing and Modeling, ch. 2.
    """
    row, column = np.floor(u), np.floor(v)
    a, b = _eased(u - row), _eased(v - column)
    i, j = (row - row.min()).astype(np.intp), (column - column.min()).astype(np.intp)
    width = int(j.max()) + 2
    knots = rng.standard_normal((int(i.max()) + 2) * width)
    corner = i * width + j
    near: Field = knots[corner] * (1.0 - b) + knots[corner + 1] * b
    far: Field = knots[corner + width] * (1.0 - b) + knots[corner + width + 1] * b
    return near * (1.0 - a) + far * a


def clouds(rng: np.random.Generator, size: int, cell: float) -> Field:
    """Value noise over square cells of `cell` units along the picture's edges, within two standard deviations.

    The same field as `value_noise` gives, but a product of two narrow matrices, which is many times quicker.
    """
    down, across = (_between_knots(size, cell, phase) for phase in rng.uniform(size=2))
    knots = rng.standard_normal((down.shape[1], across.shape[1]))
    return down @ np.clip(knots, -2.0, 2.0) @ across.T


def machine(part: Part, rng: np.random.Generator, size: int) -> Surface:
    """Cut the surface of `part`, leave the harmless marks that good parts have too, and let some dust settle."""
    x, y = grid(size)
    across, along = _LAYS[part.process](part, x, y)
    profile = _PROFILES[part.process](part, rng, across, along)
    profile *= 1.0 + 0.35 * part.wear * clouds(rng, size, 55.0)
    steepness = math.sqrt(sum(float(np.mean(slope**2)) for slope in slopes(profile)))
    relief = profile * (part.slope / steepness) + 0.18 * clouds(rng, size, 40.0)
    if part.process != "blasted":
        relief += _tool_marks(rng, across, along)
    return Surface(relief, _mottle(rng, size) * _dust(rng, size), across, along)


def draw_part(rng: np.random.Generator) -> Part:
    """A part as it may come down the line, every process equally likely."""
    process = PROCESSES[rng.integers(len(PROCESSES))]
    finest, coarsest = {"milled": (5.5, 11.0), "turned": (3.5, 8.0)}.get(process, (0.8, 1.5))
    return Part(
        process=process,
        direction=rng.uniform(0.0, 2.0 * math.pi),
        radius=rng.uniform(WIDTH, 2.7 * WIDTH),
        pitch=rng.uniform(finest, coarsest),
        slope=rng.uniform(0.03, 0.10),
        wear=rng.uniform(0.1, 1.0),
    )


def lay_angle(surface: Surface, row: int, column: int) -> float:
    """The direction of the lay at one pixel, in radians."""
    along_x, along_y = slopes(surface.across)
    return math.atan2(float(along_y[row, column]), float(along_x[row, column])) + math.pi / 2


def _straight(part: Part, x: Field, y: Field) -> tuple[Field, Field]:
    along, across = rotate(x, y, part.direction)
    return across, along


def _feed_arcs(part: Part, x: Field, y: Field) -> tuple[Field, Field]:
    """A cutter of `radius` fed along `direction`: the same arc again and again, one pitch further."""
    feed, along = rotate(x, y, part.direction)
    return feed - np.sqrt(part.radius**2 - along**2) + part.radius, along


def _rings(part: Part, x: Field, y: Field) -> tuple[Field, Field]:
    """Rings about the axis of a lathe, which lies outside the picture at `radius`."""
    feed, side = rotate(x, y, part.direction)
    return np.hypot(feed + part.radius, side), part.radius * np.arctan2(side, feed + part.radius)


def _cusps(part: Part, rng: np.random.Generator, across: Field, along: Field) -> Field:
    """Parabolic grooves with level crests between them; no two passes are fed equally far or cut equally deep."""
    feed = 0.4 * value_noise(rng, across / (2.2 * part.pitch), along / 120)
    passes = across / part.pitch + feed + rng.uniform()
    number = np.floor(passes)
    groove = (number - number.min()).astype(np.intp)
    depth = 1.0 + 0.45 * part.wear * rng.uniform(-1.0, 1.0, int(groove.max()) + 1)
    off_centre = (2.0 * (passes - number) - 1.0) ** 2
    scallop: Field = part.pitch * depth[groove] * (off_centre - off_centre**3 / 3.0 - 2.0 / 3.0)
    return scallop + 0.5 * value_noise(rng, across / 1.3, along / 35)


def _abraded(part: Part, rng: np.random.Generator, across: Field, along: Field) -> Field:
    """A grinding wheel's lay: long straight grains at three scales."""
    fine = value_noise(rng, across / part.pitch, along / 90)
    middle = value_noise(rng, across / (2.3 * part.pitch), along / 160)
    return fine + 1.4 * middle + 2.5 * part.wear * value_noise(rng, across / (7 * part.pitch), along / 300)


def _brushed(part: Part, rng: np.random.Generator, across: Field, along: Field) -> Field:
    """Short strokes of a belt or a brush, crossing one another at a few degrees."""
    first = value_noise(rng, across / part.pitch, along / 22)
    along, across = rotate(along, across, 0.05 + 0.07 * part.wear)
    return first + 1.2 * value_noise(rng, across / (1.4 * part.pitch), along / 34)


def _blasted(part: Part, rng: np.random.Generator, across: Field, along: Field) -> Field:
    """Shot-blasted or as cast: dimples without any direction."""
    fine = value_noise(rng, across / (1.6 * part.pitch), along / (1.6 * part.pitch))
    coarse = value_noise(rng, across / (4.0 * part.pitch), along / (4.0 * part.pitch))
    return fine + (0.8 + part.wear) * coarse


def _tool_marks(rng: np.random.Generator, across: Field, along: Field) -> Field:
    """Up to three lines that one dull grain or chip drew, always along the lay: harmless."""
    marks = np.zeros_like(across)
    for _ in range(rng.integers(4)):
        row, column = rng.integers(across.shape[0], size=2)
        width, length = rng.uniform(0.7, 1.6), rng.uniform(25.0, 120.0)
        line = np.exp(-(((across - across[row, column]) / width) ** 2))
        ends = ramp((length - np.abs(along - along[row, column])) / 20.0)
        marks += rng.choice((-1.0, 1.0)) * rng.uniform(0.03, 0.08) * width * line * ends
    return marks


def _mottle(rng: np.random.Generator, size: int) -> Field:
    """Cloudy differences of reflectance, too soft and too faint for a stain."""
    return 1.0 + rng.uniform(0.015, 0.030) * (
        clouds(rng, size, 38.0) + 0.6 * clouds(rng, size, 17.0) + 0.7 * clouds(rng, size, 6.0)
    )


def _dust(rng: np.random.Generator, size: int) -> Field:
    """Up to four single specks, bright or dark, a pixel or two across."""
    ticks = _ticks(size)
    tint = np.ones((size, size))
    for _ in range(rng.integers(5)):
        centre_x, centre_y = rng.uniform(-WIDTH / 2, WIDTH / 2, 2)
        radius, change = rng.uniform(0.7, 1.3), rng.choice((-1.0, 1.0)) * rng.uniform(0.15, 0.4)
        row, column = (np.exp(-(((ticks - centre) / radius) ** 2)) for centre in (centre_y, centre_x))
        tint += change * np.outer(row, column)
    return tint


def _ticks(size: int) -> Field:
    return (np.arange(size, dtype=np.float64) + 0.5) * (WIDTH / size) - WIDTH / 2


def _eased(t: Field) -> Field:
    return t * t * (3.0 - 2.0 * t)


def _between_knots(size: int, cell: float, phase: float) -> Field:
    """The share (size, knots) that each knot has in each pixel of a row of value noise."""
    places = _ticks(size) / cell + WIDTH / 2 / cell + phase
    return _eased(np.maximum(1.0 - np.abs(places[:, None] - np.arange(int(places[-1]) + 2)), 0.0))


_LAYS: Mapping[str, Callable[[Part, Field, Field], tuple[Field, Field]]] = MappingProxyType(
    {"milled": _feed_arcs, "turned": _rings, "ground": _straight, "brushed": _straight, "blasted": _straight}
)
_PROFILES: Mapping[str, Callable[[Part, np.random.Generator, Field, Field], Field]] = MappingProxyType(
    {"milled": _cusps, "turned": _cusps, "ground": _abraded, "brushed": _brushed, "blasted": _blasted}
)
PROCESSES = tuple(_PROFILES)
"""How a part may have been machined."""
