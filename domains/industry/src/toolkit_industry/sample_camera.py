"""The camera above the line: light from one side, a lens, a sensor, a JPEG. It knows nothing of what it looks at."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit_industry.sample_surface import WIDTH, Field, grid, slopes

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """One station's light, lens and sensor as they happened to be for one picture.

    Light: `azimuth` and `zenith` in radians, the `gloss` share of light that is reflected rather than scattered, the
    `roughness` of the facets that reflect it. Lens: `blur` (x, y) as standard deviations in units, `vignette` as the
    share lost in the corners, `gradient` (x, y) as the share gained from the middle to an edge. Sensor: `exposure`,
    `black` and `read_noise` as shares of the white point, the tone curve's `gamma`, the `full_well` in electrons.
    `quality` of the JPEG.
    """

    azimuth: float
    zenith: float
    gloss: float
    roughness: float
    blur: tuple[float, float]
    vignette: float
    gradient: tuple[float, float]
    exposure: float
    black: float
    gamma: float
    full_well: float
    read_noise: float
    quality: int


def draw_camera(rng: np.random.Generator) -> Camera:
    """A camera as it may hang above the line; one axis blurs more, for the belt moves while the shutter is open."""
    defocus, motion = rng.uniform(0.25, 0.75), rng.uniform(0.0, 0.6)
    shaken = math.hypot(defocus, motion)
    return Camera(
        azimuth=rng.uniform(0.0, 2.0 * math.pi),
        zenith=rng.uniform(0.45, 1.0),
        gloss=rng.uniform(0.2, 0.6),
        roughness=rng.uniform(0.22, 0.5),
        blur=(shaken, defocus) if rng.uniform() < 0.5 else (defocus, shaken),
        vignette=rng.uniform(0.0, 0.16),
        gradient=(rng.uniform(-0.09, 0.09), rng.uniform(-0.09, 0.09)),
        exposure=rng.uniform(0.36, 0.64),
        black=rng.uniform(0.0, 0.05),
        gamma=rng.uniform(0.85, 1.15),
        full_well=rng.uniform(3000.0, 12000.0),
        read_noise=rng.uniform(0.003, 0.010),
        quality=int(rng.integers(80, 96)),
    )


def shade(camera: Camera, relief: Field, tint: Field) -> Field:
    """The light that a relief sends up to the camera; a level and untinted face sends 1.

    Lambert's law for the scattered share; for the gloss, Beckmann's distribution of facets about the half vector.
    """
    along_x, along_y = slopes(relief)
    light_x, light_y = math.cos(camera.azimuth), math.sin(camera.azimuth)
    towards = -(light_x * along_x + light_y * along_y)
    scattered = (1.0 + math.tan(camera.zenith) * towards) / np.sqrt(1.0 + along_x**2 + along_y**2)
    half = math.tan(camera.zenith / 2.0)
    off_level = along_x**2 + along_y**2 - 2.0 * half * towards
    reflected = np.exp(-off_level / camera.roughness**2)
    return tint * np.maximum((1.0 - camera.gloss) * scattered + camera.gloss * reflected, 0.0)


def focus(camera: Camera, light: Field) -> Field:
    """The picture that the lens throws on the sensor: blurred a little, more so along one axis."""
    scale = light.shape[0] / WIDTH
    blurred = _blur_rows(light, camera.blur[0] * scale)
    return _blur_rows(blurred.T, camera.blur[1] * scale).T


def expose(camera: Camera, rng: np.random.Generator, light: Field) -> Pixels:
    """What the sensor reads, 8 bits: uneven lighting, shot noise (by its normal limit), read noise, tone curve."""
    x, y = grid(light.shape[0])
    x, y = x / (WIDTH / 2), y / (WIDTH / 2)
    lamp = 1.0 + camera.gradient[0] * x + camera.gradient[1] * y
    falloff = 1.0 - 0.5 * camera.vignette * (x**2 + y**2)
    signal = np.clip(camera.exposure * lamp * falloff * light, 0.0, 1.0)
    noise = np.sqrt(signal / camera.full_well + camera.read_noise**2) * rng.standard_normal(signal.shape)
    seen = np.clip(camera.black + (1.0 - camera.black) * (signal + noise), 0.0, 1.0)
    return np.rint(255.0 * seen**camera.gamma).astype(np.uint8)


def develop(camera: Camera, pixels: Pixels) -> bytes:
    """The pixels as a grey JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=camera.quality)
    return stream.getvalue()


def _blur_rows(light: Field, deviation: float) -> Field:
    reach = max(1, math.ceil(3.0 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    padded = np.pad(light, ((0, 0), (reach, reach)), mode="edge")
    columns = light.shape[1]
    blurred = np.zeros_like(light)
    for start, weight in enumerate(weights):
        blurred += weight * padded[:, start : start + columns]
    return blurred
