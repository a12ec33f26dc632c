"""Pictures that a training makes of good ones: views to learn from, and marks to be told from them.

Views are mirrored: surfaces have no up and down. Marks are patches and scars cut from good pictures and pasted
elsewhere, brighter or darker (CutPaste, Li et al. 2021, arXiv 2104.04015). Nothing is learnt from a marked picture, or
it would be foretold like a good one; validation alone sees them, and no mark is taken for a defect that was measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_MARKS = 3
PATCH, SCAR_LENGTH, SCAR_WIDTH = (0.02, 0.25), (0.1, 0.5), (0.01, 0.04)
"""Sides as shares of the picture's."""


def marked(picture: NDArray[np.uint8], other: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """A copy of `picture` with one to three marks out of `other`; both uint8 [channels, height, width], alike."""
    copy = picture.copy()
    _, height, width = copy.shape
    for _ in range(int(random.integers(1, MOST_MARKS + 1))):
        tall, wide = _sides(height, width, random)
        top, left = int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1))
        row, column = int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1))
        patch = other[:, row : row + tall, column : column + wide].astype(np.float32)
        shifted = patch * random.uniform(0.5, 1.5) + random.uniform(-50, 50)
        copy[:, top : top + tall, left : left + wide] = np.clip(shifted, 0, 255).astype(np.uint8)
    return copy


def mirrored(pictures: NDArray[np.uint8], view: int) -> NDArray[np.uint8]:
    """One view of pictures [n, channels, height, width]: as they are, mirrored, upside down, both, and so on again."""
    down, across = (view // 2) % 2, view % 2
    return np.ascontiguousarray(pictures[:, :, :: -1 if down else 1, :: -1 if across else 1])


def all_marked(pictures: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Every picture [n, channels, height, width] with marks: what validation must tell from the pictures themselves."""
    random = np.random.default_rng([seed, -1 & 0xFFFFFFFF])
    others = random.integers(len(pictures), size=len(pictures))
    return np.stack([marked(one, pictures[other], random) for one, other in zip(pictures, others, strict=True)])


def _sides(height: int, width: int, random: np.random.Generator) -> tuple[int, int]:
    if random.random() < 0.5:
        shares = random.uniform(*PATCH), random.uniform(*PATCH)
    else:
        shares = random.uniform(*SCAR_LENGTH), random.uniform(*SCAR_WIDTH)
        shares = shares if random.random() < 0.5 else shares[::-1]
    return max(2, round(shares[0] * height)), max(2, round(shares[1] * width))
