"""Layers of a decoder that Keras has not: sizes made to fit, pixel shuffle, blur, self-attention."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from labelstack.segmentation.icnr import FACTOR


@keras.saving.register_keras_serializable(package="labelstack")
class PadToMultiple(layers.Layer):  # type: ignore[misc]
    """Repeat the last row and column until height and width are divisible by ``multiple``."""

    def __init__(self, multiple: int, **given: Any) -> None:
        super().__init__(**given)
        self.multiple = multiple

    def call(self, images: Any) -> Any:
        """[b, h, w, c] → [b, H, W, c], of the same type."""
        size = tf.shape(images)
        for axis in (1, 2):
            padded = -(-size[axis] // self.multiple) * self.multiple
            images = tf.gather(images, tf.minimum(tf.range(padded), size[axis] - 1), axis=axis)
        return images

    def compute_output_shape(self, shape: Any) -> Any:
        """Sides rounded up, None where not known."""
        sides = [side and -(-side // self.multiple) * self.multiple for side in shape[1:3]]
        return (shape[0], *sides, shape[3])

    def get_config(self) -> dict[str, Any]:
        """For saving."""
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="labelstack")
class CropLike(layers.Layer):  # type: ignore[misc]
    """The upper left part of a map, of another's height and width."""

    def call(self, both: Any) -> Any:
        """Maps [b, H, W, c] and [b, h, w, …] → [b, h, w, c]."""
        map_, like = both
        size = tf.shape(like)
        return map_[:, : size[1], : size[2]]

    def compute_output_shape(self, shapes: Any) -> Any:
        """The other's sides."""
        return (shapes[0][0], *shapes[1][1:3], shapes[0][3])


@keras.saving.register_keras_serializable(package="labelstack")
class PixelShuffle(layers.Layer):  # type: ignore[misc]
    """Four channels become four pixels (Shi et al. 2016)."""

    def call(self, x: Any) -> Any:
        """[b, h, w, 4c] → [b, 2h, 2w, c]."""
        return tf.nn.depth_to_space(x, FACTOR)

    def compute_output_shape(self, shape: Any) -> Any:
        """Twice the sides, a fourth of the channels."""
        return (shape[0], *(side and FACTOR * side for side in shape[1:3]), shape[3] // FACTOR**2)


@keras.saving.register_keras_serializable(package="labelstack")
class Blur(layers.Layer):  # type: ignore[misc]
    """The mean of each pixel and those above and left of it, borders repeated (Sugawara et al. 2018)."""

    def call(self, x: Any) -> Any:
        """[b, h, w, c] → the same."""
        for axis in (1, 2):
            first = tf.gather(x, [0], axis=axis)
            before = tf.concat([first, x[:, :-1] if axis == 1 else x[:, :, :-1]], axis)
            x = (x + before) / 2
        return x

    def compute_output_shape(self, shape: Any) -> Any:
        """The same."""
        return shape


@keras.saving.register_keras_serializable(package="labelstack")
class SelfAttention(layers.Layer):  # type: ignore[misc]
    """Every place of a map may look at all others (Zhang et al. 2019, without spectral normalization).

    It begins as the identity. Memory grows with the square of the number of places.
    """

    def build(self, shape: Any) -> None:
        """Weights for [b, h, w, c]; queries and keys have c / 8 channels."""
        channels = shape[-1]
        inner = max(channels // 8, 1)
        for name, width in (("query", inner), ("key", inner), ("value", channels)):
            setattr(self, name, self.add_weight(shape=(channels, width), initializer="glorot_uniform", name=name))
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")

    def call(self, x: Any) -> Any:
        """[b, h, w, c] → the same."""
        size = tf.shape(x)
        flat = tf.reshape(x, [size[0], -1, x.shape[-1]])
        query, key, value = (tf.matmul(flat, w.value) for w in (self.query, self.key, self.value))
        weight = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        return x + self.gamma.value * tf.reshape(tf.matmul(weight, value), size)

    def compute_output_shape(self, shape: Any) -> Any:
        """The same."""
        return shape
