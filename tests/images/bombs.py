"""Small files that ask for much: time, memory or both."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from labelstack.images.pixels.budget import _segments


def flat(side: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """A grey square image as a file's bytes."""
    file = io.BytesIO()
    Image.new(mode, (side, side), (130, 130, 130, 200)[: len(Image.new(mode, (1, 1)).getbands())]).save(
        file, kind, **options
    )
    return file.getvalue()


def empty_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG of this side whose last scan stands there so many times."""
    data = flat(side, progressive=True)
    places = [start for kind, start, _ in _segments(data, first_scan=False) if kind == 0xDA]
    last = data[places[-1] : -2]
    return data[:-2] + last * (scans - len(places)) + b"\xff\xd9"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(chunks: bytes, side: int = 8) -> bytes:
    """A PNG with more chunks behind its header."""
    data = flat(side, "PNG")
    return data[:33] + chunks + data[33:]


def directory(entries: int, count: int, *, tag: int = 40_000) -> bytes:
    """The first directory of a TIFF, whose tags all name the same ``count`` bytes at its start."""
    body = b"".join(struct.pack("<HHLL", tag + i, 7, count, 0) for i in range(entries))
    return b"II*\0" + struct.pack("<LH", 8, entries) + body + bytes(4)


def exif_jpeg(exif: bytes) -> bytes:
    """A JPEG without a JFIF header, whose Exif segment is this."""
    data = flat(16)
    start = data.index(b"\xff\xdb")
    content = b"Exif\0\0" + exif
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[start:]


def tall_tile(side: int) -> bytes:
    """A TIFF of 16 × 16 pixels in one tile of ``side`` × ``side``, packed to a thousandth."""
    packed = zlib.compress(bytes(side * side), 9)
    tags = [
        (256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
        (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8 + 2 + 10 * 12 + 4), (325, 4, 1, len(packed)),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHLL", *each) for each in tags)
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + body + bytes(4) + packed


def run_length_bmp(side: int) -> bytes:
    """A BMP of 8 bits in runs, which end with every line."""
    palette = bytes(1024)
    lines = b"\0\0" * side + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(lines), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(lines), 0, 0, start) + header + palette + lines


def noisy(side: int) -> np.ndarray:
    """Pixels that do not pack well, uint8 [side, side, 4]."""
    return np.random.default_rng(1).integers(0, 256, (side, side, 4), dtype=np.uint8)
