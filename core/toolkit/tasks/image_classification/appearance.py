"""How a picture looks, in three numbers: what drift compares with the pictures that the student was scored on.

Knows pixels and no model. Of a large picture some rows and columns are taken, so that it costs little beside decoding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

ROWS = 64
"""Lines of a picture that are looked at, spread evenly."""


def appearance(pixels: np.ndarray) -> Mapping[str, float]:
    """Brightness (mean) and contrast (standard deviation) of the green channel, and sharpness, the mean step between
    neighbours in a line, all in 0..255. A blurred picture has small steps, and a dim one too.

    Args:
        pixels: uint8 [height, width, channels], one channel or RGB.
    """
    lines = pixels[:: -(-pixels.shape[0] // ROWS)]
    green = lines[..., 1] if lines.shape[-1] == 3 else lines[..., 0]  # most of the luminance
    grey = green.astype(np.float32)  # and no method that numpy has in Python: of a small picture those cost most
    steps = np.subtract(grey[:, 1:], grey[:, :-1])
    np.absolute(steps, steps)
    brightness = float(np.add.reduce(grey, None)) / grey.size
    around = grey.ravel() - np.float32(brightness)
    return {
        "brightness": round(brightness, 3),
        "contrast": round(math.sqrt(float(np.dot(around, around)) / grey.size), 3),
        "sharpness": round(float(np.add.reduce(steps, None)) / steps.size, 3),
    }
