"""Fixed image descriptors as Keras layers: Lab colour, two maps of what stands before the background, gradients.

All of them compute in float32 whatever the policy: half precision has no matrix inverse and coarse distances.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# sRGB primaries to CIE XYZ, each row over the D65 white point (IEC 61966-2-1).
_TO_XYZ = np.array(
    [
        [0.412453 / 0.950456, 0.212671, 0.019334 / 1.088754],
        [0.357580 / 0.950456, 0.715160, 0.119193 / 1.088754],
        [0.180423 / 0.950456, 0.072169, 0.950227 / 1.088754],
    ],
    dtype=np.float32,
)


class _Float32Layer(layers.Layer):  # type: ignore[misc]
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32"})


@keras.saving.register_keras_serializable(package="labelstack")
class LabColour(_Float32Layer):
    """RGB in 0…255 to CIE L*a*b* (D65), over 100, so that lightness is 0…1."""

    def call(self, images: Any) -> Any:
        """Pixels [b, h, w, 3] → float32 of the same shape."""
        rgb = ops.cast(images, "float32") / 255.0
        linear = ops.where(rgb > 0.04045, ops.power((ops.maximum(rgb, 0.04045) + 0.055) / 1.055, 2.4), rgb / 12.92)
        xyz = ops.matmul(linear, ops.convert_to_tensor(_TO_XYZ))
        root = ops.where(xyz > 0.008856, ops.power(ops.maximum(xyz, 0.008856), 1 / 3), 7.787 * xyz + 16 / 116)
        x, y, z = root[..., 0], root[..., 1], root[..., 2]
        return ops.stack([1.16 * y - 0.16, 5.0 * (x - y), 2.0 * (y - z)], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="labelstack")
class ForegroundMap(_Float32Layer):
    """How unlike the image's border each pixel is: what stands in the middle, whatever the background.

    The Mahalanobis distance of a pixel from the colours in the outermost ``border`` share of the image. ``floor`` is
    the least standard deviation of border colours, ``limit`` the distance that counts as 1.
    """

    def __init__(self, border: float = 0.0625, floor: float = 0.05, limit: float = 6.0, **options: Any) -> None:
        super().__init__(**options)
        self.border, self.floor, self.limit = float(border), float(floor), float(limit)

    def call(self, colours: Any) -> Any:
        """Colours [b, h, w, c], values near 0…1 → distance [b, h, w, 1] in 0…1."""
        height, width, channels = colours.shape[1:]
        rim = max(1, round(self.border * height))
        sides = [colours[:, :rim], colours[:, -rim:], colours[:, rim:-rim, :rim], colours[:, rim:-rim, -rim:]]
        edge = ops.concatenate([_points(side) for side in sides], axis=1)
        mean = ops.mean(edge, axis=1, keepdims=True)
        centred = edge - mean
        covariance = ops.matmul(ops.transpose(centred, (0, 2, 1)), centred) / edge.shape[1]
        inverse = ops.linalg.inv(covariance + self.floor**2 * ops.eye(channels))
        offset = _points(colours) - mean
        squared = ops.sum(ops.matmul(offset, inverse) * offset, axis=-1)
        distance = ops.sqrt(ops.maximum(squared, 0.0)) / self.limit
        return ops.reshape(ops.minimum(distance, 1.0), (-1, height, width, 1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """One channel instead of the input's."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "border": self.border, "floor": self.floor, "limit": self.limit}


@keras.saving.register_keras_serializable(package="labelstack")
class ForegroundOdds(_Float32Layer):
    """How much more like the image's centre than like its border each pixel's colour is.

    Densities of both are kernel estimates (Gaussian of standard deviation ``width``) over the cells of a
    ``grid`` × ``grid`` average-pooled copy: the outermost ring against the middle ``centre`` share of the side.
    ``floor`` damps the odds of colours that neither has.
    """

    def __init__(
        self, grid: int = 16, centre: float = 0.375, width: float = 0.08, floor: float = 0.01, **options: Any
    ) -> None:
        super().__init__(**options)
        self.grid, self.centre, self.width, self.floor = int(grid), float(centre), float(width), float(floor)

    def call(self, colours: Any) -> Any:
        """Colours [b, h, w, c], h = w, values near 0…1 → odds [b, h, w, 1] in 0…1."""
        size = colours.shape[1]
        step = max(1, size // self.grid)
        cells = ops.average_pool(colours, step, strides=step, padding="valid")
        side = cells.shape[1]
        margin = round(side * (1.0 - self.centre) / 2.0)
        ring = [cells[:, :1], cells[:, -1:], cells[:, 1:-1, :1], cells[:, 1:-1, -1:]]
        border = ops.concatenate([_points(part) for part in ring], axis=1)
        middle = _points(cells[:, margin : side - margin, margin : side - margin])
        points = _points(colours)
        inside, outside = self._density(points, middle), self._density(points, border)
        odds = (inside + self.floor) / (inside + outside + 2.0 * self.floor)
        return ops.reshape(odds, (-1, size, size, 1))

    def _density(self, points: Any, samples: Any) -> Any:
        crossed = ops.matmul(points, ops.transpose(samples, (0, 2, 1)))
        lengths = ops.expand_dims(ops.sum(samples * samples, axis=-1), 1)
        squared = ops.sum(points * points, axis=-1, keepdims=True) - 2.0 * crossed + lengths
        return ops.mean(ops.exp(-squared / (2.0 * self.width**2)), axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """One channel instead of the input's."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"grid": self.grid, "centre": self.centre, "width": self.width, "floor": self.floor}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="labelstack")
class OrientedGradients(_Float32Layer):
    """Histograms of oriented gradients (Dalal & Triggs 2005), with unsigned orientation and soft votes.

    Of several channels the one with the strongest gradient counts at a pixel; blocks of 2 × 2 cells are normalised
    L2-Hys (Lowe's clipping at 0.2).
    """

    def __init__(self, cell: int = 8, bins: int = 9, **options: Any) -> None:
        super().__init__(**options)
        self.cell, self.bins = int(cell), int(bins)

    def call(self, images: Any) -> Any:
        """Images [b, h, w, c] → [b, h/cell − 1, w/cell − 1, 4 · bins]."""
        images = ops.cast(images, "float32")
        padded = ops.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")
        dy = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
        dx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
        power = dx * dx + dy * dy
        if images.shape[-1] > 1:
            strongest = ops.cast(ops.equal(power, ops.max(power, axis=-1, keepdims=True)), "float32")
            strongest = strongest / ops.sum(strongest, axis=-1, keepdims=True)
            dx, dy = (ops.sum(d * strongest, axis=-1, keepdims=True) for d in (dx, dy))
            power = ops.max(power, axis=-1, keepdims=True)
        angle = ops.arctan2(dy, dx) * (self.bins / math.pi)
        centres = ops.arange(self.bins, dtype="float32")
        gap = ops.abs(ops.mod(angle - centres + self.bins / 2, self.bins) - self.bins / 2)
        votes = ops.maximum(1.0 - gap, 0.0) * ops.sqrt(power + 1e-12)
        cells = ops.average_pool(votes, self.cell, strides=self.cell, padding="valid")
        blocks = ops.concatenate([cells[:, :-1, :-1], cells[:, :-1, 1:], cells[:, 1:, :-1], cells[:, 1:, 1:]], axis=-1)
        return _unit_length(ops.minimum(_unit_length(blocks), 0.2))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See ``call``."""
        n, height, width, _ = input_shape
        return (n, height // self.cell - 1, width // self.cell - 1, 4 * self.bins)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "cell": self.cell, "bins": self.bins}


def _points(part: Any) -> Any:
    """[b, h, w, c] → [b, h · w, c]."""
    return ops.reshape(part, (-1, part.shape[1] * part.shape[2], part.shape[3]))


def _unit_length(values: Any) -> Any:
    return values / ops.sqrt(ops.sum(values * values, axis=-1, keepdims=True) + 1e-4)
