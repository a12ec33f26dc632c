"""Images for the tests of the image folder reader: seeded textures, and folders of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

INDUSTRY = Path(__file__).resolve().parents[3] / "shared" / "data" / "industry"


def texture(seed: int, side: int = 120, *, detail: int = 4) -> np.ndarray:
    """A grey surface, float64 `[side, side]`, that no other seed makes."""
    noise = np.random.default_rng([11, seed]).normal(128, 60, (side // detail + 2, side // detail + 2))
    image = Image.fromarray(noise.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def encoded(pixels: np.ndarray, suffix: str = ".jpg", *, quality: int = 90) -> bytes:
    """Pixels, 0..255, as the bytes of a file."""
    stream = io.BytesIO()
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    image.save(stream, {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}[suffix], quality=quality)
    return stream.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lot(root: Path, classes: dict[str, int], *, side: int = 64, seed: int = 0) -> Path:
    """`root/CLASS/000.jpg` and so on, every image another surface; the name `train/good` nests as it says."""
    number = seed * 100_000
    for name, count in classes.items():
        for index in range(count):
            put(root / name / f"{index:03}.jpg", encoded(texture(number, side)))
            number += 1
    return root
