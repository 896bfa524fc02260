"""White is where the file's own white is, whatever the depth, mode and format."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from images.server import encoded, picture
from images.test_decode import near, stored
from labelstack.images.fetching.status import RefusedError
from labelstack.images.pixels.decode import to_stored_jpeg

GREY = picture()[..., 1]
EXPECTED = np.repeat(GREY[..., None], 3, axis=2)
BRIGHTEST, PHOTOMETRIC = 281, 262


def tiff(values: NDArray[Any], **tags: int) -> bytes:
    """A TIFF of one channel; ``tags`` by the names above."""
    numbers = {globals()[name]: value for name, value in tags.items()}
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=numbers)


def png(depth: int, colour: int, lines: list[bytes], width: int, transparent: bytes = b"") -> bytes:
    """A PNG from packed lines."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(lines), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    extra = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_grey_of_fewer_bits_in_sixteen(kind: str, bits: int) -> None:
    values = np.rint(GREY / 255 * (2**bits - 1)).astype(np.uint16)
    assert near(stored(encoded(Image.fromarray(values), kind)), EXPECTED, 2)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_grey_of_fewer_bits_in_thirty_two(bits: int) -> None:
    values = np.rint(GREY / 255 * (2**bits - 1)).astype(np.int32)
    assert near(stored(encoded(Image.fromarray(values), "TIFF")), EXPECTED, 2)


@pytest.mark.parametrize(("bits", "said"), [(12, 4095), (14, 16_383), (14, 16_000), (16, 65_535)])
def test_the_brightest_value_that_a_tiff_names_tells_the_depth(bits: int, said: int) -> None:
    dark = GREY // 20
    values = np.rint(dark / 255 * (2**bits - 1)).astype(np.uint16)
    expected = np.repeat(dark[..., None], 3, axis=2)
    if said == 65_535:  # says nothing: every file may
        values = np.maximum(values, 5000)
        expected = np.maximum(expected, 19)
    assert near(stored(tiff(values, BRIGHTEST=said)), expected, 2)


def test_twelve_bits_packed_in_twelve() -> None:
    """Pillow reads such TIFFs and does not write them."""
    values = np.rint(GREY / 255 * 4095).astype(np.uint16)
    pairs = values.reshape(len(values), -1, 2).astype(np.uint32)
    packed = (pairs[..., 0] << 12) | pairs[..., 1]
    body = np.stack([packed >> 16, packed >> 8, packed], axis=-1).astype(np.uint8).tobytes()
    height, width = GREY.shape
    tags = [
        (256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, len(body)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert near(stored(data), EXPECTED, 2)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_floats(white: float) -> None:
    values = (GREY / 255 * white).astype(np.float32)
    assert near(stored(tiff(values)), EXPECTED, 2)


@pytest.mark.parametrize(
    "values",
    [GREY * np.float32(257), GREY / np.float32(255) - 1, np.full((9, 9), np.nan, np.float32), GREY.astype(np.int32) - 9,
     GREY.astype(np.int32) * 70_000],
    ids=["floats to 65,535", "floats below 0", "no numbers", "below 0", "beyond 16 bits"],
)  # fmt: skip
def test_values_that_do_not_tell_their_white_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(RefusedError, match="unsupported"):
        to_stored_jpeg(tiff(values), 64, 90)


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_twelve_bits_in_sixteen_are_refused_and_black_is_black(kind: str, channels: int) -> None:
    colour = np.dstack([picture(), np.full(GREY.shape, 255, np.uint8)])[..., :channels].astype(np.uint16)
    for wide, dark in ((colour * 257, False), (colour * 16, True)):
        if channels == 4:
            wide[..., 3] = 65_535
        data = cv2.imencode(kind, wide[..., [2, 1, 0, 3][:channels]])[1].tobytes()
        if dark:
            with pytest.raises(RefusedError, match="unsupported"):
                to_stored_jpeg(data, 64, 90)
        else:
            assert near(stored(data), picture())
    black = cv2.imencode(kind, np.zeros((9, 9, 3), np.uint16))[1].tobytes()
    assert not stored(black).any()


def test_grey_that_is_white_at_zero() -> None:
    for values in (GREY.astype(np.uint16) * 257, (GREY / 255).astype(np.float32)):
        assert near(stored(tiff(values, PHOTOMETRIC=0)), 255 - EXPECTED, 2)


def columns(data: bytes) -> list[int]:
    """The grey values of a picture's columns, each of which is eight pixels wide."""
    return [int(value) for value in stored(data)[4, 4::8].mean(axis=1)]


@pytest.mark.parametrize(("depth", "values", "transparent"), [
    (1, [0, 1, 0, 1], 0), (2, [0, 1, 2, 3], 1), (4, [0, 5, 10, 15], 5), (8, [0, 85, 170, 255], 85),
    (16, [0, 21_845, 43_690, 65_535], 21_845),
])  # fmt: skip
def test_the_transparent_grey_of_a_png_of_any_depth(depth: int, values: list[int], transparent: int) -> None:
    line = int("".join(f"{value:0{depth}b}" * 8 for value in values), 2).to_bytes(depth * 4, "big")
    data = png(depth, 0, [line] * 8, 32, struct.pack(">H", transparent))
    plain = [round(value / (2**depth - 1) * 255) for value in values]
    expected = [255 if value == transparent else grey for value, grey in zip(values, plain, strict=True)]
    assert columns(data) == pytest.approx(expected, abs=4)
    assert columns(png(depth, 0, [line] * 8, 32)) == pytest.approx(plain, abs=4)


def test_the_transparent_colour_of_a_png_of_sixteen_bits() -> None:
    line = b"".join(struct.pack(">3H", value, value, value) * 8 for value in (4660, 50_000))
    found = columns(png(16, 2, [line] * 8, 16, struct.pack(">3H", 4660, 4660, 4660)))
    assert found == pytest.approx([255, 195], abs=4)


def test_grey_and_colours_with_alpha_of_sixteen_bits() -> None:
    half = struct.pack(">H", 32_768)
    for colour, sample in ((4, half), (6, half * 3)):
        line = (sample + b"\xff\xff") * 8 + (sample + b"\0\0") * 8
        assert columns(png(16, colour, [line] * 8, 16)) == pytest.approx([128, 255], abs=4)


def test_lab() -> None:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(Image.fromarray(picture()), rgb, lab, outputMode="LAB")
    assert near(stored(encoded(image, "TIFF")), picture(), 8)


@pytest.mark.parametrize("mode", ["YCbCr", "CMYK", "P", "1", "L", "RGBA", "LA"])
def test_tiffs_of_other_modes(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    assert near(stored(encoded(image, "TIFF")), np.asarray(image.convert("RGB")), 20)  # dithered palettes


def test_inverted_cmyk() -> None:
    """Adobe's JPEGs have 255 for no ink; Pillow writes and reads them so."""
    image = Image.fromarray(picture()).convert("CMYK")
    data = encoded(image, quality=95)
    assert b"Adobe" in data
    assert near(stored(data), picture())


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert near(stored(data), np.asarray(frames[0]))
