"""What is missing from an image, or damaged in it, is told; what only looks like damage is not."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from images.server import encoded, picture
from labelstack.images.fetching.status import RefusedError
from labelstack.images.pixels.decode import decode, to_stored_jpeg
from labelstack.images.shards.fill import download_split
from labelstack.images.shards.shard_files import read_shard
from labelstack.params.images import ImagesSection

SIZE = 240, 320


def photo(seed: int = 0) -> NDArray[np.uint8]:
    """A picture with grain, so that its scans are long: uint8 [240, 320, 3]."""
    smooth = picture(seed, SIZE[1], SIZE[0]).astype(np.int16)
    grain = np.random.default_rng(seed).integers(-12, 13, smooth.shape, dtype=np.int16)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def changed(data: bytes, start: int, new: bytes) -> bytes:
    return data[:start] + new + data[start + len(new) :]


def scan_of(jpeg: bytes) -> int:
    """Where the first scan's data starts."""
    marker = jpeg.index(b"\xff\xda")
    return marker + 2 + int.from_bytes(jpeg[marker + 2 : marker + 4], "big")


def zeroed(data: bytes, first: int, size: int = 1000) -> bytes:
    middle = (first + len(data) - size) // 2
    return changed(data, middle, bytes(size))


def status(data: bytes, **options: Any) -> str:
    try:
        to_stored_jpeg(data, 64, 90, **options)
    except RefusedError as refusal:
        return refusal.status
    return "ok"


@pytest.mark.parametrize("interlace", [False, True])
def test_a_png_with_any_byte_of_its_pixels_changed_is_damaged(interlace: bool) -> None:
    image = Image.fromarray(photo())
    data = encoded(image, "PNG") if not interlace else _png(np.asarray(image.convert("L")), interlaced=True)
    assert status(data) == "ok"
    start = data.index(b"IDAT") + 4
    places = random.Random(3).sample(range(start, len(data) - 16), 60)
    assert {status(changed(data, place, bytes([data[place] ^ 16]))) for place in places} == {"damaged"}
    assert status(zeroed(data, start)) == "damaged"
    assert status(data[: len(data) // 2]) == "damaged"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(grey: NDArray[np.uint8], *, interlaced: bool = False, rows: int | None = None) -> bytes:
    """A grey PNG, interlaced (Adam7) or with fewer rows than its header says."""
    height, width = grey.shape
    parts = [grey[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [grey[:rows]]
    lines = b"".join(b"\0" + line.tobytes() for part in parts for line in part if part.shape[1])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (9, 17)])
def test_interlaced_pngs_of_all_sizes_are_whole(size: tuple[int, int]) -> None:
    grey = photo()[: size[1], : size[0], 0]
    assert status(_png(grey, interlaced=True)) == "ok"


def test_a_png_with_too_few_rows_is_damaged() -> None:
    grey = photo()[..., 0]
    assert status(_png(grey)) == "ok"
    assert status(_png(grey, rows=100)) == "damaged"


def test_a_png_is_whole_without_its_end_and_with_broken_notes() -> None:
    data = encoded(photo(), "PNG")
    note = changed(_chunk(b"tEXt", b"Comment\0hello"), 12, b"j")
    for whole in (data[:-12], data[:-5], data + b"more", data[:33] + note + data[33:]):
        assert to_stored_jpeg(whole, 64, 90) == to_stored_jpeg(data, 64, 90)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 4}],
    ids=["baseline", "progressive", "optimised", "restarts"],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_is_damaged_inside_is_damaged(mode: str, options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(photo()).convert(mode), quality=90, **options)
    assert status(data) == "ok"
    half = data[: len(data) // 2]
    assert status(half) == "damaged"
    assert status(half + b"\xff\xd9") == "damaged"
    assert status(changed(data, scan_of(data) + 100, bytes(800))) == "damaged"
    assert status(changed(data, scan_of(data) + 200, b"\xff" * 30)) == "damaged"
    assert status(data[: scan_of(data) + 500] + data[scan_of(data) + 900 :]) == "damaged"


def test_reduced_sizes_are_checked_too() -> None:
    data = encoded(picture(1, 1600, 1200), quality=95)
    assert status(data) == "ok"
    assert status(zeroed(data, scan_of(data))) == "damaged"


def test_the_second_picture_of_a_camera_file_may_be_cut_off() -> None:
    data = encoded(photo(), "MPO", save_all=True, append_images=[Image.fromarray(photo(1))], quality=90)
    assert to_stored_jpeg(data[:-300], 64, 90)[0] == to_stored_jpeg(data, 64, 90)[0]
    assert status(zeroed(data[: len(data) // 2], scan_of(data)) + data[len(data) // 2 :]) == "damaged"


def _segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


HARMLESS = {
    "no end": lambda data: data[:-2],
    "zeros behind the scan": lambda data: data[:-2] + bytes(50) + data[-2:],
    "a stray byte behind the scan": lambda data: data[:-2] + b"\x2a" + data[-2:],
    "bytes behind the end": lambda data: data + b"trailer \xff\xd9",
    "bytes between segments": lambda data: data[:20] + b"xyz" + data[20:],
    "an unknown JFIF version": lambda data: changed(data, data.index(b"JFIF") + 5, b"\x09"),
    "an unknown Adobe transform": lambda data: data[:20] + _segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07") + data[20:],
    "a note with an end marker in it": lambda data: data[:20] + _segment(0xFE, b"\xff\xd9") + data[20:],
    "odd bounds of a sequential scan": lambda data: changed(data, scan_of(data) - 3, b"\0\0\0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HARMLESS)
def test_a_whole_jpeg_may_look_odd(kind: str) -> None:
    data = encoded(photo(), quality=90)
    odd = HARMLESS[kind](data)
    assert to_stored_jpeg(odd, 64, 90) == to_stored_jpeg(data, 64, 90)
    assert odd.count(data[-2000:-1000]) == 1
    spoilt = odd.replace(data[-2000:-1000], bytes(1000))
    assert status(spoilt) == "damaged"


def test_a_jpeg_that_lacks_its_end_alone_is_stored_with_it() -> None:
    data = encoded(picture(), quality=90)
    assert to_stored_jpeg(data[:-2], 64, 90) == (data, 40, 30)


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_adobe_deflate", "tiff_lzw", "packbits", "jpeg"])
def test_a_tiff_damaged_inside_is_damaged(compression: str) -> None:
    data = encoded(photo(), "TIFF", compression=compression)
    assert status(data) == "ok"
    assert status(zeroed(data, 0)) == "damaged"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_that_was_cut_off_is_refused(kind: str) -> None:
    data = encoded(Image.fromarray(photo()), kind)
    assert status(data) == "ok"
    assert status(data[: len(data) // 2]) in {"damaged", "not_an_image"}  # TIFF may have its directory at the end


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_images_may_be_kept(kind: str) -> None:
    image = photo()
    data = encoded(image, kind, quality=95)
    cut = data[: len(data) // 2]
    for damaged in (cut, cut + b"\xff\xd9"):
        content, width, height = to_stored_jpeg(damaged, 1000, 95, "keep")
        assert (width, height) == SIZE[::-1]
        with Image.open(io.BytesIO(content)) as stored:
            pixels = np.asarray(stored).astype(int)
        error = np.abs(pixels - image).mean(axis=(1, 2))
        assert error[:80].mean() < 10
        assert error[-40:].mean() > 30
        assert status(content) == "ok"  # no damage is stored
    assert to_stored_jpeg(data, 64, 90, "keep") == to_stored_jpeg(data, 64, 90)
    assert status(b"no image", damaged="keep") == "not_an_image"


def test_downloads_refuse_or_keep_damaged_images(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    whole, png = encoded(photo(), quality=90), encoded(photo(1), "PNG")
    (root / "1.jpg").write_bytes(whole)
    (root / "2.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    (root / "3.png").write_bytes(zeroed(png, png.index(b"IDAT")))
    manifest = pd.DataFrame({"image_id": [1, 2, 3], "url": [["file:1.jpg"], ["file:2.jpg"], ["file:3.png"]]})
    params = ImagesSection(store_size=64, max_failures=1)
    out = tmp_path / "shards"
    assert download_split(manifest, out, params, root)["status"] == {"damaged": 2, "ok": 1}
    assert download_split(manifest, out, params, root)["status"] == {"damaged": 2, "ok": 1}
    kept = params.model_copy(update={"damaged": "keep"})
    assert download_split(manifest, out, kept, root)["status"] == {"ok": 3}
    shard = read_shard(out / "shard-00000.parquet")
    assert all(decode(data or b"", 32).any() for data in shard.bytes)
    assert download_split(manifest, out, params, root)["status"] == {"damaged": 2, "ok": 1}


def test_the_message_of_the_jpeg_decoder_is_the_one_that_is_looked_for() -> None:
    """The only text of another library that a decision hangs on."""
    import simplejpeg

    data = encoded(photo(), quality=90)
    with pytest.raises(ValueError, match=r"4\d extraneous bytes before marker 0xd9"):  # a few were read ahead
        simplejpeg.decode_jpeg(data[:-2] + bytes(50) + data[-2:])
