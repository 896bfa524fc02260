"""Weights drawn by name, the same ones wherever NumPy runs: what two libraries' networks are filled with."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def drawn(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, NDArray[Any]]:
    """A tensor for each name, named and shaped as PyTorch does, of a size that keeps activations near 1."""
    return {name: _tensor(name, tuple(shape)) for name, shape in shapes}


def pixels(size: int, images: int = 2) -> NDArray[np.uint8]:
    """Smooth colours with noise on them, uint8 [images, size, size, 3]."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(2 * np.pi * (fy * y + fx * x) + phase) for fy, fx, phase in rng.uniform(0, 4, (images * 3, 3))]
    colours = 128 + 90 * np.stack(waves, -1).reshape(size, size, images, 3).transpose(2, 0, 1, 3)
    return np.clip(colours + rng.integers(-30, 31, colours.shape), 0, 255).astype(np.uint8)


def summary(features: NDArray[np.float32]) -> list[float]:
    """Twelve numbers of a feature map [b, h, w, c]: four of all of it, eight means over parts of 997 of its values."""
    flat = features.reshape(-1).astype(np.float64)
    some = flat[:: max(1, len(flat) // 997)][:997]
    parts = [part.mean() for part in np.array_split(some, 8)]
    return [float(v) for v in [flat.mean(), flat.std(), flat.max(), np.abs(np.diff(flat)).mean(), *parts]]


def _tensor(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    rng = np.random.default_rng([0, zlib.crc32(name.encode())])
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if len(shape) > 1:
        return (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
    if name.endswith(("running_var", "weight", "gamma")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)
