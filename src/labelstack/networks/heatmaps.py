"""Where a network looks: class activation maps of the label that it finds most probable, and the box of their heat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import ndimage

from labelstack.networks.heads import head_layers
from labelstack.support.box import Box

Images = NDArray[np.uint8]
Maps = NDArray[np.float32]


def heatmaps_of(model: keras.Model) -> Callable[[Images], Maps]:
    """What gives the maps of images uint8 [b, S, S, 3] as float32 [b, h, w], traced once for every batch size.

    The map of the label with the largest logit, its negative parts 0, divided by its maximum (all 0 where there is
    none). A head that is an average and a layer of logits has the class activation map Σ W[c]·A[c] (Zhou et al. 2016);
    other heads Grad-CAM, whose weights are the logit's mean gradients by place (Selvaraju et al. 2017).
    """
    pooling, head = model.get_layer("pooling"), head_layers(model)
    body = keras.Model(model.inputs, pooling.input)
    plain = isinstance(pooling, keras.layers.GlobalAveragePooling2D) and not any(
        isinstance(layer, keras.layers.Dense) for layer in head[:-1]
    )

    def logits_of(features: tf.Tensor) -> tf.Tensor:
        x = pooling(features)
        for layer in head:
            x = layer(x, training=False)
        return tf.cast(x, tf.float32)

    def maps(images: tf.Tensor) -> tf.Tensor:
        features = tf.cast(body(images, training=False), tf.float32)
        if plain:
            best = tf.argmax(logits_of(features), axis=1)
            weights = tf.gather(tf.transpose(tf.cast(head[-1].kernel, tf.float32)), best)
        else:
            with tf.GradientTape() as tape:
                tape.watch(features)
                top = tf.reduce_sum(tf.reduce_max(logits_of(features), axis=1))
            weights = tf.reduce_mean(tape.gradient(top, features), axis=[1, 2])
        heat = tf.nn.relu(tf.einsum("bhwc,bc->bhw", features, weights))
        most = tf.reduce_max(heat, axis=[1, 2], keepdims=True)
        return tf.math.divide_no_nan(heat, most)

    signature = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.uint8)
    traced = tf.function(maps, input_signature=[signature], autograph=False)
    return lambda images: np.asarray(traced(tf.constant(images)), np.float32)


def of_shape(maps: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Maps [n, h, w] resized to another height and width, bilinear."""
    if maps.shape[1:] == shape:
        return maps
    return np.stack([cv2.resize(one, shape[::-1], interpolation=cv2.INTER_LINEAR) for one in maps])


def heat_box(heat: Maps, size: int, width: int, height: int, threshold: float) -> Box | None:
    """The square about the largest connected block of heat, clipped to the photo; None where there is no heat.

    Parameters
    ----------
    heat : float32 [h, w], of an image that was stretched to a square
    size : pixels of the square that the map is enlarged to, bilinear
    width, height : of the photo, whose pixels are square
    threshold : share of the largest value above which there is heat; pixels touch by their sides
    """
    if not heat.max(initial=0) > 0:
        return None
    large = cv2.resize(heat, (size, size), interpolation=cv2.INTER_LINEAR)
    blocks, count = ndimage.label(large > threshold * large.max())
    largest = 1 + int(np.argmax(np.bincount(blocks.ravel(), minlength=count + 1)[1:]))
    down, across = ndimage.find_objects(blocks, max_label=largest)[largest - 1]
    left, right = across.start / size * width, across.stop / size * width
    top, bottom = down.start / size * height, down.stop / size * height
    half = max(right - left, bottom - top) / 2
    middle, level = (left + right) / 2, (top + bottom) / 2
    return Box(
        max(0.0, middle - half) / width,
        max(0.0, level - half) / height,
        min(float(width), middle + half) / width,
        min(float(height), level + half) / height,
    )
