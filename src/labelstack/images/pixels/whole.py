"""Whether an image file is whole: decoders pass over much damage in silence and fill the gap with grey or black.

What can be seen: the checksums of a PNG's critical chunks, and whether its rows are all there; whatever libjpeg-turbo
warns of in a JPEG's scans; deflate streams and JPEGs inside a TIFF. BMP, WebP and plain TIFF have nothing to tell
zeroed or flipped bytes by; that they are cut off, their decoders say themselves.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from labelstack.images.fetching.status import RefusedError

Pixels = NDArray[np.uint8]
MAX_PIXELS = 100_000_000
_PNG, _JPEG, _END_OF_JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
_EXTRA = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_PADDING = 2  # bytes that may stand behind the last scan whatever they are; zeros may be more
_COMPRESSION, _OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS, _TABLES = 259, 273, 279, 324, 325, 347
_TIFF_JPEG, _TIFF_DEFLATE = 7, (8, 32946)  # TIFF 6.0 and its technical note 2; Adobe's supplement 2
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG 3rd edition, 11.2.1
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**16


def mended(data: bytes) -> tuple[bytes, bool]:
    """The bytes without what only looks like damage, and whether they are whole as far as a look at the file tells.

    A JPEG that lacks nothing but its end-of-image marker gets one; a PNG loses the optional chunks whose checksum is
    wrong, as in browsers.
    """
    if data.startswith(_JPEG):
        scan = _first_scan(data)
        return (data if scan and data.find(_END_OF_JPEG, scan) >= 0 else data + _END_OF_JPEG), True
    return _mended_png(data) if data.startswith(_PNG) else (data, True)


def jpeg_bgr(data: bytes, width: int, height: int, *, strict: bool) -> Pixels | None:
    """A JPEG's pixels at its full size, or at the 1/2, 1/4 or 1/8 of it that has these sides.

    They are OpenCV's and Pillow's, bit by bit, and take as long as OpenCV's.

    Returns
    -------
    uint8 [height, width, 3] BGR, or None where another decoder has to try

    Raises
    ------
    RefusedError
        ``damaged``, if ``strict``.
    """
    with contextlib.suppress(ValueError):  # a warning, or an error
        return _turbo(data, "BGR", width, height, strict=strict)
    if strict and not jpeg_is_whole(data):
        raise RefusedError("damaged")
    try:
        return _turbo(data, "BGR", width, height, strict=False)
    except ValueError:
        return None


def jpeg_is_whole(data: bytes) -> bool:
    """Whether libjpeg-turbo reads all scans without a warning, those aside that real and whole files are full of.

    These are odd JFIF and Adobe headers, bytes between the segments before the scans, zeros (or two bytes of any kind)
    behind the last scan, and spectral bounds in the scan header of a sequential JPEG. What cannot be read at all is
    left to the decoder to tell.
    """
    readable = False
    for candidate in (data, _bare(data)):
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(candidate, strict=False)
            if int(height) * int(width) > MAX_PIXELS:
                return True
            space = "CMYK" if space in {"CMYK", "YCCK"} else "GRAY"
            _turbo(candidate, space, 1, 1, strict=False)
        except ValueError:  # an error, or a warning of the header, which simplejpeg always takes for one
            continue
        readable = True
        try:
            _turbo(candidate, space, 1, 1, strict=True)
            return True
        except ValueError as warning:
            if _is_padding(candidate, str(warning)):
                return True
    return not readable


def is_whole(image: Image.Image, data: bytes) -> bool:
    """Whether a PNG or TIFF that Pillow has decoded is whole; True for other formats, which have no more to tell."""
    if image.format == "PNG":
        last = (
            image.crop((0, max(0, row), image.width, max(0, row) + 1)) for row in (image.height - 1, image.height - 2)
        )
        # Pillow leaves at 0 what it has got no data for, in an interlaced file every second row.
        return all(row.getbbox(alpha_only=False) for row in last) or _has_all_rows(data)
    return not isinstance(image, TiffImagePlugin.TiffImageFile) or _tiff_is_whole(image, data)


def _has_all_rows(data: bytes) -> bool:
    """Whether the pixels of a PNG, whose chunks are whole, are a whole deflate stream that fills all rows."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits, expected = depth * _CHANNELS.get(colour, 4), 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        expected += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    view = memoryview(data)
    return _inflates((view[start:end] for kind, start, end in _chunks(data) if kind == b"IDAT"), expected, expected)


def _tiff_is_whole(image: TiffImagePlugin.TiffImageFile, data: bytes) -> bool:
    """Whether the strips or tiles of a TIFF's first page can be unpacked without a fault, where they tell one."""
    tags = image.tag_v2
    offsets = tags.get(_OFFSETS) or tags.get(_TILE_OFFSETS) or ()
    sizes = tags.get(_COUNTS) or tags.get(_TILE_COUNTS) or ()
    if sum(sizes) > len(data):  # they overlap, so that a small file may take for ever
        return True
    strips = [data[start : start + size] for start, size in zip(offsets, sizes, strict=False)]
    if tags.get(_COMPRESSION) == _TIFF_JPEG:
        tables = bytes(tags.get(_TABLES, b""))[:-2]
        return all(jpeg_is_whole(tables + strip[2:] if tables else strip) for strip in strips)
    if tags.get(_COMPRESSION) in _TIFF_DEFLATE:
        most = 16 * image.width * image.height  # bytes; what is beyond, no decoder reads
        return all(_inflates([strip], 0, most) for strip in strips)
    return True


def _turbo(data: bytes, space: str, width: int, height: int, *, strict: bool) -> Pixels:
    return simplejpeg.decode_jpeg(
        data, space, fastdct=False, fastupsample=False, min_width=width, min_height=height, strict=strict
    )


def _is_padding(data: bytes, warning: str) -> bool:
    """Whether libjpeg warns of nothing but bytes behind the last scan that are no part of it."""
    found = _EXTRA.search(warning)
    end = data.find(_END_OF_JPEG, _first_scan(data))
    return found is not None and (int(found[1]) <= _PADDING or not any(data[end - int(found[1]) : end]))


def _first_scan(data: bytes) -> int:
    """Where the marker of a JPEG's first scan stands, or 0; within a scan no other marker but restarts can occur."""
    return next((start for kind, start, _ in _segments(data) if kind == 0xDA), 0)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of a JPEG's segments up to the first scan's header (ITU T.81, B.1), as libjpeg finds them."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        kind = data[place + 1]
        if kind in {0x00, 0xFF}:
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield kind, place, end
        if kind == 0xDA:
            return
        place = end


def _bare(data: bytes) -> bytes:
    """A JPEG for checking: tables, frame and scans, without metadata, and a sequential scan's header set right."""
    parts, sequential = [_JPEG], False
    for kind, start, end in _segments(data):
        if kind == 0xDA:
            header = data[start : end - 3] + b"\x00\x3f\x00" if sequential else data[start:end]
            return b"".join([*parts, header, data[end:]])
        sequential |= kind in {0xC0, 0xC1}
        if not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            parts.append(data[start:end])
    return data


def _mended_png(data: bytes) -> tuple[bytes, bool]:
    kept, whole = [data[:8]], True
    for kind, start, end in _chunks(data):
        sound = data[end : end + 4] == struct.pack(">I", zlib.crc32(memoryview(data)[start - 4 : end]))
        optional = bool(kind[:1].islower()) or kind == b"IEND"
        whole &= sound or optional
        if sound or not optional:
            kept.append(data[start - 8 : end + 4])
    size = sum(map(len, kept))
    return (data if size == len(data) else b"".join(kept)), whole


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the contents of a PNG's chunks, the last one included."""
    place, kind = 8, b""
    while place + 8 <= len(data) and kind != b"IEND":
        kind = data[place + 4 : place + 8]
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        yield kind, place + 8, end
        place = end + 4


def _inflates(parts: Iterable[bytes | memoryview], least: int, most: int) -> bool:
    """Whether a deflate stream in pieces comes to its end, or to ``most`` bytes, with at least ``least`` bytes."""
    stream, size = zlib.decompressobj(), 0
    for part in parts:
        for start in range(0, len(part), _PIECE):
            rest: bytes | memoryview = part[start : start + _PIECE]
            while rest and not stream.eof:
                try:
                    size += len(stream.decompress(rest, 16 * _PIECE))
                except zlib.error:
                    return False
                if size > most:
                    return True
                rest = stream.unconsumed_tail
    return size >= least and (stream.eof or least > 0)
