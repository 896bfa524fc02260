"""Flip, rotation, scale, shift, shear, crop and the way to the network's size: one resampling for each image.

Where several of them meet, their matrices are multiplied, and the stored image is read once. One alone gives imgaug's
pixels: ``Affine`` with reflected borders, ``Crop`` with ``keep_size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.decode import fit
from labelstack.images.pixels.draws import CROP, FLIP, MOVE, Draws, values
from labelstack.params.augment import AugmentSection

Pixels = NDArray[np.uint8]
Reals = NDArray[np.float64]
Shares = NDArray[np.float32]


@dataclass(frozen=True)
class Geometry:
    """What a policy does to places, not to colours."""

    params: AugmentSection

    @property
    def moves(self) -> bool:
        """Whether any image is rotated, scaled, shifted or slanted."""
        own = self.params
        return own.chance > 0 and (own.scale != (1, 1) or any([*own.rotate, *own.shift, *own.shear]))

    @property
    def crops(self) -> bool:
        """Whether sides are cut off."""
        return self.params.chance > 0 and any(self.params.crop)

    @property
    def zoom(self) -> float | None:
        """The smallest factor of scale, at most 1; None where an image is resized to the square only, or flipped."""
        return min(1.0, self.params.scale[0]) if self.moves or self.crops else None

    def plan(self, draws: Draws, height: int, width: int) -> Plan:
        """What the random numbers [n, draws] say for images that become ``height`` × ``width``."""
        chance = self.params.chance
        flipped = draws[:, FLIP] < self.params.flip
        moved = (draws[:, MOVE] < chance) & self.moves
        cropped = (draws[:, CROP] < chance) & self.crops
        shares = values(self.params.crop, draws[:, CROP + 1 : CROP + 5]) * cropped[:, None]
        matrices = self._matrices(draws, flipped, shares.astype(np.float64), height, width) if moved.any() else None
        return Plan(height, width, flipped, moved, cropped, shares, matrices)

    def _matrices(self, draws: Draws, flipped: NDArray[np.bool_], shares: Reals, height: int, width: int) -> Reals:
        """Where the pixels of squares come to lie, float64 [n, 3, 3] for (x, y, 1), x = 0 in the first's middle."""
        moved = self._movement(draws, height, width)
        moved[flipped, :, 2] += moved[flipped, :, 0] * (width - 1)
        moved[flipped, :, 0] *= -1
        before = shares[:, [3, 0]]
        grow = 1 / (1 - before - shares[:, [1, 2]])
        cut = np.zeros_like(moved)
        cut[:, [0, 1], [0, 1]] = grow
        cut[:, :2, 2] = (grow - 1) / 2 - grow * before * [width, height]
        cut[:, 2, 2] = 1
        return np.asarray(cut @ moved)

    def _movement(self, draws: Draws, height: int, width: int) -> Reals:
        """imgaug's matrices for a square's pixels, with its float32, float64 [n, 3, 3]."""
        own = self.params
        ranges = (own.rotate, own.scale, own.shift, own.shift, own.shear)
        rotate, scale, right, down, shear = (
            values(low_high, draws[:, MOVE + 1 + place]) for place, low_high in enumerate(ranges)
        )
        angle, slant = (np.deg2rad(degrees).astype(np.float64) for degrees in (rotate, shear))
        sin, cos, tan = np.sin(angle), np.cos(angle), np.tan(slant)
        moved = np.zeros((len(draws), 3, 3))
        moved[:, 0, 0] = scale * cos.astype(np.float32)
        moved[:, 0, 1] = -scale * (tan * cos + sin).astype(np.float32)
        moved[:, 1, 0] = scale * sin.astype(np.float32)
        moved[:, 1, 1] = -scale * (tan * sin - cos).astype(np.float32)
        moved[:, 2, 2] = 1
        middle = np.array([width / 2 - 0.5, height / 2 - 0.5])
        moved[:, :2, 2] = np.stack([right * width, down * height], axis=1) + middle - moved[:, :2, :2] @ middle
        return moved


@dataclass(frozen=True)
class Plan:
    """What becomes of each image of a batch.

    Attributes
    ----------
    height, width : of the results
    flipped, moved, cropped : bool [n]
    shares : float32 [n, 4] of the sides that are cut off at the top, right, bottom and left
    matrices : float64 [n, 3, 3] or None where no image is moved
    """

    height: int
    width: int
    flipped: NDArray[np.bool_]
    moved: NDArray[np.bool_]
    cropped: NDArray[np.bool_]
    shares: Shares
    matrices: Reals | None

    def apply(self, place: int, source: Pixels, out: Pixels) -> None:
        """Resample an image uint8 [h, w, 3] into ``out`` uint8 [height, width, 3]."""
        matrix = self._matrix(place, source)
        if matrix is not None:
            cv2.warpAffine(source, matrix, (self.width, self.height), out, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101)
            return
        if self.cropped[place]:
            square = _resized(self._cut(place, source), self.width, self.height)
        else:
            square = fit(source, self.width, self.height)
        if self.flipped[place]:
            cv2.flip(square, 1, out)
        else:
            out[:] = square

    def apply_to_map(self, place: int, source: NDArray[Any], out: NDArray[Any]) -> None:
        """Move a class map, uint8 or uint16 [h, w], as ``apply`` moves its image: to each pixel the nearest's class."""
        matrix = self._matrix(place, source)
        if matrix is not None:
            cv2.warpAffine(source, matrix, (self.width, self.height), out, cv2.INTER_NEAREST, cv2.BORDER_REFLECT_101)
            return
        part = self._cut(place, source) if self.cropped[place] else source
        square = cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_NEAREST_EXACT)
        out[:] = square[:, ::-1] if self.flipped[place] else square

    def _matrix(self, place: int, source: NDArray[Any]) -> Reals | None:
        """Where the pixels of an image come to lie, float64 [2, 3]; None where it is not moved."""
        if self.matrices is None or not self.moved[place]:
            return None
        down, across = self.height / source.shape[0], self.width / source.shape[1]
        to_square = [[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]]
        return np.asarray((self.matrices[place] @ to_square)[:2])

    def _cut(self, place: int, source: NDArray[Any]) -> NDArray[Any]:
        """What a crop leaves of an image before it is flipped, to the nearest pixels, at least one each way."""
        (height, width), shares = source.shape[:2], self.shares[place].tolist()
        top, right, bottom, left = (round(n * share) for n, share in zip((height, width) * 2, shares, strict=True))
        if self.flipped[place]:
            left, right = right, left
        top, left = min(top, height - 1), min(left, width - 1)
        return source[top : max(height - bottom, top + 1), left : max(width - right, left + 1)]


def _resized(image: Pixels, width: int, height: int) -> Pixels:
    """Resize what a crop has left: where it grows, as imgaug does, which is bilinear with other weights."""
    grows = image.shape[0] <= height and image.shape[1] <= width
    kind = cv2.INTER_AREA if grows else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=kind), np.uint8)
