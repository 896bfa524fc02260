"""The mask of a region inside its stored image: application segments of the JPEG, which decoders of images pass over.

So it goes wherever the bytes go. Application segments (ITU T.81, B.2.4.6, marker APP9) begin with a name and their
number. Together they hold, low byte first, as 32-bit numbers the box of the region in pixels (left, top, right, bottom,
the last two beyond it), height and width of the image; then as 16-bit numbers the lengths of runs down the columns,
outside and inside in turn, the first outside, as COCO has them; what is longer continues after a run of 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labelstack.params.region_view import RegionView
from labelstack.support.box import Box
from labelstack.support.errors import UserError

GREY = 128  # as the published variant has it
INSIDE = 255
_MARKER = b"\xff\xe9"
_NAME = b"labelstack.region\0"
_MOST = 65_533 - len(_NAME) - 1 & ~3  # bytes of a segment, whose length counts itself
_PARTS = 255
_HEAD, _HEAD_BYTES = 6, 24
_LONGEST = 2**16 - 1

Pixels = NDArray[np.uint8]


def with_mask(jpeg: bytes, inside: NDArray[np.bool_], box: tuple[int, int, int, int]) -> bytes:
    """A JPEG that holds the mask of a region beside its pixels, which stay as they are.

    Parameters
    ----------
    inside : the mask, bool [height, width] of the image
    box : of the region, in pixels of the image

    Raises
    ------
    ValueError
        When the mask has more than eight million runs.
    """
    (height, width), flat = inside.shape, inside.T.ravel()
    ends = np.flatnonzero(np.diff(flat, prepend=False))  # where a run begins that is of the other kind
    counts = _short(np.diff(ends, prepend=0, append=height * width))
    data = np.array([*box, height, width], "<u4").tobytes() + counts.astype("<u2").tobytes()
    parts = [data[start : start + _MOST] for start in range(0, len(data), _MOST)]
    if len(parts) > _PARTS:
        raise ValueError(f"a mask of {len(counts):,} runs does not fit into an image")
    said = b""
    for number, part in enumerate(parts):
        content = _NAME + bytes([number]) + part
        said += _MARKER + (len(content) + 2).to_bytes(2, "big") + content
    return jpeg[:2] + said + jpeg[2:]


def _short(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same runs, those longer than 16 bits say in several, between which a run of the other kind has length 0."""
    if counts.max() <= _LONGEST:
        return counts
    return np.array([part for n in counts.tolist() for part in [_LONGEST, 0] * (n // _LONGEST) + [n % _LONGEST]])


def masked(pixels: Pixels, data: bytes | memoryview, view: RegionView) -> Pixels:
    """An image uint8 [height, width, 3] of these bytes as a network is given it: uint8 [height, width, view.channels].

    Raises
    ------
    UserError
        When it needs a mask, and none of the image's size lies beside it.
    """
    if view.mask == "none":
        return pixels
    (*_, down, across), counts = _numbers(data)
    height, width = pixels.shape[:2]
    if (down, across) != (height, width):
        raise UserError(
            f"the mask beside the image is of {across} x {down} pixels, and the image has {width} x {height}: cut the "
            "region out of its photo again"
        )
    values = np.zeros(len(counts), np.uint8)
    values[1::2] = INSIDE
    inside = np.repeat(values, counts).reshape(width, height).T
    if view.mask == "grey":
        return np.where(inside[:, :, None] > 0, pixels, np.uint8(GREY))
    return np.concatenate([pixels, inside[:, :, None]], axis=2)


def part_seen(data: bytes | memoryview, box: Box | None, view: RegionView) -> Box | None:
    """Which part of an image a network sees: the one told, or the region's box; None: all of it."""
    return region_box(data) if box is None and view.sees == "region" else box


def region_box(data: bytes | memoryview) -> Box:
    """The box of the region in shares of its image; raise ``UserError`` when none lies beside it."""
    (left, top, right, bottom, height, width), _ = _numbers(data)
    return Box(left / width, top / height, right / width, bottom / height)


def _numbers(data: bytes | memoryview) -> tuple[list[int], NDArray[np.int64]]:
    """Box and sides, and counts; they may come from a stranger, so that nothing of them is taken for granted."""
    parts = list(_parts(bytes(data)))
    whole = b"".join(part for _, part in parts)
    if [number for number, _ in parts] != list(range(len(parts))) or not parts:
        raise UserError(
            "no mask lies beside the image, and a network is given one: cut regions out of photos with region_rows "
            "(mask: stored), or hand whole photos to a version that has segmenters"
        )
    sound = len(whole) > _HEAD_BYTES and len(whole) % 2 == 0
    head = np.frombuffer(whole, "<u4", _HEAD).tolist() if sound else [0] * _HEAD
    counts = np.frombuffer(whole[_HEAD_BYTES:], "<u2").astype(np.int64) if sound else np.zeros(0, np.int64)
    left, top, right, bottom, height, width = head
    if not (left < right <= width and top < bottom <= height and counts.sum() == height * width):
        raise UserError("the mask beside the image is damaged: cut the region out of its photo again")
    return head, counts


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of a JPEG's segments of ours, before its first scan."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data) and data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        begin = place + 4 + len(_NAME)
        if data[place : place + 2] == _MARKER and data[place + 4 : begin] == _NAME and begin < end:
            yield data[begin], data[begin + 1 : end]
        place = end


def split(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Colours uint8 [h, w, 3] and mask uint8 [h, w] of an image with a fourth channel, each contiguous."""
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def joined(colours: Pixels, mask: Pixels) -> Pixels:
    """An image with a fourth channel, uint8 [h, w, 4]; what is at least half within is within."""
    inside = np.where(mask > INSIDE // 2, np.uint8(INSIDE), np.uint8(0))
    return np.concatenate([colours, inside[..., None]], axis=-1)
