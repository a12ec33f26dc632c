"""Pictures for people: small JPEGs that a report can carry."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

SIDE = 160


def encode_jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """Pixels uint8 [height, width, 1 or 3] as a JPEG file."""
    buffer = io.BytesIO()
    _picture(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(pixels: np.ndarray) -> bytes:
    """Pixels uint8 [height, width, 1 or 3] as a PNG file, without loss."""
    buffer = io.BytesIO()
    _picture(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def thumbnail(pixels: np.ndarray) -> str:
    """Pixels uint8 [height, width, 1 or 3] as the data URI of a JPEG of at most 160 pixels a side."""
    picture = _picture(pixels)
    picture.thumbnail((SIDE, SIDE))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(np.atleast_3d(np.asarray(picture)), 80)).decode()


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
