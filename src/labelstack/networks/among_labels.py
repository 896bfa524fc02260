"""What a network that knows some label groups alone says of all labels: not a number of those that it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

NAME = "among_labels"  # of the layer


@keras.saving.register_keras_serializable("labelstack")
class AmongLabels(layers.Layer):
    """Answers [n, outputs] → [n, n_labels]: each times ``share`` at its label's place, NaN at all others.

    Parameters
    ----------
    places : columns of the outputs among all labels
    n_labels : all labels
    share : label groups that are known, of all: every group keeps an equal part of the sum 1, as of ``GroupSoftmax``
    """

    def __init__(self, places: Sequence[int], n_labels: int, share: float, **more: Any) -> None:
        super().__init__(**{"dtype": "float32", "name": NAME, "trainable": False} | more)
        self.places, self.n_labels, self.share = [int(place) for place in places], int(n_labels), float(share)
        self._from = np.full(self.n_labels, len(self.places))  # the last column is put there
        self._from[self.places] = np.arange(len(self.places))

    def call(self, answers: Any) -> Any:
        """Keras operations."""
        unknown = ops.full_like(answers[:, :1], np.nan)
        return ops.take(ops.concatenate([answers * self.share, unknown], axis=-1), self._from, axis=-1)

    def of_arrays(self, answers: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The same of an array."""
        found = np.full((len(answers), self.n_labels), np.nan)
        found[:, self.places] = np.asarray(answers, np.float64) * self.share
        return found

    def compute_output_shape(self, shape: Any) -> tuple[Any, ...]:
        """For Keras."""
        return (*shape[:-1], self.n_labels)

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return super().get_config() | {"places": self.places, "n_labels": self.n_labels, "share": self.share}


def among_labels(model: keras.Model, places: Sequence[int], n_labels: int, share: float) -> keras.Model:
    """The same network (shared variables), answering for all labels; arguments as of ``AmongLabels``."""
    answer = AmongLabels(places, n_labels, share)(model.output)
    return keras.Model(model.inputs, answer, name=model.name)


def spread_of(model: keras.Model) -> AmongLabels | None:
    """The layer that a network's answers pass last; None: it knows all labels."""
    last = model.layers[-1]
    return last if isinstance(last, AmongLabels) else None
