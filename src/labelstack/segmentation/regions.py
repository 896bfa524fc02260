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

_AT_ONCE = 16  # masks that are pixels at one time


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
        for part in _parts(classes == class_, class_, probability[..., class_], section.connected, fewest)
    ]
    found = sorted(found, key=lambda part: -part.score)[: section.most]
    empty = sized([], [], np.zeros(0, np.int64), height, width)
    masks = [empty]
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        pixels = np.zeros((len(some), height, width), bool)
        for place, part in zip(pixels, some, strict=True):
            place[part.window] = _filled(part.pixels, classes[part.window] == background, section)
        masks.append(encode(pixels))
    return Regions(
        np.array([part.class_ for part in found], np.int64),
        np.array([part.score for part in found], np.float32),
        concatenated(masks),
        classes,
    )


def _parts(
    mask: NDArray[np.bool_], class_: int, probability: NDArray[np.float32], connected: int, fewest: float
) -> list[_Part]:
    """The connected parts of a mask that are large enough, from top to bottom."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connected)
    sums = np.bincount(labels.ravel(), weights=probability.ravel().astype(np.float64), minlength=count)
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
