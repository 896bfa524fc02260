"""What decoding an image file may take, counted in its bytes before anything of it is decoded.

A decoder's time and memory do not follow from the size of the file: a progressive JPEG may hold 100,000 empty scans
over the whole image, a directory of tags may name the same megabytes 60,000 times. What is counted here is what makes
the decoders in use (libjpeg-turbo, OpenCV and Pillow with its plug-ins) work or allocate; what they bound themselves,
as Pillow does a PNG's packed texts, is left to them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from PIL import Image

from labelstack.images.fetching.status import RefusedError
from labelstack.params.images import ImagesSection

SEGMENTS = 20_000  # before a JPEG's first scan
JUNK = 1_000_000  # bytes between them that belong to no segment
SCANS = 1_000
CHUNKS = 50_000  # of a PNG
STRIPS = 200_000  # or tiles, of a TIFF
_LEAST_PIXELS = 65_536  # that a scan counts for: it has a price of its own
_RUN_LENGTH = 64  # times the work of other pixels: Pillow unpacks such a BMP in Python
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # restarts stand in scans, by the thousand
# Markers behind which Pillow looks for the next one at once: no length, or none that it reads.
_BARE = frozenset({0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)})
_RESERVED = frozenset(range(0x02, 0xC0))  # ITU T.81, table B.1: libjpeg looks for the next one at once
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_EXIF = b"Exif\0\0"
# TIFF 6.0, page 15, and BigTIFF: bytes of a value by its type.
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_OFFSETS, _TILE_OFFSETS, _ROWS, _TILE_WIDTH, _TILE_HEIGHT, _COMPRESSION = 273, 324, 278, 322, 323, 259
_JPEG_IN_TIFF = (6, 7)
_SAMPLE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # Pillow's bytes of a pixel, else 4
_RGB = 3
# Bytes a pixel beside Pillow's own and the RGB that comes out, as measured.
_DECODERS = {"WEBP": 20, "AVIF": 16, "GIF": 8}
_DIRECTORY_SPARE = 65_536  # bytes by which values of tags may be more than the file


@dataclass(frozen=True)
class Budget:
    """The work and the memory that one image may take.

    Attributes
    ----------
    work : pixels × scans
    memory : bytes, of pixels in all stages between the file and the stored image
    """

    work: int
    memory: int

    @classmethod
    def of(cls, images: ImagesSection) -> Budget:
        """What the section ``images`` allows."""
        return cls(images.max_decode_work, images.max_decode_bytes)


USUAL = Budget.of(ImagesSection())


def check_file(data: bytes) -> None:
    """Raise ``RefusedError`` (``too_large``) where a look at an image's header alone would take too long."""
    if data.startswith(b"\xff\xd8"):
        _check_segments(data)
    elif data.startswith(b"\x89PNG"):
        _check_chunks(data)
    elif data[:4] in {b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+"}:
        _check_directory(data)


def check_image(image: Image.Image, data: bytes, budget: Budget) -> None:
    """Raise ``RefusedError`` (``too_large``) where an opened image takes more than its budget to decode.

    Parameters
    ----------
    image : Image, not loaded
    data : bytes
        The file.
    budget : Budget
    """
    if work_of(image, data, budget.work) > budget.work or memory_of(image, data) > budget.memory:
        raise RefusedError("too_large")
    check_exif(image)


def check_exif(image: Image.Image) -> None:
    """Raise ``RefusedError`` (``too_large``) where the tags of an image take more memory than they have bytes."""
    exif = image.info.get("exif")
    if exif is None and isinstance(text := image.info.get("Raw profile type exif"), str):
        try:  # as Pillow reads what ImageMagick writes
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            return
    if isinstance(exif, bytes):
        _check_directory(re.sub(rb"^(Exif\0\0){1,2}", b"", exif))


def work_of(image: Image.Image, data: bytes, enough: int) -> int:
    """Pixels × scans of an opened image; may be counted too high, but by no more than to just above ``enough``."""
    pixels = image.width * image.height
    if image.format in {"JPEG", "MPO"}:
        most = data.count(b"\xff\xda")  # within a scan these bytes cannot stand, within metadata they may
        scans = most if _priced(most, pixels) <= enough and most <= SCANS else scans_of(data)
        return _priced(scans, pixels) if scans <= SCANS else max(enough + 1, _priced(scans, pixels))
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if tags.get(_COMPRESSION) in _JPEG_IN_TIFF:
            return max(pixels, _priced(data.count(b"\xff\xda"), _strip_pixels(image)))
    if image.format == "BMP" and any(tile[0] == "bmp_rle" for tile in image.tile):  # type: ignore[attr-defined]
        return pixels * _RUN_LENGTH
    return pixels


def memory_of(image: Image.Image, data: bytes) -> int:
    """Bytes of pixels and coefficients between the file of an opened image and the array that is stored, at most."""
    pixels = image.width * image.height
    own = _SAMPLE.get(image.mode, 4)
    if image.format in {"JPEG", "MPO"}:
        layers = getattr(image, "layer", [])
        most = max((across * down for _, across, down, _ in layers), default=1) or 1
        # In more than one scan, 16 bits a coefficient are kept of the whole image (libjpeg.txt, "Buffered-image mode").
        kept = 2 * sum(across * down for _, across, down, _ in layers) / most if data.count(b"\xff\xda") > 1 else 0
        by_turbo = image.mode in {"RGB", "L"}
        return ceil(pixels * (kept + _RGB + (0 if by_turbo else own)))
    strip = 0
    if image.format == "TIFF":
        strip = 4 * _strip_pixels(image) * (2 if _bits(image) > 8 else 1)
    return pixels * (own + _RGB + _DECODERS.get(image.format or "", 0)) + strip


def scans_of(data: bytes) -> int:
    """The scans of a JPEG up to its end, as libjpeg finds them; more than ``SCANS`` where it has too many segments."""
    scans = 0
    for number, (kind, _, _) in enumerate(_segments(data, first_scan=False)):
        scans += kind == _SOS
        if number > SEGMENTS:
            return max(scans, SCANS + 1)
    return scans


def _priced(scans: int, pixels: int) -> int:
    return scans * max(pixels, _LEAST_PIXELS)


def _segments(data: bytes, *, first_scan: bool) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of a JPEG's segments (ITU T.81, B.1), up to the first scan or to the end of the image.

    Where Pillow and libjpeg differ in how a marker is passed over, as the one that finds more behind it does.
    """
    place = 2
    while found := _MARKER.search(data, place):
        kind, start = data[found.start() + 1], found.start()
        place = start + 2
        if not (kind in _BARE or kind in _RESERVED):
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
        yield kind, start, place
        if (kind == _SOS) if first_scan else (kind == _EOI):
            return


def _check_segments(data: bytes) -> None:
    kind, count, junk, before, exif = 0, 0, 0, 2, list[bytes]()
    for kind, start, end in _segments(data, first_scan=True):
        count, junk, before = count + 1, junk + start - before, end
        if count > SEGMENTS or junk > JUNK:
            raise RefusedError("too_large")
        if kind == _APP1 and data[start + 4 : start + 10] == _EXIF:
            exif.append(data[start + 10 : end])
    if kind != _SOS and len(data) - before > JUNK:
        raise RefusedError("not_an_image")
    if exif:
        _check_directory(b"".join(exif))


def _check_chunks(data: bytes) -> None:
    place, count = 8, 0
    while place + 8 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        count += 1
        if count > CHUNKS:
            raise RefusedError("too_large")


def _check_directory(data: bytes) -> None:
    """Whether the values of a TIFF's or Exif's first directory of tags are no more than the file has bytes."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in {b"+\0", b"\0+"}
    counts, entry = (order + "Q", order + "HHQQ") if big else (order + "H", order + "HHLL")
    try:
        (place,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
        (entries,) = struct.unpack_from(counts, data, place)
    except struct.error:  # no directory: the decoder says so
        return
    place += struct.calcsize(counts)
    size = 0
    for at in range(place, min(place + entries * struct.calcsize(entry), len(data)), struct.calcsize(entry)):
        if at + struct.calcsize(entry) > len(data):
            break
        tag, kind, count, _ = struct.unpack_from(entry, data, at)
        size += count * _UNITS.get(kind, 0)
        if size > len(data) + _DIRECTORY_SPARE or (tag in {_OFFSETS, _TILE_OFFSETS} and count > STRIPS):
            raise RefusedError("too_large")


def _strip_pixels(image: Image.Image) -> int:
    """Pixels of one strip or tile of a TIFF, which libtiff unpacks as a whole; tiles may be larger than the image."""
    tags = getattr(image, "tag_v2", {})
    across, down = _whole(tags.get(_TILE_WIDTH, 0)), _whole(tags.get(_TILE_HEIGHT, 0))
    if across and down:
        return across * down
    rows = _whole(tags.get(_ROWS, 0)) or image.height
    return image.width * min(rows, image.height)


def _bits(image: Image.Image) -> int:
    declared = getattr(image, "tag_v2", {}).get(258, 8)
    return _whole(max(declared) if isinstance(declared, tuple) and declared else declared)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
