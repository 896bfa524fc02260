"""Tiny training data and a tiny model for the tests of networks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labelstack.networks  # noqa: F401 - quiets TensorFlow before it is imported
from labelstack.networks.tasks import multi_label
from labelstack.params.models import HeadSection, ModelSection, ScheduleSection

SIZE = 16
N_LABELS = 3


class ArrayBatches:
    """Training batches from arrays, shuffled anew each epoch; the last one is smaller."""

    def __init__(self, images: NDArray[np.uint8], targets: NDArray[np.float32], batch_size: int = 8) -> None:
        self.images, self.targets, self.batch_size = images, targets, batch_size
        self.steps_per_epoch = -(-len(images) // batch_size)
        self.digest = hashlib.sha256(images.tobytes()).hexdigest()

    def order(self, e: int, again: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        rows = np.arange(len(self.images))
        rows = rows if again is None else np.concatenate([rows, again])
        return rows[np.random.default_rng([5, e]).permutation(len(rows))]

    def epoch(
        self, e: int, again: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        order = self.order(e, again)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.images[rows], self.targets[rows]


def draw(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Noise images whose channel c is bright when label c is set."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, N_LABELS)) < 0.4).astype(np.float32)
    targets[targets.sum(1) == 0, 0] = 1  # an image without labels scores no F1
    images = rng.integers(0, 120, (n, SIZE, SIZE, 3)) + (targets[:, None, None, :] * 130).astype(int)
    return images.astype(np.uint8), targets


def tiny(**changes: object) -> ModelSection:
    """A small_cnn that trains in a second, with dropout and batch normalization."""
    settings = {
        "backbone": "small_cnn",
        "image_size": SIZE,
        "options": {"filters": [4, 8], "convolutions": 1},
        "head": HeadSection(units=[16], dropout=0.3),
        "batch_size": 8,
        "epochs": 4,
        "learning_rate": 0.01,
        "schedule": ScheduleSection(kind="constant"),
    }
    return ModelSection(**{**settings, **changes})


def built(
    params: ModelSection,
    n_labels: int = N_LABELS,
    *,
    prior: NDArray[np.floating[Any]] | None = None,
    mixed_precision: bool = False,
) -> Any:
    """The network that the params describe, for labels each on its own."""
    from labelstack.networks.model import build_model

    return build_model(params, multi_label(params, n_labels, prior), mixed_precision=mixed_precision)
