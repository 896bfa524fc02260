"""A softmax for each label group, as one activation whose answers sum to 1 over all labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy import special


@keras.saving.register_keras_serializable("labelstack")
class GroupSoftmax:
    """Softmax within each label group, divided by their number: every group has an equal part of the sum 1.

    Parameters
    ----------
    sizes : labels of each group; groups stand one after another
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = [int(size) for size in sizes]
        self._ends = np.cumsum(self.sizes)[:-1].tolist()

    def __call__(self, logits: Any) -> Any:
        """Answers [n, n_labels] of logits [n, n_labels]; Keras operations."""
        parts = ops.split(logits, self._ends, axis=-1) if self._ends else [logits]
        return ops.concatenate([ops.softmax(part, axis=-1) for part in parts], axis=-1) / len(self.sizes)

    def of_arrays(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The same of an array; neither overflows nor divides by 0."""
        parts = np.split(np.asarray(logits, np.float64), self._ends, axis=-1)
        whole = np.concatenate([special.softmax(part, axis=-1) for part in parts], axis=-1)
        return np.asarray(whole / len(self.sizes))

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {"sizes": self.sizes}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GroupSoftmax:
        """For Keras."""
        return cls(config["sizes"])


def group_sizes(groups: Sequence[str]) -> list[int]:
    """Labels of each group, of groups [n_labels]; raise ``ValueError`` when a group's labels do not stand together."""
    runs = [(name, len(list(labels))) for name, labels in groupby(groups)]
    if len({name for name, _ in runs}) != len(runs):
        raise ValueError("labels of a group must stand one after another")
    return [size for _, size in runs]
