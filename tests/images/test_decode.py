"""Every kind of image becomes an upright RGB JPEG, and that a square array."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from images.server import encoded, jpeg, picture
from labelstack.images.fetching.status import RefusedError
from labelstack.images.pixels.decode import _resize, decode, to_stored_jpeg


def stored(data: bytes, size: int = 64) -> NDArray[np.uint8]:
    """Pixels of the stored JPEG, after checking that its dimensions are told right."""
    content, width, height = to_stored_jpeg(data, size, 95)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (width, height))
        return np.asarray(image)


def near(a: NDArray[np.uint8], b: NDArray[np.uint8], mean: float = 6) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < mean


def test_small_baseline_rgb_jpeg_keeps_its_bytes() -> None:
    data = jpeg()
    assert to_stored_jpeg(data, 30, 90) == (data, 40, 30)


@pytest.mark.parametrize("change", ["size", "progressive", "grey", "png", "metadata"])
def test_what_must_change_is_encoded_again(change: str) -> None:
    image = picture()
    data = {
        "size": jpeg(),
        "progressive": encoded(image, progressive=True),
        "grey": encoded(image[..., 0]),
        "png": encoded(image, "PNG"),
        "metadata": jpeg() + bytes(200_000),
    }[change]
    content, width, height = to_stored_jpeg(data, 20 if change == "size" else 30, 90)
    assert content != data
    assert (width, height) == ((27, 20) if change == "size" else (40, 30))
    assert to_stored_jpeg(data, 20 if change == "size" else 30, 90)[0] == content
    assert to_stored_jpeg(content, 30, 90)[0] == content


# What a viewer does to the stored pixels (Exif 2.32, tag 0x0112); written out, since libraries differ.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_the_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = stored(encoded(picture(), kind, quality=95, exif=exif))
    assert near(pixels, TURNS[orientation](picture()), 8)


def test_an_orientation_behind_the_pixels_of_a_png_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert near(stored(moved), TURNS[6](picture()))


@pytest.mark.parametrize("value", [0, 9])
def test_nonsense_in_exif_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(picture(), exif=exif)
    assert to_stored_jpeg(data, 64, 90)[0] == data


def test_cmyk() -> None:
    image = Image.fromarray(picture())
    assert near(stored(encoded(image.convert("CMYK"), quality=95)), picture())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str) -> None:
    alpha = np.full((30, 40, 1), 255, np.uint8)
    alpha[:, 20:] = 0
    image = Image.fromarray(np.concatenate([np.full((30, 40, 3), 60, np.uint8), alpha], axis=2), "RGBA")
    pixels = stored(encoded(image.quantize(16) if mode == "P" else image.convert(mode), "PNG"))
    assert abs(int(pixels[15, 5].mean()) - 60) < 5
    assert pixels[15, 35].min() > 250


def test_palette_without_transparency() -> None:
    image = Image.fromarray(picture()).quantize(64)
    assert near(stored(encoded(image, "PNG")), np.asarray(image.convert("RGB")), 12)


def test_sixteen_bit_grey() -> None:
    grey = picture()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert near(stored(encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")), expected)
    assert near(stored(encoded(Image.fromarray(grey.astype(np.int32) * 257), "TIFF")), expected)
    assert near(stored(encoded(Image.fromarray(grey.astype(np.float32)), "TIFF")), expected)


def test_sixteen_bit_colour() -> None:
    wide = picture().astype(np.uint16) * 257
    _, data = cv2.imencode(".png", wide[..., ::-1])
    assert near(stored(data.tobytes()), picture())


def test_bilevel_and_greyscale() -> None:
    grey = Image.fromarray(picture()).convert("L")
    for image, kind in ((grey, "JPEG"), (grey.convert("1"), "PNG")):
        assert near(stored(encoded(image, kind)), np.asarray(image.convert("RGB")), 10)


def test_one_pixel() -> None:
    dot = np.array([[[200, 30, 90]]], np.uint8)
    assert near(stored(encoded(dot, "PNG")), dot)
    assert decode(to_stored_jpeg(encoded(dot, "PNG"), 64, 95)[0], 32).shape == (32, 32, 3)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert near(stored(data), np.asarray(frames[0]))


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF"])
def test_other_formats(kind: str) -> None:
    assert near(stored(encoded(picture(), kind)), picture(), 8)


def test_large_jpeg_shrinks_to_the_same_picture() -> None:
    large = picture(3, 1600, 1200)
    content, width, height = to_stored_jpeg(encoded(large, quality=95), 96, 95)
    assert (width, height) == (128, 96)
    assert near(stored(content, 96), np.asarray(cv2.resize(large, (128, 96), interpolation=cv2.INTER_AREA), np.uint8))


def test_a_very_long_image_fits_into_a_jpeg() -> None:
    _, width, height = to_stored_jpeg(encoded(np.zeros((4, 70_000), np.uint8), "PNG"), 64, 90)
    assert (width, height) == (65_500, 4)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        jpeg()[:100],
        b"\x89PNG\r\n\x1a\n" + b"x" * 50,
    ],
    ids=["empty", "html", "header only", "broken png"],
)
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(RefusedError, match="not_an_image"):
        to_stored_jpeg(data, 64, 90)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(11_000, 10_000), (60_000, 60_000)])
def test_decompression_bombs_are_refused_by_their_header(width: int, height: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(RefusedError, match="too_large"):
        to_stored_jpeg(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT", 64, 90)


def test_decode_stretches_the_whole_image() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = (250, 20, 20)
    square = decode(encoded(image, quality=95), 32)
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert abs(square[:, :15].astype(int) - (250, 20, 20)).max() < 12
    assert square[:, 17:].max() < 12


@pytest.mark.parametrize("data", [b"", b"no image"])
def test_decode_refuses_what_is_no_image(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an image"):
        decode(data, 32)


def test_shrinking_averages_areas_also_when_the_other_side_grows() -> None:
    stripes = np.zeros((4, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (_resize(stripes, 8, 16) == 100).all()
