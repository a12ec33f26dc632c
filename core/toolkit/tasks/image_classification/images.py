"""From the bytes of an image file to pixels: one way, for training, evaluation and serving alike.

Knows file formats and pixel modes. Knows nothing of folders, labels or models, and imports no more than numpy and
Pillow, because a server loads it and feeds it what strangers send.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from toolkit.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
"""What is read. Every further format is code that strangers' bytes could reach."""

MOST_PIXELS = 50_000_000
MOST_SCANS = 500
"""Of a progressive JPEG. Encoders write about ten; each one may go over all pixels, though it be a few bytes long."""
LEAST_SIDE = 8
NOT_AN_IMAGE = "not-an-image"

_JPEG = b"\xff\xd8\xff"
_MAGIC = (_JPEG, b"\x89PNG", b"II*\x00", b"MM\x00*", b"RIFF")
_STRIP_PIXELS = 2**20
_SCAN = b"\xff\xda"
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError,
    struct.error, zlib.error, UserWarning,
)  # fmt: skip  # what Pillow's decoders raise on damaged files, the last where warnings are errors


class UnreadableImage(DataError):
    """Bytes that are not an image this toolkit reads.

    `kind` is `empty-file`, `not-an-image`, `truncated`, `damaged`, `too-large`, `too-small` or `pixel-format`.
    """

    code = "image"

    def __init__(self, kind: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


@dataclass(frozen=True)
class Decoded:
    """`pixels` is uint8 `[height, width, 3]`, RGB; `mode` is Pillow's name of how the file stores them."""

    pixels: np.ndarray
    mode: str


def decode_image(data: bytes) -> np.ndarray:
    """The picture as uint8 `[height, width, 3]`, RGB, upright.

    Grey is replicated, 16 bits are scaled to 8, palettes are resolved, transparency is laid on white, EXIF orientation
    is applied, and of several frames the first is taken.

    Raises:
        UnreadableImage: (a DataError) not an image, truncated, damaged, too large (over 50 MP) or too small.
    """
    return decode(data).pixels


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """RGB pixels `[height, width, 3]` as a model takes them: 3 channels as they are, 1 channel as luminance
    `[height, width, 1]`, which for equal channels is their value exactly."""
    if channels == 3:
        return pixels
    return np.array(Image.fromarray(pixels).convert("L"))[:, :, None]


class StoredImage:
    """A picture whose header is read, and whose pixels are decoded once they are asked for.

    Raises:
        UnreadableImage: what of that can be known by the header.
    """

    def __init__(self, data: bytes) -> None:
        if not data:
            raise UnreadableImage("empty-file", "the file is empty", hint="Copy it again from its source.")
        self._data = data
        with _telling(data):
            self._image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(self._image.width, self._image.height)
            if data.startswith(_JPEG):
                _check_scans(data)

    @property
    def pixels(self) -> int:
        """How many there are, as the header states."""
        return self._image.width * self._image.height

    @property
    def needs(self) -> int:
        """Bytes that decoding takes, at most, as measured: WebP keeps several copies of its own."""
        return self.pixels * (18 if self._image.format == "WEBP" else 11)

    def planes(self, channels: int) -> np.ndarray:
        """`decode_planes`; only once. Raises UnreadableImage."""
        with self.upright() as image:
            if channels == 1 and image.mode == "L":
                return np.asarray(image)[:, :, None]
            small = image.width * image.height <= _STRIP_PIXELS
            if image.mode == "RGB" and "transparency" not in image.info and (small or channels == 1):
                return np.asarray(image) if channels == 3 else np.asarray(image.convert("L"))[:, :, None]
            return _by_strips(image, channels)

    @contextlib.contextmanager
    def upright(self) -> Iterator[Image.Image]:
        """The picture, decoded, and let go of at the end; what goes wrong in here is told as an UnreadableImage."""
        with _telling(self._data), contextlib.closing(self._image) as image:
            ImageOps.exif_transpose(image, in_place=True)
            yield image


def decode_planes(data: bytes, channels: int) -> np.ndarray:
    """The picture as a model takes it, uint8 `[height, width, channels]`, maybe read-only: what `to_channels` makes of
    `decode_image`, without the copies between. Raises UnreadableImage."""
    return StoredImage(data).planes(channels)


def decode(data: bytes) -> Decoded:
    """`decode_image`, with the mode in which the file stores its pixels. Raises UnreadableImage."""
    with StoredImage(data).upright() as image:
        return Decoded(_by_strips(image, 3), image.mode)


@contextlib.contextmanager
def _telling(data: bytes) -> Iterator[None]:
    """What Pillow raises of these bytes is told as an UnreadableImage."""
    try:
        yield
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("far more than 50 million pixels") from error
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except _DAMAGE as error:
        raise _damaged(error) from error


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header states them, without decoding; None where there is no readable header."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width, image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, *_DAMAGE):
        return None


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(f"{width} x {height} pixels")
    if min(width, height) < LEAST_SIDE:
        raise UnreadableImage(
            "too-small",
            f"the image has {width} x {height} pixels, and {LEAST_SIDE} a side are the least",
            hint="Check how it was exported.",
        )


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG of more scans than anybody writes, each of which may cost as much as the first.

    Its markers are counted, and not looked for: compressed data has no such byte pair, and in all else, thumbnails and
    what is appended, some more do no harm. To count the second byte alone is quicker, and enough for a small picture.
    """
    if data.count(_SCAN[1:]) > MOST_SCANS and data.count(_SCAN) > MOST_SCANS:
        raise UnreadableImage(
            "damaged", f"the image is damaged: a JPEG of more than {MOST_SCANS} scans",
            hint="Save it again as a baseline JPEG, or as PNG.",
        )  # fmt: skip


def _by_strips(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 `[height, width, channels]`; of a large picture strip by strip, for the copies between are many."""
    lines = max(1, _STRIP_PIXELS // image.width)
    if image.height <= lines:
        return np.ascontiguousarray(to_channels(_rgb(image), channels))
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for top in range(0, image.height, lines):
        strip = image.crop((0, top, image.width, min(top + lines, image.height)))
        pixels[top : top + lines] = to_channels(_rgb(strip), channels)
    return pixels


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "L":
        return np.repeat(np.asarray(image)[:, :, None], 3, axis=2)
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image))
    if image.mode == "F":
        raise _pixel_format("floating-point pixels have no known range")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _from_16_bit(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded; the full range is used, whatever the image's own brightest pixel is."""
    if values.min() < 0 or values.max() > 65535:
        raise _pixel_format("32-bit pixel values beyond 16 bits")
    grey = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _pixel_format(what: str) -> UnreadableImage:
    return UnreadableImage("pixel-format", f"the image has {what}", hint="Convert it to 8 or 16 bits a channel.")


def _too_large(what: str) -> UnreadableImage:
    return UnreadableImage(
        "too-large",
        f"the image is too large: {what}, and {MOST_PIXELS // 1_000_000} million pixels are the most",
        hint="Scale it down or cut it into tiles.",
    )


def _unidentified(data: bytes) -> UnreadableImage:
    if data.startswith(_MAGIC):
        return UnreadableImage(
            "truncated", "the file starts like an image but its header is cut short or damaged",
            hint="Copy it again from its source.",
        )  # fmt: skip
    return UnreadableImage(
        NOT_AN_IMAGE,
        "the content is not an image of a known format",
        hint=f"Known formats: {', '.join(FORMATS)}.",
    )


def _damaged(error: Exception) -> UnreadableImage:
    text = str(error).lower()
    if "truncat" in text or "premature" in text or "not enough" in text:
        return UnreadableImage("truncated", "the image is truncated", hint="Copy it again from its source.")
    return UnreadableImage(
        "damaged", f"the image is damaged ({str(error) or type(error).__name__})", hint="Copy it again from its source."
    )
