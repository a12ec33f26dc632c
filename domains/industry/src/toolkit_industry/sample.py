"""The sample lot: rendered pictures of machined parts for a newcomer who brings no data.

Every picture is a part of its own, and follows from its serial number alone (seed, split, label, index), whatever else
is rendered before it, after it or beside it. What it shows is rendered, not real, and the lot says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit_industry.sample_camera import Camera, Pixels, develop, draw_camera, expose, focus, shade
from toolkit_industry.sample_flaws import FLAWS, Flaw
from toolkit_industry.sample_surface import Field, draw_part, machine

GOOD = "good"
CLASSES = (GOOD, *FLAWS)
SPLITS = ("train", "test")

_MOST_LAY = 0.08  # the lay's standard deviation as a share of the mean light, at most
_STRAY = 0.15  # light from all around, which keeps a flaw's gain finite where the lay is black
_README = """# sample: a rendered lot of machined metal surfaces

This lot is a **sample**. It is rendered by a procedural camera; it shows no real parts, and a score on it says nothing
about real ones. It is there so that a newcomer sees the whole line work before bringing data of their own.

Licence: CC0-1.0 (see LICENSE).
Source: rendered by the toolkit's industry domain, seed {seed}.
Layout: `{{train,test}}/<class>/<class>_<n>.jpg`; grey, {size}x{size} pixels.
Classes: good, scratch, pit, stain, crack, inclusion; at most one kind of flaw in a picture.
Split: per class {train} train + {test} test, fixed. Every picture is a part of its own; the splits share none.
"""
_LICENCE = """CC0-1.0 (CC0 1.0 Universal, Public Domain Dedication)

To the extent possible under law, the authors of this lot of rendered pictures have waived all copyright and related or
neighbouring rights to it. It is offered as is, without warranties of any kind.

The legal code: https://creativecommons.org/publicdomain/zero/1.0/legalcode
"""


@dataclass(frozen=True)
class Serial:
    """A part's serial number: all that its picture follows from."""

    seed: int
    split: str
    label: str
    index: int

    def streams(self) -> list[np.random.Generator]:
        """Independent random streams for the part, its flaw, the camera and its noise."""
        key = (self.seed, SPLITS.index(self.split), CLASSES.index(self.label), self.index)
        return [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(key).spawn(4)]


@dataclass(frozen=True)
class Photograph:
    """A picture before it is compressed: `pixels` (size, size), its camera, and a `mask` of where the flaw lies."""

    pixels: Pixels
    camera: Camera
    mask: npt.NDArray[np.bool_]


def photograph(serial: Serial, *, size: int = 160, flawed: bool = True) -> Photograph:
    """Make the part and take its picture.

    Args:
        flawed: False shows the very same part, camera and noise before the flaw of its label came to be.
    """
    part_rng, flaw_rng, camera_rng, noise_rng = serial.streams()
    surface = machine(draw_part(part_rng), part_rng, size)
    camera = draw_camera(camera_rng)
    sound = focus(camera, shade(camera, surface.relief, surface.tint))
    light, mask = _level(sound), np.zeros(sound.shape, dtype=np.bool_)
    if flawed and serial.label != GOOD:
        flaw = FLAWS[serial.label](flaw_rng, surface)
        spoilt = focus(camera, shade(camera, surface.relief + flaw.relief, surface.tint * flaw.tint))
        light, mask = _show(flaw, light, (spoilt + _STRAY) / (sound + _STRAY) - 1.0), flaw.mask
    return Photograph(expose(camera, noise_rng, light), camera, mask)


def render_lot(
    folder: Path,
    *,
    seed: int = 0,
    per_class: int = 150,
    test_per_class: int = 60,
    size: int = 160,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the lot as `train/<class>/<class>_<n>.jpg` and `test/...`, grey, `size` pixels square.

    README.md is written last: where it lies, the lot is whole. `progress` is told (done, total) after each picture.
    """
    serials = list(_serials(seed, {"train": per_class, "test": test_per_class}))
    for done, serial in enumerate(serials, start=1):
        picture = photograph(serial, size=size)
        path = folder / serial.split / serial.label / f"{serial.label}_{serial.index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(develop(picture.camera, picture.pixels))
        if progress is not None:
            progress(done, len(serials))
    readme = _README.format(seed=seed, train=per_class, test=test_per_class, size=size)
    (folder / "LICENSE").write_text(_LICENCE, encoding="utf-8")
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _serials(seed: int, counts: Mapping[str, int]) -> Iterator[Serial]:
    for split, count in counts.items():
        for label in CLASSES:
            yield from (Serial(seed, split, label, index) for index in range(count))


def _level(light: Field) -> Field:
    """Turn the lamp until the mean is 1, and diffuse it where the lay alone would dazzle."""
    mean, spread = float(light.mean()), float(light.std())
    return 1.0 + (light - mean) * min(1.0 / mean, _MOST_LAY / spread)


def _show(flaw: Flaw, light: Field, gain: Field) -> Field:
    """Apply a flaw's relative gain of light, as plain as the flaw asks for: an eye can always tell it from the lay."""
    change = light * gain
    wanted = max(flaw.contrast, flaw.above_lay * float(light.std()))
    return np.maximum(light + change * (wanted / float(np.abs(change[flaw.mask]).mean())), 0.02)
