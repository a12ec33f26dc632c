"""One way from bytes to pixels, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from image_parts import encoded, texture
from PIL import Image

from toolkit.errors import DataError
from toolkit.tasks.image_classification.images import (
    MOST_SCANS,
    StoredImage,
    UnreadableImage,
    decode,
    decode_image,
    decode_planes,
    stored_size,
    to_channels,
)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refused(data: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        decode_image(data)
    assert isinstance(caught.value, DataError)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many grey pixels and holds a few bytes of them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_grey_is_replicated() -> None:
    grey = np.arange(400, dtype=np.uint8).reshape(20, 20)
    pixels = decode_image(encoded(grey, ".png"))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (20, 20, 3)
    assert all(np.array_equal(pixels[:, :, channel], grey) for channel in range(3))


def test_sixteen_bits_are_scaled_over_the_full_range() -> None:
    values = np.zeros((16, 16), np.uint16)
    values[0, :4] = [0, 257, 32768, 65535]
    decoded = decode(saved(Image.fromarray(values), "PNG"))
    assert decoded.mode == "I;16"
    assert decoded.pixels[0, :4, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bits_in_a_big_endian_tiff() -> None:
    values = np.full((16, 16), 65535, ">u2")
    header = b"MM\x00*" + struct.pack(">I", 8 + values.nbytes) + values.tobytes()
    tags = [
        (256, 3, 16),
        (257, 3, 16),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 3, 16),
        (279, 4, 512),
    ]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", v, 0) if kind == 3 else struct.pack(">I", v))
        for tag, kind, v in tags
    )
    assert decode_image(header + struct.pack(">H", len(tags)) + entries + bytes(4)).min() == 255


def test_floating_point_pixels_are_refused() -> None:
    error = refused(saved(Image.fromarray(np.ones((16, 16), np.float32)), "TIFF"))
    assert error.kind == "pixel-format"


def test_alpha_and_palette_are_laid_on_white() -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert decode_image(saved(clear, "PNG")).min() == 255
    half = Image.new("LA", (16, 16), (0, 128))
    assert decode_image(saved(half, "PNG"))[0, 0].tolist() == [127, 127, 127]
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    decoded = decode(saved(palette, "PNG"))
    assert decoded.mode == "P"
    assert decoded.pixels[0, 0].tolist() == [10, 20, 30]
    assert decode_image(saved(palette, "PNG", transparency=1)).min() == 255


def test_cmyk_becomes_rgb() -> None:
    decoded = decode(saved(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG"))
    assert decoded.mode == "CMYK"
    assert decoded.pixels.min() >= 250


def test_exif_orientation_is_applied() -> None:
    image = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (20, 1)))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    pixels = decode_image(saved(image, "PNG", exif=exif))
    assert pixels.shape == (40, 20, 3)
    assert np.array_equal(pixels[:, :, 0], np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty-file"),
        (b"class,x,y\n1,2,3\n", "not-an-image"),
        (b"%PDF-1.7 and so on", "not-an-image"),
        (encoded(texture(0))[:4], "truncated"),
        (encoded(texture(0))[:900], "truncated"),
        (encoded(texture(0), ".png")[:-200], "truncated"),
        (encoded(texture(0, 7), ".png"), "too-small"),
        (png_header(9000, 9000), "too-large"),
        (png_header(60_000, 60_000), "too-large"),
        (png_header(200, 200), "truncated"),
    ],
)
def test_what_is_refused_and_as_what(data: bytes, kind: str) -> None:
    assert refused(data).kind == kind


def test_a_flipped_bit_in_a_png_is_damage() -> None:
    data = bytearray(encoded(texture(0), ".png"))
    data[len(data) // 2] ^= 0x10
    assert refused(bytes(data)).kind in ("damaged", "truncated")


def test_every_cut_of_an_image_is_refused_or_read_never_a_crash() -> None:
    for data in (encoded(texture(1, 40)), encoded(texture(1, 40), ".png"), encoded(texture(1, 40), ".bmp")):
        for length in range(0, len(data) - 2, 37):
            with pytest.raises(UnreadableImage):
                decode_image(data[:length])


def test_damaged_tiff_is_refused_never_a_crash() -> None:
    whole = saved(Image.fromarray(texture(1, 40).astype(np.uint8)), "TIFF")
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, 8, 1).tolist() + rng.integers(len(whole) - 200, len(whole), 3).tolist():
            data[place] ^= int(rng.integers(1, 256))
        with contextlib.suppress(UnreadableImage):
            assert decode_image(bytes(data)).shape[2] == 3


def test_gif_is_not_among_the_formats() -> None:
    assert refused(saved(Image.new("L", (16, 16)), "GIF")).kind == "not-an-image"


def test_stored_size_reads_headers_only() -> None:
    assert stored_size(encoded(texture(0, 40))) == (40, 40)
    assert stored_size(png_header(9000, 9000)) == (9000, 9000)
    assert stored_size(b"no image") is None


def test_to_channels_keeps_equal_channels_exactly() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(to_channels(rgb, 1)[:, :, 0], grey)
    assert to_channels(rgb, 3) is rgb


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16"])
def test_the_short_way_to_planes_gives_the_same_pixels(mode: str, channels: int) -> None:
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 8
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (20, 30), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).convert(mode)
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    short = decode_planes(data, channels)
    assert np.array_equal(short, to_channels(decode_image(data), channels))
    assert short.shape == (30, 20, channels)


def of_scans(count: int, side: int = 64) -> bytes:
    """A progressive JPEG of one grey plane, whose later scans say in a few bytes that nothing changes."""

    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    def bits(text: str) -> bytes:
        text += "1" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")

    blocks = (side // 8) ** 2
    one_code = bytes([1] + [0] * 15)
    last_of_64 = "0" + format(blocks - 64, "06b")  # the end of a run of 64 blocks
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    tables = segment(0xC4, b"\0" + one_code + b"\0") + segment(0xC4, b"\x10" + one_code + b"\x60")
    first = segment(0xDA, b"\1\1\0\0\0\0") + bits("0" * blocks)
    later = segment(0xDA, b"\1\1\0\1\x3f\0") + bits(last_of_64)
    return b"\xff\xd8" + head + tables + first + later * (count - 1) + b"\xff\xd9"


def test_a_jpeg_of_more_scans_than_anybody_writes_is_refused_before_it_is_decoded() -> None:
    assert decode_image(of_scans(MOST_SCANS)).shape == (64, 64, 3)
    with pytest.raises(UnreadableImage, match="more than 500 scans") as caught:
        StoredImage(of_scans(MOST_SCANS + 1))
    assert caught.value.kind == "damaged"
    assert caught.value.hint


def test_what_only_looks_like_scans_does_not_refuse_a_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700), np.uint8)
    usual = saved(Image.fromarray(noise), "JPEG", quality=95, progressive=True)
    assert usual.count(b"\xda") > MOST_SCANS
    for data in (usual, usual + b"\xff\xda" * 400, saved(Image.fromarray(noise), "PNG") + b"\xff\xda" * 600):
        assert decode_image(data).shape == (700, 700, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "transparent P", "CMYK", "I;16"])
def test_strip_by_strip_a_large_picture_has_the_same_pixels(
    mode: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (37, 50), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (37, 50, 4), np.uint8)).convert(mode.removeprefix("transparent "))
    clear = {"transparency": 3} if mode.startswith("transparent") else {}
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG", **clear)
    whole, planes = decode_image(data), decode_planes(data, channels)
    monkeypatch.setattr("toolkit.tasks.image_classification.images._STRIP_PIXELS", 500)
    assert np.array_equal(decode_image(data), whole)
    assert np.array_equal(decode_planes(data, channels), planes)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_picture_is_let_go_of_once_its_pixels_are_out(mode: str) -> None:
    stored = StoredImage(saved(Image.new(mode, (40, 20)), "PNG"))
    assert stored.planes(3).shape == (20, 40, 3)
    assert stored.pixels == 800
    with pytest.raises(ValueError, match="closed"):
        stored._image.getpixel((0, 0))
