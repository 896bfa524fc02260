"""Regions out of class maps: connected pixels of one class, with the probability that they have of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelstack.masks.run_lengths import RunLengths, concatenated, encode, sized
from labelstack.params.regions import RegionsSection


@dataclass(frozen=True)
class Regions:
    """Regions of one photo, by falling score.

    Attributes
    ----------
    class_ : int64 [n]
    score : float32 [n], the mean probability of its class over the pixels that are of it (before holes are filled)
    masks : n of them, of the class map's size
    class_map : int64 [h, w], the likeliest class of each pixel
    """

    class_: NDArray[np.int64]
    score: NDArray[np.float32]
    masks: RunLengths
    class_map: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_)


@dataclass(frozen=True)
class _Part:
    """Connected pixels of a class: in the window of the map that holds them, bool."""

    class_: int
    score: float
    window: tuple[slice, slice]
    pixels: NDArray[np.bool_]


def find_regions(probability: NDArray[np.float32], background: int, section: RegionsSection) -> Regions:
    """Regions of one photo.

    Two garments of one class that touch are one region.

    Parameters
    ----------
    probability : float32 [h, w, classes]
        Each pixel is of the likeliest class, the first of equals.
    background : the class that has no regions
    section : how pixels are connected, what is too small, which holes are filled, how many are kept
    """
    classes = probability.argmax(-1)
    height, width = classes.shape
    fewest = section.smallest * height * width
    found = [
        part
        for class_ in np.unique(classes).tolist()
        if class_ != background
        for part in _parts(classes == class_, class_, probability, section.connected, fewest)
    ]
    found = sorted(found, key=lambda part: -part.score)[: section.most]
    masks = [sized([], [], np.zeros(0, np.int64), height, width)]
    for part in found:
        pixels = _filled(part.pixels, classes[part.window] == background, section)
        masks.append(_runs(pixels, part.window, height, width))
    return Regions(
        np.array([part.class_ for part in found], np.int64),
        np.array([part.score for part in found], np.float32),
        concatenated(masks),
        classes,
    )


def _runs(pixels: NDArray[np.bool_], window: tuple[slice, slice], height: int, width: int) -> RunLengths:
    """The mask of the pixels of a window, as of the whole map."""
    if len(pixels) == height:  # where runs may go on in the next column
        whole = np.zeros((1, height, width), bool)
        whole[0][window] = pixels
        return encode(whole)
    own = encode(np.pad(pixels, ((0, 1), (0, 0)))[None])  # an empty row keeps columns apart
    column, row = np.divmod(own.start, len(pixels) + 1)
    start = (window[1].start + column) * height + window[0].start + row
    return sized(start, own.length, own.count, height, width)


def _parts(
    mask: NDArray[np.bool_], class_: int, probability: NDArray[np.float32], connected: int, fewest: float
) -> list[_Part]:
    """The connected parts of a mask that are large enough, from top to bottom."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connected)
    at = np.flatnonzero(mask)
    of_class = probability.reshape(mask.size, -1)[at, class_].astype(np.float64)
    sums = np.bincount(labels.ravel()[at], weights=of_class, minlength=count)
    parts = []
    for label in range(1, count):
        left, top, width, height, area = stats[label].tolist()
        if area >= fewest:
            window = slice(top, top + height), slice(left, left + width)
            parts.append(_Part(class_, float(sums[label] / area), window, labels[window] == label))
    return parts


def _filled(pixels: NDArray[np.bool_], background: NDArray[np.bool_], section: RegionsSection) -> NDArray[Any]:
    """A part with its holes filled: those of background, all, or none."""
    if section.fill_holes == "none":
        return pixels
    # what is around an 8-connected part is 4-connected, and the other way round
    around = ndimage.generate_binary_structure(2, 1 if section.connected == 8 else 2)
    whole = ndimage.binary_fill_holes(pixels, around)
    return np.asarray(whole if section.fill_holes == "all" else pixels | (whole & background))
