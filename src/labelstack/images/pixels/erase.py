"""Random erasing: a rectangle of a training image loses what it shows. imgaug's Cutout has no areas and ratios."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.draws import ERASE, Draws, between, ratio_between
from labelstack.params.augment import EraseSection


class Erase:
    """Random erasing (Zhong et al. 2020): chance, share of the area and ratio of the sides.

    Instead of drawing again where a rectangle does not fit, the ratio is drawn from those that fit its area.
    """

    def __init__(self, section: EraseSection) -> None:
        self.section = section

    def apply(self, batch: NDArray[np.uint8], draws: Draws) -> None:
        """Erase in place: uint8 [n, h, w, 3], random numbers [n, draws]."""
        height, width = batch.shape[1:3]
        for row in np.flatnonzero(draws[:, ERASE] < self.section.chance):
            image = batch[row]
            top, left, h, w = rectangle(self.section, height, width, draws[row, ERASE + 1 : ERASE + 5])
            fill = self.section.fill
            colour = np.rint(image.mean(axis=(0, 1))) if fill == "mean" else np.array(fill)
            image[top : top + h, left : left + w] = colour.astype(np.uint8)


def rectangle(section: EraseSection, height: int, width: int, draws: Draws) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is erased, in pixels; ``draws`` [4] of area, ratio, across and down."""
    share = between(section.area, draws[0])
    area = share * height * width
    # h = √(area · ratio) ≤ height, w = √(area / ratio) ≤ width
    fitting = np.clip(section.ratio, area / width**2, height**2 / area)
    ratio = ratio_between((fitting[0], fitting[1]), draws[1])
    h = min(height, max(1, round(math.sqrt(area * ratio))))
    w = min(width, max(1, round(math.sqrt(area / ratio))))
    return int(draws[3] * (height - h + 1)), int(draws[2] * (width - w + 1)), h, w
