"""A photo with its regions drawn on it, tinted, outlined and named, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labelstack.masks.run_geometry import boxes, resized
from labelstack.masks.run_lengths import RunLengths, decode, smallest_last

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Corners = tuple[int, int, int, int]  # left, top, right, bottom, the last two beyond it
# Okabe & Ito, Color Universal Design (2008): seven colours that colour-blind people tell apart, without black; RGB.
HUES: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
SMALLEST, LARGEST = 640, 1600  # pixels of the longer side
_TINT = 0.35
_LETTERS = 34  # the shorter side is so many times as high as letters
_LEAST, _MOST = 13, 28  # pixels of letters
_PAD = 3


def hue(category: int) -> Colour:
    """The colour of a category, RGB; categories seven apart share one, and their names tell them apart."""
    return HUES[category % len(HUES)]


def draw_regions(
    photo: Pixels,
    masks: RunLengths,
    hues: Sequence[int],
    names: Sequence[str],
    side: tuple[int, int] = (SMALLEST, LARGEST),
) -> Pixels:
    """A photo with regions, uint8 [h, w, 3] RGB, smaller ones on top, the name of each at its box and in the picture.

    Parameters
    ----------
    photo : uint8 [h, w, 3] RGB; is enlarged or made smaller until its longer side lies within ``side``
    masks : n regions, of any size that has the photo's corners
    hues : n numbers, see ``hue``; by position of the category, so that a category has one colour in all photos
    names : n texts; what does not fit in the picture's width ends in …
    """
    picture = _sized(photo, *side)
    height, width = picture.shape[:2]
    if not len(masks):
        return picture
    order = smallest_last(masks)
    line = max(2, round(min(height, width) / 250))
    painted, shown = picture.copy(), resized(masks, height, width)
    for place in order.tolist():
        painted[decode(shown.take([place]))[0]] = hue(hues[place])
    mixed = np.asarray(cv2.addWeighted(picture, 1 - _TINT, painted, _TINT, 0), np.uint8)
    for place in order.tolist():
        _outline(mixed, decode(shown.take([place]))[0], hue(hues[place]), line)
    image = Image.fromarray(mixed)
    letters = int(np.clip(min(height, width) / _LETTERS, _LEAST, _MOST))
    labels = _Labels(image, letters)
    for place in order[::-1].tolist():  # the smallest has the least room
        if shown.count[place]:
            labels.add(boxes(shown.take([place]))[0].tolist(), names[place], hue(hues[place]))
    return np.array(image, np.uint8)


def jpeg(picture: Pixels, quality: int = 92) -> bytes:
    """A picture uint8 [h, w, 3] RGB as a file."""
    written, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not written:
        raise ValueError("could not be stored as a JPEG")
    return bytes(encoded.tobytes())


def _sized(photo: Pixels, least: int, most: int) -> Pixels:
    height, width = photo.shape[:2]
    longest = max(height, width)
    wanted = min(max(longest, least), most)
    if wanted == longest:
        return photo.copy()
    size = (max(round(width * wanted / longest), 1), max(round(height * wanted / longest), 1))
    how = cv2.INTER_AREA if wanted < longest else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(photo, size, interpolation=how), np.uint8)


def _outline(picture: Pixels, mask: NDArray[np.bool_], colour: Colour, line: int) -> None:
    """Draw along a mask's edge, the colour between two thin dark lines, which any background lets be seen."""
    edges, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, edges, -1, (0, 0, 0), line + 2, cv2.LINE_8)
    cv2.drawContours(picture, edges, -1, colour, line, cv2.LINE_8)


class _Labels:
    """Texts on a picture, none over another as long as there is room."""

    def __init__(self, image: Image.Image, letters: int) -> None:
        self._pen, self._width, self._height = ImageDraw.Draw(image), image.width, image.height
        self._font, self._high = _font(letters), letters + 2 * _PAD + letters // 3
        self._taken: list[Corners] = []

    def add(self, box: Sequence[int], text: str, colour: Colour) -> None:
        """Write a text at a box of pixels, on its colour."""
        text = self._fitting(text)
        if not text:
            return
        wide = min(round(self._font.getlength(text)) + 2 * _PAD, self._width)
        places = [self._inside(left, top, wide) for left, top in self._places(box, wide)]
        free = [place for place in places if not any(_meet(place, other) for other in self._taken)]
        place = (free or places)[0]
        self._taken.append(place)
        self._pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour, outline=(0, 0, 0))
        middle = (place[1] + place[3]) / 2
        self._pen.text((place[0] + _PAD, middle), text, fill=_readable(colour), font=self._font, anchor="lm")

    def _places(self, box: Sequence[int], wide: int) -> Iterator[tuple[int, int]]:
        """Corners for a text: above the box, in it, below it, then all along its height, to its right and its left."""
        left, top, right, bottom = box
        yield from ((left, top - self._high), (left, top), (left, bottom))
        for down in range(top, max(bottom, top + 1), self._high):
            yield from ((left, down), (right - wide, down), (right, down), (left - wide, down))
        yield from ((left, down) for down in range(0, self._height, self._high))

    def _inside(self, left: int, top: int, wide: int) -> Corners:
        left = min(max(left, 0), max(self._width - wide, 0))
        top = min(max(top, 0), max(self._height - self._high, 0))
        return left, top, left + wide, min(top + self._high, self._height)

    def _fitting(self, text: str) -> str:
        """The text on one line, cut where the picture ends."""
        clean = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
        most = self._width - 2 * _PAD
        if self._font.getlength(clean) <= most:
            return clean
        kept = [n for n in range(min(len(clean), 200), 0, -1) if self._font.getlength(f"{clean[:n]}…") <= most]
        return f"{clean[: kept[0]]}…" if kept else ""


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along, at so many pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _readable(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast with a colour (relative luminance of WCAG 2)."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in colour)
    )
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else (255, 255, 255)


def _meet(one: Corners, other: Corners) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
