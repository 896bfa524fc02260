"""Rows that know one label group each, in the report: scores and confusions of every group, mistakes, crops."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from labelstack.support.box import Box

_LINE = "#d55e00"
_HEAT = "#f0e442"


@dataclass(frozen=True)
class Mistake:
    """An image that is given another value than its own, and the probability of that within its attribute."""

    called: str
    jpeg: bytes
    true: str
    given: str
    probability: float


@dataclass(frozen=True)
class Attribute:
    """One label group.

    Attributes
    ----------
    values : names without the group's
    accuracy, average_precision : of its rows; those whose most probable value is an ``m`` do not count in the latter
    n_maybe, maybe_accuracy : rows with a value that may be true besides, and how many of these are right; None: no row
    confusion : int [n_values, n_values], rows by what is true, columns by what is given
    mistakes : the most confident first
    """

    name: str
    values: Sequence[str]
    rows: int
    accuracy: float
    average_precision: float
    n_maybe: int
    maybe_accuracy: float | None
    confusion: NDArray[np.int64]
    mistakes: Sequence[Mistake] = ()


@dataclass(frozen=True)
class Cropped:
    """What a second-round model sees of an image: the photo with its box, and the crop, both JPEG.

    Attributes
    ----------
    heat : JPEG of the photo with where the first networks look, where they say what is seen
    """

    member: str
    called: str
    photo: bytes
    crop: bytes
    heat: bytes | None = None

    @property
    def pictures(self) -> list[tuple[str, bytes]]:
        """What each picture is, and the picture, in the order in which they come about."""
        heat = [("Where the first network looks", self.heat)] if self.heat is not None else []
        return [*heat, ("Photo with its box", self.photo), ("Crop", self.crop)]


def cropped(member: str, called: str, jpeg: bytes, box: Box, heat: NDArray[np.uint8] | None = None) -> Cropped:
    """A photo with its box drawn, what the box holds, and the photo under its heat, uint8 [h, w], if any."""
    with Image.open(io.BytesIO(jpeg)) as image:
        photo = image.convert("RGB")
    heated = None if heat is None else _encoded(_under(photo, heat))
    sides = (box.left * photo.width, box.top * photo.height, box.right * photo.width, box.bottom * photo.height)
    corners = tuple(round(side) for side in sides)
    part = photo.crop((corners[0], corners[1], max(corners[2], corners[0] + 1), max(corners[3], corners[1] + 1)))
    line = max(1, round(max(photo.size) / 80))
    ImageDraw.Draw(photo).rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline=_LINE, width=line)
    return Cropped(member, called, _encoded(photo), _encoded(part), heated)


def _under(photo: Image.Image, heat: NDArray[np.uint8]) -> Image.Image:
    """A photo in grey with its heat over it: the brighter the colour, the more heat."""
    mask = Image.fromarray(heat).resize(photo.size, Image.Resampling.BILINEAR).point(lambda value: value * 4 // 5)
    grey = photo.convert("L").convert("RGB")
    return Image.composite(Image.new("RGB", photo.size, _HEAT), grey, mask)


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
