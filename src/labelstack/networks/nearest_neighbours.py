"""A network whose last layer looks labels up: those of the kept rows whose features are nearest by cosine."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

_BLOCK = 16384  # kept rows that are compared at once, which bounds memory
_LEAST = 1e-6  # of a vote whose logit is taken

Floats = NDArray[np.float32]


@keras.saving.register_keras_serializable("labelstack")
class Neighbours(layers.Layer):
    """Logits of the weighted share of neighbours with each label.

    The share is Σ w y / Σ w over the ``k`` kept rows of the greatest cosine, w = exp(−``sharpness`` · (1 − cosine)), as
    the 4th of iMet 2019 propagated labels.

    Parameters
    ----------
    rows, width, n_labels : shape of what is kept: features float16 [rows, width] of length 1, labels [rows, n_labels]
    k, sharpness : see above
    exclusive : logits are of a softmax, whose labels exclude each other, and not of a sigmoid each
    """

    def __init__(
        self, rows: int, width: int, n_labels: int, k: int, sharpness: float, exclusive: bool = False, **named: Any
    ) -> None:
        super().__init__(trainable=False, **named)
        self.sizes = {"rows": rows, "width": width, "n_labels": n_labels}
        self.k, self.sharpness, self.exclusive = min(k, rows), sharpness, exclusive
        self.kept = self.add_weight((rows, width), "zeros", "float16", trainable=False, name="kept")
        self.labels = self.add_weight((rows, n_labels), "zeros", "uint8", trainable=False, name="labels")

    def call(self, features: Any) -> Any:
        """Logits float32 [b, n_labels] of features [b, width]."""
        asked = ops.normalize(ops.cast(features, "float32"), axis=-1)
        rows, near, places = self.sizes["rows"], [], []
        for start in range(0, rows, _BLOCK):
            block = ops.cast(self.kept[start : start + _BLOCK], "float32")
            cosine, place = ops.top_k(ops.matmul(asked, ops.transpose(block)), min(self.k, rows - start, _BLOCK))
            near.append(cosine)
            places.append(place + start)
        cosine, order = ops.top_k(ops.concatenate(near, axis=-1), self.k)
        place = ops.take_along_axis(ops.concatenate(places, axis=-1), order, axis=-1)
        weight = ops.exp(self.sharpness * (cosine - cosine[:, :1]))  # of the nearest 1: nothing under- or overflows
        voted = ops.cast(ops.take(self.labels, place, axis=0), "float32") * weight[:, :, None]
        share = ops.clip(ops.sum(voted, axis=1) / ops.sum(weight, axis=1, keepdims=True), _LEAST, 1 - _LEAST)
        return ops.log(share) if self.exclusive else ops.log(share) - ops.log1p(-share)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """[b, n_labels]."""
        return (input_shape[0], self.sizes["n_labels"])

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        own = {"k": self.k, "sharpness": self.sharpness, "exclusive": self.exclusive}
        named = {key: value for key, value in super().get_config().items() if key not in ("trainable", "dtype")}
        return {**named, **self.sizes, **own}


def features_model(model: keras.Model) -> keras.Model:
    """The same network (shared variables) ending with what its last dense layer takes."""
    return keras.Model(model.inputs, model.get_layer("logits").input, name="features_of_" + model.name)


def unit_rows(features: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """Features [n, width] of length 1, rows of zeros as they are."""
    wide = features.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(length > 0, length, 1)).astype(np.float16)


def with_neighbours(
    model: keras.Model, features: Floats, Y: NDArray[np.bool_], k: int, sharpness: float, *, exclusive: bool = False
) -> keras.Model:
    """A network like ``model`` whose labels are those of rows that it has features of.

    Parameters
    ----------
    features : float32 [rows, width], from ``features_model``
    Y : bool [rows, n_labels]
    """
    last = Neighbours(len(Y), features.shape[1], Y.shape[1], k, sharpness, exclusive, dtype="float32", name="logits")
    penultimate = model.get_layer("logits").input
    answer = layers.Activation("softmax" if exclusive else "sigmoid", dtype="float32", name="probability")
    made = keras.Model(model.inputs, answer(last(penultimate)), name="base_model")
    last.set_weights([unit_rows(features), Y.astype(np.uint8)])
    return made
